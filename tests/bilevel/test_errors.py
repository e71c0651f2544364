"""What is refused, where it enters, in one line that says what came and what is allowed."""

import pytest
import torch

from metanas.bilevel import (
    SGD,
    T1T2,
    Adam,
    AdamW,
    Bilevel,
    ConjugateGradient,
    EvolutionStrategies,
    FiniteDifference,
    FirstOrder,
    ForwardMode,
    Neumann,
    Nystrom,
    Reptile,
    Tasks,
    Unrolled,
    per_step,
    restart,
    solve,
)
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
        (lambda: Unrolled(2, checkpoint=0), "checkpoint must be >= 1 or None, got 0"),
        (lambda: ForwardMode(-1), "steps must be >= 0, got -1"),
        (lambda: ForwardMode(1, chunk=0), "chunk must be >= 1 or None, got 0"),
        (lambda: ConjugateGradient(steps=0), "steps must be >= 1, got 0"),
        (lambda: ConjugateGradient(steps=1, damping=-0.1), "damping must be >= 0, got -0.1"),
        (lambda: ConjugateGradient(steps=1, inner_steps=-1), "inner_steps must be >= 0, got -1"),
        (lambda: ConjugateGradient(steps=1, tolerance=0.0), "tolerance must be > 0, got 0.0"),
        (lambda: Neumann(terms=-1, lr=0.1), "terms must be >= 0, got -1"),
        (lambda: Neumann(terms=1, lr=0.0), "lr must be > 0, got 0.0"),
        (lambda: T1T2(lr=-1.0), "lr must be > 0, got -1.0"),
        (lambda: T1T2(lr=1.0, stationary=-1.0), "stationary must be > 0, got -1.0"),
        (lambda: Nystrom(rank=0), "rank must be >= 1, got 0"),
        (lambda: Nystrom(rank=1, damping=0.0), "damping must be > 0, got 0.0"),
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
        *(
            (e, Bilevel(lambda t, o, b: t["w"] * o["a"], GOOD), THETA, OUTER, r"inner_loss .* 0-d .* of shape \(2,\)")
            for e in (
                ConjugateGradient(steps=1),
                Neumann(terms=1, lr=0.1),
                Nystrom(rank=1),
                ForwardMode(1),
                FiniteDifference(),
                Unrolled(2, checkpoint=1),
            )
        ),
        (Nystrom(rank=1), Bilevel(GOOD, GOOD), THETA, OUTER, "Nystrom draws a sketch: hand it a generator"),
        (
            EvolutionStrategies(1, 2),
            Bilevel(GOOD, GOOD),
            THETA,
            OUTER,
            "EvolutionStrategies draws: hand it a generator",
        ),
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


def seen(t, o, b):
    return ((t["w"] - o["a"]) ** 2).sum() / 2


IDLE = {"a": torch.ones(2), "idle": torch.ones(1)}


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (ConjugateGradient(steps=1), "an implicit estimator sees outer variables through the losses alone"),
        (Neumann(terms=1, lr=0.1), "an implicit estimator sees outer variables through the losses alone"),
        (Nystrom(rank=1), "an implicit estimator sees outer variables through the losses alone"),
        (Reptile(2), "Reptile sees outer variables through the start alone"),
        (Unrolled(2), "neither the losses that are looked at nor the start nor the rule depend on it"),
        (Unrolled(2, checkpoint=1), "neither the losses that are looked at nor the start nor the rule depend on it"),
        (Unrolled(3, checkpoint=1), "neither the losses that are looked at nor the start nor the rule depend on it"),
    ],
    ids=str,
)
@pytest.mark.parametrize("rate", [SGD(0.1), SGD(lambda o: 0.1 * o["idle"])], ids=["read by nothing", "by the rule"])
def test_an_outer_variable_that_the_estimator_cannot_see_is_refused(estimator, reason, rate):
    problem = Bilevel(seen, seen, start=lambda t, o, b: {"w": t["w"] + o["a"]}, rule=rate)
    run = lambda: estimator(problem, THETA, IDLE, None, None, generator=torch.Generator())  # noqa: E731
    if isinstance(estimator, Unrolled) and callable(rate.lr):  # an unroll sees the rule
        assert run().gradient["idle"] != 0
        return
    with pytest.raises(BilevelError, match=rf"outer\['idle'\] is not read: {reason}, so its gradient would be 0"):
        run()


@pytest.mark.parametrize(
    "estimator", [ConjugateGradient(steps=1), Neumann(terms=1, lr=0.1), Nystrom(rank=1), Reptile(2)], ids=str
)
@pytest.mark.parametrize("loop", [False, True])
def test_it_is_refused_under_tasks_as_well(estimator, loop):
    problem = Bilevel(seen, seen, start=lambda t, o, b: {"w": o["a"] + b})
    tasks = torch.ones(3, 2)
    args = {}, {"a": torch.ones(2)}, tasks, tasks
    assert Tasks(estimator, loop)(problem, *args, generator=torch.Generator()).gradient["a"].shape == (2,)
    with pytest.raises(BilevelError, match=r"outer\['idle'\] is not read"):
        Tasks(estimator, loop)(problem, {}, IDLE, tasks, tasks, generator=torch.Generator())


def test_first_order_refuses_only_where_it_sees_no_variable_at_all():
    """It looks away from the inner loss by its nature, so a variable of the inner loss alone gets its zero."""
    decayed = lambda t, o, b: seen(t, o, b) + (o["idle"] * t["w"] ** 2).sum()  # noqa: E731
    h = FirstOrder(2)(Bilevel(decayed, seen), THETA, IDLE, None, None)
    assert (h.gradient["idle"] == 0).all() and (h.gradient["a"] != h.gradient["idle"]).any()
    blind = Bilevel(decayed, lambda t, o, b: (t["w"] ** 2).sum())
    with pytest.raises(BilevelError, match=r"outer\['a'\] is not read: neither the losses that are looked at"):
        FirstOrder(2)(blind, THETA, IDLE, None, None)


