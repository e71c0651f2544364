"""What a view knows of a few-shot run beyond its outer steps: its recipe, its validations and its test, folded.

    few_shot = few_shot_of(None, {"kind": "fewshot", "recipe": {...}})    # what was asked for; None of other runs
    few_shot = validated(few_shot, event)                                 # a validation
    few_shot = outcome(few_shot, result)                                   # what came out

Its outer steps are those of a tuning (`ui.tuning`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from metanas.ui.fields import Record, as_record, number, string, whole
from metanas.ui.units import percent

KEPT = 400  # validations kept for the curve


@dataclass(frozen=True)
class Score:
    """A mean accuracy over episodes, 0 to 1, and half the width of its 95 % interval."""

    accuracy: float | None = None
    interval: float | None = None


@dataclass(frozen=True)
class Validation:
    """One validation, on classes that are not trained on."""

    step: int
    score: Score
    loss: float | None
    episodes: int | None


@dataclass(frozen=True)
class FewShot:
    """A few-shot run, as far as its folder tells. `ways` and `shots` are those of the test; `training`: its own."""

    learner: str | None = None
    network: str | None = None
    ways: int | None = None
    shots: int | None = None
    training: str = ""
    structure: str | None = None  # fixed, shared, adapts
    structure_steps: int = 0  # outer steps before the structure is derived
    every: int | None = None  # outer steps between two validations

    validations: tuple[Validation, ...] = ()
    best: Validation | None = None
    episodes: int | None = None  # of the test
    test: Score = Score()
    transductive: Score = Score()
    start: Score = Score()

    @property
    def task(self) -> str:
        """`5-way 1-shot`."""
        return f"{self.ways or '?'}-way {self.shots or '?'}-shot"

    @property
    def chance(self) -> float | None:
        """The accuracy of a guess."""
        return 1 / self.ways if self.ways else None


def few_shot_of(few_shot: FewShot | None, recipe: Record) -> FewShot | None:
    """With what recipe.json tells; as it was where the run is no few-shot run.

    >>> asked = {"evaluation": {"ways": 5, "shots": 1}, "learner": {"name": "maml"}}
    >>> found = few_shot_of(None, {"kind": "fewshot", "recipe": asked})
    >>> found.task, found.learner, found.chance, few_shot_of(None, {"kind": "tune"})
    ('5-way 1-shot', 'maml', 0.2, None)
    """
    if string(recipe, "kind") != "fewshot":
        return few_shot
    asked = as_record(recipe.get("recipe"))
    evaluation, structure = as_record(asked.get("evaluation")), as_record(asked.get("structure"))
    kind = string(structure, "mode")
    return replace(
        few_shot or FewShot(),
        learner=string(as_record(asked.get("learner")), "name"),
        network=string(as_record(asked.get("network")), "name"),
        ways=whole(evaluation, "ways"),
        shots=whole(evaluation, "shots"),
        training=_training(as_record(asked.get("episodes"))),
        structure=kind,
        structure_steps=(whole(structure, "steps") or 0) if kind == "shared" else 0,
        every=whole(evaluation, "every"),
        episodes=whole(evaluation, "episodes"),
    )


def validated(few_shot: FewShot, event: Record) -> FewShot:
    """With one validation; those of this step and later ones are forgotten: the run was resumed before it.

    >>> few_shot = FewShot()
    >>> for step, accuracy in ((5, 0.5), (10, 0.75), (15, 0.5)):
    ...     few_shot = validated(few_shot, {"step": step, "accuracy": accuracy})
    >>> len(few_shot.validations), few_shot.best.step
    (3, 10)
    """
    step = whole(event, "step")
    if step is None:
        return few_shot
    few_shot = rewound(few_shot, step)
    score = Score(number(event, "accuracy"), number(event, "interval"))
    now = Validation(step, score, number(event, "loss"), whole(event, "episodes"))
    kept = (*few_shot.validations[-KEPT + 1 :], now)
    return replace(few_shot, validations=kept, best=_best((*([few_shot.best] if few_shot.best else []), now)))


def rewound(few_shot: FewShot, step: int) -> FewShot:
    """Without the validations of this step and later ones."""
    if not few_shot.validations or few_shot.validations[-1].step < step:
        return few_shot
    kept = tuple(one for one in few_shot.validations if one.step < step)
    best = few_shot.best if few_shot.best and few_shot.best.step < step else _best(kept)
    return replace(few_shot, validations=kept, best=best, test=Score(), transductive=Score(), start=Score())


def outcome(few_shot: FewShot, result: Record) -> FewShot:
    """With what result.json tells.

    >>> found = outcome(FewShot(), {"test_score": 0.5, "interval": 0.01, "start": {"accuracy": 0.25}, "ways": 5})
    >>> found.test, found.start.accuracy, found.ways
    (Score(accuracy=0.5, interval=0.01), 0.25, 5)
    """
    if not result:
        return few_shot
    rows = (as_record(result.get(name)) for name in ("transductive", "start"))
    transductive, start = (Score(number(row, "accuracy"), number(row, "interval")) for row in rows)
    return replace(
        few_shot,
        ways=whole(result, "ways") or few_shot.ways,
        shots=whole(result, "shots") or few_shot.shots,
        episodes=whole(result, "episodes") or few_shot.episodes,
        test=Score(number(result, "test_score"), number(result, "interval")),
        transductive=transductive,
        start=start,
    )


def measured(few_shot: FewShot, network: str, accuracy: float | None) -> FewShot:
    """With the score of "learned" or "start", of which an event tells before there is a result."""
    if network == "learned":
        return replace(few_shot, test=replace(few_shot.test, accuracy=accuracy))
    return replace(few_shot, start=replace(few_shot.start, accuracy=accuracy)) if network == "start" else few_shot


def plus_minus(score: Score, *, ascii_only: bool = False) -> str:
    """
    >>> plus_minus(Score(0.5, 0.012)), plus_minus(Score(0.5), ascii_only=True), plus_minus(Score())
    ('50.0% ± 1.2%', '50.0%', '-')
    """
    shown = percent(score.accuracy)
    return shown if score.interval is None else f"{shown} {'+-' if ascii_only else '±'} {percent(score.interval)}"


def _training(episodes: Record) -> str:
    """`8 tasks a step, 12-way 1-shot, 4 queries`."""
    tasks, ways, shots, queries = (whole(episodes, name) for name in ("tasks", "ways", "shots", "queries"))
    if None in (tasks, ways, shots, queries):
        return ""
    return f"{tasks} task{'' if tasks == 1 else 's'} a step, {ways}-way {shots}-shot, {queries} queries"


def _best(found: tuple[Validation, ...]) -> Validation | None:
    """The greatest accuracy, and of equals the last."""
    known = [(one.score.accuracy, one.step, one) for one in found if one.score.accuracy is not None]
    finite = [(accuracy, step, one) for accuracy, step, one in known if not math.isnan(accuracy)]
    return max(finite, key=lambda row: row[:2])[2] if finite else None
