"""What a view knows of a tuning run beyond what all runs have: its recipe, its outer steps and its trials, folded.

    tuning = tuning_of(None, {"kind": "tune", "recipe": {...}})     # what was asked for; None of a search
    tuning = stepped(tuning, event, elapsed)                        # an outer step
    tuning = tried(tuning, event, elapsed)                          # a trial of what Optuna chooses

Steps are kept from the first to the newest, thinned: when more than KEPT are there, every second one goes. So the
memory is bounded and no part of the run is lost to sight. Counts are of all steps, not of those that are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from metanas.ui.fields import NOT_FINITE, Record, as_number, as_record, number, string, whole
from metanas.ui.units import loss

KEPT = 400  # steps kept for the curves
NAMED = 40  # learned numbers kept of a step, and values of a trial
NAME = 80  # characters kept of their names
TRIED = 400  # trials kept, for the curve and to know a repeated one
BEST = 10  # trials kept for the leaderboard
STATES = ("complete", "pruned", "failed")  # of a trial, the best first


@dataclass(frozen=True)
class OuterPoint:
    """One outer step. A number is None where it was not measured; `norm` is that of the hypergradient, not clipped.

    `told` counts the steps up to here that said whether their hypergradient converged, `sound` those that had.
    """

    step: int
    elapsed: float
    inner_loss: float | None
    outer_loss: float | None
    norm: float | None
    stationarity: float | None
    residual: float | None
    curvature: float | None
    converged: bool | None
    learned: Mapping[str, float | None]
    told: int
    sound: int


@dataclass(frozen=True)
class Trial:
    """One trial: what was chosen by path of the recipe, and the outer loss that came of it (lower is better)."""

    trial: int
    values: Mapping[str, str]
    value: float | None
    best: float | None
    state: str
    reason: str | None


@dataclass(frozen=True)
class Tuning:
    """A tuning run, as far as its folder tells."""

    network: str | None = None
    learn: tuple[str, ...] = ()
    rule: str | None = None
    inner_steps: int | None = None
    restart: bool = False
    estimator: str | None = None
    steps: int | None = None
    clip: float | None = None
    tolerance: float = 1e-5  # the greatest residual that counts as converged
    stationary: float = 1e-3  # the greatest norm of the inner gradient that does
    trials: int | None = None
    retrain: int | None = None  # steps of the training from scratch

    start: Mapping[str, float | None] = field(default_factory=dict)  # what is learned, before the first step
    trace: tuple[OuterPoint, ...] = ()
    stride: int = 1
    failed: OuterPoint | None = None  # the last step that had not converged
    recent: tuple[Trial, ...] = ()
    best: tuple[Trial, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)  # of trials, by state
    tried_at: float = 0.0  # `elapsed` when the last trial was over

    @property
    def last(self) -> OuterPoint | None:
        """The newest outer step."""
        return self.trace[-1] if self.trace else None

    @property
    def winner(self) -> Trial | None:
        """The best trial that was completed."""
        return self.best[0] if self.best and self.best[0].state == "complete" else None

    @property
    def method(self) -> str | None:
        """The estimator in use."""
        return self.used("outer.estimator", self.estimator)

    def used(self, path: str, asked: object) -> str | None:
        """The value in use: what the recipe asked for, or once the tuning itself is under way, what Optuna chose."""
        chosen = self.winner.values.get(path) if self.winner and self.trace else None
        return chosen or (None if asked is None else str(asked))


def tuning_of(tuning: Tuning | None, recipe: Record) -> Tuning | None:
    """With what recipe.json tells; as it was where the run takes no outer steps of its own.

    >>> tuning_of(None, {"recipe": {}}), tuning_of(None, {"kind": "tune", "recipe": {"outer": {"steps": 9}}}).steps
    (None, 9)
    """
    if string(recipe, "kind") not in ("tune", "fewshot"):
        return tuning
    asked = as_record(recipe.get("recipe"))
    inner, outer, choose = (as_record(asked.get(name)) for name in ("inner", "outer", "choose"))
    options = as_record(outer.get("options"))
    before = tuning or Tuning()
    return replace(
        before,
        network=string(as_record(asked.get("network")), "name"),
        learn=_learned_parts(as_record(asked.get("learn"))),
        rule=string(inner, "rule"),
        inner_steps=whole(inner, "steps"),
        restart=inner.get("restart") is True,
        estimator=string(outer, "estimator"),
        steps=before.steps or _steps(outer, as_record(asked.get("structure"))),
        clip=number(outer, "clip"),
        tolerance=number(options, "tolerance") or Tuning.tolerance,
        stationary=number(options, "stationary") or Tuning.stationary,
        trials=before.trials or (whole(choose, "trials") if choose.get("values") else None),
        retrain=whole(as_record(asked.get("evaluation")), "steps"),
    )


def _steps(outer: Record, structure: Record) -> int | None:
    """The outer steps of a recipe; of a few-shot run with those before its structure is derived."""
    steps, first = whole(outer, "steps"), whole(structure, "steps")
    return steps + first if steps and first and string(structure, "mode") == "shared" else steps


def started(tuning: Tuning, result: Record) -> Tuning:
    """With the values before the first step, which result.json tells.

    >>> started(Tuning(), {"shown_at_start": {"decay": 0.5}}).start, started(Tuning(), {}).start
    ({'decay': 0.5}, {})
    """
    values = _numbers(result, "shown_at_start")
    return replace(tuning, start=values) if values else tuning


def stepped(tuning: Tuning, event: Record, elapsed: float) -> Tuning:
    """With one outer step; what was kept of this step and later ones is forgotten: the run was resumed before it.

    >>> tuning = stepped(stepped(Tuning(), {"step": 1}, 0.5), {"step": 2, "converged": False, "residual": 0.25}, 1.0)
    >>> len(tuning.trace), tuning.last.residual, tuning.last.told, tuning.last.sound, tuning.failed.step
    (2, 0.25, 1, 0, 2)
    """
    step = whole(event, "step")
    if step is None:
        return tuning
    kept = tuning.trace
    if kept and kept[-1].step >= step:
        kept = tuple(point for point in kept if point.step < step)
    failed = tuning.failed if tuning.failed and tuning.failed.step < step else None
    converged = event.get("converged")
    told, sound = (kept[-1].told, kept[-1].sound) if kept else (0, 0)
    point = OuterPoint(
        step=step,
        elapsed=elapsed,
        inner_loss=number(event, "inner_loss"),
        outer_loss=number(event, "outer_loss"),
        norm=number(event, "outer_gradient_norm"),
        stationarity=_measured(event, "stationarity"),
        residual=_measured(event, "residual"),
        curvature=_measured(event, "curvature"),
        converged=converged if isinstance(converged, bool) else None,
        learned=_numbers(event, "learned"),
        told=told + isinstance(converged, bool),
        sound=sound + (converged is True),
    )
    trace, stride = thinned(kept, tuning.stride if kept else 1, point)
    return replace(
        tuning,
        steps=whole(event, "steps") or tuning.steps,
        trace=trace,
        stride=stride,
        failed=point if converged is False else failed,
    )


def thinned(kept: tuple[OuterPoint, ...], stride: int, point: OuterPoint) -> tuple[tuple[OuterPoint, ...], int]:
    """The points with a new one, and their distance in steps: the first, every `stride`-th after it, and the newest.

    Args:
        kept: in ascending order, as this function left them.
        point: the newest; its step is above all others.
    """
    if len(kept) > 1 and (kept[-1].step - kept[0].step) % stride:
        kept = kept[:-1]  # it was kept as the newest alone
    kept = (*kept, point)
    while len(kept) > KEPT:
        stride *= 2
        kept = (*(old for old in kept[:-1] if not (old.step - kept[0].step) % stride), point)
    return kept, stride


def tried(tuning: Tuning, event: Record, elapsed: float) -> Tuning:
    """With one trial. Trials may end in any order, and a repeated one takes the place of the earlier.

    >>> tuning = tried(Tuning(), {"trial": 2, "value": 0.5, "state": "complete", "values": {"inner.rule": "adam"}}, 1.0)
    >>> tuning.best[0].values, dict(tried(tuning, {"trial": 2, "state": "pruned"}, 2.0).counts)
    ({'inner.rule': 'adam'}, {'complete': 0, 'pruned': 1})
    """
    place = whole(event, "trial")
    if place is None:
        return tuning
    state = string(event, "state")
    trial = Trial(
        place,
        {str(path)[:NAME]: _short(value) for path, value in list(as_record(event.get("values")).items())[:NAMED]},
        number(event, "value"),
        number(event, "best"),
        state if state in STATES else "unknown",
        string(event, "reason"),
    )
    counts = dict(tuning.counts)
    for old in tuning.recent:
        if old.trial == place:
            counts[old.state] -= 1
    counts[trial.state] = counts.get(trial.state, 0) + 1
    others = tuple(old for old in tuning.recent if old.trial != place)
    ranked = sorted((*(old for old in tuning.best if old.trial != place), trial), key=_rank)
    return replace(
        tuning,
        trials=whole(event, "trials") or tuning.trials,
        recent=(*others[-TRIED + 1 :], trial),
        best=tuple(ranked[:BEST]),
        counts=counts,
        tried_at=elapsed,
    )


def doubts(point: OuterPoint, tuning: Tuning) -> list[str]:
    """Why a step that had not converged is not to be trusted, as far as its numbers tell.

    >>> tuning = stepped(Tuning(), {"step": 1, "converged": False, "residual": 0.25, "curvature": -1}, 0.0)
    >>> for reason in doubts(tuning.last, tuning): print(reason)
    the Hessian is not positive definite (least curvature -1.000)
    the residual is 0.2500 (allowed: 1.0e-05)
    """
    found = []
    if point.outer_loss is not None and not math.isfinite(point.outer_loss):
        found.append(f"the outer loss is {loss(point.outer_loss)}")
    if point.norm is not None and not math.isfinite(point.norm):
        found.append("the hypergradient is not finite")
    if point.curvature is not None and point.curvature <= 0:
        found.append(f"the Hessian is not positive definite (least curvature {loss(point.curvature)})")
    if point.residual is None:  # no linear solve: the inner problem need not be solved
        return found
    if point.stationarity is not None and point.stationarity > tuning.stationary:
        allowed = f"(its gradient has norm {loss(point.stationarity)}, allowed: {loss(tuning.stationary)})"
        found.append(f"the inner problem is not solved {allowed}")
    if point.residual > tuning.tolerance:
        found.append(f"the residual is {loss(point.residual)} (allowed: {loss(tuning.tolerance)})")
    return found


def counted(tuning: Tuning) -> str:
    """How many trials there were, by their state.

    >>> counted(Tuning(trials=9, counts={"complete": 3, "failed": 1}))
    '4 of 9: 3 complete, 1 failed'
    """
    kinds = [f"{tuning.counts[state]} {state}" for state in (*STATES, "unknown") if tuning.counts.get(state)]
    return f"{sum(tuning.counts.values())} of {tuning.trials or '?'}: {', '.join(kinds)}"


def chosen(trial: Trial, paths: Iterable[str] = ()) -> str:
    """The values of a trial in short words: of a path its last part, or as many as tell it from the other `paths`.

    >>> trial = Trial(0, {"inner.lr": "0.1", "outer.lr": "0.3", "inner.rule": "adam"}, None, None, "complete", None)
    >>> chosen(trial)
    'inner.lr 0.1, outer.lr 0.3, rule adam'
    """
    every = {*paths, *trial.values}
    return ", ".join(f"{_tail(path, every)} {value}" for path, value in trial.values.items())


def _tail(path: str, every: Iterable[str]) -> str:
    parts = path.split(".")
    for size in range(1, len(parts)):
        tail = ".".join(parts[-size:])
        if not any(other != path and f".{other}".endswith(f".{tail}") for other in every):
            return tail
    return path


def tells_of_tuning(event: Record) -> bool:
    """Whether only a tuning run writes such an event; its recipe.json may be missing.

    >>> tells_of_tuning({"kind": "trial"}), tells_of_tuning({"kind": "step", "step": 1})
    (True, False)
    """
    return event.get("kind") == "trial" or (event.get("kind") == "step" and "learned" in event)


def _learned_parts(learn: Record) -> tuple[str, ...]:
    """`decay per layer`, of what is learned at all."""
    found = []
    for name, options in list(learn.items())[:NAMED]:
        if options is not None and options is not False:
            per = string(as_record(options), "per")
            found.append(str(name)[:NAME].replace("_", " ") + (f" per {per}" if per and per != "all" else ""))
    return tuple(found)


def _numbers(record: Record, name: str) -> dict[str, float | None]:
    """The first numbers of a record in a record; `<name>_is` tells what one was that JSON could not hold."""
    lost = NOT_FINITE.get(string(record, f"{name}_is") or "")
    pairs = list(as_record(record.get(name)).items())[:NAMED]
    return {str(key)[:NAME]: lost if value is None else as_number(value) for key, value in pairs}


def _measured(event: Record, name: str) -> float | None:
    """A number of a hypergradient, which is nan where nothing was measured."""
    value = number(event, name)
    return None if value is None or math.isnan(value) else value


def _short(value: object) -> str:
    """A chosen value in few letters."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value[:NAMED]))[:NAME]
    return str(value)[:NAME]


def _rank(trial: Trial) -> tuple[int, float, int]:
    state = STATES.index(trial.state) if trial.state in STATES else len(STATES)
    value = trial.value if trial.value is not None and not math.isnan(trial.value) else math.inf
    return state, value, trial.trial
