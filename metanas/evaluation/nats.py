"""NATS-Bench's own files (topology space: NAS-Bench-201's cells) as a table, read by their own package.

    table = read_nats("NATS-tss-v1_0-3ffb9-simple")         some minutes: 15,625 small files
    table.write("nats.csv.gz")                              afterwards: metanas table nats.csv.gz ...

Every number is the mean over the seeds that were trained. Dong, Liu, Musial, Gabrys: NATS-Bench, TPAMI 2021,
arXiv:2009.00437.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from metanas.errors import DataError, MissingDependencyError
from metanas.evaluation.tables import ArchitectureTable

TESTS = {"cifar10_test": "cifar10", "cifar100_test": "cifar100", "imagenet16_test": "ImageNet16-120"}


class Api(Protocol):
    """What `nats_bench.create` gives, as far as it is needed here."""

    def __len__(self) -> int: ...

    def arch(self, index: int) -> str: ...

    def get_more_info(self, index: int, dataset: str, *, hp: str, is_random: bool) -> Mapping[str, Any]: ...

    def get_cost_info(self, index: int, dataset: str) -> Mapping[str, Any]: ...


def read_nats(path: str | Path) -> ArchitectureTable:
    """The table of an archive of the topology space; needs `pip install "metanas[nats]"`.

    Raises:
        DataError: there is no such archive, or it is of another space.
        MissingDependencyError: nats_bench is not installed.
    """
    try:
        from nats_bench import create
    except ImportError:
        raise MissingDependencyError(
            'NATS-Bench\'s files need the package nats_bench: pip install "metanas[nats]"'
        ) from None
    if not Path(path).exists():
        raise DataError(f"there is no archive at {path}; NATS-Bench's is a folder NATS-tss-v1_0-...-simple")
    try:
        api = create(str(path), "tss", fast_mode=Path(path).is_dir(), verbose=False)
    except Exception as error:  # whatever its reader raises
        raise DataError(f"{path} is no archive of NATS-Bench's topology space ({error})") from None
    return table_of(api)


def table_of(api: Api) -> ArchitectureTable:
    """The numbers of an open archive, in per cent, seconds, parameters and millions of multiply-adds.

    cifar10_valid, cifar10_valid_12_epochs:         on the half that was not trained on, after 200 and after 12 epochs
    cifar10_valid_train_seconds, ..._eval_seconds:  of 200 epochs, and of one look at that half
    cifar10_test, cifar100_test, imagenet16_test:   after 200 epochs on everything; tests, which no search may see
    """
    rows = [_row(api, index) for index in range(len(api))]
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]} if rows else {}
    return ArchitectureTable({api.arch(k): k for k in range(len(api))}, columns, frozenset(TESTS))


def _row(api: Api, index: int) -> dict[str, float]:
    long, short = (api.get_more_info(index, "cifar10-valid", hp=hp, is_random=False) for hp in ("200", "12"))
    cost = api.get_cost_info(index, "cifar10")
    row = {
        "cifar10_valid": long["valid-accuracy"],
        "cifar10_valid_12_epochs": short["valid-accuracy"],
        "cifar10_valid_train_seconds": long["train-all-time"],
        "cifar10_valid_eval_seconds": short["valid-per-time"],
        "parameters": cost["params"] * 1e6,
        "mega_multiply_adds": cost["flops"],
    }
    for name, data in TESTS.items():
        row[name] = api.get_more_info(index, data, hp="200", is_random=False)["test-accuracy"]
    return {name: float(value) for name, value in row.items()}
