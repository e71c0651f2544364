"""The state of a run: what each event changes, and that nothing in a log makes the fold raise."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metanas.ui.paper import Paper
from metanas.ui.plain import lines
from metanas.ui.progress import Phase, phase
from metanas.ui.screen import sheet
from metanas.ui.state import RECENT, RunState, concluded, described, fold, status_at

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(
    ["begin", "step", "epoch", "derivation", "value", "trial", "train", "network", "log", "end", "new"]
)
FIELDS = st.sampled_from(
    "at elapsed host pid resumed step epoch epochs inner_loss outer_loss inner_loss_is outer_score outer_accuracy "
    "weights architecture key entropy gap budget value best network loss score test_score accuracy test_accuracy "
    "parameters level message status skipped trial trials values state reason steps outer_gradient_norm stationarity "
    "residual curvature converged learned learned_is done total".split()
)
EVENTS = st.builds(lambda kind, rest: {**rest, "kind": kind}, KINDS, st.dictionaries(FIELDS, JSON, max_size=6))
NUMBERED = st.builds(
    lambda kind, n, name, rest: {"step": n, "epoch": n, "trial": n, "network": name, **rest, "kind": kind},
    KINDS,
    st.integers(0, 5),
    st.sampled_from(["derived", "random 1", "learned", "start", "[/b]\x1b"]),
    st.dictionaries(FIELDS, JSON, max_size=4),
)


def folded(events: list[Any], state: RunState | None = None) -> RunState:
    return reduce(fold, events, state or RunState("first"))


@given(
    st.lists(EVENTS | NUMBERED | JSON, max_size=6),
    st.integers(1, 130),
    st.none() | st.integers(0, 45),
    st.booleans(),
    st.sampled_from([None, "tune"]),
)
def test_whatever_a_log_holds_every_view_can_show_it(
    events: list[Any], width: int, height: int | None, ascii_only: bool, kind: str | None
) -> None:
    state = described(RunState("first"), {"kind": kind}, None)
    for event in events:
        state = fold(state, event)
        if isinstance(event, dict):
            assert all(line.isascii() and line.isprintable() for line in lines(event, state))
    drawn = sheet(state, Paper(width=width, height=height, now=5.0, ascii_only=ascii_only))
    assert all(line.cell_len <= width and line.plain.isprintable() for line in drawn)
    assert not ascii_only or all(line.plain.isascii() for line in drawn)
    assert height is None or len(drawn) <= height


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", range(1, 20))
def test_curves_in_a_terminal_of_hardly_a_column(width: int, ascii_only: bool) -> None:
    state = folded([{"kind": "value", "step": 0, "value": 0, "budget": 2}])
    drawn = sheet(state, Paper(width=width, height=None, now=5.0, ascii_only=ascii_only))
    assert drawn and all(line.cell_len <= width for line in drawn)


def test_numbers_beyond_a_float_are_absent() -> None:
    state = folded(
        [{"kind": "step", "step": 10**400, "at": 10**400}, {"kind": "epoch", "epoch": 1, "entropy": 10**400}]
    )
    assert (state.step, state.at, state.history[0].entropy) == (None, None, None)


@given(JSON, JSON, JSON)
def test_damaged_documents_are_absent_documents(recipe: Any, space: Any, result: Any) -> None:
    nested = {"recipe": recipe, "data": space, "choices": [space, recipe], "random": [result]}
    parts = dict.fromkeys(("network", "learn", "inner", "outer", "choose", "evaluation"), recipe)
    tuning = {"kind": "tune", "recipe": parts, "data": space, "learned": result, "start": space}
    for document in (recipe, space, nested, {"kind": "tune", **nested}, tuning):
        state = concluded(described(RunState("first"), document, nested), document)
        assert sheet(state, Paper())


def test_fold_changes_nothing_but_its_result(events: list[dict[str, Any]]) -> None:
    state = folded(events[:100])
    before = repr(state)
    fold(state, events[100])
    assert repr(state) == before


def test_a_whole_run(events: list[dict[str, Any]]) -> None:
    state = folded(events)
    assert (state.status, state.step, state.skipped, state.host, state.pid) == ("finished", 850, 2, "bench", 4242)
    assert [point.epoch for point in state.history] == list(range(1, 51))
    assert [net.network for net in state.networks] == ["derived", "random 1", "random 2", "random 3"]
    assert len(state.steps) == RECENT and state.steps[-1].step == 850
    assert [(p.epoch, p.changed) for p in state.history if p.changed] == [(5, ("3<-1",)), (9, ("1<-0", "2<-0"))]


def test_a_resumed_run_forgets_what_it_repeats() -> None:
    events = [{"kind": "epoch", "epoch": n, "step": 2 * n, "outer_loss": n / 10} for n in (1, 2, 3)]
    events += [{"kind": "step", "step": n} for n in (1, 2, 3, 4, 5, 6)]
    again = [{"kind": "begin", "resumed": True}, {"kind": "step", "step": 3, "outer_loss": 9.0}]
    state = folded([*events, *again, {"kind": "epoch", "epoch": 2, "step": 4, "outer_loss": 7.0}])
    assert [(point.epoch, point.outer_loss) for point in state.history] == [(1, 0.1), (2, 7.0)]
    assert [(point.step, point.outer_loss) for point in state.steps] == [(1, None), (2, None), (3, 9.0)]
    assert (state.resumes, state.step) == (1, 4)


def test_numbers_that_are_not_finite_are_told_apart_from_missing_ones() -> None:
    state = folded([{"kind": "step", "step": 1, "inner_loss": None, "inner_loss_is": "nan", "outer_loss": None}])
    assert math.isnan(state.steps[0].inner_loss or 0) and state.steps[0].outer_loss is None


def test_value_only_controllers_keep_their_best() -> None:
    values = [
        {"kind": "value", "step": n, "budget": 30, "value": n % 7, "architecture": {"a": str(n)}} for n in range(1, 25)
    ]
    state = folded(values)
    assert [point.value for point in state.best] == [6, 6, 6, 5, 5, 5, 4, 4, 4, 3]
    assert (phase(state).name, phase(state).done, phase(state).total) == ("search", 24, 30)


def evaluated(step: int, value: float, epochs: int | None, name: str) -> dict[str, Any]:
    return {"kind": "value", "step": step, "budget": 9, "value": value, "epochs": epochs, "architecture": {"a": name}}


def test_the_best_are_the_best_of_those_that_were_trained_longest() -> None:
    """A value after one epoch says nothing against one after nine, however high it is; nor does a failure."""
    first = [evaluated(1, 9.0, 1, "p"), evaluated(2, 8.0, 1, "q"), evaluated(3, 2.0, 3, "p"), evaluated(4, 1.0, 9, "p")]
    later = [evaluated(5, 7.0, 1, "p"), evaluated(6, math.nan, 9, "q"), evaluated(7, 3.0, 3, "r")]
    found = [(p.architecture["a"], p.epochs, p.value) for p in folded(first + later).best]
    assert found == [("p", 9, 1.0), ("r", 3, 3.0), ("q", 1, 8.0)]
    again = folded([evaluated(1, 5.0, 2, "p"), evaluated(2, 4.0, 2, "p")]).best
    assert [(p.step, p.value) for p in again] == [(2, 4.0)], "of equally long ones the newest"


def test_a_refinement_has_its_own_progress_and_leaves_the_searchs_steps_alone() -> None:
    search = [{"kind": "epoch", "epoch": n, "epochs": 2, "step": 20 * n, "elapsed": 50.0 * n} for n in (1, 2)]
    values = [
        {"kind": "value", "step": n, "budget": 8, "value": -n, "elapsed": 100.0 + 5 * n, "architecture": {"a": str(n)}}
        for n in (1, 2)
    ]
    state = folded([*search, *values])
    now = phase(state)
    assert (now.name, now.done, now.total, now.seconds_left) == ("refinement", 2, 8, 30.0)
    assert (state.step, state.best[0].value) == (40, -1)
    train = {"kind": "train", "network": "derived", "epoch": 1, "epochs": 10, "elapsed": 113.0}
    assert phase(fold(state, train)).seconds_left == 9 * 3.0, "the speed of the training, not of what came before"
    by_value = phase(folded([*values, train]))
    assert by_value.seconds_left == 9 * 3.0
    assert folded([*search, *values, search[1]]).values == (), "a run that is resumed in its search repeats them"


def test_a_derivation_has_its_own_progress() -> None:
    search = [{"kind": "epoch", "epoch": n, "epochs": 2, "step": 20 * n, "elapsed": 50.0 * n} for n in (1, 2)]
    derivation = [{"kind": "derivation", "done": n, "total": 8, "elapsed": 110.0 + 5 * n} for n in range(4)]
    state = folded([*search, *derivation])
    assert phase(state) == Phase("derivation", 3, 8, "evaluations", 25.0)
    again = [{"kind": "begin", "resumed": True, "elapsed": 130.0}, {**derivation[0], "elapsed": 140.0}]
    assert phase(folded(again, state)) == Phase("derivation", 0, 8, "evaluations", None)
    assert phase(folded([*again, {**derivation[1], "elapsed": 147.0}], state)).seconds_left == 7 * 7.0
    value = {"kind": "value", "step": 1, "budget": 8, "value": 1, "elapsed": 129.0}
    train = {"kind": "train", "network": "derived", "epoch": 1, "epochs": 10, "elapsed": 128.0}
    assert phase(folded([train], state)).seconds_left == 9 * 3.0, "the derivation is of the search"
    refined = folded([value], state)
    assert phase(refined) == Phase("refinement", 1, 8, "networks", 7 * 4.0), "and not of the refinement"
    assert phase(folded(again, refined)).name == "derivation", "a run that is resumed in it repeats what followed"
    assert phase(folded([{"kind": "step", "step": 21}], state)).name == "search"
    assert phase(folded([search[1]], state)).name == "search"


def test_a_run_whose_writer_is_gone_counts_as_killed() -> None:
    running = RunState("first", status="running", at=100.0)
    assert status_at(running, 101.0) == "running"
    assert status_at(running, 200.0) == "killed"
    assert status_at(running, 50.0) == "running", "the clock jumped back"
    for writer, status in (("alive", "running"), ("elsewhere", "running"), ("dead", "killed")):
        assert status_at(RunState("first", status="running", at=100.0, writer=writer), 200.0) == status


def test_progress_and_time_left(events: list[dict[str, Any]]) -> None:
    state = described(RunState("first"), {"recipe": {"evaluation": {"epochs": 40, "random": 3}}}, None)
    searching = folded(events[:370], state)
    now = phase(searching)
    assert (now.name, now.total, now.unit) == ("search", 50, "epochs")
    assert now.done == searching.step / 17  # type: ignore[operator]
    assert now.seconds_left is not None and math.isclose(now.seconds_left, (50 - now.done) * 18 * 0.05, rel_tol=0.01)
    training = folded(events[: events.index(next(e for e in events if e["kind"] == "network")) + 21], state)
    now = phase(training)
    assert (now.name, now.done, now.total) == ("training", 60, 160)
    assert now.seconds_left is not None and math.isclose(now.seconds_left, 100 * 0.05, rel_tol=0.05)


def test_a_run_of_the_first_version_called_scores_accuracies() -> None:
    events = [
        {"kind": "epoch", "epoch": 1, "outer_accuracy": 0.5},
        {"kind": "train", "network": "derived", "epoch": 1, "accuracy": 0.75},
        {"kind": "network", "network": "random 1", "test_accuracy": 0.25},
    ]
    state = folded(events)
    assert (state.history[0].outer_score, state.training[0].score, state.networks[0].test_score) == (0.5, 0.75, 0.25)
    assert (state.metric, described(state, {"metric": "R2"}, None).metric) == ("accuracy", "R2")


def test_scores_of_another_metric_are_numbers() -> None:
    recipe = {"metric": "R2[b]\x1b", "recipe": {}}
    events = [
        {"kind": "epoch", "epoch": 1, "outer_score": 0.5, "outer_loss": 1.0},
        {"kind": "epoch", "epoch": 2, "outer_score": 0.625, "outer_loss": 0.5},
        {"kind": "train", "network": "random 1", "epoch": 1, "epochs": 9, "loss": 0.5, "score": -0.5},
        {"kind": "network", "network": "derived", "test_score": 0.75},
        {"kind": "network", "network": "random 2", "test_score": 0.5},
    ]
    state = folded(events, described(RunState("first"), recipe, None))
    text = "\n".join(line.plain for line in sheet(state, Paper(width=120, ascii_only=True)))
    assert "%" not in text and "\x1b" not in text
    for words in ("0.6250", "0.7500", "training R2[b]^[ -0.5000", "derived +0.2500 against random 2"):
        assert words in text, words
    assert lines(events[3], state)[0].startswith("derived: test R2[b]^[ 0.7500, test loss -")


@pytest.mark.parametrize(("how", "epochs"), [("finetune", None), ("frozen", None), ("search", 50)])
def test_a_transfer_without_a_search_asked_for_none(documents: tuple[Any, Any], how: str, epochs: int | None) -> None:
    recipe, space = documents
    state = described(RunState("first"), {**recipe, "transfer": {"how": how}}, space)
    assert (state.controller, state.epochs, state.batch_size is None) == (how, epochs, epochs is None)
    assert any(path.startswith("search.") for path in state.recipe) == (epochs is not None)
    assert state.train_epochs == 40
