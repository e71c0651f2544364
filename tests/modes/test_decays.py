"""Learned decays: against the weight decay of torch's SGD, whose groups may each have their own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metanas.bilevel import SGD, Unrolled
from metanas.errors import BilevelError
from metanas.modes import assemble
from metanas.modes.decays import decay


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


THETA = {name: p.detach() for name, p in network().named_parameters()}
DATA = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(7) % 3


def stepped(part, own):
    problem = assemble(network(), [part], rule=SGD(lr=0.3, momentum=0.9))
    return Unrolled(4)(problem, THETA, {part.name: own}, DATA, DATA).theta


def by_torch(decays):
    """Four steps of torch's SGD, with a weight decay for each tensor."""
    plain = network()
    groups = [{"params": [p], "weight_decay": decays[name]} for name, p in plain.named_parameters()]
    optimizer = torch.optim.SGD(groups, 0.3, 0.9)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(plain(DATA[0]), DATA[1]).backward()
        optimizer.step()
    return {name: p.detach() for name, p in plain.named_parameters()}


@pytest.mark.parametrize("per", ["all", "layer", "parameter", "feature"])
def test_equal_decays_are_the_weight_decay_of_torch(per):
    part = decay(THETA, per=per, start=0.05)
    torch.testing.assert_close(stepped(part, part.start), by_torch(dict.fromkeys(THETA, 0.05)), rtol=1e-10, atol=0)


def test_a_decay_for_each_tensor_is_a_group_of_torch_for_each():
    decays = {name: 0.02 * (k + 1) for k, name in enumerate(THETA)}
    part = decay(THETA, per="layer")
    own = {"log": {name: torch.tensor(d, dtype=torch.float64).log() for name, d in decays.items()}}
    torch.testing.assert_close(stepped(part, own), by_torch(decays), rtol=1e-10, atol=0)


def test_a_feature_is_a_column_of_the_first_matrix():
    theta = {"scale": torch.ones(2), "conv": torch.ones(3, 2, 1, 2), "last": torch.ones(2, 2)}
    part = decay(theta, per="feature")
    assert part.start["log"]["features"].shape == (2,)
    own = {"log": {"features": torch.tensor([1.0, 10.0]).log(), "others": torch.tensor(100.0).log()}}
    torch.testing.assert_close(part.penalty(theta, own), torch.tensor((1.0 * 6 + 10.0 * 6 + 100.0 * (2 + 4)) / 2))


def test_a_matrix_alone_has_no_others():
    part = decay({"w": torch.ones(1, 2)}, per="feature", start=1.0)
    torch.testing.assert_close(part.penalty({"w": torch.ones(1, 2)}, part.start), torch.tensor(1.0))


def test_live_parameters_are_not_kept():
    part = decay(dict(network().named_parameters()), per="parameter")
    assert not any(x.requires_grad for x in part.start["log"].values())


def test_what_is_shown():
    part = decay(THETA, per="layer")
    own = {"log": {name: torch.tensor(float(k)) for k, name in enumerate(THETA)}}
    assert part.shown(own) == pytest.approx({"least decay": 1.0, "mean decay": 4.4817, "greatest decay": 20.0855}, 1e-4)
    assert decay(THETA, start=0.5).shown({"log": torch.tensor(0.0)}) == {"decay": 1.0}


@pytest.mark.parametrize(
    ("theta", "arguments", "message"),
    [
        (
            THETA,
            {"per": "layr"},
            "per must be one of all, layer, parameter, feature, got 'layr'; did you mean \"layer\"?",
        ),
        (THETA, {"start": 0.0}, "start must be > 0 and finite, got 0.0"),
        (THETA, {"start": float("inf")}, "start must be > 0 and finite, got inf"),
        ({}, {}, "theta has no tensors to decay; give the parameters of the network"),
        (
            {"w": torch.ones(2)},
            {"per": "feature"},
            'per="feature" needs a tensor with two axes or more in theta; use per="parameter"',
        ),
    ],
)
def test_what_cannot_be_is_refused(theta, arguments, message):
    with pytest.raises(BilevelError) as caught:
        decay(theta, **arguments)
    assert str(caught.value) == message
