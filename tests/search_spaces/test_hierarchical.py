"""Cells of motifs: sizes, weights of their own in each place, and what is not there when nothing takes it."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from metanas.errors import SpaceError
from metanas.network import derived


@pytest.fixture(scope="module")
def module(problems: ModuleType) -> ModuleType:
    return problems.shipped("hierarchical")


def test_sizes(problems: ModuleType) -> None:
    assert problems.motifs().size == problems.motifs_size(2, 3, 3) == 1 + 14 * 343 + 12 * 343**2
    assert problems.motifs(motifs=3, nodes=4, motif_nodes=3).size == problems.motifs_size(3, 4, 3)


def test_a_motif_is_one_decision_with_weights_in_each_place(module: ModuleType) -> None:
    space = module.space(channels=4, motifs=2, nodes=3, motif_nodes=2)
    taken = {"cell.1<-0": "m1", "cell.2<-0": "none", "cell.2<-1": "m1", "m1.1<-0": "conv_1x1"}
    network = derived(space, taken, (3, 8, 8), 10)
    weights = [p.shape for name, p in network.named_parameters() if "conv_1x1" in name and p.dim() == 4]
    assert weights == [(w, w, 1, 1) for w in (4, 4, 8, 8, 16, 16)]
    stem, down = 3 * 4 * 9 + 2 * 4, (4 * 9 + 4 * 8 + 2 * 8) + (8 * 9 + 8 * 16 + 2 * 16)
    inside, head = 2 * sum(w * w + 2 * w for w in (4, 8, 16)), 2 * 16 + 16 * 10 + 10
    assert sum(p.numel() for p in network.parameters()) == stem + down + inside + head
    with pytest.raises(SpaceError, match=r"choice 'm2\.1<-0' is missing"):
        space.architecture({**taken, "cell.2<-0": "m2"})


def test_a_network_by_hand(module: ModuleType) -> None:
    """Only pools and identities between the norms: what is added is what the edges say."""
    space = module.space(channels=2, motifs=2, nodes=3, motif_nodes=3)
    names = {"cell.1<-0": "m1", "cell.2<-0": "m2", "cell.2<-1": "m1"}
    names |= {"m1.1<-0": "max_pool_3x3", "m1.2<-0": "identity", "m1.2<-1": "avg_pool_3x3"}
    names |= {"m2.1<-0": "none", "m2.2<-0": "max_pool_3x3", "m2.2<-1": "identity"}
    network = derived(space, names, (3, 8, 8), 5, phase="search").double()
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen: dict[str, torch.Tensor] = {}
    network(x, see="stem", seen=seen)
    stem = seen["stem"]

    def largest(v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.max_pool2d(v, 3, 1, 1)

    def m1(v: torch.Tensor) -> torch.Tensor:
        return v + torch.nn.functional.avg_pool2d(largest(v), 3, 1, 1, count_include_pad=False)

    out = next(step.out for step in reversed(network.program.steps) if step.out.startswith("stage0"))
    network(x, see=out, seen=seen)
    torch.testing.assert_close(seen[out], largest(stem) + m1(m1(stem)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"channels": 0}, {"cells": 0}, {"motifs": 0}, {"nodes": 1}, {"motif_nodes": 1}])
def test_settings_that_cannot_be(module: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="channels, cells and motifs must be >= 1, nodes and motif_nodes >= 2, got"):
        module.space(**options)
