"""ESZSL against the gradient of its objective, a solution by hand, and new classes that it must know."""

from __future__ import annotations

import pytest
import torch

from metanas.errors import DataError
from metanas.modes import eszsl


@pytest.fixture
def seen():
    """Features of 40 examples (40, 6), labels, and the signatures of 5 classes (5, 3), float64."""
    draw = torch.Generator().manual_seed(0)
    x, s = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((40, 6), (5, 3)))
    return x, torch.arange(40) % 5, s


@pytest.mark.parametrize("negative", [-1.0, 0.0])
def test_the_gradient_of_the_objective_is_zero(seen, negative):
    x, labels, s = seen
    gamma, lam = 0.7, 3.0
    y = torch.full((40, 5), negative, dtype=torch.float64).scatter(1, labels[:, None], 1.0)
    w = eszsl(x, labels, s, gamma, lam, negative=negative).requires_grad_()
    fit = (x @ w @ s.T - y).square().sum()
    held = gamma * (w @ s.T).square().sum() + lam * (x @ w).square().sum() + gamma * lam * w.square().sum()
    (slope,) = torch.autograd.grad(fit + held, w)
    assert slope.abs().max() < 1e-10
    assert w.detach().abs().max() > 1e-3


def test_it_is_the_formula(seen):
    x, labels, s = seen
    y = 2 * torch.eye(5, dtype=torch.float64)[labels] - 1
    left = (x.T @ x + 0.5 * torch.eye(6, dtype=torch.float64)).inverse()
    right = (s.T @ s + 2.0 * torch.eye(3, dtype=torch.float64)).inverse()
    assert torch.allclose(eszsl(x, labels, s, 0.5, 2.0), left @ x.T @ y @ s @ right, rtol=1e-10, atol=1e-12)


def test_single_precision_in_is_solved_in_double(seen):
    x, labels, s = (t.float() if t.is_floating_point() else t for t in seen)
    assert torch.equal(eszsl(x, labels, s, 1e-3, 1e-3), eszsl(x.double(), labels, s.double(), 1e-3, 1e-3))


def test_classes_that_it_has_not_seen():
    """Features are a linear map of the signature and noise: a new corner of the cube is known by its signature."""
    draw = torch.Generator().manual_seed(1)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 5)  # (32, 5)
    mixing = torch.randn(5, 10, generator=draw)

    def examples(classes, each):
        labels = torch.arange(len(classes)).repeat_interleave(each)
        return classes[labels] @ mixing + 0.1 * torch.randn(len(labels), 10, generator=draw), labels

    order = torch.randperm(32, generator=draw)
    known, new = corners[order[:24]], corners[order[24:]]
    w = eszsl(*examples(known, 20), known, 1.0, 1.0)
    x, labels = examples(new, 20)
    assert ((x.double() @ w @ new.double().T).argmax(1) == labels).double().mean() > 0.95


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gamma": 0.0}, "gamma must be a number > 0, got 0.0"),
        ({"lam": float("nan")}, "lam must be a number > 0, got nan"),
        ({"labels": torch.arange(40) % 6}, "labels must be 0 to 4, the rows of signatures, got 0 to 5"),
        ({"labels": torch.arange(39) % 5}, r"labels must be \(40,\) integers, one for each row, got \(39,\)"),
        ({"features": torch.full((40, 6), torch.inf)}, "features hold 240 numbers that are not finite"),
        ({"signatures": torch.ones(3)}, r"signatures must be rows of numbers, at least one, got \(3,\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_in_one_line(seen, change, said):
    given = dict(zip(("features", "labels", "signatures"), seen, strict=True)) | {"gamma": 1.0, "lam": 1.0} | change
    with pytest.raises(DataError, match=said) as error:
        eszsl(**given)
    assert "\n" not in str(error.value)
