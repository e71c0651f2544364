"""A search that a guard ends: what the run says, and that it goes on from any checkpoint; what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import metanas
from metanas.api.recorder import Recorder
from metanas.bilevel import FirstOrder
from metanas.errors import InterruptedSearchError, RecipeError, SpaceError
from metanas.loop import SkipShare, Verdict
from metanas.space import NEEDED, Space, chain, one_of, op
from metanas.ui import read

Quick = Callable[..., Any]
ENDS = {"search.epochs": 4, "search.guard.entropy": 0.999999, "checkpoint_seconds": 0.0}
"""A bound that every search is below after its first epoch or two."""


def test_the_run_says_that_and_why(quick: Quick) -> None:
    result = quick(run="first", controller="darts", settings=ENDS | {"search.options.lr": 0.5})
    run = metanas.load_run("first")
    (event,) = [e for e in run.events() if e["kind"] == "guard"]
    epochs = [e["epoch"] for e in run.events() if e["kind"] == "epoch"]
    assert epochs == list(range(1, event["epoch"] + 1)) and event["epoch"] < 4 and event["back_to"] == event["epoch"]
    (said,) = [e["message"] for e in run.events() if e["kind"] == "log" and e["level"] == "warning"]
    assert said == f"a guard ended the search after epoch {event['epoch']}: {event['reason']}"
    assert {k: event[k] for k in ("epoch", "back_to", "reason")} == result_of(result)["guard"]
    assert result_of(result)["epochs"] == event["epoch"]
    assert read(result.run).guard == f"a guard ended the search: {event['reason']}"
    card = metanas.export(result, result.run / "out", formats=["card"])[0].read_text()
    assert f"after epoch {event['epoch']}: {event['reason']}" in card


def test_another_controller_goes_on_where_it_is_asked_for(quick: Quick) -> None:
    settings = ENDS | {"search.options.lr": 0.5, "search.guard.then": "darts_pt"}
    result = quick(run="first", controller="darts", settings=settings)
    events = list(metanas.load_run("first").events())
    (event,) = [e for e in events if e["kind"] == "guard"]
    assert event["instead"] == "DartsPt" and event["epoch"] < 4
    assert [e["epoch"] for e in events if e["kind"] == "epoch"] == [1, 2, 3, 4]
    last = [e for e in events if e["kind"] == "epoch"][-1]
    assert all(max(row) == pytest.approx(min(row)) for row in last["weights"].values()), last["weights"]
    (said,) = [e["message"] for e in events if e["kind"] == "log" and e["level"] == "warning"]
    assert said == f"a guard hands the search over to DartsPt after epoch {event['epoch']}: {event['reason']}"
    found = result_of(result)
    assert found["guard"]["instead"] == "DartsPt" and found["epochs"] == 4
    state = read(result.run)
    assert state.epochs == 4 and state.guard == f"a guard handed the search over to DartsPt: {event['reason']}"
    card = metanas.export(result, result.run / "out", formats=["card"])[0].read_text()
    assert "Handed over to DartsPt by a guard" in card


def test_what_was_handed_over_goes_on_from_a_stop(quick: Quick, images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ENDS | {"search.options.lr": 0.5, "search.guard.then": "darts_pt"}
    whole = quick(run="whole", controller="darts", settings=settings)

    def stops(recorder: Recorder, *args: Any) -> None:
        raise InterruptedSearchError("stopped", None)

    for method in ("derivation", "train"):
        with monkeypatch.context() as patch:
            patch.setattr(Recorder, method, stops)
            with pytest.raises(InterruptedSearchError):
                quick(run=method, controller="darts", settings=settings)
        again = metanas.load_run(method).resume(data=images)
        assert again.architecture == whole.architecture and again.test_score == whole.test_score
        assert result_of(again)["guard"] == result_of(whole)["guard"] and result_of(again)["epochs"] == 4


@pytest.mark.parametrize(
    ("controller", "settings", "words"),
    [
        ("gdas", {}, "search.guard.then: darts_pt cannot go on after Gdas; take end"),
        ("pc_darts", {}, "search.guard.then: darts_pt cannot go on after PcDarts; take end"),
        ("darts", {"search.guard.skip_share": None}, "search.guard.then: no guard is on; set search.guard.skip_share"),
        ("darts", {"search.shrink_to": 2}, "search.guard.then: darts_pt cannot go on after search.shrink_to; take end"),
        (
            "darts",
            {"search.cost": "parameters"},
            "search.guard.then: darts_pt cannot go on after search.cost; take end",
        ),
    ],
)
def test_what_cannot_go_on_is_refused(quick: Quick, controller: str, settings: dict[str, Any], words: str) -> None:
    guard = {"search.guard.skip_share": 0.5, "search.guard.then": "darts_pt"}
    with pytest.raises(RecipeError, match=words):
        quick(controller=controller, settings=guard | settings)


def result_of(result: Any) -> dict[str, Any]:
    return metanas.load_run(result.run).folder.read_result()


def test_it_goes_on_from_a_checkpoint_of_the_training(
    quick: Quick, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ENDS | {"search.options.lr": 0.5}
    whole = quick(run="whole", controller="darts", settings=settings)

    def stops(recorder: Recorder, *args: Any) -> None:
        raise InterruptedSearchError("stopped", None)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "train", stops)
        with pytest.raises(InterruptedSearchError):
            quick(run="cut", controller="darts", settings=settings)
    again = metanas.load_run("cut").resume(data=images)
    assert again.architecture == whole.architecture and again.test_score == whole.test_score
    assert result_of(again)["guard"] == result_of(whole)["guard"]


@pytest.mark.parametrize("source", ["supernet", "scratch"])
def test_a_refinement_after_a_guard_says_of_which_epoch_its_weights_are(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Omega goes back, the supernet's weights do not."""
    monkeypatch.setattr(SkipShare, "__call__", lambda self, past: Verdict(1, "so") if past[-1].epoch == 2 else None)
    settings = {"search.epochs": 3, "search.warmup": 0, "search.guard.skip_share": 0.5, "search.refine_from": source}
    result = quick(
        run="first", controller="darts", settings=settings | {"search.refine": [{"candidates": 2, "epochs": 1}]}
    )
    assert (result_of(result)["guard"]["epoch"], result_of(result)["guard"]["back_to"]) == (2, 1)
    events = metanas.load_run("first").events()
    (said,) = [e["message"] for e in events if e["kind"] == "log" and e["message"].startswith("refining")]
    begun = "; they begin with the supernet's weights of epoch 2, the architecture is that of epoch 1"
    assert said.endswith(begun if source == "supernet" else "short trainings of it and its neighbours")


