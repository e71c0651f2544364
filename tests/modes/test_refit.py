"""A describer beside ridge regression: against the gradient of its objective, what it leaves of the describer, and what
it answers for classes that add up."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metanas.errors import DataError
from metanas.modes import Described, answer, refitted, zero_shot


@pytest.fixture
def seen():
    """Descriptions (6, 3) and mean embeddings (6, 4) of six classes, float64."""
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((6, 3), (6, 4)))


def test_the_gradient_of_the_ridge_is_zero(seen):
    s, m = seen
    told = refitted(nn.Linear(3, 4).double(), s, m, penalty=0.7)
    weight, bias = told.weight.clone().requires_grad_(), told.bias.clone().requires_grad_()
    loss = (F.linear(s, weight, bias) - m).square().sum() + 0.7 * weight.square().sum()
    slopes = torch.autograd.grad(loss, (weight, bias))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-10
    assert weight.abs().max() > 1e-3


def test_it_is_the_sum_of_two_unit_vectors_and_learns_the_describer_alone(seen):
    s, m = seen
    plain = nn.Linear(3, 4).double()
    told = refitted(plain, s, m, penalty=0.7)
    fitted = F.linear(s, told.weight, told.bias)
    expected = plain(s) / plain(s).norm(dim=-1, keepdim=True) + fitted / fitted.norm(dim=-1, keepdim=True)
    assert torch.allclose(told(s), expected, rtol=1e-12)
    assert [name for name, _ in told.named_parameters()] == ["describer.weight", "describer.bias"]
    with torch.no_grad():
        plain.weight.zero_()
    assert torch.allclose(told(s), expected, rtol=1e-12), "the describer is a copy"


def test_classes_that_add_up_are_known_though_the_describer_knows_nothing():
    """Embeddings that are sums over two keys; four of nine pairs are unseen, and the describer always says the same."""
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    s = F.one_hot(pairs, 3).flatten(1).double()
    m = s @ torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seen = torch.tensor([0, 1, 4, 5, 8])
    silent = nn.Linear(6, 5, bias=False).double()
    with torch.no_grad():
        silent.weight.zero_()
    network = nn.Linear(5, 5, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.eye(5))
    found = []
    for told in (silent, refitted(silent, s[seen], m[seen], penalty=1e-6)):
        learner = zero_shot(network, told)
        scores = answer(learner, learner.outer, Described(s), m)
        found.append(int((scores.argmax(1) == torch.arange(9)).sum()))
    assert found == [1, 9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": torch.zeros(5, 4)}, "descriptions are (6, 3) and means (5, 4); give a row of each"),
        ({"means": torch.full((6, 4), torch.nan)}, "must be finite"),
        ({"penalty": 0.0}, "penalty must be a number > 0, got 0.0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(change, message):
    given = {"descriptions": torch.zeros(6, 3), "means": torch.zeros(6, 4), "penalty": 1.0} | change
    with pytest.raises(DataError) as error:
        refitted(nn.Linear(3, 4), **given)
    assert message in str(error.value) and "\n" not in str(error.value)
