"""DARTS's space: how cells are written, what cannot be, and a whole run on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import metanas
from metanas.exporters import Source, write
from metanas.network import derived, supernet
from metanas.space import Architecture, draw_space, from_genotype


@pytest.fixture(scope="module")
def darts(problems: ModuleType) -> ModuleType:
    return problems.shipped("darts")


@pytest.mark.parametrize("options", [{"layers": 2}, {"channels": 0}])
def test_sizes_that_cannot_be(darts: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="channels must be >= 1 and layers >= 3"):
        darts.space(**options)


@pytest.mark.long
def test_the_supernet_has_the_papers_size(darts: ModuleType) -> None:
    """1.93 M parameters at C 16, 8 layers on CIFAR-10, as the public search prints; 1,930,618 exactly."""
    with torch.device("meta"):
        network = supernet(darts.space(16, 8), (3, 32, 32), 10)
    assert sum(p.numel() for p in network.parameters()) == 1_930_618


def test_reductions_stand_at_a_third_and_two_thirds(darts: ModuleType) -> None:
    space = darts.space(4, 8)
    with torch.device("meta"):
        network = derived(space, Architecture(from_genotype(darts.DARTS_V2)), (3, 32, 32), 10)
    sizes = [network.shapes[f"cell{k}.out"] for k in range(8)]
    assert sizes == [(16, 32, 32)] * 2 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


def test_the_drawing_names_long_choices_and_writes_them_out_once(darts: ModuleType) -> None:
    drawn = draw_space(darts.space(4, 3))
    assert "\n      2 = 0 --[normal.2<-0] + 1 --[normal.2<-1]  (2 of 2: normal.2)\n" in drawn
    assert drawn.count("sep_conv_5x5") == 2 * (2 + 3 + 4 + 5), "once for each choice of an operation"


@pytest.mark.parametrize("operations", ["S1", "S2", "S3", "S4"])
def test_parts_of_the_space(darts: ModuleType, operations: str) -> None:
    """Two operations are derived from on every edge; `none` is mixed in S3, and never derived."""
    space = darts.space(4, 3, operations)
    assert space.size == (1 * 3 * 6 * 10 * 2**8) ** 2
    mixed = {c.name: c.candidates for c in space.choices if c.take == 1}
    assert {len(labels) for labels in mixed.values()} == {3 if operations == "S3" else 2}
    counted = Counter(label for labels in mixed.values() for label in labels)
    if operations == "S1":
        assert counted == {"skip_connect": 18, "dil_conv_3x3": 8, "dil_conv_5x5": 9, "sep_conv_3x3": 5,
                           "max_pool_3x3": 10, "avg_pool_3x3": 6}  # fmt: skip
        assert mixed["normal.4<-0"] == ("max_pool_3x3", "skip_connect")
        assert mixed["reduce.3<-2"] == ("skip_connect", "dil_conv_5x5")
    else:
        assert set(counted.values()) == {28}
    kept = Architecture({name: labels for name, labels in darts.space(4, 3).sample(np.random.default_rng(0)).items()
                         if name not in mixed})  # fmt: skip
    taken = {f"{name}<-{j}": mixed[f"{name}<-{j}"][-1] for name, inputs in kept.items() for j in inputs}
    network = derived(space, {**kept, **taken}, (3, 8, 8), 10)
    assert network(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))).shape == (2, 10)


@pytest.mark.parametrize("operations", ["S5", "none", "", "sep_conv_3x3+pool"])
def test_operations_that_there_are_not(darts: ModuleType, operations: str) -> None:
    with pytest.raises(ValueError, match=r"operations must be all, S1, S2, S3, S4, or some of none, .*; got "):
        darts.space(4, 3, operations)


def test_a_network_with_noise_is_exported(darts: ModuleType, tmp_path: Path) -> None:
    """The written module gives the same noise for the same batch."""
    space = darts.space(2, 3, "S4")
    architecture = space.sample(np.random.default_rng(1))
    network = derived(space, architecture, (1, 8, 8), 2, seed=0).eval()
    source = Source(architecture, "darts", ("a", "b"), structure=space)
    assert len(write(network, source, folder=tmp_path, formats=["python", "safetensors"])) == 2
    text = (tmp_path / "network.py").read_text()
    assert "noise = torch.erfinv" in text and "(batch, channels, height, width)" in text


@pytest.mark.long
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
