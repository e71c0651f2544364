"""The loop of a tuning: resumed anywhere it is the one that was not stopped; batches; a known optimum; divergence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metanas.bilevel import SGD, Adam, ConjugateGradient, EvolutionStrategies, FirstOrder, ForwardMode, Unrolled
from metanas.data import REGRESSION, Data, Split
from metanas.errors import CheckpointError, DivergedError
from metanas.loop import Minibatches, TuneSchedule, Tuning, drawn, named
from metanas.modes import assemble, augmentation, decay, example_weights, rate
from metanas.run.checkpoints import load, save

N, D = 24, 3
PLANE = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def square(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


def linear() -> nn.Module:
    return nn.Linear(D, 1, bias=False).double()


def rows(inner: int = N, outer: int = N, noise: float = 1.0) -> Data:
    draw = torch.Generator().manual_seed(0)

    def split(n: int, noise: float) -> Split:
        x = torch.randn(n, D, generator=draw, dtype=torch.float64)
        return Split(x, x @ PLANE + noise * torch.randn(n, generator=draw, dtype=torch.float64))

    test = split(7, 0.0)
    return Data("rows", split(inner, noise), split(outer, 0.0), test, (), (), "", (), (), (), REGRESSION)


def pictures() -> Data:
    draw = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        targets = torch.arange(n) % 2
        return Split(
            torch.randn(n, 1, 4, 4, generator=draw, dtype=torch.float64) + targets[:, None, None, None], targets
        )

    return Data("tiny", split(12), split(10), split(4), ("a", "b"), (), "", (0.0,), (1.0,), (0.0, 1.0))


def start(step: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return {"weight": torch.randn(1, D, generator=draw, dtype=torch.float64)}


BATCHES = ("noise", "inner_batches", "inner_batch", "outer_batch")


def tuning(
    *,
    data: Data | None = None,
    estimator: Any = None,
    rule: Any = None,
    parts: Any = None,
    losses: Any = square,
    network: Any = None,
    fresh: Callable[[int], Any] = start,
    restart: bool = False,
    optimizer: Any = None,
    seed: int = 0,
    **schedule: Any,
) -> Tuning:
    """A tuning of weights and decays on noisy rows, from its beginning; numbers of `TuneSchedule` and `Minibatches` by
    name."""
    data = data or rows()
    parts = parts or (example_weights(len(data.inner)), decay(fresh(0), per="parameter", start=0.1))
    parts = [part.__class__(**{**part.__dict__, "start": _double(part.start)}) for part in parts]
    batches = {"noise": False, "inner_batches": 4} | {k: v for k, v in schedule.items() if k in BATCHES}
    plan = TuneSchedule(**{"steps": 6, "lr": 0.3} | {k: v for k, v in schedule.items() if k not in BATCHES})
    return Tuning(
        assemble(network or linear(), parts, losses=losses, rule=rule or SGD(0.05, 0.9)),
        estimator or Unrolled(3),
        fresh,
        {part.name: part.start for part in parts},
        Minibatches(data=data, seed=seed, **batches),
        plan,
        optimizer=optimizer or (lambda tensors, lr: torch.optim.Adam(tensors, lr, fused=True)),
        shown=lambda tree: {what: v for part in parts for what, v in part.shown(tree[part.name]).items()},
        restart=restart,
        seed=seed,
    )


def _double(tree: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda x: x.double(), tree)


def shaken(**arguments: Any) -> Tuning:
    """Pictures that are moved, in minibatches: every kind of noise is drawn."""
    data = pictures()
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    draw = torch.Generator().manual_seed(1)
    weights = {k: torch.randn(p.shape, generator=draw, dtype=p.dtype) for k, p in network.named_parameters()}
    parts = (augmentation(("shift", "brightness"), (1, 4, 4)), example_weights(12))
    return tuning(
        data=data,
        parts=parts,
        network=network,
        losses=lambda o, y: nn.functional.cross_entropy(o, y, reduction="none"),
        fresh=lambda step: weights,
        **{"noise": True, "inner_batch": 5, "outer_batch": 4} | arguments,
    )


def rates(**arguments: Any) -> Tuning:
    return tuning(parts=(rate(start(0), per="layer and step", steps=3),), rule=SGD(1.0), **arguments)


KINDS: dict[str, Callable[[], Tuning]] = {
    "persistent momentum": tuning,
    "Adam": lambda: tuning(rule=Adam(0.05), inner_batch=7),
    "begun anew": lambda: rates(restart=True, inner_batch=9, outer_batch=5),
    "conjugate gradients, warm": lambda: tuning(estimator=ConjugateGradient(2, inner_steps=2)),
    "persistent evolution": lambda: tuning(
        estimator=EvolutionStrategies(2, samples=3, persistent=True, horizon=5), inner_batches=2
    ),
    "evolution": lambda: tuning(estimator=EvolutionStrategies(2, samples=3)),
    "minibatches with noise": shaken,
    "forward, RMSprop": lambda: tuning(
        estimator=ForwardMode(2), optimizer=lambda tensors, lr: torch.optim.RMSprop(tensors, lr)
    ),
}


def numbers(step: Any) -> Any:
    """Everything that a step says, comparable bit by bit (nan included)."""
    seen = [step.outer_loss, step.gradient_norm, step.stationarity, step.residual, step.curvature]
    return step.step, [x.numpy().tobytes() for x in seen], bool(step.converged), int(step.skipped), dict(step.learned)


def same(a: Any, b: Any) -> bool:
    """Two trees of tensors and plain values, equal to the bit."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