def test_a_supernet_of_partial_channels_hands_on_no_weights(quick: Quick, images: Any, runs: Path) -> None:
    refine = {"search.refine": [{"candidates": 2, "epochs": 1}]}
    with pytest.raises(RecipeError, match=r"search\.refine_from: .*take scratch"):
        quick(run="first", controller="pc_darts", settings=refine)
    assert not runs.exists()
    result = quick(run="first", controller="pc_darts", settings=refine | {"search.refine_from": "scratch"})
    with pytest.raises(RecipeError, match=r"search\.controller: its supernet cannot begin"):
        result.transfer(images, how="search", run="second", settings={"search.refine": []})


def test_what_mixes_nothing_is_not_perturbed(quick: Quick, runs: Path) -> None:
    for controller in ("gdas", "random"):
        with pytest.raises(RecipeError, match=r"search\.perturb: (Gdas|RandomSearch) mixes no candidates"):
            quick(run="first", controller=controller, settings={"search.perturb": 0.1})
    with pytest.raises(RecipeError, match=r"search\.perturb_steps: goes with search\.perturb above 0, got 7"):
        quick(run="first", settings={"search.perturb_steps": 7})
    assert not runs.exists()


def test_an_estimator_that_a_controller_cannot_learn_from_is_refused(quick: Quick, runs: Path) -> None:
    with pytest.raises(SpaceError, match=r"^estimator: Reinforce learns from values of the loss; take ScoreFunction"):
        quick(run="first", controller="reinforce", estimator=FirstOrder())
    assert not runs.exists()


def test_a_search_that_shrinks_says_so_and_goes_on_from_its_checkpoint(
    quick: Quick, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"search.epochs": 3, "search.shrink_to": 1, "checkpoint_seconds": 0.0}
    whole = quick(run="whole", settings=settings)
    said = [e["message"] for e in metanas.load_run("whole").events() if e["kind"] == "log"]
    assert "after epoch 2 every choice goes on with its 1 strongest candidates" in said

    pause_point = Recorder.pause_point

    def stops(recorder: Recorder, place: int, tree: Any) -> None:
        pause_point(recorder, place, tree)
        if place == 6:  # in the third epoch: 160 images make 2 steps
            raise InterruptedSearchError("stopped", None)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "pause_point", stops)
        with pytest.raises(InterruptedSearchError):
            quick(run="cut", settings=settings)
    again = metanas.load_run("cut").resume(data=images)
    assert again.architecture == whole.architecture and again.test_score == whole.test_score