def test_an_implicit_estimator_that_goes_on_has_been_looked_at():
    """The check costs two passes: once, not at every call."""
    calls = []

    def counted(t, o, b):
        calls.append(1)
        return seen(t, o, b)

    problem = Bilevel(counted, counted)
    h = ConjugateGradient(steps=1)(problem, THETA, OUTER, None, None)
    first = len(calls)
    ConjugateGradient(steps=1)(problem, THETA, OUTER, None, None, carry=h.carry)
    assert len(calls) - first == first - 2


BOTH = {"w": torch.ones(3), "b": torch.ones(2)}


def fits(t, o, b):
    return ((t["w"] - o["a"].sum()) ** 2).sum() + (t["b"] ** 2).sum()


ZEROS = {"w": torch.zeros(3), "b": torch.zeros(2)}
STEP = torch.tensor(0)


@pytest.mark.parametrize(
    ("rule", "memory", "words"),
    [
        (SGD(torch.ones(4)), None, r"lr must broadcast to \(3,\) for theta\['w'\], got shape \(4,\)"),
        (SGD({"w": 0.1, "b": torch.ones(3)}), None, r"lr must broadcast to \(2,\) for theta\['b'\], got shape \(3,\)"),
        (SGD(0.1, torch.ones(4)), None, r"momentum must broadcast to \(3,\)"),
        (AdamW(0.1, weight_decay=torch.ones(4)), None, r"weight_decay must broadcast to \(3,\)"),
        (Adam(0.1, (0.9, torch.ones(4))), None, r"betas\[1\] must broadcast to \(3,\)"),
        (SGD(lambda o: per_step(torch.ones(4, 4))), None, r"lr must broadcast to \(3,\) .* got shape \(4,\)"),
        (SGD("0.1"), None, r"lr must be a number or a tensor, got str for theta\['w'\]"),
        (SGD({"w": torch.ones(2, 3), "b": 0.1}), None, r"made theta\['w'\] torch.float32 of shape \(2, 3\) out of"),
        (SGD({"w": torch.ones(3).double(), "b": 0.1}), None, r"made theta\['w'\] torch.float64 of shape \(3,\) out of"),
        (SGD({"w": 0.1}), None, r"theta has \['w'\], \['b'\], got \['w'\]"),
        (SGD(lambda o: {"w": 0.1, "c": 0.1}), None, r"theta has \['w'\], \['b'\], got \['w'\], \['c'\]"),
        (
            SGD(0.1, 0.9),
            {"velocity": {**ZEROS, "w": torch.zeros(4)}, "step": STEP},
            r"memory\['velocity'\]\['w'\] must",
        ),
        (
            SGD(0.1, 0.9),
            {"velocity": {"w": torch.zeros(3)}, "step": STEP},
            r"\['b'\] must have shape \(2,\), got nothing",
        ),
        (
            SGD(0.1, 0.9),
            Adam(0.1).init(ZEROS),
            r"memory\['velocity'\]\['w'\] .* got nothing; it is that of another rule",
        ),
        (Adam(0.1), SGD(0.1).init(ZEROS), r"memory\['m'\]\['w'\] must have shape \(3,\), got nothing"),
        (Adam(0.1), (), r"memory\['m'\]\['w'\] must have shape \(3,\), got nothing"),
        (
            SGD(0.1, 0.9),
            {"velocity": {**ZEROS, "w": torch.zeros(3).double()}, "step": STEP},
            r"made theta\['w'\] torch.float64 .* the rule's numbers and memory must fit theta's shapes and dtypes",
        ),
    ],
)
@pytest.mark.parametrize("estimator", [Unrolled(2), ForwardMode(2), FiniteDifference()], ids=str)
def test_numbers_and_memory_that_do_not_fit_theta_are_named(estimator, rule, memory, words):
    problem = Bilevel(fits, fits, rule=rule)
    with pytest.raises(BilevelError, match=words) as caught:
        estimator(problem, BOTH, OUTER, None, None, memory=memory)
    assert "\n" not in str(caught.value)


def test_what_fails_inside_a_rule_for_another_reason_is_left_as_it_is():
    with pytest.raises(KeyError, match="'lr'"):
        Unrolled(1)(Bilevel(fits, fits, rule=SGD(lambda o: o["lr"])), BOTH, OUTER, None, None)


def test_a_loss_without_a_forward_derivative_is_refused_in_words():
    def loss(t, o, b):
        return torch.nn.functional.mse_loss(t["w"] * o["a"], torch.ones(2))

    with pytest.raises(BilevelError, match=r"torch has no forward derivative .* use Unrolled. torch: ") as caught:
        ForwardMode(2)(Bilevel(loss, loss), THETA, OUTER, None, None)
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="must match the size"):  # another error is not dressed up
        ForwardMode(2)(Bilevel(lambda t, o, b: (t["w"] * torch.ones(3)).sum(), GOOD), THETA, OUTER, None, None)


def test_a_finite_difference_refuses_what_nothing_reads():
    with pytest.raises(BilevelError, match=r"outer\['z'\] is not read: neither the losses nor the start nor the rule"):
        FiniteDifference()(Bilevel(GOOD, GOOD), THETA, {**OUTER, "z": torch.ones(1)}, None, None)
    ruled = Bilevel(GOOD, GOOD, rule=SGD(lr=lambda outer: outer["z"]))
    assert FiniteDifference()(ruled, THETA, {**OUTER, "z": torch.tensor(0.1)}, None, None).gradient["z"] != 0
