"""What is refused, where it enters, in one line that says what came and what is allowed."""

import pytest
import torch

from metanas.bilevel import Bilevel, FiniteDifference, FirstOrder, Tasks, Unrolled, restart, solve
from metanas.errors import BilevelError, MetanasError

GOOD = lambda t, o, b: (t["w"] * o["a"]).sum()  # noqa: E731
FREE = lambda t, o, b: o["a"].sum()  # noqa: E731
WHOLE = torch.ones(2, dtype=torch.long)
THETA, OUTER = {"w": torch.ones(2)}, {"a": torch.ones(2)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Unrolled(-1), "steps must be >= 0, got -1"),
        (lambda: Unrolled(2, truncate=0), "truncate must be >= 1 or None, got 0"),
        (lambda: FirstOrder(-2), "steps must be >= 0, got -2"),
        (lambda: FiniteDifference(0.0), "epsilon must be > 0, got 0.0"),
        (lambda: FiniteDifference(float("nan")), "epsilon must be > 0, got nan"),
    ],
)
def test_estimators_refuse_wrong_numbers(make, words):
    with pytest.raises(BilevelError, match=words):
        make()


@pytest.mark.parametrize(
    ("estimator", "problem", "theta", "outer", "words"),
    [
        (Unrolled(1), Bilevel(None, GOOD), THETA, OUTER, "inner_loss is None, but this estimator takes inner steps"),
        (FirstOrder(1), Bilevel(None, GOOD), THETA, OUTER, "inner_loss is None"),
        (FiniteDifference(), Bilevel(None, GOOD), THETA, OUTER, "inner_loss is None"),
        (Tasks(Unrolled(1)), Bilevel(None, GOOD), THETA, OUTER, "inner_loss is None"),
        (FirstOrder(), Bilevel(None, lambda t, o, b: t["w"]), THETA, OUTER, r"outer_loss .* 0-d .* of shape \(2,\)"),
        (FirstOrder(), Bilevel(None, lambda t, o, b: 1.0), THETA, OUTER, "outer_loss must return .*, got float"),
        (Unrolled(1), Bilevel(lambda t, o, b: t["w"], GOOD), THETA, OUTER, r"inner_loss .* of shape \(2,\)"),
        (FirstOrder(), Bilevel(None, GOOD), {"w": WHOLE}, OUTER, r"theta\['w'\] must .* got torch.int64"),
        (FirstOrder(), Bilevel(None, GOOD), THETA, {"a": {"b": 1.0}}, r"outer\['a'\]\['b'\] must .* got float"),
        (FirstOrder(), Bilevel(None, GOOD), THETA, {}, "outer has no tensors"),
        (Unrolled(1), Bilevel(FREE, FREE), {}, OUTER, "theta has no tensors to descend on"),
    ],
)
def test_problems_that_cannot_be_are_refused_at_the_door(estimator, problem, theta, outer, words):
    with pytest.raises(BilevelError, match=words) as caught:
        estimator(problem, theta, outer, None, None)
    assert isinstance(caught.value, MetanasError) and isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_solve_refuses_another_order_before_the_first_batch():
    with pytest.raises(BilevelError, match='order must be "outer" or "advance", got \'inner\''):
        solve(Bilevel(None, GOOD), FirstOrder(), THETA, OUTER, [], outer_step=print, advance=restart, order="inner")