def test_what_learns_no_omega_has_nothing_to_shrink(quick: Quick, runs: Path) -> None:
    with pytest.raises(RecipeError, match=r"search\.shrink_to: DartsPt learns no omega"):
        quick(run="first", controller="darts_pt", settings={"search.shrink_to": 1})
    with pytest.raises(RecipeError, match=r"search\.shrink_stages: should be below the 2 epochs in which .*, got 2"):
        quick(run="first", settings={"search.shrink_to": 1, "search.shrink_stages": 2})
    assert not runs.exists()


def test_what_learns_no_omega_has_nothing_to_guard(quick: Quick, runs: Path) -> None:
    for controller in ("darts_pt", "random"):
        with pytest.raises(RecipeError, match=r"search\.guard: (DartsPt|RandomSearch) learns no omega"):
            quick(run="first", controller=controller, settings={"search.guard.skip_share": 0.5})
    assert not runs.exists()


def test_an_aligned_search_goes_on_from_its_checkpoint(
    quick: Quick, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = one_of("body", {"conv": op("conv", width=4, kernel=3, norm="batch", activation="relu"), "skip": op("skip")})
    ends = ("stem", op("conv", width=4, kernel=3)), ("head", op("classifier", width=NEEDED))
    twice = Space(chain(ends[0], ("one", body), ("two", body), ends[1]), "twice")
    settings = {"search.epochs": 2, "search.align": 0.125, "checkpoint_seconds": 0.0}
    whole, plain = quick(twice, run="whole", settings=settings), quick(twice, run="plain")
    pause_point = Recorder.pause_point

    def stops(recorder: Recorder, place: int, tree: Any) -> None:
        pause_point(recorder, place, tree)
        if place == 3:
            raise InterruptedSearchError("stopped", None)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "pause_point", stops)
        with pytest.raises(InterruptedSearchError):
            quick(twice, run="cut", settings=settings)
    again = metanas.load_run("cut").resume(data=images)
    assert again.architecture == whole.architecture and again.test_score == whole.test_score
    losses = [
        [e["inner_loss"] for e in metanas.load_run(r.run).events() if e["kind"] == "step"] for r in (whole, plain)
    ]
    assert losses[0][:2] == losses[1][:2] and losses[0][2:] != losses[1][2:]  # it begins with the second step


def test_what_has_no_cells_to_align_is_refused(quick: Quick, runs: Path) -> None:
    with pytest.raises(RecipeError, match=r"search\.align: Gdas mixes no candidates"):
        quick(run="first", controller="gdas", settings={"search.align": 0.1})
    with pytest.raises(RecipeError, match=r"search\.align: no two cells of tiny share a choice; take 0"):
        quick(run="first", settings={"search.align": 0.1})
    with pytest.raises(RecipeError, match=r"search\.align_epsilon: goes with search\.align above 0, got 0\.1"):
        quick(run="first", settings={"search.align_epsilon": 0.1})
    both = {"search.align": 0.1, "search.align_epsilon": 0.1, "precision": "bfloat16"}
    with pytest.raises(RecipeError, match=r"search\.align_epsilon: the step is lost in the rounding of bfloat16"):
        quick(run="first", settings=both)
    assert not runs.exists()


def test_a_search_by_the_sandwich_rule_says_what_its_largest_loses(quick: Quick, images: Any) -> None:
    settings = {"search.sandwich": 1, "search.options.evaluations": 4, "search.options.population": 2}
    result = quick(run="first", controller="spos", settings=settings)
    losses = [e["inner_loss"] for e in metanas.load_run("first").events() if e["kind"] == "step"]
    assert len(losses) == 4 and all(0 < loss < 3 for loss in losses) and result.test_score is not None


def test_a_sandwich_needs_single_paths(quick: Quick, runs: Path) -> None:
    for controller in ("drnas", "random"):
        with pytest.raises(RecipeError, match=r"search\.sandwich: (DrNas|RandomSearch) runs no single paths"):
            quick(run="first", controller=controller, settings={"search.sandwich": 2})
    assert not runs.exists()