# Resume


@pytest.mark.parametrize("kind", KINDS)
def test_resume_after_every_step(kind: str, tmp_path: Any) -> None:
    whole, curve = KINDS[kind](), []
    for step in whole.steps():
        curve.append(numbers(step))
        save(tmp_path / str(step.step), step.step, whole.state(), 0)
    end = copy.deepcopy(whole.state())
    assert len(curve) == 6 and len({row[1][0] for row in curve}) == 6, (
        "every step must differ, or equality says nothing"
    )
    for k in range(1, 7):
        torch.manual_seed(k)
        again = KINDS[kind]()
        again.restore(load(tmp_path / str(k)).tree)
        assert [numbers(step) for step in again.steps()] == curve[k:]
        assert same(again.state(), end)


def test_a_state_holds_what_its_kind_needs() -> None:
    """The kinds above are told apart by their memories: a momentum, moments, none where it restarts, a warm start."""
    found = {}
    for kind, make in KINDS.items():
        made = make()
        next(made.steps())
        found[kind] = made.state()
    assert len(found["persistent momentum"]["memory"]) == 2 and found["persistent momentum"]["memory"][1] == 3
    assert len(found["Adam"]["memory"]) == 3
    assert found["begun anew"]["memory"] is None and found["begun anew"]["carry"] == ()
    assert found["conjugate gradients, warm"]["carry"]["weight"].shape == (1, D)
    assert found["persistent evolution"]["carry"][2] == 2 and found["evolution"]["carry"] == ()


def test_a_tuning_in_use_can_be_restored(tmp_path: Any) -> None:
    """Also its counts: those of the steps that are taken back do not stay."""
    data = rows()
    data.outer.targets[3] = torch.nan
    whole = tuning(data=data, outer_batch=6, patience=100)
    curve = []
    for step in whole.steps():
        curve.append(numbers(step))
        if step.step == 4:
            save(tmp_path / "c", 4, whole.state(), 0)
    whole.restore(load(tmp_path / "c").tree)
    assert [numbers(step) for step in whole.steps()] == curve[4:]
    assert 0 < curve[-1][3] < 6, "some updates were left out, and some were not"


def test_another_seed_draws_other_batches() -> None:
    curves = [[numbers(step) for step in shaken(seed=seed).steps()] for seed in (0, 0, 1)]
    assert curves[0] == curves[1] and curves[0][0] != curves[2][0]


def test_restore_refuses_what_does_not_fit() -> None:
    made = tuning()
    next(made.steps())
    state = copy.deepcopy(made.state())
    wrong = {"weight": torch.ones(1, 7, dtype=torch.float64)}
    with pytest.raises(CheckpointError, match=r"theta of the checkpoint: weight is \(1, 7\), needed \(1, 3\)"):
        tuning().restore(state | {"theta": wrong})
    with pytest.raises(CheckpointError, match=r"the outer variables of the checkpoint: .*missing decay\.log\.weight"):
        tuning().restore(state | {"outer": {"weights.logit": state["outer"]["weights.logit"]}})


# Batches


