"""The state of a tuning run: steps and trials folded, bounded and repeated, and how far it is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from metanas.ui.follow import Follower, read
from metanas.ui.progress import phase
from metanas.ui.state import RunState, concluded, described, fold
from metanas.ui.tuning import BEST, KEPT, NAMED, TRIED, Tuning, doubts
from metanas.ui.verdict import verdict

AFTER_TRIALS = 22  # events


def folded(events: list[Any], recipe: Any = None) -> RunState:
    return reduce(fold, events, described(RunState("second"), recipe, None))


def tuning(events: list[Any], recipe: Any = None) -> Tuning:
    found = folded(events, recipe).tuning
    assert found is not None
    return found


def steps(numbers: Any, **fields: Any) -> list[dict[str, Any]]:
    return [{"kind": "step", "step": n, "learned": {"decay": n / 10}, **fields} for n in numbers]


def test_what_was_asked_for(tuning_recipe: dict[str, Any]) -> None:
    found = tuning([], tuning_recipe)
    assert (found.network, found.learn) == ("mlp", ("example weights", "decay per parameter"))
    assert (found.rule, found.inner_steps, found.restart, found.retrain) == ("sgd", 20, True, 1000)
    assert (found.method, found.steps, found.clip, found.trials) == ("conjugate_gradient", 200, 0.5, 20)
    assert (found.tolerance, found.stationary) == (1e-4, 1e-3)
    assert described(RunState("first"), {"recipe": {"outer": {}}}, None).tuning is None, "a search"


def test_trials_are_planned_only_where_values_are_chosen(tuning_recipe: dict[str, Any]) -> None:
    recipe = {**tuning_recipe, "recipe": {**tuning_recipe["recipe"], "choose": {"values": {}, "trials": 20}}}
    assert tuning([], recipe).trials is None


def test_a_whole_run(tuning_events: list[dict[str, Any]], tuning_recipe: dict[str, Any]) -> None:
    state = folded(tuning_events, tuning_recipe)
    assert (state.status, state.step, state.skipped, state.metric, state.data) == (
        "finished",
        200,
        1,
        "accuracy",
        "digits",
    )
    assert state.tuning and state.tuning.last and state.tuning.failed
    assert [point.step for point in state.tuning.trace] == list(range(1, 201))
    assert (state.tuning.last.told, state.tuning.last.sound, state.tuning.failed.step) == (200, 198, 58)
    assert state.tuning.counts == {"complete": 15, "pruned": 4, "failed": 1}
    assert [net.network for net in state.networks] == ["learned", "start"]
    assert verdict(state) == "learned +1.2 points against the start values"
    third = fold(state, {"kind": "network", "network": "another", "test_score": 0.0})
    assert verdict(third) == "learned +1.2 points against the start values"
    diverged = fold(state, {"kind": "network", "network": "start", "test_score": float("nan")})
    assert [net.test_score for net in diverged.networks if net.network == "start"] != [0.958]
    assert verdict(diverged) == ""


def test_a_run_without_its_recipe_is_known_by_its_events() -> None:
    assert folded(steps([1])).tuning is not None
    assert folded([{"kind": "trial", "trial": 1}]).tuning is not None
    assert folded([{"kind": "step", "step": 1, "outer_loss": 1.0}]).tuning is None


@pytest.mark.parametrize("count", [KEPT, KEPT + 1, 2 * KEPT + 1, 10_007])
def test_steps_are_thinned_from_the_first_to_the_newest(count: int) -> None:
    found = tuning(steps(range(1, count + 1), converged=True))
    kept = [point.step for point in found.trace]
    assert kept[0] == 1 and kept[-1] == count and KEPT / 2 < len(kept) <= KEPT
    assert {b - a for a, b in pairwise(kept[:-1])} == {found.stride}
    assert 0 < kept[-1] - kept[-2] <= found.stride
    assert found.last is not None and found.last.told == count, "the counts are of all steps"


def test_steps_far_apart_are_thinned_as_well() -> None:
    found = tuning(steps(1024 * n for n in range(2 * KEPT)))
    assert len(found.trace) <= KEPT and (found.trace[0].step, found.trace[-1].step) == (0, 1024 * (2 * KEPT - 1))


def test_a_resumed_run_forgets_what_it_repeats(tuning_events: list[dict[str, Any]]) -> None:
    before = [*steps(range(1, 7), converged=True), *steps([7], converged=False)]
    state = folded([*before, {"kind": "network", "network": "learned"}, *steps([4], converged=False)])
    assert state.tuning and state.tuning.last and state.tuning.failed
    assert [point.step for point in state.tuning.trace] == [1, 2, 3, 4]
    assert (state.tuning.last.told, state.tuning.last.sound, state.tuning.failed.step) == (4, 3, 4)
    assert state.networks == (), "it was trained after the steps that are repeated"
    assert tuning([*before, *steps([4], converged=True)]).failed is None


def test_a_resumed_run_is_thinned_anew_from_where_it_goes_on() -> None:
    found = tuning([*steps(range(1, 1000)), *steps(range(500, 520))])
    assert (found.trace[0].step, found.trace[-1].step) == (1, 519)
    assert [point.step for point in found.trace] == sorted({point.step for point in found.trace})
    assert tuning([*steps(range(1, 1000)), *steps([1])]).stride == 1


def test_numbers_that_were_not_measured_are_none() -> None:
    event = {"residual": None, "residual_is": "nan", "curvature": None, "stationarity": "soon", "converged": "yes"}
    point = tuning(steps([1], **event)).trace[0]
    assert (point.residual, point.curvature, point.stationarity, point.converged, point.told) == (None,) * 4 + (0,)


def test_learned_numbers_that_are_lost_say_so() -> None:
    event = {"kind": "step", "step": 1, "learned": {"a": None, "b": 2, "c": "x"}, "learned_is": "inf"}
    assert tuning([event]).trace[0].learned == {"a": math.inf, "b": 2.0, "c": None}
    many = tuning([{"kind": "step", "step": 1, "learned": {str(n): n for n in range(1000)}}])
    assert len(many.trace[0].learned) == NAMED


def test_trials_end_in_any_order_and_a_repeated_one_counts_once() -> None:
    def trial(number: int, value: float | None, state: str = "complete") -> dict[str, Any]:
        return {"kind": "trial", "trial": number, "trials": 5, "value": value, "state": state}

    found = tuning([trial(2, 0.5), trial(1, 0.25), trial(3, 0.1, "pruned"), trial(4, None, "failed"), trial(2, 0.125)])
    assert [one.trial for one in found.best] == [2, 1, 3, 4], "what was not completed comes last"
    assert found.counts == {"complete": 2, "pruned": 1, "failed": 1}
    assert found.winner is not None and found.winner.trial == 2
    assert tuning([trial(3, 0.1, "pruned")]).winner is None
    assert tuning([trial(1, math.nan), trial(2, 1.0)]).best[0].trial == 2
    many = tuning([trial(n, float(n)) for n in range(1000)])
    assert (len(many.recent), len(many.best), many.counts["complete"]) == (TRIED, BEST, 1000)


def test_what_was_chosen_is_in_use(tuning_recipe: dict[str, Any]) -> None:
    values = {"outer.estimator": "neumann", "inner.steps": 40}
    trial = {"kind": "trial", "trial": 1, "state": "complete", "value": 1, "values": values}
    assert tuning([trial], tuning_recipe).method == "conjugate_gradient", "it is only tried"
    found = tuning([trial, *steps([1])], tuning_recipe)
    assert (found.method, found.used("inner.steps", 20), found.used("inner.rule", "sgd")) == ("neumann", "40", "sgd")
    assert found.used("inner.lr", None) is None


def test_progress_and_time_left(tuning_events: list[dict[str, Any]], tuning_recipe: dict[str, Any]) -> None:
    def now(count: int) -> tuple[str, float, float | None, str, float | None]:
        found = phase(folded(tuning_events[:count], tuning_recipe))
        left = None if found.seconds_left is None else round(found.seconds_left, 3)
        return found.name, found.done, found.total, found.unit, left

    assert now(2) == ("trials", 0, 20, "trials", None)
    assert now(2 + 5) == ("trials", 5, 20, "trials", 15 * 0.6 / 5)
    assert now(AFTER_TRIALS) == ("tuning", 0, 200, "steps", None)
    assert now(AFTER_TRIALS + 1) == ("tuning", 1, 200, "steps", 19.9)
    assert now(AFTER_TRIALS + 50) == ("tuning", 50, 200, "steps", 15.0)
    assert now(AFTER_TRIALS + 200 + 5) == ("training", 250, 2000, "steps", 3.5)
    assert now(AFTER_TRIALS + 200 + 21) == ("training", 1000, 2000, "steps", 2.1)
    assert phase(folded(steps([3]))).total is None
    untold = {"kind": "train", "network": "learned", "epoch": 5, "epochs": 20, "elapsed": 1.0}
    found = phase(folded([*steps([3]), untold]))
    assert (found.done, found.total, found.unit) == (5, 40, "parts")


def test_doubts_say_what_the_numbers_say() -> None:
    def of(**event: Any) -> list[str]:
        found = tuning(steps([1], converged=False, **event))
        return doubts(found.trace[0], found)

    assert of() == []
    assert of(outer_loss=None, outer_loss_is="nan", outer_gradient_norm=None, outer_gradient_norm_is="inf") == [
        "the outer loss is nan",
        "the hypergradient is not finite",
    ]
    assert of(residual=2e-4, stationarity=0.5) == [
        "the inner problem is not solved (its gradient has norm 0.5000, allowed: 0.0010)",
        "the residual is 2.0e-04 (allowed: 1.0e-05)",
    ]
    assert of(residual=1e-6, curvature=0) == ["the Hessian is not positive definite (least curvature 0.0000)"]
    assert of(stationarity=0.5) == [], "nothing was solved, so the inner problem need not be"


def test_a_copy_that_has_only_its_result(tmp_path: Path) -> None:
    result = {
        "schema": 1,
        "kind": "tune",
        "test_score": 0.9,
        "start": {"test_score": 0.8},
        "shown_at_start": {"decay": 0.5},
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    state = read(tmp_path)
    assert state.status == "finished" and verdict(state) == "learned +10.0 points against the start values"
    assert state.tuning and state.tuning.start == {"decay": 0.5}
    assert [net.network for net in concluded(RunState("x", tuning=Tuning()), {"test_score": 1}).networks] == ["learned"]


def test_a_long_run_is_read_from_its_first_step(make_tuning: Callable[..., Path]) -> None:
    folder = make_tuning([{"at": 1.0, "elapsed": 0.1 * event["step"], **event} for event in steps(range(1, 1501))])
    follower = Follower(folder)
    for _ in follower.poll():
        pass
    state = read(folder)
    assert state == follower.state and state.tuning and state.tuning.trace[0].step == 1
    bare = [{**event, "at": 1.0} for event in steps(range(1, 1501)) if event.pop("learned")]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in bare))
    told = read(folder).tuning
    assert told and told.trace[0].step == 1, "its recipe alone tells that it is a tuning"
    whole = "".join(json.dumps({**event, "at": 1.0}) + "\n" for event in steps(range(1, 1501)))
    (folder / "events.jsonl").write_text(whole)
    (folder / "recipe.json").unlink()
    alone = read(folder).tuning
    assert alone and alone.trace[0].step == 1, "its steps alone tell that it is a tuning"
