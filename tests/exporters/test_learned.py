"""What was learned, as files: read back as it was written, or refused in one line."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from metanas.errors import CheckpointError, ExportError, RunError
from metanas.exporters import learned as module
from metanas.exporters import read_learned, read_tensors, write_learned, write_tensors

LEARNED = {
    "decay.log.weight": torch.tensor([[-1.5, 2.0]], dtype=torch.float64),
    "example_weights.logit": torch.arange(5.0),
    "loss.log_scale": torch.tensor(0.25),
}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    facts = {"schema": 1, "shown": {"decay": 0.5}, "chosen": {"inner.rule": "sgd"}, "wrong_labels": None}
    written = write_learned(tmp_path, LEARNED, facts)
    assert [p.name for p in written] == ["learned.safetensors", "learned.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["learned.json", "learned.safetensors"]
    assert json.loads((tmp_path / "learned.json").read_text()) == facts
    found = read_learned(tmp_path)
    assert found.keys() == LEARNED.keys()
    assert all(found[name].dtype == x.dtype and torch.equal(found[name], x) for name, x in LEARNED.items())
    theirs = safetensors.torch.load_file(tmp_path / "learned.safetensors")
    assert all(torch.equal(theirs[name], x) for name, x in LEARNED.items()), "any reader of safetensors reads it"


def test_views_and_gradients_are_written_as_their_values(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4).requires_grad_()
    write_tensors(tmp_path / "x", {"turned": whole.T, "part": whole[1], "again": whole})
    found = read_tensors(tmp_path / "x")
    assert torch.equal(found["turned"], whole.detach().T) and torch.equal(found["part"], whole[1].detach())


def test_names_come_back_in_one_order(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {name: torch.zeros(1) for name in ("b", "a.c", "a.b")})
    assert list(read_tensors(tmp_path / "x")) == ["a.b", "a.c", "b"]


def test_written_over(tmp_path: Path) -> None:
    write_learned(tmp_path, LEARNED, {"old": True})
    write_learned(tmp_path, {"x": torch.ones(1)}, {})
    assert list(read_learned(tmp_path)) == ["x"] and json.loads((tmp_path / "learned.json").read_text()) == {}


def test_no_file_and_no_safetensors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"learned\.safetensors: No such file or directory"):
        read_learned(tmp_path)
    for content in (b"", b"x", b"\x00" * 64, b"{}"):
        (tmp_path / "learned.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match="is not a safetensors file") as caught:
            read_learned(tmp_path)
        assert "\n" not in str(caught.value)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    (tmp_path / "learned.safetensors").write_bytes(bomb)
    with pytest.raises(CheckpointError, match="a pickle is never executed"):
        read_learned(tmp_path)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(bomb)
    assert (tmp_path / "exploded").exists(), "the bomb works"


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, cut: int) -> None:
    write_learned(tmp_path, LEARNED, {})
    path = tmp_path / "learned.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        read_learned(tmp_path)


def test_a_disk_that_keeps_something_else_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(path: Path, data: bytes) -> None:
        path.write_bytes(safetensors.torch.save({name: x + 1 for name, x in LEARNED.items()}))

    monkeypatch.setattr(module, "write_bytes", wrong)
    with pytest.raises(ExportError, match="does not hold what was written to it; is the disk sound"):
        write_learned(tmp_path, LEARNED, {})


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="may have been removed or moved"):
        write_learned(tmp_path / "gone", LEARNED, {})


def test_facts_that_are_no_json(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        write_learned(tmp_path, LEARNED, {"value": float("nan")})
