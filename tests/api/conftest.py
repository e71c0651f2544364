"""The smallest search that is a whole one, in a folder of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import metanas
from metanas.recipe import ValueRecipe, read_values
from metanas.space import NEEDED, Space, chain, one_of, op

QUICK = {
    "search.epochs": 2,
    "search.warmup": 0,
    "search.batch_size": 32,
    "search.monitor": 32,
    "evaluation.epochs": 1,
    "evaluation.random": 1,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a test, and its folder of runs, which is not made yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("METANAS_RUNS", raising=False)
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def tiny() -> Space:
    """Two candidates, two architectures."""
    body = one_of("body", {"conv": op("conv", width=4, kernel=3, norm="batch", activation="relu"), "skip": op("skip")})
    return Space(
        chain(("stem", op("conv", width=4, kernel=3)), ("body", body), ("head", op("classifier", width=NEEDED))), "tiny"
    )


@pytest.fixture(scope="session")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """160 images 6x6 of 2 classes that differ in brightness."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(160) % 2
    return torch.rand(160, 1, 6, 6, generator=generator) + labels[:, None, None, None], labels


@pytest.fixture
def quick(tiny: Space, images: Any) -> Callable[..., metanas.api.Result]:
    """`metanas.search` on the tiny space and images, with `settings` on top of QUICK."""

    def run(space: Any = tiny, data: Any = images, **arguments: Any) -> metanas.api.Result:
        settings = QUICK | arguments.pop("settings", {})
        return metanas.search(space, data, settings=settings, **arguments)

    return run


SPACE = """from metanas.space import Space, chain, one_of, op

def space():
    \"\"\"Three choices of three.\"\"\"
    names = ("none", "skip", "avg_pool")
    choices = [(f"n{k}", one_of(f"n{k}", {name: op(name) for name in names})) for k in range(3)]
    return Space(chain(*choices), "small", template="{n0}|{n1}|{n2}")
"""
LABELS = ("none", "skip", "avg_pool")


@pytest.fixture
def recipe(tmp_path: Path) -> ValueRecipe:
    """A table of 27 rows, ten seconds each."""
    (tmp_path / "small.py").write_text(SPACE)
    rows = ["arch,valid,test,seconds"]
    for labels in itertools.product(LABELS, repeat=3):
        value = sum(LABELS.index(label) * 3**n for n, label in enumerate(labels))
        rows.append(f"{'|'.join(labels)},{value},{100 + value},10")
    (tmp_path / "small.csv").write_text("\n".join(rows))
    table = {"source": str(tmp_path / "small.csv"), "choose": "valid", "report": ["test"], "charge": {"seconds": 1.0}}
    return read_values({"space": {"name": str(tmp_path / "small.py")}, "table": table})
