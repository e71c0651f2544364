"""Controllers compared: the table, the queue that processes share, stop and resume."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import metanas
from metanas.api import comparison, pacing
from metanas.api.cells import Cells
from metanas.api.handed import Handed
from metanas.api.host import threads
from metanas.api.ranking import standings
from metanas.api.work import prepare
from metanas.cli.app import app
from metanas.errors import DivergedError, InterruptedSearchError, RecipeError, RunError
from metanas.loop import GradientSearch, ValueSearch
from metanas.recipe import Recipe, ValueRecipe, override, read, read_values
from metanas.run import Holder, list_runs


def compared(recipe: Any, *controllers: str, **changes: Any) -> metanas.api.Comparison:
    return metanas.compare_controllers(recipe, controllers, **{"budget": 80, "run": "mine", "seeds": 3, **changes})


def test_every_controller_has_every_seed_and_random_stands_on_top(runs: Path, recipe: ValueRecipe) -> None:
    said: list[str] = []
    found = compared(recipe, "local_search", "evolution:population=3", say=said.append)
    assert len(said) == 9 and found.failed == {} and found.missing == 0 and found.metric == "test"
    assert found.rows[0].controller == "random"
    assert {row.controller: row.seeds for row in found.rows} == dict.fromkeys(found.scores, 3)
    assert found.seconds == dict.fromkeys(found.scores, 80.0)
    for label, scores in found.scores.items():
        for seed, score in scores.items():
            name = f"mine-{label.replace(':', '-').replace('=', '-')}-{seed}"
            run = metanas.load_run(name)
            assert run.result().report == {"test": score} and run.recipe["seed"] == seed  # type: ignore[union-attr]
    assert metanas.load_run("mine-evolution-population-3-0").recipe["search"]["options"] == {"population": 3}
    table = json.loads((runs / "mine/comparison.json").read_text())["table"]
    assert [row["controller"] for row in table["rows"]] == [row.controller for row in found.rows]
    assert "mine" not in {summary.name for summary in list_runs()} and len(list_runs()) == 9
    shown = CliRunner().invoke(app, ["show", "mine"]).stdout.splitlines()
    assert shown[0].split()[:2] == ["controller", "test"] and [line.split()[0] for line in shown[1:4]] == [
        row.controller for row in found.rows
    ]
    again = compared(recipe, "local_search", "evolution:population=3", say=said.append)
    assert len(said) == 9 and again.rows == found.rows  # nothing was left to do


def test_stopped_it_goes_on_where_it_was(runs: Path, recipe: ValueRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compared(recipe, "evolution", run="whole")
    search, count = comparison.search_by_value, itertools.count()

    def stopped(**given: Any) -> Any:
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return search(**given)

    monkeypatch.setattr(comparison, "search_by_value", stopped)
    with pytest.raises(KeyboardInterrupt):
        compared(recipe, "evolution")
    monkeypatch.setattr("metanas.api.cells.is_alive", lambda holder: False)  # it was this very process
    again = compared(recipe, "evolution")
    assert again.rows == whole.rows and again.scores == whole.scores


def test_an_interrupted_run_says_what_goes_on(runs: Path, recipe: ValueRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(**given: Any) -> Any:
        raise InterruptedSearchError("stopped with a checkpoint; go on with: metanas resume mine-random-0", 15)

    monkeypatch.setattr(comparison, "search_by_value", stopped)
    with pytest.raises(InterruptedSearchError, match="stopped with a checkpoint; the same command goes on"):
        compared(recipe, "evolution")


def test_failures_are_grouped_and_do_not_end_it(
    runs: Path, recipe: ValueRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = comparison.search_by_value

    def failing(**given: Any) -> Any:
        if given["recipe"].search.controller == "evolution" or given["recipe"].seed == 9:
            raise DivergedError("the loss is nan")
        return search(**given)

    monkeypatch.setattr(comparison, "search_by_value", failing)
    found = compared(recipe, "evolution", "local_search")
    assert found.failed == {"the loss is nan": 3} and len(found.rows) == 3
    row = next(row for row in found.rows if row.controller == "evolution")
    assert (row.seeds, row.mean, row.rank, row.gain) == (0, None, None, None)
    monkeypatch.setattr(comparison, "search_by_value", search)
    assert compared(recipe, "evolution", "local_search").failed == {}  # tried again


def test_where_every_run_fails_it_gives_up(runs: Path, recipe: ValueRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(**given: Any) -> Any:
        raise DivergedError("the loss is nan")

    monkeypatch.setattr(comparison, "search_by_value", failing)
    with pytest.raises(RunError, match=r"every run failed \(5 times: the loss is nan\); mend the recipe"):
        compared(recipe, "evolution", "local_search")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controllers": ["evolutoin"]}, r"evolutoin: .*did you mean \"evolution\"\?"),
        ({"controllers": ["evolution:popluation=3"]}, r"popluation: evolution has no such option; did you mean"),
        ({"controllers": ["darts"], "seeds": 0}, "seeds: must be >= 1, got 0"),
        ({"controllers": ["darts"]}, "darts: a table gives one value and no gradient; take random, evolution"),
        ({"controllers": ["nsga2"]}, "nsga2: a table gives one value and no gradient; take random, evolution"),
        ({"budget": 0}, "budget: must be > 0 seconds, got 0"),
        ({"storage": "postgres//nowhere"}, r"storage: postgres//nowhere cannot be opened"),
    ],
)
def test_what_cannot_be_is_said_at_once(runs: Path, recipe: ValueRecipe, changes: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        compared(recipe, *changes.pop("controllers", ()), **changes)
    assert not list(runs.glob("mine-*"))


def test_another_comparison_of_the_same_name_is_refused(runs: Path, recipe: ValueRecipe) -> None:
    compared(recipe, seeds=1)
    with pytest.raises(RunError, match=r"mine compares something else \(seeds differ\); give it another name"):
        compared(recipe, seeds=2)
    (runs / "other").mkdir()
    (runs / "other/file").touch()
    with pytest.raises(RunError, match="other exists and is no comparison; choose another name"):
        compared(recipe, run="other")


def test_a_table_without_seconds_has_no_budget(runs: Path, recipe: ValueRecipe) -> None:
    free = read_values(override(recipe.to_json(), {"table.charge": {}}))
    with pytest.raises(RecipeError, match=r"table\.charge: a budget needs to know what an evaluation takes"):
        compared(free)


# Trainings


def test_trainings_get_the_number_that_fits(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "space.options.channels": 2, "data.inner": 60, "data.outer": 60, "data.test": 40, "search.batch_size": 30,
        "search.monitor": 30, "search.value_epochs": 1, "evaluation.epochs": 1, "evaluation.random": 0, "threads": 1,
        "device": "cpu",
    }  # fmt: skip
    monkeypatch.setattr(comparison, "epochs_within", lambda parts, seconds: int(seconds))
    monkeypatch.setattr(comparison, "evaluations_within", lambda parts, seconds: int(seconds) + 1)
    recipe = read(override(Recipe().to_json(), settings))
    found = compared(recipe, "darts", budget=2, seeds=1)
    assert metanas.load_run("mine-darts-0").recipe["search"]["epochs"] == 2
    assert metanas.load_run("mine-random-0").recipe["search"]["budget"] == 3
    assert found.metric == "accuracy" and set(found.seconds) == {"random", "darts"}


@pytest.mark.parametrize("batch_size", [64, 16])  # all steps of an epoch are timed, or some
def test_what_fits_is_measured(monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    """On a clock that moves by one with each step of the weights, and by three more with one of the structure."""
    now = 0.0
    changes = {"search.epochs": 60, "search.batch_size": batch_size, "space.options.channels": 2, "threads": 1}
    recipe = read(override(Recipe().to_json(), {**changes, "device": "cpu"}))
    parts = prepare(recipe, None, None, Handed())

    def moved(search: GradientSearch, h: Any, batches: Any) -> None:
        nonlocal now
        now += 1 if h is None else 4

    monkeypatch.setattr(GradientSearch, "_train", moved)
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now)
    per_epoch = parts.search().per_epoch  # type: ignore[union-attr]
    epochs = pacing.epochs_within(parts, 70.0 * per_epoch)
    assert epochs == 19  # 3 epochs of warm-up and 16 whole ones: 3 + 4 * 16 = 67; with one more it were 71
    assert pacing.epochs_within(parts, 0.1) == 1


HANDED_OVER = {"search.guard.skip_share": 0.5, "search.guard.then": "darts_pt"}


@pytest.mark.parametrize(
    ("controller", "asked", "more"), [("rsps:evaluations=9", 9, {}), ("darts_pt", 30, {}), ("darts", 30, HANDED_OVER)]
)
def test_a_derivation_by_evaluations_has_its_part_of_the_budget(
    monkeypatch: pytest.MonkeyPatch, controller: str, asked: int, more: dict[str, Any]
) -> None:
    """On a clock that moves by one with each step, and by two with each evaluation of the supernet."""
    now = 0.0
    contender = comparison.Contender.of(controller)
    changes = {"search.controller": contender.name, "search.options": dict(contender.options), "device": "cpu"}
    changes |= {"space.options.channels": 2, "threads": 1, **more}
    parts = prepare(read(override(Recipe().to_json(), changes)), None, None, Handed())

    def moved(search: GradientSearch, h: Any, batches: Any) -> None:
        nonlocal now
        now += 1

    def judged(search: GradientSearch, mix: Any) -> tuple[float, float]:
        nonlocal now
        now += 2
        return now, 0.0

    monkeypatch.setattr(GradientSearch, "_train", moved)
    monkeypatch.setattr(GradientSearch, "score", judged)
    monkeypatch.setattr(GradientSearch, "_report", lambda search, epoch: None)
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now)
    per_epoch, built = parts.search().per_epoch, 1  # type: ignore[union-attr]
    assert pacing.epochs_within(parts, 5 * per_epoch + 2 * asked + built) == 5
    assert pacing.epochs_within(parts, 5 * per_epoch + 2 * asked) == 4
    assert pacing.epochs_within(parts, asked) == 1


def test_a_refinement_has_its_part_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves by one with each step of a search, and by a hundredth with each example of a training."""
    now = 0.0
    rounds = [{"candidates": 3, "epochs": 1}, {"candidates": 2, "epochs": 4}]
    changes = {"search.refine": rounds, "space.options.channels": 2, "threads": 2, "device": "cpu", "workers": 2}
    recipe = read(override(Recipe().to_json(), {**changes, "search.refine_from": "scratch"}))
    parts = prepare(recipe, None, None, Handed())

    def moved(search: GradientSearch, h: Any, batches: Any) -> None:
        nonlocal now
        now += 1

    def brief(parts: Any, weights: Any = None, *, lr: float | None = None) -> Any:
        def train(architecture: Any, epochs: int) -> float:
            nonlocal now
            assert len(parts.data.inner) <= 20 * 64, "a few steps only"
            assert torch.get_num_threads() == 1, "as many threads as each of two trainings has"
            now += epochs * len(parts.data.inner) / 100
            return 0.0

        return train

    monkeypatch.setattr(GradientSearch, "_train", moved)
    monkeypatch.setattr(type(parts), "brief", brief)
    monkeypatch.setattr(GradientSearch, "_report", lambda search, epoch: None)
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now)
    per_epoch, built = parts.search().per_epoch, 1  # type: ignore[union-attr]
    refining = (2 * 1 + 1 * 4) * len(parts.data.inner) / 100  # two at a time: of three trainings the last is alone
    with threads(2):
        assert pacing.epochs_within(parts, 5 * per_epoch + built + refining + 0.01) == 5
        assert pacing.epochs_within(parts, 5 * per_epoch + built + refining - 0.01) == 4
        assert pacing.epochs_within(parts, refining / 2) == 1


