"""Omega's gradient: that of the mixing weights pulled back, plus that of the penalty."""

from __future__ import annotations

import pytest
import torch

from metanas.controllers import Darts, DrNas
from metanas.loop.relaxed import Relaxed

OMEGA = {"a": torch.tensor([0.3, -0.8, 0.1]), "b": torch.tensor([1.2, -0.4])}
COTANGENT = {"a": torch.tensor([1.0, -2.0, 0.5]), "b": torch.tensor([0.7, 0.2])}


class Plain:
    """Omega moves by minus its gradient, so that the gradient can be read off."""

    def optimizer(self, parameters):
        return torch.optim.SGD(parameters, lr=1.0)


class PlainDarts(Plain, Darts):
    pass


class PlainDrNas(Plain, DrNas):
    pass


def moved(controller):
    relaxed = Relaxed(controller, {n: x.double() for n, x in OMEGA.items()}, torch.device("cpu"))
    relaxed.begin(0.0, 5)
    assert set(relaxed.draw()["mix"]) == {"a", "b"}
    relaxed.pull_back({"mix": {n: x.double() for n, x in COTANGENT.items()}})
    return {n: OMEGA[n].double() - x.detach() for n, x in relaxed.omega.items()}


def by_hand(controller):
    leaves = {n: x.double().requires_grad_() for n, x in OMEGA.items()}
    weights = controller.relax(leaves, progress=0.0, generator=torch.Generator().manual_seed(5))
    total = sum((weights[n] * COTANGENT[n].double()).sum() for n in weights) + controller.penalty(leaves, progress=0.0)
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


@pytest.mark.parametrize("controller", [PlainDarts(), PlainDrNas(anchor=0.5), PlainDrNas(anchor=0.0)], ids=str)
def test_the_gradient_is_pulled_back_and_the_penalty_added(controller):
    ours, theirs = moved(controller), by_hand(controller)
    for name in OMEGA:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-12, atol=1e-14)


def test_omega_is_a_copy():
    start = {n: x.clone() for n, x in OMEGA.items()}
    relaxed = Relaxed(Darts(), start, torch.device("cpu"))
    relaxed.draw()
    relaxed.pull_back({"mix": COTANGENT})
    assert all(torch.equal(start[n], x) for n, x in OMEGA.items())
    assert not torch.equal(relaxed.omega["a"], start["a"])


def test_what_is_not_learned_stays():
    """A controller may hold one choice fixed, and have parameters that enter no mixing weight yet."""

    class Partly(PlainDarts):
        def relax(self, omega, *, progress, generator):
            return {"a": torch.softmax(omega["a"], -1), "b": torch.tensor([0.5, 0.5])}

    relaxed = Relaxed(Partly(), OMEGA, torch.device("cpu"))
    relaxed.draw()
    relaxed.pull_back({"mix": COTANGENT})
    assert torch.equal(relaxed.omega["b"], OMEGA["b"]) and not torch.equal(relaxed.omega["a"], OMEGA["a"])


def test_the_constant_has_no_graph_and_the_same_noise():
    relaxed = Relaxed(DrNas(), OMEGA, torch.device("cpu"))
    relaxed.begin(0.0, 5)
    drawn = relaxed.draw()["mix"]
    relaxed.begin(0.0, 5)
    constant = relaxed.constant()["mix"]
    for name in OMEGA:
        assert torch.equal(drawn[name], constant[name])
        assert drawn[name].requires_grad and not constant[name].requires_grad
