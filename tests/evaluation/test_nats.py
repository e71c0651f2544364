"""NATS-Bench's archive as a table: the numbers that its package gives, under the names of the CSV."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metanas.errors import DataError, MissingDependencyError
from metanas.evaluation import nats
from metanas.evaluation.tables import ArchitectureTable

SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"


class Archive:
    """Two architectures, with the methods and the words of nats_bench 1.8."""

    def __len__(self) -> int:
        return 2

    def arch(self, index: int) -> str:
        return (SKIPS, SKIPS.replace("skip_connect", "none"))[index]

    def get_more_info(self, index: int, dataset: str, *, hp: str, is_random: bool) -> Mapping[str, Any]:
        assert is_random is False, "the mean over the seeds, not one of them"
        epochs = int(hp)
        if dataset == "cifar10-valid":
            return {"valid-accuracy": 50 + index + epochs / 100, "train-all-time": 2.0 * epochs, "valid-per-time": 0.5}
        return {"test-accuracy": {"cifar10": 90, "cifar100": 70, "ImageNet16-120": 40}[dataset] - index}

    def get_cost_info(self, index: int, dataset: str) -> Mapping[str, Any]:
        return {"flops": 7.78, "params": 0.073306, "latency": 0.01}


def test_an_archive_is_a_table(tmp_path: Path) -> None:
    table = nats.table_of(Archive())
    assert table.row(1) == {
        "cifar10_valid": 53.0,
        "cifar10_valid_12_epochs": 51.12,
        "cifar10_valid_train_seconds": 400.0,
        "cifar10_valid_eval_seconds": 0.5,
        "parameters": pytest.approx(73306),
        "mega_multiply_adds": 7.78,
    }
    assert [table.columns[name].tolist() for name in nats.TESTS] == [[90, 89], [70, 69], [40, 39]]
    with pytest.raises(DataError, match="'cifar10_test' is a test"):
        table.objective("cifar10_test")
    for name in ("nats.csv", "nats.csv.gz"):
        table.write(tmp_path / name)
        again = ArchitectureTable.read(tmp_path / name, key="arch", test=tuple(nats.TESTS))
        assert again.fingerprint == table.fingerprint and again.places == table.places
        assert all(np.array_equal(again.columns[c], table.columns[c]) for c in table.columns)
    with pytest.raises(DataError, match=r"cannot write .*: No such file or directory"):
        table.write(tmp_path / "nowhere" / "nats.csv")


def test_the_package_opens_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[Any] = []

    def create(path: str, space: str, *, fast_mode: bool, verbose: bool) -> Archive:
        opened.append((path, space, fast_mode, verbose))
        return Archive()

    monkeypatch.setitem(sys.modules, "nats_bench", SimpleNamespace(create=create))
    assert len(nats.read_nats(tmp_path)) == 2 and opened == [(str(tmp_path), "tss", True, False)]
    with pytest.raises(DataError, match=r"there is no archive at .*nothing; NATS-Bench's is a folder"):
        nats.read_nats(tmp_path / "nothing")

    def broken(*words: Any, **more: Any) -> Archive:
        raise ValueError("invalid meta file")

    monkeypatch.setitem(sys.modules, "nats_bench", SimpleNamespace(create=broken))
    with pytest.raises(DataError, match=r"is no archive of NATS-Bench's topology space \(invalid meta file\)"):
        nats.read_nats(tmp_path)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "nats_bench", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "metanas\[nats\]"'):
        nats.read_nats(tmp_path)
