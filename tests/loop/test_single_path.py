"""GDAS: one path of the supernet runs, and every weight is pulled."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from metanas.bilevel import FiniteDifference, FirstOrder, Unrolled
from metanas.controllers import Gdas
from metanas.loop import GradientSearch, Schedule
from metanas.modes import meta_network
from metanas.network import Taken, fused, one_path, supernet


def test_the_loss_is_that_of_the_path_and_every_weight_has_its_gradient(tiny: Any) -> None:
    space, data = tiny.space, tiny.data()
    network = supernet(space, data.shape, 3)
    problem = meta_network(network, single_path=True)
    theta = {name: p.detach() for name, p in network.named_parameters()}
    weights = {c.name: torch.eye(3)[k].requires_grad_() for (c, k) in zip(space.choices, (2, 2, 0), strict=True)}
    batch = (data.inner.inputs[:6], data.inner.targets[:6])
    loss = problem.outer_loss(theta, {"mix": weights}, batch)
    path = one_path(space.choices, {c.name: (c.candidates[k],) for c, k in zip(space.choices, (2, 2, 0), strict=True)})
    logits = network(batch[0], mix=path)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, batch[1]))
    rows = torch.autograd.grad(loss, list(weights.values()))
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    taken = {name: Taken(int(w.argmax()), w) for name, w in leaves.items()}
    again = torch.nn.functional.cross_entropy(network(batch[0], mix=taken), batch[1])
    wanted = torch.autograd.grad(again, list(leaves.values()), allow_unused=True)
    for row, want in zip(rows, wanted, strict=True):
        torch.testing.assert_close(row, torch.zeros_like(row) if want is None else want)
    assert [want is None for want in wanted] == [True, False, False]  # the second edge is taken, the third is `none`


def test_only_what_is_drawn_runs(tiny: Any) -> None:
    space, data = tiny.space, tiny.data()
    network = supernet(space, data.shape, 3)
    ran: list[str] = []
    for name, module in network.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    problem = meta_network(fused(network), single_path=True)
    weights = {c.name: torch.tensor([0.0, 1.0, 0.0]) for c in space.choices}  # all skip
    problem.inner_loss(
        dict(network.named_parameters()), {"mix": weights}, (data.inner.inputs[:6], data.inner.targets[:6])
    )
    assert not any("conv" in name for name in ran) and sum("skip" in name for name in ran) == 3


@pytest.mark.parametrize("estimator", [FirstOrder(), FiniteDifference(), Unrolled(1)], ids=lambda e: type(e).__name__)
def test_a_search_learns_the_structure(tiny: Any, estimator: Any) -> None:
    space, data = tiny.space, tiny.data()
    network = fused(supernet(space, data.shape, 3))
    problem, settings = meta_network(network, single_path=True), Schedule(epochs=4, batch_size=4, lr=0.1, monitor=9)
    search = GradientSearch(space, network, problem, estimator, Gdas(lr=0.1), data, settings, seed=0)
    before = {name: x.detach().clone() for name, x in search.relaxed.omega.items()}
    losses = [float(step.inner_loss) for step in search.steps()]
    assert all(not torch.equal(before[name], x) for name, x in search.relaxed.omega.items())
    assert all(x == x for x in losses) and int(search.skipped) == 0
    assert set(search.derive()) == {c.name for c in space.choices}