def seen_by(made: Tuning) -> list[Any]:
    """(outer positions, inner positions of each minibatch, noise) of every step, without taking one."""
    rows = []
    for k, (_, inner, outer) in enumerate(made._batches()):
        inputs, targets, positions, noise = inner
        batches = [made.problem.batch_at(inner, i) for i in range(made.draws.inner_batches + 2)]
        for i, batch in enumerate(batches):
            at = min(i, len(positions) - 1)
            assert torch.equal(batch[2], positions[at]) and torch.equal(batch[3], noise[at])
            assert torch.equal(batch[0], inputs[batch[2]]) and torch.equal(batch[1], targets[batch[2]])
        assert torch.equal(made.draws.data.outer.inputs[outer[2]], outer[0])
        rows.append((outer[2].tolist(), positions.tolist(), noise.sum().item(), made.generator.initial_seed()))
        made.step = k + 1
    return rows


def test_batches_are_a_function_of_seed_and_step() -> None:
    first, again, other = (seen_by(shaken(seed=seed)) for seed in (0, 0, 1))
    assert first == again and all(a != b for a, b in zip(first, other, strict=True))
    assert len({str(row[0]) for row in first}) > 1 and len({row[3] for row in first}) == 6
    late = shaken(seed=0)
    late.step = 3
    assert next(late._batches())[2][2].tolist() == first[3][0], "whatever was drawn before"
    positions = first[0][1]
    assert len(positions) == 4 and all(len(set(row)) == 5 for row in positions) and positions[0] != positions[1]


def test_a_whole_split_is_handed_on_as_it_is() -> None:
    made = tuning()
    _, inner, outer = next(made._batches())
    assert inner[0] is made.draws.data.inner.inputs and outer[0] is made.draws.data.outer.inputs
    assert inner[2].tolist() == [list(range(N))] and not bool(inner[3].any())
    assert made.problem.batch_at(inner, 3)[0] is made.draws.data.inner.inputs


def test_noise_is_uniform_and_drawn_anew() -> None:
    split = Split(torch.zeros(500, 1), torch.zeros(500))
    noise = drawn(split, 0, torch.Generator().manual_seed(0))[3]
    assert noise.shape == (500, 8) and -1 <= float(noise.min()) < -0.99 and 0.99 < float(noise.max()) <= 1
    assert abs(float(noise.mean())) < 0.05 and float(noise.std()) == pytest.approx(1 / 3**0.5, rel=0.05)


def test_fresh_weights_at_every_step_where_it_restarts() -> None:
    made, asked = None, []

    def fresh(step: int) -> Any:
        asked.append(step)
        return start(step)

    made = tuning(fresh=fresh, restart=True, steps=3, parts=(decay(start(0)),))
    for step in made.steps():
        assert torch.equal(made.theta["weight"], start(step.step)["weight"])
    assert asked == [0, 1, 2, 3]


def test_the_learning_rate_falls_along_half_a_cosine() -> None:
    for cosine in (True, False):
        made, seen = tuning(steps=4, lr=0.2, cosine=cosine), []
        for _ in made.steps():
            seen.append(made.optimizer.param_groups[0]["lr"])
        wanted = [0.1 * (1 + math.cos(math.pi * k / 4)) if cosine else 0.2 for k in range(4)]
        assert seen == pytest.approx(wanted)


# A known answer


@pytest.mark.long
def test_a_tuned_decay_is_the_best_ridge() -> None:
    """w(d) = (X'X/n + d/2 I)^-1 X'y/n, in closed form; the best d by a grid, then the learned one beside it."""
    data = rows(12, 60, noise=2.5)
    x, y, v, u = data.inner.inputs, data.inner.targets, data.outer.inputs, data.outer.targets

    def outer_loss(d: float) -> float:
        w = torch.linalg.solve(x.T @ x / 12 + d / 2 * torch.eye(D, dtype=torch.float64), x.T @ y / 12)
        return float((v @ w - u).square().mean())

    grid = torch.linspace(math.log(1e-3), math.log(30.0), 4000, dtype=torch.float64).exp()
    losses = [outer_loss(float(d)) for d in grid]
    best = float(grid[losses.index(min(losses))])
    assert float(grid[0]) < best < float(grid[-1]) and min(losses) < 0.97 * outer_loss(1e-3), (
        "there is something to find"
    )
    for estimator in (Unrolled(20), ConjugateGradient(D, inner_steps=20)):
        made = tuning(
            data=data, estimator=estimator, rule=SGD(0.1, 0.5), parts=(decay(start(0), start=0.3),), steps=80, lr=0.2
        )
        step = list(made.steps())[-1]
        assert float(step.outer_loss) == pytest.approx(
            min(losses), rel=1e-5
        )  # the optimum is flat: the decay itself is known less well
        assert step.learned["decay"] == pytest.approx(best, rel=2e-2), estimator
        torch.testing.assert_close(
            made.outer["decay"]["log"].detach().exp(), torch.tensor(best).double(), rtol=2e-2, atol=0
        )


