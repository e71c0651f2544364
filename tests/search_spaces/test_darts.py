"""DARTS's space: how cells are written, what cannot be, and a whole run on it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import metanas
from metanas.network import derived, supernet
from metanas.space import draw_space


@pytest.fixture(scope="module")
def darts(problems: ModuleType) -> ModuleType:
    return problems.shipped("darts")


def test_a_genotype_round_trips(darts: ModuleType) -> None:
    space = darts.space(4, 3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        architecture = space.sample(rng)
        assert darts.from_genotype(darts.to_genotype(architecture)) == architecture
    assert {kind: set(rows) for kind, rows in darts.DARTS_V2.items()} == {
        kind: set(rows) for kind, rows in darts.to_genotype(darts.from_genotype(darts.DARTS_V2)).items()
    }


NORMAL = [("skip_connect", 0), ("skip_connect", 1)] * 4


@pytest.mark.parametrize(
    ("normal", "said"),
    [
        (NORMAL[:-1], r"normal must hold 8 \(operation, source\) pairs, got 7"),
        ([("skip_connect", 1), *NORMAL[1:]], r"normal, node 2: two different sources in 0 \.\. 1, got \[1, 1\]"),
        ([("skip_connect", 2), *NORMAL[1:]], r"normal, node 2: two different sources in 0 \.\. 1, got \[1, 2\]"),
        ([("none", 0), *NORMAL[1:]], r"normal, node 2: 'none' is not one of max_pool_3x3, "),
    ],
)
def test_genotypes_that_cannot_be(darts: ModuleType, normal: list[tuple[str, int]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        darts.from_genotype({"normal": normal, "reduce": NORMAL})


@pytest.mark.parametrize("options", [{"layers": 2}, {"channels": 0}])
def test_sizes_that_cannot_be(darts: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="channels must be >= 1 and layers >= 3"):
        darts.space(**options)


def test_the_supernet_has_the_papers_size(darts: ModuleType) -> None:
    """1.93 M parameters at C 16, 8 layers on CIFAR-10, as the public search prints; 1,930,618 exactly."""
    with torch.device("meta"):
        network = supernet(darts.space(16, 8), (3, 32, 32), 10)
    assert sum(p.numel() for p in network.parameters()) == 1_930_618


def test_reductions_stand_at_a_third_and_two_thirds(darts: ModuleType) -> None:
    space = darts.space(4, 8)
    with torch.device("meta"):
        network = derived(space, darts.from_genotype(darts.DARTS_V2), (3, 32, 32), 10)
    sizes = [network.shapes[f"cell{k}.out"] for k in range(8)]
    assert sizes == [(16, 32, 32)] * 2 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


def test_the_drawing_names_long_choices_and_writes_them_out_once(darts: ModuleType) -> None:
    drawn = draw_space(darts.space(4, 3))
    assert "\n      2 = 0 --[normal.2<-0] + 1 --[normal.2<-1]  (2 of 2: normal.2)\n" in drawn
    assert drawn.count("sep_conv_5x5") == 2 * (2 + 3 + 4 + 5), "once for each choice of an operation"


def test_a_run_from_search_to_export(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(96, 3, 8, 8, generator=generator), torch.arange(96) % 3
    settings = {"search.batch_size": 16, "evaluation.epochs": 1, "evaluation.random": 1}
    space = metanas.load_space("darts", channels=2, layers=3)
    result = metanas.search(
        space, (images, labels), controller="darts", epochs=1, settings=settings, run=tmp_path / "run"
    )
    assert len(result.architecture) == 2 * (4 + 8), "two inputs for each of four nodes of two kinds of cell"
    assert not any("none" in labels for labels in result.architecture.values())
    assert len(metanas.export(result, tmp_path / "out", ["python", "safetensors", "json"])) == 3
