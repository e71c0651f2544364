"""Searches on sequences of tokens: the vocabulary is the data's, and what does not go together is said before a run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metanas
from metanas.errors import DataError, SpaceError

TOKENS = {"data.inputs": "tokens", "evaluation.random": 0}


@pytest.fixture(scope="module")
def words() -> tuple[np.ndarray, np.ndarray]:
    """240 sequences of 6 of 8 words, and whether the word 5 is among them: half are, whatever numbers they have."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 8, (240, 6)), np.arange(240) % 2
    x[x == 5] = 2
    x[np.arange(240), rng.integers(0, 6, 240)] = np.where(y == 1, 5, 7)
    return x, y


def test_a_search_reads_words(quick: Any, words: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "words.npz", x=words[0], y=words[1])
    options = {"space.options": {"width": 8, "depth": 1, "head": 4}, "evaluation.epochs": 8}
    result = quick("mixers", tmp_path / "words.npz", controller="darts", settings={**TOKENS, **options})
    assert result.space.settings["vocabulary"] == 8
    assert result.test_accuracy > 0.9
    spec = importlib.util.spec_from_file_location("written_tokens", result.run / "network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked = torch.from_numpy(words[0][:5])
    assert asked.dtype == torch.int64
    with torch.no_grad():
        torch.testing.assert_close(module.load()(asked), result.network(asked.float()))
    again = metanas.load_run(result.run).result()
    assert again.space.settings == result.space.settings
    moved = again.transfer((words[0], 1 - words[1]), how="finetune", settings={"evaluation.epochs": 1})
    assert moved.space.settings == result.space.settings, "new data of the same kind"


def test_a_recurrent_cell_reads_words(quick: Any, words: Any) -> None:
    options = {"space.options": {"width": 4, "nodes": 1}, "search.epochs": 1}
    data = metanas.load_data(words, inputs="tokens")  # what the space would ask of the data has been seen to
    result = quick("sequence", data, controller="darts", settings={"evaluation.random": 0, **options})
    assert result.space.settings["vocabulary"] == 8 and result.network(torch.zeros(2, 6)).shape == (2, 2)


def test_what_does_not_go_together(quick: Any, words: Any, runs: Path) -> None:
    with pytest.raises(SpaceError, match="the data are tokens and mlp takes numbers; take sequence or mixers, which"):
        quick("mlp", words, settings=TOKENS)
    with pytest.raises(SpaceError, match="mixers has a vocabulary of 5, the data have 8 tokens; build it with vocabul"):
        quick(metanas.load_space("mixers", vocabulary=5), words, settings=TOKENS)
    with pytest.raises(DataError, match=r'sequence embeds tokens and the data are numbers; load them with inputs="tok'):
        quick("sequence", words, settings={"space.options": {"vocabulary": 8}})
    assert not runs.exists()
