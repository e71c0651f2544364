"""Every kind of space as a supernet and as the network derived from it: the same program, the same weights by name."""

from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest
import torch

from metanas.network import Taken, derived, inherit, one_path, supernet
from metanas.space import Architecture, from_genotype


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_hot(space, architecture):
    """The mixture that puts all weight on what an architecture takes; inputs are taken, for they are not mixed."""
    mix = {}
    for choice in space.choices:
        rows = [choice.index(label) for label in architecture.get(choice.name, choice.candidates[:1])]
        mix[choice.name] = torch.eye(len(choice.candidates)).double()[rows[0]] if choice.take == 1 else tuple(rows)
    return mix


def agree(space, architecture, shape, outputs, *, hot=True):
    """Derived network with the supernet's weights = sampled supernet (to the bit) = one-hot supernet (to rounding)."""
    whole = supernet(space, shape, outputs, seed=1).double()
    part = derived(space, architecture, shape, outputs, phase="search", seed=2).double()
    assert inherit(part, dict(whole.named_parameters())) == ()
    x = images(4, *shape)
    want = part(x)
    torch.testing.assert_close(whole(x, mix=one_path(space.choices, architecture)), want, rtol=0, atol=0)
    if hot:
        torch.testing.assert_close(whole(x, mix=one_hot(space, architecture)), want, rtol=0, atol=1e-12)
    return want


# NAS-Bench-201


FACTS = [
    ("|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|", 129_306),
    ("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|", 802_426),
    ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|", 1_531_546),
    ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 73_306),
    ("|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|", 73_306),
]  # fmt: skip
"""Parameters of the CIFAR-10 networks in NATS-Bench (Dong et al., TPAMI 2021, arXiv:2009.00437)."""


@pytest.mark.parametrize(("key", "count"), FACTS)
def test_nasbench201_parameters(problems, key, count):
    space = problems.nasbench201(channels=16, cells=5)
    with torch.device("meta"):
        assert parameters(derived(space, space.parse(key), (3, 32, 32), 10)) == count


def test_nasbench201_table(problems, benchmark_data):
    space = problems.nasbench201(channels=16, cells=5)
    with gzip.open(benchmark_data / "nasbench201.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))[::3100]
    with torch.device("meta"):
        for row in rows:
            network = derived(space, space.parse(row["arch"]), (3, 32, 32), 10)
            assert parameters(network) == int(row["parameters"]), row["arch"]


def test_nasbench201_three_networks_in_one(problems):
    space = problems.nasbench201(channels=4, cells=2)
    rng = np.random.default_rng(0)
    labels = space.choices[0].candidates
    every_label = dict(zip((c.name for c in space.choices), (*labels, labels[3]), strict=True))
    for architecture in (space.architecture(every_label), space.sample(rng)):
        agree(space, architecture, (3, 8, 8), 10)


def test_nasbench201_gdas(problems):
    """The value of `Taken` is the single path; every weight of every choice has a gradient of its own."""
    space = problems.nasbench201(channels=4, cells=2)
    network = supernet(space, (3, 8, 8), 10).double()
    x = images(4, 3, 8, 8)
    path = dict(zip((c.name for c in space.choices), (1, 2, 3, 4, 1, 2), strict=True))
    weights = {name: torch.eye(5, dtype=torch.float64)[k].requires_grad_() for name, k in path.items()}
    y = network(x, mix={name: Taken(k, weights[name]) for name, k in path.items()})
    torch.testing.assert_close(y, network(x, mix=path), rtol=0, atol=1e-12)
    for gradient in torch.autograd.grad(y.square().sum(), list(weights.values())):
        assert (gradient.abs() > 1e-9).all()


# DARTS


def darts_v2(problems, space):
    """The cells that the second order found (Liu et al. 2019)."""
    darts = problems.shipped("darts")
    return space.architecture(Architecture(from_genotype(darts.DARTS_V2)))


def test_darts_v2_parameters(problems):
    """3.3 M as published; exactly, without the auxiliary head."""
    space = problems.darts(channels=36, layers=20)
    with torch.device("meta"):
        assert parameters(derived(space, darts_v2(problems, space), (3, 32, 32), 10)) == 3_349_342


def test_darts_size(problems):
    assert problems.darts().size == (1 * 3 * 6 * 10 * 7**8) ** 2


@pytest.mark.long
def test_darts_three_networks_in_one(problems):
    space = problems.darts(layers=4)
    agree(space, darts_v2(problems, space), (3, 16, 16), 10)


def test_darts_mixes_all_inputs_of_a_node(problems):
    """What the continuous relaxation is: no input choice is set, the operations are mixed, and the derived network of
    the top-2 rule runs.
    """
    space = problems.darts()
    network = supernet(space, (3, 16, 16), 10).double()
    x = images(2, 3, 16, 16)
    weights = {c.name: torch.softmax(images(8, seed=k), 0) for k, c in enumerate(space.choices) if c.take == 1}
    assert torch.isfinite(network(x, mix=weights)).all()
    taken = {}
    for choice in space.choices:
        if choice.take == 2:
            edges = {j: weights[f"{choice.name}<-{j}"][1:] for j in choice.candidates}
            best = sorted(edges, key=lambda j: -edges[j].max().item())[:2]
            taken[choice.name] = best
            taken |= {f"{choice.name}<-{j}": problems.DARTS_OPS[1 + int(edges[j].argmax())] for j in best}
    assert torch.isfinite(network(x, mix=one_path(space.choices, space.architecture(taken)))).all()


# NAS-Bench-101


def test_nasbench101_widths_follow_the_edges(problems):
    space = problems.nasbench101(channels=8, vertices=4)
    taken = {"op1": "conv3x3", "op2": "maxpool3x3", "in1": ["input"], "in2": ["1"], "out": ["1", "2"], "direct": []}
    network = derived(space, taken, (3, 8, 8), 10)
    assert network.shapes["stack0_cell0.1.conv3x3"] == (4, 8, 8)
    assert network.shapes["stack1_cell0.2.maxpool3x3"] == (8, 4, 4)
    assert network(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))).shape == (2, 10)


