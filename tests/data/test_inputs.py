"""Tokens and graphs as data: what they become, what is refused, and that numbers stay what they were."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metanas.data import Flip, load_data, pack_graphs
from metanas.errors import DataError

LABELS = np.arange(12) % 2


def tokens(low: int = 0, high: int = 9) -> np.ndarray:
    found = np.random.default_rng(0).integers(low, high, (12, 4))
    found[5, 2] = high
    return found


def test_tokens_from_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=tokens().astype(np.int32), y=LABELS)
    data = load_data(tmp_path / "t.npz", inputs="tokens")
    assert data.vocabulary == 10 and data.shape == (4,) and data.mean == () and data.table is None
    whole = torch.cat([data.train.inputs, data.test.inputs])
    assert whole.dtype == torch.float32 and sorted(whole.tolist()) == sorted(tokens().tolist())
    numbers = load_data(tmp_path / "t.npz")
    assert numbers.vocabulary == 0 and numbers.table is not None and numbers.inner.inputs.mean().abs() < 1e-6


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (tokens().astype(float), "train tokens must be integers, got float32: give the places in a vocabulary"),
        (tokens() == 1, "train tokens must be integers, got bool"),
        (tokens(low=-2), "of 48 train tokens are out of range: allowed 0 to 16777215, got -2 to 9: number"),
        (tokens()[:, None], r"train tokens must be \(examples, time\), got \(12, 1, 4\)"),
    ],
)
def test_tokens_that_cannot_be(x: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_data((x, LABELS), inputs="tokens")


def graphs(examples: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features, edges = rng.normal(size=(examples, 5, 2)).astype(np.float32), rng.random((examples, 5, 5)) < 0.5
    features[:, 4], edges[:, 4], edges[:, :, 4] = 0, False, False
    return features, edges


def test_graphs_stay_what_they_are() -> None:
    features, edges = graphs()
    x = pack_graphs(features, edges)
    assert x.dtype == np.float32 and x.shape == (12, 5, 7)
    there = np.diag([1.0, 1, 1, 1, 0])
    np.testing.assert_array_equal(x, np.concatenate([features, np.maximum(edges, there)], 2))
    data = load_data((x, LABELS), inputs="graphs")
    assert data.shape == (5, 7) and data.augment == () and data.vocabulary == 0
    assert sorted(torch.cat([data.train.inputs, data.test.inputs]).tolist()) == sorted(x.tolist())


def loose() -> np.ndarray:
    x = pack_graphs(*graphs())
    x[3, 0, 6] = 1  # an edge to a node that is not there
    return x


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (loose(), "1 of 12 train graphs have edges of nodes that do not read themselves: pack them with"),
        (np.zeros((12, 5, 7)), "12 of 12 train graphs have no node"),
        (np.zeros((12, 5, 5)), r"train graphs must be \(examples, nodes, features \+ nodes\) .* got \(12, 5, 5\)"),
    ],
)
def test_graphs_that_cannot_be(x: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_data((x, LABELS), inputs="graphs")


def test_what_cannot_be_packed() -> None:
    with pytest.raises(DataError, match=r"graphs need features .* got \(12, 5, 2\) and \(12, 5, 4\)"):
        pack_graphs(graphs()[0], graphs()[1][:, :, :4])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"inputs": "token"}, "inputs must be one of two words, got 'token'; did you mean \"tokens\"?"),
        ({"inputs": "tokens", "augment": (Flip(),)}, "augmentations are for images, got Flip"),
    ],
)
def test_what_is_asked_in_vain(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match="^" + re.escape(words)):
        load_data((tokens(), LABELS), **asked)


def test_a_table_is_neither(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{k},{k % 2}\n" for k in range(12)))
    with pytest.raises(DataError, match="inputs='graphs' is for arrays, not for tables"):
        load_data(tmp_path / "t.csv", target="y", inputs="graphs")
