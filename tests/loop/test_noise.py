"""A search whose candidates draw noise goes on from a checkpoint bit for bit, and another step has another noise."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import torch

from metanas.bilevel import FirstOrder
from metanas.controllers import DrNas
from metanas.loop import GradientSearch, Schedule
from metanas.modes import meta_network
from metanas.network import supernet
from metanas.space import NEEDED, Space, chain, one_of, op


def search(tiny: SimpleNamespace) -> GradientSearch:
    width = {"width": 2, "norm": "batch_cell"}
    ops = {"noise": op("noise", beside="image"), "conv": op("preact_conv", kernel=3, activation="relu", **width)}
    steps = (("stem", op("conv", kernel=3, **width)), ("y", one_of("y", ops)), ("head", op("classifier", width=NEEDED)))
    space, data = Space(chain(*steps)), tiny.data()
    network = supernet(space, data.shape, 3, seed=0)
    schedule = Schedule(epochs=2, batch_size=4, lr=0.1, monitor=9)
    return GradientSearch(space, network, meta_network(network), FirstOrder(), DrNas(), data, schedule, seed=0)


def losses(steps: list) -> list[tuple[float, float]]:
    return [(float(step.inner_loss), float(step.outer_loss)) for step in steps]


def test_a_resume_sees_the_same_noise(tiny: SimpleNamespace) -> None:
    first = search(tiny)
    steps = first.steps()
    begun = [next(steps) for _ in range(2)]
    state = copy.deepcopy(first.state())
    rest = list(steps)
    torch.manual_seed(5)
    again = search(tiny)
    again.restore(state)
    assert losses(list(again.steps())) == losses(rest) and len(begun + rest) == first.total
    for name, p in first.theta.items():
        assert torch.equal(p, again.theta[name])
