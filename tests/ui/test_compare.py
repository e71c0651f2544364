"""Runs side by side: exact text, what counts as a difference, the commands, and the list of runs by what is asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from metanas.cli.comparing import compare, runs
from metanas.errors import RunError
from metanas.run import RunSummary
from metanas.ui.compare import MOST, comparison
from metanas.ui.paper import Paper
from metanas.ui.report import matching, ordered, table
from metanas.ui.state import RunState, described, fold

BEGAN = 1_760_000_000.0
EVIL = "x[/b]\x1b[2J\u202e"


@pytest.fixture(scope="module")
def states(events: list[dict[str, Any]], documents: tuple[Any, Any], tuning_events: Any, tuning_recipe: Any) -> Any:
    recipe, space = documents
    search, asked = recipe["recipe"]["search"], recipe["recipe"]
    other = {**recipe, "recipe": {**asked, "seed": 1, "search": {**search, "epochs": 20, "controller": "darts"}}}
    short = [event for event in events if event["kind"] not in ("train", "network", "end")][: 20 * 18 + 2]
    changed = [{**e, "architecture": {**e["architecture"], "3<-2": "none"}} if "weights" in e else e for e in short]
    value = {"kind": "value", "step": 1, "budget": 4, "value": 0.5, "best": 0.5, "architecture": {EVIL: EVIL}}
    return {
        "first": reduce(fold, events, described(RunState("first"), *documents)),
        "short": reduce(fold, changed, described(RunState("short"), other, space)),
        "tuning": reduce(fold, tuning_events, described(RunState("second"), tuning_recipe, None)),
        "evil": fold(described(RunState(EVIL), {"recipe": {EVIL: EVIL}, "data": {"name": EVIL}}, None), value),
    }


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("names", ["first+short", "first+short+tuning+evil"])
def test_side_by_side(names: str, width: int, states: Any, expected: Callable[[str, str], None]) -> None:
    lines = comparison([states[name] for name in names.split("+")], Paper(width=width, now=BEGAN + 20))
    assert all(line.cell_len <= width and line.plain.isprintable() for line in lines)
    expected(f"compare-{names}-{width}", "".join(line.plain.rstrip() + "\n" for line in lines))


@pytest.mark.parametrize("width", [1, 5, 20, 33, 60])
def test_it_fits_every_width_and_ascii(width: int, states: Any) -> None:
    for count in (1, 2, MOST, MOST + 1):
        shown = comparison(list(states.values()) * 3, Paper(width=width, ascii_only=True))[: 300 * count]
        assert all(line.cell_len <= width and line.plain.isascii() and line.plain.isprintable() for line in shown)


def test_of_runs_of_different_kinds_only_what_all_have_is_compared(states: Any) -> None:
    lines = [line.plain.rstrip() for line in comparison([states["first"], states["tuning"]], Paper(width=96))]
    assert lines[1] == "the kinds differ (search, tuning): only what they have in common is shown"
    assert [line.partition("  ")[0] for line in lines[3:]] == [
        "status", "space", "data", "estimator", "seed", "search", "outer loss", "test score", "test loss",
        "parameters", "search time", f"── recipes {'─' * 64} 1 setting differs ──", "", "device",
    ]  # fmt: skip
    assert "the kinds differ" not in "".join(line.plain for line in comparison([states["first"]] * 2, Paper()))
    three = [line.plain for line in comparison([states["first"], states["short"], states["tuning"]], Paper(width=96))]
    assert [line[:24] for line in three if "loss by" in line] == ["── outer loss by epoch ─"], "that two have"


def test_a_transfer_beside_its_search_has_no_search_to_compare(states: Any, documents: tuple[Any, Any]) -> None:
    recipe, space = documents
    moved = described(RunState("moved"), {**recipe, "transfer": {"how": "frozen"}}, space)
    lines = [line.plain.rstrip() for line in comparison([states["first"], moved], Paper(width=96))]
    names = [line.partition("  ")[0] for line in lines]
    assert lines[1].startswith("the kinds differ (search, transfer)") and "controller" in names
    assert not {"search", "outer loss", "random, mean", "search time", "search.epochs"} & {*names}
    assert next(line for line in lines if "── recipes" in line).endswith(" the same in what they have in common ──")


def test_runs_without_a_choice_in_common_say_so() -> None:
    def run(name: str, choice: str) -> RunState:
        return fold(RunState(name, space=name), {"kind": "epoch", "epoch": 1, "architecture": {choice: "conv"}})

    lines = comparison([run("a", "x"), run("b", "y")], Paper(width=60))
    assert lines[-1].plain == "── derived architectures ──────────── no choice in common ──"


# The commands


APP = typer.Typer()
APP.command()(runs)
APP.command()(compare)


def call(*words: str) -> Result:
    return CliRunner().invoke(APP, words)


@pytest.fixture
def in_runs(make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("first", "second"):
        make_run(name=name)
    make_run([], name="third")
    monkeypatch.setenv("METANAS_RUNS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("in_runs")
def test_compare_prints_and_refuses_in_one_line() -> None:
    done = call("compare", "first", "third")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].split() == ["a", "first", "b", "third"]
    for words, line in (
        (("first",), "error: got 1 run to compare, allowed: 2 to 8; metanas runs lists them\n"),
        (("first", "first"), "error: first is named twice; name each run once\n"),
    ):
        failed = call("compare", *words)
        assert (failed.exit_code, failed.stdout, failed.stderr) == (1, "", line)
    assert "there is no run at" in call("compare", "first", "nope").stderr


@pytest.mark.usefixtures("in_runs")
def test_runs_are_filtered_sorted_and_counted() -> None:
    def names(*words: str) -> list[str]:
        done = call("runs", *words)
        assert done.exit_code == 0, done.stderr
        return [line.split()[0] for line in done.stdout.splitlines()[1:]]

    assert names() == ["first", "second", "third"]
    assert names("--sort", "time") == ["first", "second", "third"]
    assert names("--sort", "name", "--reverse") == ["third", "second", "first"]
    assert names("--status", "finished", "--filter", "DRNAS sec") == ["second", "1"]
    assert names("--limit", "1") == ["first", "1"], "and a line that says: 1 of 3 runs"
    assert call("runs", "--filter", "nope").stdout == "none of the 3 runs is like that\n"
    assert (
        call("runs", "--status", "finishd").stderr
        == "error: there is no status 'finishd'; did you mean \"finished\"?\n"
    )
    assert (
        call("runs", "--sort", "scores").stderr == "error: runs cannot be sorted by 'scores'; did you mean \"score\"?\n"
    )


# The list


RUNS = tuple(
    RunSummary(name, Path(name), status, created, space, "digits", controller, elapsed=elapsed, test_score=score)
    for name, status, created, space, controller, elapsed, score in (
        ("a", "finished", "2025-03", "darts", "drnas", 5.0, 0.5),
        ("b", "running on gpu7", "2025-01", "nasbench201", "darts", 50.0, None),
        ("c", "damaged: runs/c/recipe.json is missing", None, None, None, None, None),
        ("d", "finished", "2025-02", "nasbench201", "drnas", None, float("nan")),
        ("e", "killed", "2025-04", "darts", "random", 7.0, 0.75),
    )
)


def joined(found: tuple[RunSummary, ...]) -> str:
    return "".join(run.name for run in found)


@pytest.mark.parametrize(
    ("order", "names", "reversed_names"),
    [
        ("started", "bdaec", "eadbc"),
        ("name", "abcde", "edcba"),
        ("score", "eabcd", "aebcd"),
        ("time", "beacd", "aebcd"),
    ],
)
def test_runs_that_say_nothing_come_last_in_either_order(order: str, names: str, reversed_names: str) -> None:
    assert joined(ordered(RUNS, order)) == names
    assert joined(ordered(RUNS, order, reverse=True)) == reversed_names


@pytest.mark.parametrize(
    ("words", "status", "names"),
    [
        ("", None, "abcde"),
        ("darts", None, "abe"),
        ("darts DRNAS", None, "a"),
        ("gpu7", None, "b"),
        ("", "running", "b"),
        ("", "damaged", "c"),
        ("digits", "finished", "ad"),
        ("nope", None, ""),
    ],
)
def test_every_word_must_match(words: str, status: str | None, names: str) -> None:
    assert joined(matching(RUNS, words, status)) == names


def test_an_unknown_order_or_status_is_refused() -> None:
    with pytest.raises(RunError, match="there is no status 'x'; allowed: new, running, finished"):
        matching(RUNS, status="x")
    with pytest.raises(RunError, match="runs cannot be sorted by 'x'; allowed: started, name, score, time"):
        ordered(RUNS, "x")


def test_the_table_says_of_how_many_it_is() -> None:
    last = [table(RUNS[:2], Paper(), of=count)[-1].plain for count in (2, 5)]
    assert last[1] == "2 of 5 runs" and last[0].startswith("b ")
    assert [line.plain for line in table((), Paper(), of=5)] == ["none of the 5 runs is like that"]
