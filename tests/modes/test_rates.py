"""Learned rates: against torch's SGD and Adam, whose groups may each have their own, changed before each step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metanas.bilevel import SGD, Adam, Unrolled
from metanas.errors import BilevelError
from metanas.modes import assemble
from metanas.modes.rates import rate

STEPS = 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


THETA = {name: p.detach() for name, p in network().named_parameters()}
DATA = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(7) % 3


def logs(*values):
    return torch.tensor(values, dtype=torch.float64).log().squeeze()


# per -> (own outer variables, the rate of tensor j at step k)
RATES = {
    "all": ({"log": logs(0.2)}, lambda j, k: 0.2),
    "layer": ({"log": {n: logs(0.1 + 0.1 * j) for j, n in enumerate(THETA)}}, lambda j, k: 0.1 + 0.1 * j),
    "step": ({"log": logs(0.3, 0.2, 0.1)}, lambda j, k: (0.3, 0.2, 0.1)[k]),
    "layer and step": (
        {"log": {n: logs(*(0.1 + 0.1 * j + 0.05 * k for k in range(STEPS))) for j, n in enumerate(THETA)}},
        lambda j, k: 0.1 + 0.1 * j + 0.05 * k,
    ),
}


@pytest.mark.parametrize(("rule", "optimizer"), [(SGD(1.0, 0.9), "SGD"), (Adam(1.0), "Adam")], ids=["SGD", "Adam"])
@pytest.mark.parametrize("per", RATES)
def test_rates_are_the_rates_of_torch(per, rule, optimizer):
    own, of = RATES[per]
    part = rate(THETA, per=per, steps=STEPS if "step" in per else None)
    found = Unrolled(STEPS)(assemble(network(), [part], rule=rule), THETA, {part.name: own}, DATA, DATA).theta
    plain = network()
    settings = {"momentum": 0.9} if optimizer == "SGD" else {}
    stepping = getattr(torch.optim, optimizer)([{"params": [p]} for p in plain.parameters()], lr=1.0, **settings)
    for k in range(STEPS):
        for j, group in enumerate(stepping.param_groups):
            group["lr"] = of(j, k)
        stepping.zero_grad()
        F.cross_entropy(plain(DATA[0]), DATA[1]).backward()
        stepping.step()
    expected = {name: p.detach() for name, p in plain.named_parameters()}
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_after_the_last_step_its_rate_stays():
    theta, one = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    part = rate(theta, per="layer and step", steps=2)
    rule = SGD(lr=part.lr)
    memory = rule.init(theta)
    for _ in range(4):
        theta, memory = rule(theta, memory, one, {"log": {"w": torch.tensor([1.0, 10.0]).log()}})
    torch.testing.assert_close(theta["w"], torch.tensor([-31.0]))


def test_what_is_shown():
    part = rate(THETA, per="step", steps=2)
    shown = part.shown({"log": torch.tensor([0.01, 1.0]).log()})
    assert shown == pytest.approx({"least rate": 0.01, "mean rate": 0.1, "greatest rate": 1.0}, 1e-5)


@pytest.mark.parametrize(
    ("theta", "arguments", "message"),
    [
        (THETA, {"per": "steps"}, "per must be one of all, layer, step, layer and step, got 'steps'; did you mean "
                                  '"step"?'),
        (THETA, {"start": -1.0}, "start must be > 0 and finite, got -1.0"),
        (THETA, {"per": "step"}, 'per="step" needs steps >= 1, got None'),
        (THETA, {"per": "layer and step", "steps": 0}, 'per="layer and step" needs steps >= 1, got 0'),
        (THETA, {"steps": 3}, 'per="all" has no rate for each step, got steps=3; leave steps out'),
        ({}, {}, "theta has no tensors to step; give the parameters of the network"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(theta, arguments, message):
    with pytest.raises(BilevelError) as caught:
        rate(theta, **arguments)
    assert str(caught.value) == message
