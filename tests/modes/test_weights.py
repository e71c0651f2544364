"""Weights of examples: who is looked up, what is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metanas.bilevel import SGD, Unrolled, adopt, solve, torch_step
from metanas.errors import BilevelError
from metanas.modes import assemble
from metanas.modes.weights import example_weights, kept


def test_examples_outside_of_the_batch_get_no_gradient():
    part = example_weights(4)
    problem = assemble(nn.Linear(2, 2), [part], rule=SGD(lr=0.5))
    theta = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
    inner = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]), torch.tensor([3, 1]), torch.zeros(2, 8)
    gradient = Unrolled(1)(problem, theta, {part.name: part.start}, inner, inner).gradient[part.name]["logit"]
    assert (gradient != 0).tolist() == [False, True, False, True]


def test_what_was_turned_round_is_not_kept():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 2
    x = torch.randn(80, 4, generator=draw) + 2.0 * labels[:, None] - 1
    bad = torch.arange(40) % 4 == 0
    inner = x[:40], torch.where(bad, 1 - labels[:40], labels[:40]), torch.arange(40), torch.zeros(40, 8)
    part = example_weights(40)
    problem = assemble(nn.Linear(4, 2), [part], rule=SGD(0.5, 0.9))
    theta, outer = {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, {part.name: part.start}
    outer[part.name]["logit"].requires_grad_()
    step = torch_step(torch.optim.Adam(outer[part.name].values(), 0.3), outer)
    batches = [(None, inner, (x[40:], labels[40:]))] * 40
    for _ in solve(problem, Unrolled(10), theta, outer, batches, outer_step=step, advance=adopt(theta)):
        pass
    found = kept(outer[part.name])
    assert int(found[bad].sum()) <= 1 and int(found[~bad].sum()) >= 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be >= 1, got 0"),
        ({"count": 1, "start": float("nan")}, "start must be finite, got nan"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(BilevelError) as caught:
        example_weights(**arguments)
    assert str(caught.value) == message