def test_evaluations_that_fit_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves by five with each that is none of those before, as the third is."""
    now = 0.0

    def steps(search: ValueSearch) -> Iterator[Any]:
        nonlocal now
        for k in range(search.budget):
            now += 5 if k != 2 else 0
            yield SimpleNamespace(repeated=k == 2)

    parts = prepare(read(override(Recipe().to_json(), {"search.controller": "random"})), None, None, Handed())
    monkeypatch.setattr(ValueSearch, "steps", steps)
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now)
    assert pacing.evaluations_within(parts, 52.0) == 10 and pacing.evaluations_within(parts, 1.0) == 1


# The queue


def test_no_piece_is_handed_out_twice(tmp_path: Path) -> None:
    first, second = (Cells(("a", "b", "c"), tmp_path, None, "study") for _ in range(2))
    first.fill()
    second.fill()
    taken = [queue.claim() for queue in (first, second, first, second)]
    assert [piece and piece[1] for piece in taken] == ["a", "b", "c", None]
    assert first.at_work() == 3 and taken[0] is not None
    first.done(taken[0][0], 0.5, {"seconds": 3.0})
    assert second.results()["a"][0] == 0.5 and second.results()["a"][1]["seconds"] == 3.0
    second.fill()
    assert second.claim() is None


def test_two_that_fill_the_queue_at_once_make_no_work_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (Cells(("a", "b"), tmp_path, None, "study") for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(Cells, "_trials", lambda self: [])  # neither sees the other's
        first.fill()
        second.fill()
    assert len(first.study.trials) == 4
    taken = [queue.claim() for queue in (first, second, first, second)]
    assert [piece and piece[1] for piece in taken] == ["a", "b", None, None]


def test_a_piece_that_failed_after_a_race_is_tried_again(tmp_path: Path) -> None:
    queue = Cells(("a",), tmp_path, None, "study")
    queue.fill()
    queue.study.enqueue_trial({"cell": "a"}, user_attrs={"cell": "a"})
    taken = queue.claim()
    assert taken is not None and queue.claim() is None
    queue.failed(taken[0], "boom")
    assert queue.claim() is None
    queue.fill()
    again = queue.claim()
    assert again is not None and again[1] == "a"


def test_what_a_dead_process_left_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Holder(os.uname().nodename, 2**22 + 7, "long ago")
    with monkeypatch.context() as patch:
        patch.setattr("metanas.api.cells.this_process", lambda: dead)
        first = Cells(("a", "b"), tmp_path, None, "study")
        first.fill()
        assert first.claim() is not None and first.claim() is not None
    queue = Cells(("a", "b"), tmp_path, None, "study")
    queue.fill()
    taken = [queue.claim() for _ in range(3)]
    assert [piece and piece[1] for piece in taken] == ["a", "b", None]  # this process lives


def test_a_torn_journal_is_mended(tmp_path: Path) -> None:
    """FAULTS 18: what a killed writer left of its last line."""
    queue = Cells(("a",), tmp_path, None, "study")
    queue.fill()
    with open(tmp_path / "study.journal", "ab") as file:
        file.write(b'{"op_code": 4, "worker_id": "x')
    again = Cells(("a",), tmp_path, None, "study")
    taken = again.claim()
    assert taken is not None and taken[1] == "a"


def test_a_storage_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    with contextlib.closing(Cells(("a",), tmp_path, f"sqlite:///{tmp_path}/study.db", "study")) as queue:
        queue.fill()
        os.truncate(tmp_path / "study.db", 100)
        with pytest.raises(RunError, match=r"storage: sqlite.* does not answer \(.*\); see"), queue.trouble():
            queue.fill()


# Statistics


def test_a_paired_test_against_numpy() -> None:
    rng = np.random.default_rng(0)
    base, other = rng.normal(size=(2, 6))
    scores = {"random": dict(enumerate(base)), "good": dict(enumerate(other + 1))}
    first, second = standings(scores, "random")
    assert (first.controller, first.gain, first.interval, first.p) == ("random", None, None, None)
    difference = other + 1 - base
    error = difference.std(ddof=1) / 6**0.5
    assert second.gain == pytest.approx(difference.mean()) and second.interval == pytest.approx(
        2.570582 * error, rel=1e-6
    )
    assert second.mean == pytest.approx((other + 1).mean()) and second.spread == pytest.approx(other.std(ddof=1))
    half = second.p is not None and 0 < second.p < 1
    assert half


def test_ties_seeds_that_are_missing_and_equal_scores() -> None:
    scores = {"random": {0: 1.0, 1: 1.0, 2: 5.0}, "same": {0: 1.0, 1: 1.0}, "none": {}}
    rows = {row.controller: row for row in standings(scores, "random")}
    assert rows["same"].gain == 0 and rows["same"].p is None and rows["same"].interval is None  # no spread
    assert rows["none"].rank is None and rows["none"].mean is None
    assert {name: rows[name].rank for name in ("random", "same")} == {"random": 1.5, "same": 1.5}
    del scores["none"]
    assert {row.controller: row.rank for row in standings(scores, "random")} == {"random": 1.5, "same": 1.5}
    with pytest.raises(RunError, match="the baseline 'darts' is not among random, same"):
        standings(scores, "darts")
