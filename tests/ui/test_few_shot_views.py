"""The view of a few-shot run: its state folded from events, its panel and its sheet as exact text, and plain lines."""

from __future__ import annotations

import io
import json
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text

from metanas.run import summarise
from metanas.ui import panels, read
from metanas.ui.few_shot import KEPT, FewShot, Score, few_shot_of, outcome, validated
from metanas.ui.paper import Paper
from metanas.ui.plain import PlainView, lines
from metanas.ui.progress import phase
from metanas.ui.report import table
from metanas.ui.screen import sheet
from metanas.ui.state import RunState, concluded, described, fold
from metanas.ui.verdict import verdict

BEGAN = 1_760_000_000.0
RECIPE: dict[str, Any] = {
    "schema": 1,
    "kind": "fewshot",
    "metric": "accuracy",
    "created": "2025-10-09T08:53:20+00:00",
    "data": {"name": "omniglot", "sizes": {"train": 964, "validation": 100, "test": 659}},
    "recipe": {
        "network": {"name": "conv4", "options": {"width": 64}},
        "learner": {"name": "meta_sgd", "options": {}},
        "structure": {"mode": "shared", "steps": 20, "gain": 10.0},
        "episodes": {"ways": 5, "shots": 1, "queries": 5, "tasks": 8},
        "outer": {"steps": 40, "clip": 10.0},
        "evaluation": {"ways": 5, "shots": 1, "every": 10, "episodes": 600},
    },
}
FOUND = {"block1.main": "conv_3x3", "block2.main": "sep_conv_5x5", "pool1": "max_pool"}
RESULT = {
    "schema": 1, "kind": "fewshot", "test_score": 0.901, "interval": 0.008, "ways": 5, "shots": 1, "episodes": 600,
    "steps": 60,
    "transductive": {"accuracy": 0.924, "interval": 0.007}, "start": {"accuracy": 0.402, "interval": 0.009},
    "architecture": FOUND,
}  # fmt: skip
VALIDATED = {30: 0.62, 40: 0.871, 50: 0.884, 60: 0.879}


def step(n: int) -> dict[str, Any]:
    learned = {"surest choice": 0.3 + 0.02 * n, "least sure choice": 0.2 + 0.01 * n} if n <= 20 else {}
    return {"kind": "step", "step": n, "steps": 60, "inner_loss": None, "outer_loss": 2 / n + 0.25, "skipped": 0,
            "outer_gradient_norm": 1 / n, "stationarity": 0.5 / n, "converged": True, "learned": learned}  # fmt: skip


def network(name: str, score: float) -> dict[str, Any]:
    return {"kind": "network", "network": name, "key": None, "architecture": FOUND, "test_score": score,
            "test_loss": 0.5, "parameters": 9000, "multiply_adds": None, "seconds": None}  # fmt: skip


def events() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"kind": "begin", "host": "bench", "pid": 4242, "resumed": False, "step": 0}]
    for n in range(1, 61):
        found.append(step(n))
        if n in VALIDATED:
            score = {"accuracy": VALIDATED[n], "interval": 0.021, "loss": 0.5, "episodes": 100}
            found.append({"kind": "validation", "step": n, **score})
    found += [network("learned", 0.901), network("start", 0.402), {"kind": "end", "status": "finished"}]
    return [{**event, "at": BEGAN + k, "elapsed": float(k)} for k, event in enumerate(found)]


def at(count: int | None, recipe: Any = RECIPE) -> RunState:
    """After so many outer steps, or at the end."""
    rows = events()
    if count is not None:
        rows = rows[: next(k for k, e in enumerate(rows) if e.get("step") == count + 1 and e["kind"] == "step")]
    return reduce(fold, rows, described(RunState("third"), recipe, None))


def text(found: list[Text]) -> str:
    return "\n" + "".join(line.plain.rstrip() + "\n" for line in found)


def paper(width: int, height: int | None, **options: Any) -> Paper:
    return Paper(width=width, height=height, **options)


# The state


