"""A search on the fused executor is the search on the plain one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from metanas.bilevel import FiniteDifference, FirstOrder
from metanas.controllers import Darts, DrNas
from metanas.loop import GradientSearch, Schedule
from metanas.modes import meta_network
from metanas.network import FusedNetwork, fused, supernet
from metanas.space import Space


def search(space: Space, data: Any, controller: Any, estimator: Any, *, fast: bool, **schedule: Any) -> GradientSearch:
    network = supernet(space, data.shape, 3, seed=0)
    network = fused(network) if fast else network
    settings = Schedule(**{"epochs": 4, "batch_size": 4, "lr": 0.1, "monitor": 9} | schedule)
    return GradientSearch(space, network, meta_network(network), estimator, controller, data, settings, seed=0)


@pytest.mark.parametrize("estimator", [FirstOrder(), FiniteDifference()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("controller", [Darts(lr=0.1), DrNas(lr=0.1)], ids=lambda c: type(c).__name__)
def test_a_seeded_search_in_float64_derives_the_same_architecture(tiny: Any, controller: Any, estimator: Any) -> None:
    plain, fast = (search(tiny.space, tiny.data(), controller, estimator, fast=fast) for fast in (False, True))
    reports = []
    for step, twin in zip(plain.steps(), fast.steps(), strict=True):
        torch.testing.assert_close(twin.inner_loss, step.inner_loss, rtol=1e-7, atol=0)
        torch.testing.assert_close(twin.outer_loss, step.outer_loss, rtol=1e-7, atol=0, equal_nan=True)
        reports.append((step.report, twin.report))
    assert plain.step > 10 and plain.derive() == fast.derive()
    for name, row in plain.relaxed.omega.items():
        torch.testing.assert_close(fast.relaxed.omega[name], row, rtol=1e-6, atol=1e-9)
    (last, other) = reports[-1]
    assert last is not None and other is not None and last.architecture == other.architecture


def test_where_it_diverges_the_layer_is_named_all_the_same(tiny: Any) -> None:
    from metanas.errors import DivergedError

    data = tiny.data()
    found = []
    for fast in (False, True):
        running = search(tiny.space, data, Darts(), FirstOrder(), fast=fast, patience=2)
        with torch.no_grad():
            running.theta["cell/1/conv.1.weight"].fill_(torch.nan)
        with pytest.raises(DivergedError, match=r"cell\.1\.conv\.1") as error:
            list(running.steps())
        found.append(str(error.value))
    assert found[0] == found[1]


def test_in_half_precision_it_is_as_close_as_half_precision_is(tiny: Any) -> None:
    torch.set_default_dtype(torch.float32)
    network = supernet(tiny.space, (1, 6, 6), 3)
    images, targets = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    mix = {choice.name: torch.tensor([0.2, 0.3, 0.5]) for choice in tiny.space.choices}
    theta = dict(network.named_parameters())
    losses = []
    for one in (network, fused(network)):
        assert isinstance(one, FusedNetwork) == (one is not network)
        problem = meta_network(one, loss=F.cross_entropy, precision="bfloat16")
        losses.append(problem.outer_loss(theta, {"mix": mix}, (images, targets)))
    torch.testing.assert_close(*losses, rtol=2e-2, atol=0)
