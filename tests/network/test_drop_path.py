"""Drop path and the auxiliary head: what is dropped, how often, by which numbers; a second loss on a value inside."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from metanas.errors import ShapeError, SpaceError
from metanas.network import AuxiliaryHead, WithAuxiliary, derived, drop_path
from metanas.network.drop_path import dropped
from metanas.space import Architecture, Edge, Graph, Node, Space, from_genotype, op, space_from_json, space_to_json


@pytest.fixture
def darts(problems):
    """A derived network of DARTS_V2, its space, and images for it."""
    space = problems.darts(4, 3)
    architecture = Architecture(from_genotype(problems.shipped("darts").DARTS_V2))
    return derived(space, architecture, (3, 16, 16), 5), space


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_only_the_operations_of_the_edges_are_dropped(darts):
    """Eight edges a cell; of the normal cell two are identities, of the reduction cell three (at stride 1)."""
    network, _ = darts
    names = dropped(network)
    assert all(".from_" in name for name in names), "not what prepares a cell's inputs, nor stem and head"
    cells = [sum(name.startswith(f"cell{k}.") for name in names) for k in range(3)]
    assert cells == [6, 5, 5]
    kinds = {type(network.get_submodule(name.replace(".", "/"))) for name in names}
    assert nn.Identity not in kinds


def test_every_operation_of_an_example_is_dropped_or_scaled(darts):
    """By hooks that look on: each output is zero or the operation's own over 1 - rate, per example."""
    network, _ = darts
    seen = {}
    with drop_path(network, 0.25, generator()):
        for name in dropped(network):
            module = network.get_submodule(name.replace(".", "/"))
            module.register_forward_hook(lambda m, x, y, name=name: seen.update({name: (x[0], y)}))
        network(torch.randn(64, 3, 16, 16, generator=generator(1)))
    plain = {name: network.get_submodule(name.replace(".", "/")) for name in seen}
    shares = []
    for name, (x, y) in seen.items():
        expected = plain[name](x) / 0.75  # batch statistics, as before
        off = (y == 0).flatten(1).all(1)
        torch.testing.assert_close(y[~off], expected[~off])
        shares.append(float(off.float().mean()))
    assert len(shares) == 16 and np.mean(shares) == pytest.approx(0.25, abs=0.04) and len(set(shares)) > 4


def test_the_expected_value_is_the_operation(problems):
    node = Node("y", (Edge("x", op("avg_pool", kernel=1)), Edge("x")))
    network = derived(Space(Graph(("x",), (node,), "y")), {}, (1, 2, 2), 1)
    x = torch.ones(40_000, 1, 2, 2)
    with drop_path(network, 0.3, generator()):
        y = network(x)
    assert y.flatten().unique().tolist() == pytest.approx([1.0, 1 + 1 / 0.7])
    assert float(y.mean()) == pytest.approx(2, abs=0.01)
    assert torch.equal(y[:, :, 0, 0], y[:, :, 1, 1]), "a mask for an example, not for a pixel"
    assert torch.equal(network(x[:4]), 2 * x[:4]), "no hook is left"


def test_the_generator_decides_and_a_rate_of_0_draws_nothing(darts):
    network, _ = darts
    x = torch.randn(4, 3, 16, 16, generator=generator(1))

    def outputs(rate, seed):
        with drop_path(network, rate, noise := generator(seed)):
            return network(x), noise.get_state()

    assert torch.equal(outputs(0.5, 3)[0], outputs(0.5, 3)[0]) and not torch.equal(
        outputs(0.5, 3)[0], outputs(0.5, 4)[0]
    )
    same, state = outputs(0.0, 3)
    assert torch.equal(same, network(x)) and torch.equal(state, generator(3).get_state())


@pytest.mark.parametrize("rate", [1.0, -0.1, math.nan])
def test_rates_that_cannot_be(darts, rate):
    with (
        pytest.raises(ValueError, match="rate of drop path must be >= 0 and < 1"),
        drop_path(darts[0], rate, generator()),
    ):
        pass


def test_hooks_are_gone_after_an_error(darts):
    network, _ = darts
    with pytest.raises(RuntimeError), drop_path(network, 0.5, generator()):
        network(torch.zeros(1, 7, 16, 16))
    assert not any(module._forward_hooks for module in network.modules())


def test_the_auxiliary_head_of_the_paper(problems):
    """On 8x8 maps of C 36, 20 layers: 576 channels; by hand 128 and 768 wide, two norms, a linear classifier."""
    head = AuxiliaryHead((576, 8, 8), 10)
    assert (head[1].kernel_size, head[1].stride) == ((5, 5), (3, 3))
    assert sum(p.numel() for p in head.parameters()) == 576 * 128 + 256 + 128 * 768 * 4 + 1536 + 7690
    assert head(torch.randn(2, 576, 8, 8)).shape == (2, 10)
    assert problems.darts(4, 20).auxiliary == "cell13"


@pytest.mark.parametrize("side", [2, 3, 4, 5, 7, 8, 16, 28, 56])
def test_maps_of_every_size_become_2x2(side):
    head = AuxiliaryHead((3, side, 2 * side), 4)
    assert nn.Sequential(head[0], head[1])(torch.zeros(1, 3, side, 2 * side)).shape == (1, 3, 2, 2)
    covered = torch.zeros(1, 3, side, 2 * side, requires_grad=True)
    nn.AvgPool2d(head[1].kernel_size, head[1].stride)(covered).sum().backward()
    assert (covered.grad > 0).all(), "every pixel is in a window"


@pytest.mark.parametrize("shape", [(3, 1, 8), (3, 1, 1), (5,)])
def test_maps_that_are_too_small(shape):
    with pytest.raises(ShapeError, match="reads images of 2x2 pixels and more, got"):
        AuxiliaryHead(shape, 4)


def test_the_head_reads_the_cell_and_the_network_is_left_as_it_is(darts):
    network, space = darts
    both = WithAuxiliary(network, space.auxiliary, 5, seed=1).double()
    x = torch.randn(4, 3, 16, 16, generator=generator(), dtype=torch.float64)
    outputs, beside = both(x)
    assert both.value == "cell2.out" and beside.shape == (4, 5)
    torch.testing.assert_close(network(x), outputs, rtol=0, atol=1e-12)
    both.zero_grad()
    beside.sum().backward()
    reached = {name.split("/")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert {"cell0", "cell1", "cell2"} <= reached and "head" not in {n.split(".")[0] for n in reached}
    state = torch.get_rng_state()
    again = WithAuxiliary(network, space.auxiliary, 5, seed=1).double()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(both.head.parameters(), again.head.parameters(), strict=True))


def test_a_space_names_its_node_and_keeps_it_in_json(darts):
    _, space = darts
    data = space_to_json(space)
    assert data["auxiliary"] == "cell2" and space_from_json(data) == space
    del data["auxiliary"]
    assert space_from_json(data).auxiliary is None and space_from_json(data) != space
    with pytest.raises(SpaceError, match="auxiliary: no node 'cel2' before the output; did you mean \"cell2\""):
        Space(space.graph, "darts", auxiliary="cel2")
    with pytest.raises(SpaceError, match="no node 'head' before the output"):
        Space(space.graph, "darts", auxiliary="head")