# What is not finite


def exploding(outputs: Tensor, targets: Tensor) -> Tensor:
    return 1e6 * square(outputs, targets)


def test_an_exploding_hypergradient_is_clipped_and_its_norm_reported() -> None:
    """Of plain gradient descent the step is as long as the clip times the rate, whatever the norm was."""
    made = tuning(
        losses=exploding,
        rule=SGD(1e-8),
        parts=(decay(start(0), start=1e6),),
        optimizer=lambda tensors, lr: torch.optim.SGD(tensors, lr, fused=True),
        clip=2.0,
        lr=0.01,
        cosine=False,
        steps=2,
    )
    before = float(made.outer["decay"]["log"].detach())
    step = next(made.steps())
    assert float(step.gradient_norm) > 1e3 and int(step.skipped) == 0
    assert abs(float(made.outer["decay"]["log"].detach()) - before) == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_left_out_and_counted(value: float) -> None:
    data = rows()
    data.outer.targets[3] = value
    made = tuning(data=data, outer_batch=4, steps=12, patience=100)
    skipped, left = 0, []
    before = {name: x.clone() for name, x in named(made.outer).items()}
    for step in made.steps():
        bad = not bool(torch.isfinite(step.gradient_norm))
        skipped += bad
        left.append(bad)
        now = named(made.outer)
        assert all(bool(x.isfinite().all()) for x in (*now.values(), *named(made.theta).values()))
        assert bad == all(torch.equal(now[name], before[name]) for name in now)
        assert bool(step.converged) != bad and int(step.skipped) == skipped
        before = {name: x.clone() for name, x in now.items()}
    assert 0 < skipped < 12
    state = made.state()["optimizer"]
    assert all(bool(x.isfinite().all()) for row in state.values() for x in row.values())
    assert all(float(row["step"]) == 12 - skipped for row in state.values()), "a step left out does not count"


def test_a_diverged_inner_problem_does_not_enter_theta() -> None:
    """The minibatch with the bad example makes theta nan: it is not adopted, and the next step begins before it."""
    data = rows()
    data.inner.targets[5] = math.inf
    made = tuning(data=data, inner_batch=3, steps=10, patience=100, parts=(decay(start(0)),))
    left = 0
    for step in made.steps():
        left = int(step.skipped)
        assert all(
            bool(x.isfinite().all()) for x in (*named(made.theta).values(), made.adopt.kept["velocity"]["weight"])
        )
    assert 0 < left < 10


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (Unrolled(3), "the outer loss is nan after the inner steps: lower the rule's learning rate"),
        (FirstOrder(3), "the outer loss is nan after the inner steps"),
        (ConjugateGradient(2, inner_steps=3), "the outer loss is nan after the inner steps"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_given_up_with_the_estimators_doubts(estimator: Any, said: str) -> None:
    part = rate(start(0)) if isinstance(estimator, FirstOrder) else decay(start(0))
    made = tuning(estimator=estimator, rule=SGD(1e200), parts=(part,), patience=3, restart=True)
    if isinstance(estimator, FirstOrder):
        made.outer["rate"]["log"].data.fill_(500.0)
    with pytest.raises(DivergedError, match=r"^outer step 3: the last 3 hypergradients were not finite: ") as caught:
        list(made.steps())
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_patience_counts_steps_in_a_row_over_a_resume() -> None:
    data = rows()
    data.outer.targets[:] = math.nan
    first = tuning(data=data, patience=4, steps=20)
    for step in first.steps():
        if step.step == 2:
            break
    state = copy.deepcopy(first.state())
    assert state["lost"] == 2
    again = tuning(data=data, patience=4, steps=20)
    again.restore(state)
    with pytest.raises(DivergedError, match="outer step 4: the last 4"):
        list(again.steps())


def test_a_single_step_that_is_not_finite_is_no_tuning() -> None:
    data = rows()
    data.outer.targets[:] = math.nan
    with pytest.raises(DivergedError, match="outer step 1: the last 1 "):
        list(tuning(data=data, steps=1).steps())


def test_check_raises_what_the_losses_raise() -> None:
    def broken(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("not this shape")

    with pytest.raises(ValueError, match="not this shape"):
        tuning(losses=broken).check()
    made = tuning()
    made.check()
    assert made.step == 0
