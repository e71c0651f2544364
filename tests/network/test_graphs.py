"""Operations on graphs: by loops over nodes, blind to what is not there and to the order of the nodes."""

from __future__ import annotations

import itertools
import math
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from metanas.bilevel import FirstOrder, Unrolled
from metanas.errors import ShapeError
from metanas.modes import meta_network
from metanas.network import OPS, derived, supernet
from metanas.network.graphs import GraphAttention
from metanas.space import op

NODES, FEATURES = 5, 3
KINDS = ("sum", "mean", "max")


@pytest.fixture
def graph() -> Tensor:
    """Two graphs of 5 and 3 nodes, edges in one direction, (2, 5, 3 + 5)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, NODES, FEATURES, generator=generator, dtype=torch.float64)
    edges = torch.rand(2, NODES, NODES, generator=generator) < 0.4
    there = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    edges &= there[:, :, None] & there[:, None, :]
    return torch.cat([x * there[:, :, None], (edges | torch.diag_embed(there)).double()], 2)


def made(kind: str, features: int = FEATURES) -> torch.nn.Module:
    return OPS[kind](op(kind, beside="graph"), (NODES, features), "search").double()


def read_by(graph: Tensor, b: int, i: int) -> list[int]:
    return [j for j in range(NODES) if graph[b, i, FEATURES + j] > 0]


@pytest.mark.parametrize("kind", [*KINDS, "attention"])
def test_messages_by_hand(graph: Tensor, kind: str) -> None:
    x = torch.randn(2, NODES, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    module = made(f"graph_{kind}")
    found = module(x, graph)
    for b, i in itertools.product(range(2), range(NODES)):
        rows = x[b, read_by(graph, b, i)]
        if not len(rows):
            expected = torch.zeros(FEATURES).double()
        elif kind == "attention":
            assert isinstance(module, GraphAttention)
            scores = [float((x[b, i] @ module.own + row @ module.other).detach()) for row in rows]
            powers = [math.exp(s if s > 0 else 0.2 * s) for s in scores]
            expected = sum(p * row for p, row in zip(powers, rows, strict=True)) / sum(powers)
        else:
            expected = {"sum": rows.sum(0), "mean": rows.mean(0), "max": rows.amax(0)}[kind]
        torch.testing.assert_close(found[b, i], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_readouts_by_hand(graph: Tensor, kind: str) -> None:
    x = graph[:, :, :FEATURES] - 5
    found = made(f"nodes_{kind}")(x, graph)
    for b, nodes in enumerate((5, 3)):
        rows = x[b, :nodes]
        expected = {"sum": rows.sum(0), "mean": rows.mean(0), "max": rows.amax(0)}[kind]
        torch.testing.assert_close(found[b], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", [*(f"graph_{kind}" for kind in (*KINDS, "attention")), *(f"nodes_{k}" for k in KINDS)])
def test_alone_every_node_reads_every_other(kind: str) -> None:
    """As an operation is measured; and transforms go through."""
    x = torch.randn(2, NODES, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    module, whole = made(kind), torch.ones(2, NODES, NODES).double()
    torch.testing.assert_close(module(x), module(x, whole), rtol=1e-12, atol=1e-12)
    each = vmap(grad(lambda row, edges: module(row[None], edges[None]).sin().sum()))(x, whole)
    together = grad(lambda rows: module(rows, whole).sin().sum())(x)
    torch.testing.assert_close(each, together, rtol=1e-10, atol=1e-12)
    assert each.isfinite().all()


def test_networks_see_no_order_and_nothing_that_is_not_there(problems: ModuleType, graph: Tensor) -> None:
    space, rng = problems.graph_network(), np.random.default_rng(0)
    order = torch.tensor([2, 0, 1, 4, 3])  # those that are not there stay behind
    moved = torch.cat([graph[:, order, :FEATURES], graph[:, order, FEATURES:][:, :, order]], 2)
    touched = graph.clone()
    touched[1, 3:, :FEATURES] = 7.0
    for architecture in (space.sample(rng) for _ in range(4)):
        network = derived(space, architecture, (NODES, NODES + FEATURES), 3, seed=1).double().eval()
        outputs = network(graph)
        torch.testing.assert_close(network(moved), outputs, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(network(touched), outputs, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(network(graph.flip(0)), outputs)


@pytest.mark.parametrize("estimator", [FirstOrder(0), Unrolled(1)], ids=["first-order", "unrolled"])
def test_the_hypergradient_is_the_finite_difference(problems: ModuleType, graph: Tensor, estimator: object) -> None:
    space, x = problems.graph_network(4, 1), torch.cat([graph, graph.flip(1) * 0.5])
    network = supernet(space, (NODES, NODES + FEATURES), 2, seed=1).double()
    problem = meta_network(network)
    theta = {name: p.detach() for name, p in network.named_parameters()}
    generator = torch.Generator().manual_seed(3)
    mix = {
        c.name: torch.rand(len(c.candidates), generator=generator, dtype=torch.float64).softmax(0).requires_grad_()
        for c in space.choices
    }
    batches = (x, torch.arange(4) % 2), (x.flip(0), torch.arange(4) // 2)
    found = estimator(problem, theta, {"mix": mix}, *batches).gradient["mix"]  # type: ignore[operator]
    for name in ("aggregate1", "hidden1", "transform1", "skip1", "readout"):
        direction = torch.tensor([1.0, -0.5, 0.3, 0.7][: len(mix[name])]).double()
        ends = []
        for step in (1e-6, -1e-6):
            changed = {**mix, name: (mix[name].detach() + step * direction).requires_grad_()}
            ends.append(float(estimator(problem, theta, {"mix": changed}, *batches).outer_loss))  # type: ignore[operator]
        assert float(found[name] @ direction) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-8), name


def test_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"it takes graphs \(nodes, features \+ nodes\) with at least one feature"):
        OPS["node_features"](op("node_features"), (5, 5), "search")
    with pytest.raises(ShapeError, match=r"it takes values of nodes \(nodes, features\)"):
        OPS["graph_max"](op("graph_max"), (3, 8, 8), "search")
