"""What a forward pass keeps, and a supernet that forgets the inside of its cells."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, grad

from metanas import load_space
from metanas.network import Taken, fused, supernet
from metanas.network.fused import difference
from metanas.network.memory import costliest_path, kept_bytes
from metanas.network.segments import Segment
from metanas.space import NEEDED, Space, chain, one_of, op

SPACES = {"nasbench201": {"channels": 4, "cells": 2}, "darts": {"channels": 4, "layers": 4}}


def test_kept_bytes_are_counted_once_and_grow_with_the_batch() -> None:
    space = Space(chain(("a", op("activation", activation="tanh")), ("b", op("activation", activation="sigmoid"))))
    network = supernet(space, (1, 2, 2), 1)
    one, four = (kept_bytes(network, torch.ones(n, 1, 2, 2, requires_grad=True), mix={}) for n in (1, 4))
    assert one == 2 * 4 * 4 and four == 4 * one  # both outputs, float32


def test_the_costliest_path_is_that_of_all_paths() -> None:
    """Of every path in turn; the dearest candidate stands in another place in each of the two kinds of choice."""
    conv, act, none = op("conv", width=3, kernel=3, norm="batch"), op("activation", activation="tanh"), op("none")
    rows = {
        "a": {"act": act, "conv": conv, "none": none},
        "b": {"conv": conv, "act": act},
        "c": {"act": act, "none": none},
    }
    body = [("stem", op("conv", width=3)), *((name, one_of(name, ops)) for name, ops in rows.items())]
    space = Space(chain(*body, ("head", op("classifier", width=NEEDED))))
    network, images = supernet(space, (1, 4, 4), 2), torch.ones(3, 1, 4, 4)
    held = {}
    for path in itertools.product(*(range(len(c.candidates)) for c in space.choices)):
        weights = [
            torch.eye(len(c.candidates))[k].clone().requires_grad_() for c, k in zip(space.choices, path, strict=True)
        ]
        mix = {c.name: Taken(k, w) for c, k, w in zip(space.choices, path, weights, strict=True)}
        held[path] = kept_bytes(network, images, mix=mix)
    assert len(set(held.values())) > 3
    assert costliest_path(network, images, space.choices) == max(held.values())
    whole = {c.name: torch.full((len(c.candidates),), 0.5, requires_grad=True) for c in space.choices}
    assert max(held.values()) < kept_bytes(network, images, mix=whole)


@pytest.mark.parametrize("name", ["nasbench201", pytest.param("darts", marks=pytest.mark.long)])
def test_forgetting_changes_no_number_and_keeps_little(name: str) -> None:
    space = load_space(name, **SPACES[name])
    network = supernet(space, (3, 8, 8), 4).double()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64)
    mix = {
        c.name: torch.rand(len(c.candidates), generator=generator, dtype=torch.float64, requires_grad=True)
        for c in space.choices
        if c.take == 1
    }
    forgetful = fused(network, checkpoint=True)
    assert max(difference(forgetful, images, mix=mix)) < 1e-12
    plain, fast, little = (kept_bytes(n, images, mix=mix) for n in (network, fused(network), forgetful))
    assert little < fast / 5 < plain / 7
    steps = [step for step, _ in forgetful._plan(frozenset(mix), "cpu")[0]]
    cells = {"nasbench201": 6, "darts": 4}[name]
    assert sum(isinstance(step, Segment) for step in steps) == cells


def test_under_a_transform_and_twice_differentiated_it_is_the_same() -> None:
    space = load_space("nasbench201", channels=2, cells=1)
    network = supernet(space, (1, 4, 4), 3).double()
    images = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.arange(6) % 3
    weights = {c.name: torch.linspace(0.1, 0.5, 5, dtype=torch.float64) for c in space.choices}
    found = []
    for one in (fused(network), fused(network, checkpoint=True)):

        def loss(mix: dict[str, torch.Tensor], one: torch.nn.Module = one) -> torch.Tensor:
            return F.cross_entropy(one(images, mix=mix), targets)

        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        first = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True)
        second = torch.autograd.grad(torch.cat(first).square().sum(), list(leaves.values()))
        found.append(torch.cat([*grad(loss)(weights).values(), *first, *second]).detach())
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


def test_what_is_computed_once_more_has_the_parameters_that_were_lent() -> None:
    """The backward pass comes after `functional_call`, when the modules have their own parameters again."""
    space = load_space("nasbench201", channels=2, cells=1)
    network = supernet(space, (1, 4, 4), 3).double()
    images = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lent = {name: 1.5 * p.detach() + 0.1 for name, p in network.named_parameters()}
    found = []
    for one in (fused(network), fused(network, checkpoint=True)):
        mix = {c.name: torch.linspace(0.1, 0.5, 5, dtype=torch.float64).requires_grad_() for c in space.choices}
        own = {name: p.clone().requires_grad_() for name, p in lent.items()}
        for theta, leaves in ((lent, [*mix.values()]), (own, [*mix.values(), *own.values()])):
            loss = functional_call(one, theta, (images,), {"mix": mix}).square().sum()
            found.append(torch.autograd.grad(loss, leaves))
    for plain, forgetful in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(forgetful, plain, rtol=1e-10, atol=1e-12)
    assert all(isinstance(p, torch.nn.Parameter) for p in network.parameters())