def test_what_was_asked_for() -> None:
    found = few_shot_of(None, RECIPE)
    assert found and (found.learner, found.network, found.task, found.chance) == (
        "meta_sgd",
        "conv4",
        "5-way 1-shot",
        0.2,
    )
    assert (found.structure, found.structure_steps, found.every, found.episodes) == ("shared", 20, 10, 600)
    assert found.training == "8 tasks a step, 5-way 1-shot, 5 queries"
    fixed = {**RECIPE, "recipe": {**RECIPE["recipe"], "structure": {"mode": "fixed", "steps": 20}}}
    state = described(RunState("third"), fixed, None)
    assert state.few_shot and state.few_shot.structure_steps == 0
    assert (
        state.tuning and state.tuning.steps == 40 and described(RunState("x"), {"kind": "tune"}, None).few_shot is None
    )


def test_a_whole_run() -> None:
    state = concluded(at(None), RESULT)
    few_shot = state.few_shot
    assert few_shot and [one.step for one in few_shot.validations] == [30, 40, 50, 60]
    assert few_shot.best and (few_shot.best.step, few_shot.best.score) == (50, Score(0.884, 0.021))
    assert (few_shot.test, few_shot.start) == (Score(0.901, 0.008), Score(0.402, 0.009))
    assert few_shot.transductive == Score(0.924, 0.007) and state.status == "finished"
    assert verdict(state) == "learned +49.9 points against its start"
    assert state.tuning and len(state.tuning.trace) == 60


def test_before_there_is_a_result_the_events_tell() -> None:
    few_shot = at(None).few_shot
    assert few_shot and (few_shot.test, few_shot.start) == (Score(0.901), Score(0.402))


def test_a_resumed_run_forgets_what_it_repeats() -> None:
    state = reduce(fold, [step(45), step(46)], at(None))
    assert state.few_shot and [one.step for one in state.few_shot.validations] == [30, 40]
    assert state.few_shot.best and state.few_shot.best.step == 40
    assert state.networks == () and state.few_shot.test == Score()
    again = fold(state, {"kind": "validation", "step": 40, "accuracy": 0.5})
    assert again.few_shot and again.few_shot.best and again.few_shot.best.step == 30


def test_of_equals_the_last_is_the_best_and_nan_is_none() -> None:
    found = FewShot()
    for n, accuracy in ((1, 0.5), (2, 0.5), (3, None)):
        found = validated(found, {"step": n, "accuracy": accuracy, "accuracy_is": "nan"})
    assert found.best and found.best.step == 2 and len(found.validations) == 3
    assert validated(FewShot(), {"accuracy": 0.5}) == FewShot(), "no step"
    assert validated(FewShot(), {"step": 1, "accuracy": None}).best is None


def test_the_memory_is_bounded_and_the_best_is_kept() -> None:
    found = FewShot()
    for n in range(KEPT + 50):
        found = validated(found, {"step": n, "accuracy": 0.9 if n == 3 else 0.5})
    assert len(found.validations) == KEPT and found.best and found.best.step == 3
    state = RunState("third", few_shot=found)
    assert "best 90.0% at step 3" in text(panels.episodes(state, paper(80, None)))


@pytest.mark.parametrize(("count", "name", "done"), [(1, "structure", 1), (19, "structure", 19), (20, "learning", 20)])
def test_how_far_it_is(count: int, name: str, done: int) -> None:
    now = phase(at(count))
    assert (now.name, now.done, now.total, now.unit) == (name, done, 60, "steps")
    assert (phase(at(None)).name, phase(at(None)).done) == ("learning", 60)


