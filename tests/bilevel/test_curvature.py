"""The largest eigenvalue, against the Hessian written out."""

from __future__ import annotations

import math

import pytest
import torch

from metanas.bilevel import largest_eigenvalue
from metanas.errors import BilevelError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(x):
    """Neither quadratic nor separable: two tensors of a tree, read by each other."""
    y = torch.cat([x["a"].flatten(), x["b"]])
    weights = torch.linspace(-1.0, 2.0, len(y), dtype=y.dtype)
    return (torch.tanh(y.outer(y)).sum() + (weights * y**3).sum() + torch.logsumexp(2 * y, 0)) / 3


AT = {
    "a": torch.randn(2, 3, generator=seeded(1), dtype=torch.float64),
    "b": torch.randn(4, generator=seeded(2), dtype=torch.float64),
}


def written_out(loss, at):
    """The whole Hessian's largest eigenvalue."""
    sizes = [x.numel() for x in at.values()]

    def flat(vector):
        parts = vector.split(sizes)
        return loss({name: part.view_as(x) for (name, x), part in zip(at.items(), parts, strict=True)})

    whole = torch.autograd.functional.hessian(flat, torch.cat([x.flatten() for x in at.values()]))
    return float(torch.linalg.eigvalsh(whole)[-1])


def test_as_many_steps_as_numbers_give_the_eigenvalue_of_the_whole_hessian():
    found = largest_eigenvalue(smooth, AT, steps=10, generator=seeded())
    assert found == pytest.approx(written_out(smooth, AT), rel=1e-9)


def test_fewer_steps_give_no_more_and_nearly_as_much():
    exact = written_out(smooth, AT)
    found = [largest_eigenvalue(smooth, AT, steps=k, generator=seeded(k)) for k in (1, 3, 6)]
    assert all(value <= exact * (1 + 1e-9) for value in found) and found[-1] > 0.9 * exact


def test_differences_are_near_and_get_nearer_by_the_square():
    exact = written_out(smooth, AT)
    far, near = (abs(largest_eigenvalue(smooth, AT, generator=seeded(), difference=d) - exact) for d in (1e-2, 1e-3))
    assert near < 1e-5 * exact and 50 < far / near < 200


@pytest.mark.parametrize("eigenvalues", [[-3.0, -1.0], [-9.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0], [5.0]])
def test_the_largest_is_not_the_largest_in_size_and_may_come_often(eigenvalues):
    """Of equal eigenvalues a direction holds one mixture: the recurrence ends early, with nothing left to divide by."""
    n = len(eigenvalues)
    turn, _ = torch.linalg.qr(torch.randn(n, n, generator=seeded(3), dtype=torch.float64))
    hessian = turn @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ turn.T
    found = largest_eigenvalue(lambda x: x @ hessian @ x / 2, torch.ones(n, dtype=torch.float64), generator=seeded())
    assert found == pytest.approx(max(eigenvalues), abs=1e-9)


class Once(torch.autograd.Function):
    """A square without a second derivative."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, grown):
        return 2 * context.saved_tensors[0] * grown


@pytest.mark.parametrize(
    ("loss", "eigenvalue"),
    [(lambda x: 3 * Once.apply(x).sum(), 6.0), (lambda x: Once.apply(x).sum().exp() / math.exp(4), 18.0)],
    ids=["which torch does not notice", "which raises"],
)
def test_where_there_is_no_second_derivative_differences_are_taken(loss, eigenvalue):
    """exp(|x|^2) has the Hessian exp(|x|^2) (2 + 4 x x'), so 2 + 4 * 4 at ones, and differences of 0.01 see 18.003."""
    found = largest_eigenvalue(loss, torch.ones(4, dtype=torch.float64), generator=seeded())
    assert found == pytest.approx(eigenvalue, rel=1e-3)


def test_other_errors_are_not_swallowed():
    def broken(x):
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        largest_eigenvalue(broken, torch.ones(2))


def test_a_loss_that_is_linear_or_not_finite_or_does_not_look():
    linear = lambda x: x.sum()  # noqa: E731
    assert largest_eigenvalue(linear, torch.ones(3), generator=seeded()) == 0.0
    assert largest_eigenvalue(lambda x: torch.tensor(1.0), torch.ones(3), generator=seeded()) == 0.0
    assert math.isnan(largest_eigenvalue(lambda x: (x**2).sum() / 0, torch.ones(3), generator=seeded()))


def test_it_is_a_function_of_the_generator_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    one, two, other = (largest_eigenvalue(smooth, AT, steps=2, generator=seeded(seed)) for seed in (5, 5, 6))
    assert one == two != other and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("steps", "difference"), [(0, None), (3, 0.0), (3, -1.0)])
def test_numbers_that_cannot_be(steps, difference):
    with pytest.raises(BilevelError, match="steps must be >= 1"):
        largest_eigenvalue(smooth, AT, steps=steps, difference=difference)
