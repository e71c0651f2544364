"""Networks for graphs: their size, one by hand, what is exported, and searches that tell families of graphs apart."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import metanas
from metanas.exporters import Source, write
from metanas.network import derived


@pytest.fixture(scope="module")
def module(problems: ModuleType) -> ModuleType:
    return problems.shipped("graph_network")


@pytest.fixture
def x(problems: ModuleType) -> Tensor:
    return torch.from_numpy(problems.graph_families(6)[0]).double()  # (6, 8, 9)


def test_the_size(module: ModuleType) -> None:
    assert module.space().size == 3 * sum(144**layers for layers in (1, 2, 3)) == 9_020_592


@pytest.mark.parametrize("transform", ["shared", "own"])
def test_a_network_by_hand(module: ModuleType, x: Tensor, transform: str) -> None:
    space = module.space(4, 2)
    architecture = space.parse(f"1 mean [mean/8/{transform}/tanh/residual -/-/-/-/-]")
    network = derived(space, architecture, (8, 9), 2, seed=3).double().eval()
    w = dict(network.named_parameters())

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    edges = x[:, :, 1:]
    there = edges.diagonal(dim1=1, dim2=2)[:, :, None]
    h = linear("mapped.0", x[:, :, :1])
    normed = F.layer_norm(h, (4,), w["layer1/norm.weight"], w["layer1/norm.bias"])
    told = edges @ linear("layer1/up", normed) / edges.sum(2, keepdim=True).clamp(min=1)
    told = told + linear("layer1/own", normed) if transform == "own" else told
    assert ("layer1/own.weight" in w) == (transform == "own")
    h = h + linear("layer1/out/from_down" if "layer1/out/from_down.weight" in w else "layer1/down", told.tanh())
    read = (h * there).sum(1) / there.sum(1)
    expected = linear("head.0", read / (1 + 1e-5) ** 0.5)  # a batch norm that has seen nothing
    torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-12)


def test_it_is_exported(module: ModuleType, tmp_path: Path) -> None:
    space = module.space(4, 3)
    taken = "3 max [sum/2/own/relu/plain attention/4/shared/tanh/residual max/8/own/silu/residual]"
    architecture = space.parse(taken)
    assert str(architecture) == taken
    network = derived(space, architecture, (6, 8), 2, seed=0).eval()
    write(network, Source(architecture, space.name, ("a", "b"), structure=space), folder=tmp_path)
    text = (tmp_path / "network.py").read_text()
    assert "features = x[:, :, :2]" in text and "def graph_sum(x: Tensor, graph: Tensor)" in text
    assert "class GraphAttention(nn.Module)" in text and "nodes_max(" in text


@pytest.mark.parametrize("controller", ["darts", pytest.param("evolution", marks=pytest.mark.long)])
def test_a_search_tells_rings_from_trees_and_stars(problems: ModuleType, tmp_path: Path, controller: str) -> None:
    settings = {
        "space.options": {"width": 8, "depth": 1},
        "search.epochs": 3,
        "search.budget": 10,
        "search.value_epochs": 5,
        "search.batch_size": 16,
        "evaluation.epochs": 12,
        "evaluation.batch_size": 16,
        "evaluation.random": 0,
    }
    result = metanas.search(
        "graph_network", problems.graph_families(240), controller=controller, settings=settings, run=tmp_path / "run"
    )
    assert result.test_accuracy > 0.7, "a third by chance"


@pytest.mark.parametrize("options", [{"width": 3}, {"width": 0}, {"depth": 0}])
def test_settings_that_cannot_be(module: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="width must be even and >= 2, depth >= 1, got"):
        module.space(**options)