def test_a_copy_that_has_only_its_result(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    state = read(tmp_path)
    assert state.status == "finished" and verdict(state) == "learned +49.9 points against its start"
    assert state.few_shot and state.few_shot.task == "5-way 1-shot"
    assert "test, each by itself  90.1%" in text(panels.episodes(state, paper(80, None)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={name: JSON for name in (
        "step", "accuracy", "interval", "loss", "episodes", "ways", "shots", "structure", "evaluation", "learner",
        "test_score", "transductive", "start", "mode", "steps", "name", "tasks", "queries", "every", "accuracy_is",
    )},
)  # fmt: skip


SECTIONS = st.sampled_from(["evaluation", "episodes", "structure", "outer", "learner"])


@settings(max_examples=50)
@given(FIELDS, st.dictionaries(SECTIONS, FIELDS | JSON), st.lists(FIELDS, max_size=3))
def test_nothing_that_a_log_may_hold_makes_it_raise(result: Any, asked: Any, rows: Any) -> None:
    state = described(RunState("third"), {"kind": "fewshot", "recipe": asked}, None)
    for row in rows:
        state = fold(state, {**row, "kind": "validation"})
        lines({**row, "kind": "validation"}, state)
    state = concluded(fold(state, {"kind": "network", "network": "learned", "test_score": result.get("start")}), result)
    for width, height in ((1, 3), (40, 9), (80, None)):
        assert all(line.cell_len <= width for line in sheet(state, paper(width, height)))
    outcome(FewShot(), result)


# The panel


EPISODES = r"""
── episodes ───────────────────────────────────── 5-way 1-shot, a guess 20.0% ──
         ━ validation 87.9%  ★ best 88.4% at step 50
 88.4%┤                      ⢀⡠⠔⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠊⠉⠉⠉⠉⠉⠉⠉⠉★⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠒
      │                  ⢀⡠⠔⠊⠁
      │               ⣀⠔⠊⠁
      │           ⣀⠤⠒⠉
      │       ⢀⡠⠒⠉
      │   ⢀⡠⠔⠊⠁
 62.0%┤⡠⠔⠊⠁
test, each by itself  90.1% ± 0.8%     +49.9 points against its start
test, all together    92.4% ± 0.7%
before it learned     40.2% ± 0.9%     over 600 episodes
structure             block1.main conv_3x3, block2.main sep_conv_5x5, pool1 max…
"""
ONE_LINE = r"""
── episodes ───────────────────────────────────── 5-way 1-shot, a guess 20.0% ──
validation            87.9% ± 2.1%     ▁███  best 88.4% at step 50
test, each by itself  90.1% ± 0.8%     +49.9 points against its start
test, all together    92.4% ± 0.7%
before it learned     40.2% ± 0.9%     over 600 episodes
structure             block1.main conv_3x3, block2.main sep_conv_5x5, pool1 max…
"""
IN_ASCII = r"""
-- episodes ------------------------------------- 5-way 1-shot, a guess 20.0% --
validation            62.0% +- 2.1%    +  best 62.0% at step 30
"""
BARE = r"""
── episodes ───────────────────────────────────────────────────── ?-way ?-shot ──
validation            50.0%            ▅  best 50.0% at step 5
"""


def test_the_panel_on_few_lines() -> None:
    state = concluded(at(None), RESULT)
    assert text([line for line in panels.episodes(state, paper(80, 6))]) == ONE_LINE
    assert text(panels.episodes(at(35), paper(80, 4, ascii_only=True))) == IN_ASCII
    assert text(panels.episodes(state, paper(80, 2))).count("\n") == 3, "no more than it is given"


def test_the_panel_with_a_plot_and_the_best_marked() -> None:
    found = text(panels.episodes(concluded(at(None), RESULT), paper(80, None)))
    assert found == EPISODES
    plain = text(panels.episodes(at(50), paper(80, 14, ascii_only=True)))
    assert plain.isascii() and plain.count("*") == 2 and "a guess" not in plain.splitlines()[2]


def test_a_guess_is_left_out_of_the_plot_where_it_would_flatten_the_curve() -> None:
    state = reduce(fold, [{"kind": "validation", "step": n, "accuracy": 0.9 + 0.001 * n} for n in range(1, 9)], at(1))
    lines_ = text(panels.episodes(state, paper(80, None))).splitlines()
    assert "━ a guess" not in lines_[2] and lines_[1].endswith("a guess 20.0% ──") and lines_[3].startswith(" 90.8%┤")


def test_the_panel_of_a_run_that_says_little() -> None:
    state = fold(RunState("third"), {"kind": "validation", "step": 5, "accuracy": 0.5})
    assert text(panels.episodes(state, paper(81, 4))) == BARE
    assert panels.episodes(RunState("third"), paper(80, None)) == []
    assert panels.episodes(RunState("third", few_shot=FewShot()), paper(80, None)) == []


# The sheet


TINY = "\ntoo small\n20x5, needs 40x9\nrunning 45/60\n"


def test_sheets() -> None:
    state = at(45)
    found = text(sheet(state, paper(80, 24)))
    assert found.startswith("\nthird  meta_sgd on conv4 · omniglot")
    assert (
        "\nlearns  5-way 1-shot · structure shared · " not in found
        and "\nlearns  5-way 1-shot · structure shared\n" in found
    )
    assert [line.split()[1] for line in found.splitlines() if line.startswith("── ")] == ["episodes", "curves",
                                                                                        "hypergradient"]  # fmt: skip
    assert "\nlearning  ━" in found and "45/60 steps" in found and "trained from scratch" not in found
    early = text(sheet(at(11), paper(80, 24)))
    assert "\nstructure  ━" in early and "surest choice" in early and "episodes ──" not in early
    assert text(sheet(state, paper(20, 5))) == TINY
    wide = text(sheet(state, paper(120, 40)))
    assert "· 8 tasks a step, 5-way 1-shot, 5 queries" in wide


@pytest.mark.parametrize("count", [1, 11, 30, 45, None])
def test_it_fits_every_terminal(count: int | None) -> None:
    state = concluded(at(count), RESULT if count is None else None)
    for width in (1, 20, 40, 41, 57, 80, 99, 200):
        for height in (1, 5, 9, 12, 18, 24, 33, 100, None):
            for ascii_only in (False, True):
                found = sheet(state, paper(width, height, ascii_only=ascii_only))
                assert all(line.cell_len <= width for line in found)
                assert height is None or 0 < len(found) <= height
                assert not ascii_only or all(line.plain.isascii() for line in found)


def test_what_a_run_says_is_inert() -> None:
    evil = "x[/b]\x1b[2J\u202e"
    recipe = {**RECIPE, "recipe": {**RECIPE["recipe"], "learner": {"name": evil}, "structure": {"mode": evil}}}
    state = reduce(fold, events(), described(RunState(evil), recipe, None))
    state = fold(state, {**network("learned", 0.5), "architecture": {evil: evil}})
    shown = text(sheet(state, paper(120, None)))
    assert "\x1b" not in shown and "\u202e" not in shown and "x[/b]␛[2J<U+202E>" in shown


# Lines, and the table of runs


def test_plain_lines() -> None:
    state, found = described(RunState("third"), RECIPE, None), []
    for event in events():
        state = fold(state, event)
        found += lines(event, state)
    assert found[0] == "third: few-shot meta_sgd on conv4, omniglot, 5-way 1-shot, 60 steps"
    assert [line for line in found if "validation" in line] == [
        "step 30: validation 62.0% +- 2.1%, the best",
        "step 40: validation 87.1% +- 2.1%, the best",
        "step 50: validation 88.4% +- 2.1%, the best",
        "step 60: validation 87.9% +- 2.1%, best 88.4% at 50",
    ]
    assert found[-4:] == [
        "learned: test accuracy 90.1%, test loss 0.5000, 9.00k parameters",
        "start: test accuracy 40.2%, test loss 0.5000, 9.00k parameters",
        "learned +49.9 points against its start",
        "third: finished after 1m 07s",
    ]
    assert all(line.isascii() for line in found)
    assert lines({"kind": "begin", "resumed": True}, state)[0].startswith("third: resumed meta_sgd on conv4, ")
    assert lines({"kind": "validation", "step": 3}, state) == [], "one that the state does not have"


def test_the_table_of_runs_and_a_run_without_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "third"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events()))
    (folder / "result.json").write_text(json.dumps(RESULT))
    run = summarise(folder)
    assert (run.kind, run.status, run.task, run.step, run.steps) == ("fewshot", "finished", "5-way 1-shot", 60, 60)
    assert text(table((run,), paper(100, None))).splitlines()[2] == (
        "third  ✓ finished  step 60/60     90.1%   1m 07s  5-way 1-shot omniglot meta_sgd conv4"
    )
    assert summarise(folder).test_score == 0.901
    stream = io.StringIO()
    with PlainView(folder, stream):
        pass
    assert stream.getvalue().splitlines()[-1] == "third: finished after 1m 07s"
    (folder / "recipe.json").write_text(json.dumps({**RECIPE, "recipe": {"evaluation": 3}}))
    assert summarise(folder).task == "?-way ?-shot"