# Sizes, cells of cells


def test_elastic_nine_networks_in_one(problems):
    """Sliced = masked one-hot = derived with sliced weights."""
    space = problems.elastic()
    seen = {agree(space, space.parse(f"w{w} d{d}"), (3, 8, 8), 5).sum().item() for w in (4, 6, 8) for d in (1, 2, 3)}
    assert len(seen) == 9


def test_elastic_masks_have_gradients(problems):
    space = problems.elastic()
    network = supernet(space, (3, 8, 8), 5).double()
    width = torch.softmax(images(3, seed=3), 0).requires_grad_()
    depth = torch.softmax(images(3, seed=4), 0).requires_grad_()
    y = network(images(4, 3, 8, 8), mix={"width": width, "depth": depth})
    for gradient in torch.autograd.grad(y.square().sum(), (width, depth)):
        assert (gradient.abs() > 1e-9).all()
    hard = torch.eye(3, dtype=torch.float64)[1] - width.detach() + width
    y = network(images(4, 3, 8, 8), mix={"width": Taken(1, hard), "depth": 0})
    torch.testing.assert_close(y, network(images(4, 3, 8, 8), mix={"width": 1, "depth": 0}), rtol=0, atol=1e-12)


def test_hierarchical_mixtures_of_graphs(problems):
    space = problems.hierarchical()
    rng = np.random.default_rng(0)
    both = next(a for a in (space.sample(rng) for _ in range(100)) if {a["xy"], a["xz"]} == {("m0",), ("m1",)})
    architectures = [both, space.sample(rng)]
    architectures.append(space.architecture({"xy": "skip", "xz": "skip", "yz": "skip", "zy": "first"}))
    for architecture in architectures:
        agree(space, architecture, (4, 8, 8), 4)


def test_subsets(problems):
    """Edges on and off, also all of them off: a sampled supernet skips what a derived network does not have."""
    space = problems.subsets()
    rng = np.random.default_rng(0)
    for _ in range(4):
        agree(space, space.sample(rng), (3, 8, 8), 10)


def test_architectures_are_read_as_mappings(problems):
    space = problems.elastic()
    for taken in (Architecture({"width": "4", "depth": "2"}), {"width": "4", "depth": "2"}):
        assert derived(space, taken, (3, 8, 8), 5).shapes["block0"] == (4, 8, 8)
