"""Every key of every screen, pressed; and that the bindings, the help and these tests tell of the same keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.binding import BindingsMap

from metanas.run import Lock, pending
from metanas.ui.app import MetanasApp
from metanas.ui.app.boxes import Confirm, Help
from metanas.ui.app.compare_view import CompareView
from metanas.ui.app.keys import AREAS, COMMON, CONFIRM, HELP, MOVING, RUN, RUNS, Key, help_rows
from metanas.ui.app.run import RunView
from metanas.ui.app.runs import RunsView

# a key, and a part of the screen that it leads to (or what must be so then); in this order
Steps = list[tuple[str, "str | Callable[[Any], bool]"]]


def title(wanted: str) -> Callable[[Any], bool]:
    return lambda user: user.lines[0].strip().startswith(wanted)


def foot(wanted: str) -> Callable[[Any], bool]:
    return lambda user: user.lines[-1].strip() == wanted


def on(kind: type) -> Callable[[Any], bool]:
    return lambda user: type(user.app.screen) is kind


def chosen(name: str) -> Callable[[Any], bool]:
    return lambda user: any(
        line.split()[:2] == ["▸", name] or line.split()[:3] == ["▸", "◆", name] for line in user.lines
    )


def tab(name: str) -> Callable[[Any], bool]:
    return lambda user: f"[{name}]" in user.lines[1]


def event(place: int) -> Callable[[Any], bool]:
    return lambda user: user.lines[-2].split()[1].startswith(f"{place}/") or user.lines[-2].split()[1] == f"{place}/183"


def left(cells: int) -> Callable[[Any], bool]:
    return lambda user: user.app.screen.page.scroll_offset.x == cells


def top(row: int) -> Callable[[Any], bool]:
    return lambda user: user.app.screen.page.scroll_offset.y == row


RUNS_STEPS: Steps = [
    ("j", chosen("second")),
    ("down", chosen("first")),
    ("k", chosen("second")),
    ("up", chosen("third")),
    ("G", chosen("first")),
    ("g", chosen("third")),
    ("end", chosen("first")),
    ("home", chosen("third")),
    ("ctrl+d", chosen("first")),
    ("ctrl+u", chosen("third")),
    ("pagedown", chosen("first")),
    ("pageup", chosen("third")),
    ("space", chosen("first")),
    ("l", left(8)),
    ("right", left(16)),
    ("h", left(8)),
    ("left", left(0)),
    ("s", "order: name"),
    ("s", "order: score"),
    ("s", "order: time"),
    ("s", "order: newest"),
    ("p", lambda user: "▸ ◆ first" in user.text and "1 pinned" in user.lines[0]),
    ("p", lambda user: "◆" not in user.text),
    ("c", foot("! 2 to 8 runs can be compared, these are 1; p pins one")),
    ("p", "1 pinned"),
    ("g", chosen("third")),
    ("c", on(CompareView)),
    ("q", on(RunsView)),
    ("slash", lambda user: user.app.focused is user.app.screen.words),
    ("x", "no run matches the filter; esc clears it"),
    ("escape", lambda user: user.app.focused is None and "▸   third" in user.text),
    ("t", foot("light")),
    ("t", foot("high contrast")),
    ("t", foot("plain")),
    ("t", foot("dark")),
    ("e", "wrote metanas-runs.svg and metanas-runs.txt"),
    ("question_mark", on(Help)),
    ("escape", on(RunsView)),
    ("enter", on(RunView)),
]
RUN_STEPS: Steps = [
    ("j", top(1)),
    ("down", top(2)),
    ("k", top(1)),
    ("up", top(0)),
    ("ctrl+d", top(5)),
    ("ctrl+u", top(0)),
    ("pagedown", top(10)),
    ("pageup", top(0)),
    ("space", top(10)),
    ("G", lambda user: "not finite and were skipped" in user.lines[-3]),
    ("g", top(0)),
    ("tab", tab("2 curves")),
    ("l", tab("3 structure")),
    ("right", tab("4 cell")),
    ("shift+tab", tab("3 structure")),
    ("h", tab("2 curves")),
    ("left", tab("1 overview")),
    ("3", tab("3 structure")),
    ("4", tab("4 cell")),
    ("5", tab("5 timeline")),
    ("6", tab("6 health")),
    ("7", tab("7 networks")),
    ("8", tab("8 leaderboard")),
    ("9", tab("9 pareto")),
    ("l", tab("hypergradient")),
    ("l", tab("resources")),
    ("l", tab("log")),
    ("l", tab("1 overview")),
    ("1", tab("1 overview")),
    ("2", tab("2 curves")),
    ("left_square_bracket", event(182)),
    ("left_curly_bracket", event(172)),
    ("right_square_bracket", event(173)),
    ("right_curly_bracket", lambda user: user.lines[-2].endswith("live")),
    ("home", event(0)),
    ("right_curly_bracket", event(10)),
    ("end", lambda user: user.lines[-2].endswith("live") and event(183)(user)),
    ("L", lambda user: foot("curves on a logarithmic scale")(user) and "── log, epochs 1 to 10 ──" in user.lines[2]),
    ("L", foot("curves on a linear scale")),
    ("t", foot("light")),
    ("e", "wrote metanas-second-curves.svg and metanas-second-curves.txt"),
    ("question_mark", on(Help)),
    ("q", on(RunView)),
    ("P", "pause asked, P takes it back"),
    ("P", lambda user: "second goes on" in user.lines[-1]),
    ("S", "Stop second?"),
    ("n", on(RunView)),
    ("S", on(Confirm)),
    ("escape", on(RunView)),
    ("S", on(Confirm)),
    ("q", on(RunView)),
    ("S", on(Confirm)),
    ("enter", lambda user: on(RunView)(user) and not pending(user.app.screen.folder)),
    ("S", on(Confirm)),
    ("y", lambda user: "stop asked" in user.lines[0]),
    ("q", on(RunsView)),
    ("enter", on(RunView)),
    ("escape", on(RunsView)),
]
HELP_STEPS: Steps = [
    ("question_mark", on(Help)),
    ("j", top(1)),
    ("down", top(2)),
    ("k", top(1)),
    ("up", top(0)),
    ("ctrl+d", top(12)),
    ("ctrl+u", top(0)),
    ("pagedown", top(23)),
    ("pageup", top(0)),
    ("space", top(23)),
    ("G", "go to a place of the replay"),
    ("g", top(0)),
    ("question_mark", on(RunsView)),
    ("question_mark", on(Help)),
    ("q", on(RunsView)),
    ("question_mark", on(Help)),
    ("escape", on(RunsView)),
    ("question_mark", on(Help)),
    ("enter", on(RunsView)),
]
CONFIRM_KEYS = {"y", "n", "q", "escape", "enter"}


async def follow(user: Any, steps: Steps) -> None:
    for key, wanted in steps:
        await user.press(key)
        try:
            await user.until(wanted if isinstance(wanted, str) else lambda wanted=wanted: wanted(user))
        except AssertionError as error:
            raise AssertionError(f"after {key}: {error}") from None


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports go to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
def test_the_keys_of_the_list(use: Callable[..., None], three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await user.until("third")
        await follow(user, RUNS_STEPS)

    use(play, three_runs, size=(60, 24))


@pytest.mark.usefixtures("here")
def test_the_keys_of_a_run(use: Callable[..., None], three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await user.loaded()
        await follow(user, RUN_STEPS)

    with Lock.acquire(three_runs / "second"):
        use(play, three_runs, three_runs / "second", size=(80, 15))
        assert pending(three_runs / "second") == {"stop"}


def test_the_keys_of_the_help(use: Callable[..., None], three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await follow(user, HELP_STEPS)

    use(play, three_runs)


def test_q_and_escape_leave_from_the_list(use: Callable[..., None], three_runs: Path) -> None:
    for key in ("q", "escape", "ctrl+c", "ctrl+q"):

        async def play(user: Any, key: str = key) -> None:
            await user.press(key)
            await user.until(lambda: user.app._exit)

        use(play, three_runs)


def names(*tables: tuple[Key, ...]) -> set[str]:
    return {name for table in tables for key in table for name in key.keys.split(",")}


def bound(kind: type) -> set[str]:
    """The keys that a screen really has, by textual."""
    return set(BindingsMap(kind.BINDINGS).key_to_bindings) | {
        key
        for base in kind.__mro__[1:]
        for key in BindingsMap(vars(base).get("BINDINGS", ())).key_to_bindings
        if kind._inherit_bindings and base.__module__.startswith("metanas")
    }


def test_the_tables_are_what_is_bound_tested_and_helped() -> None:
    pressed = {key for key, _ in RUNS_STEPS}
    assert pressed - {"x"} == names(MOVING, COMMON, RUNS) - {"escape"} | {"escape"}
    assert {key for key, _ in RUN_STEPS} == names(MOVING, COMMON, RUN) | CONFIRM_KEYS
    assert {key for key, _ in HELP_STEPS} == names(MOVING, HELP)
    assert names(CONFIRM) == CONFIRM_KEYS
    for kind, tables in (
        (RunsView, (MOVING, COMMON, RUNS)),
        (RunView, (MOVING, COMMON, RUN)),
        (CompareView, (MOVING, COMMON)),
        (Help, (MOVING, HELP)),
        (Confirm, (CONFIRM,)),
    ):
        assert set(kind()._bindings.key_to_bindings if kind is Help else bound(kind)) == names(*tables), kind


def test_the_help_tells_of_every_key() -> None:
    told = {row[0] for row in help_rows()}
    for _, keys in AREAS:
        for key in keys:
            assert key.shown in told or key.action.startswith("tab("), key
    assert "1 .. 9" in told
    spelled = {"question_mark": "?", "slash": "/", "pagedown": "pgdn", "pageup": "pgup", "escape": "esc"}
    brackets = {"left_square_bracket": "[", "right_square_bracket": "]"}
    spelled |= {**brackets, "left_curly_bracket": "{", "right_curly_bracket": "}"}
    for _, keys in AREAS:
        for key in keys:
            if "esc" in key.shown or key.shown != "q esc":
                wanted = [spelled.get(name, name).replace("+", "-") for name in key.keys.split(",")]
                assert key.shown.split() in (wanted, wanted[::-1]), key


def test_a_run_that_is_over_hears_nothing(use: Callable[..., None], three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await user.until("finished")
        for key, verb in (("P", "pause"), ("S", "stop")):
            await user.press(key)
            await user.until(f"! first is not running (finished): nothing to {verb}")

    use(play, three_runs, three_runs / "first")
    assert not pending(three_runs / "first")


def test_no_class_of_the_application_has_a_key_beside_the_tables() -> None:
    app = asyncio.run(_made())
    assert set(app._bindings.key_to_bindings) == {"ctrl+c", "ctrl+q"}


async def _made() -> MetanasApp:
    return MetanasApp(Path("/nonexistent"))
