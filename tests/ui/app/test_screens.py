"""What the screens show, as exact text, in terminals of every size, of runs of every kind."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metanas.run import Lock, RunSummary
from metanas.ui.app import reader
from metanas.ui.app.boxes import Help
from metanas.ui.app.scrubber import Scrubber
from metanas.ui.state import RunState

MakeRun = Callable[..., Path]
Use = Callable[..., None]
LIST = """\
 metanas  3 runs in runs                                          order: newest
     run     status          epoch      test  elapsed  search
 ▸   third   ○ new               -         -        -  nasbench201 digits drnas
     second  ✗ killed        10/50         -       9s  nasbench201 digits drnas
     first   ✓ finished      50/50         -      53s  nasbench201 digits drnas"""
LIST_FOOT = " enter open   / filter   s sort   p pin   c compare   ? all keys   q quit"


@pytest.fixture
def play_once(use: Use) -> Callable[..., list[str]]:
    """Opens the application, waits for a text, presses keys with a text to wait for after each; gives the screen."""

    def play(*steps: str, root: Path, opened: Path | None = None, **more: Any) -> list[str]:
        seen: list[str] = []

        async def session(user: Any) -> None:
            await user.until(steps[0])
            for key, wanted in zip(steps[1::2], steps[2::2], strict=True):
                await user.press(key)
                await user.until(wanted)
            if opened is not None:
                await user.loaded()
            seen.extend(user.lines)

        use(session, root, opened, **more)
        return seen

    return play


def test_the_list(play_once: Any, three_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(three_runs.parent)
    lines = play_once("third", root=Path("runs"))
    assert "\n".join(lines[:5]) == LIST
    assert lines[5:23] == [""] * 18
    assert lines[23] == LIST_FOOT


def test_the_list_in_letters_of_ascii(play_once: Any, three_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(three_runs.parent)
    lines = play_once("third", "p", "1 pinned", root=Path("runs"), ascii_only=True)
    assert lines[0] == " metanas  3 runs in runs                                1 pinned  order: newest"
    assert lines[2] == " > # third   o new               -         -        -  nasbench201 digits drnas"
    assert all(line.isascii() for line in lines)
    first = three_runs / "first"
    lines = play_once("= finished", root=three_runs, opened=first, ascii_only=True)
    assert lines[2].startswith(" first  nasbench201 - digits - drnas")
    assert all(line.isascii() for line in lines)


def test_an_empty_folder_and_none(play_once: Any, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        lines = play_once("no runs yet", root=root)
        assert lines[2].strip() == "no runs yet; metanas search makes one"


def test_the_filter_as_it_is_typed(use: Use, three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await user.until("third")
        await user.press("slash")
        await user.until(lambda: user.app.focused is not None)
        await user.press(*"fin")
        await user.until("filter: fin")
        assert [line.split()[:2] for line in user.lines[2:4]] == [["▸", "first"], []]
        assert user.lines[0].startswith(" metanas  1 of 3 runs  filter: fin  ")
        assert user.lines[-2].strip() == "fin", "the line in which it is typed"
        await user.press("enter")
        await user.until(lambda: user.app.focused is None)
        await user.press("enter")
        await user.until("[1 overview]")
        await user.press("escape")
        await user.until("filter: fin")
        await user.press("escape")
        await user.until("third")

    use(play, three_runs)


def test_the_orders(use: Use, three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await user.until("third")
        for order, wanted in (
            ("name", "first second third"),
            ("score", "first second third"),
            ("time", "first second third"),
        ):
            await user.press("s")
            await user.until(f"order: {order}")
            assert [line.replace("▸", "").split()[0] for line in user.lines[2:5]] == wanted.split()

    use(play, three_runs)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_run(play_once: Any, three_runs: Path, width: int) -> None:
    first = three_runs / "first"
    lines = play_once("finished", "3", "[3 structure]", root=three_runs, opened=first, size=(width, 24))
    assert lines[0] == " first  ✓ finished"
    assert lines[2].startswith(" ── structure ──") and lines[2].endswith(" gap 0.0262 ──")
    assert len(lines[2]) == width - 1, "the width of the page, but for the bar at its right"
    assert [line.split()[0] for line in lines[4:10]] == ["1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2"]
    knob = lines[22].index("●")
    assert lines[22][:28] == " event 1068/1068      53s  ━" and lines[22][knob:] == "●  live"
    assert len(lines[22]) == width - 5
    assert lines[23] == " tab panels   [ ] replay   P pause   S stop   ? all keys   q back"


def test_the_tabs_where_they_have_no_room(use: Use, three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await user.until("[1 overview]")
        assert user.lines[1] == " [1 overview] 2 curves  3 structure  4 cell  5 timeline  6 health  7 networks ▸"
        await user.press("h")
        await user.until("[log]")
        assert user.lines[1] == " ◂ 7 networks  8 leaderboard  9 pareto  hypergradient  resources [log]"
        await user.press("9")
        await user.until("[9 pareto]")
        assert user.lines[1] == " ◂ 4 cell  5 timeline  6 health  7 networks  8 leaderboard [9 pareto]▸"

    use(play, three_runs, three_runs / "first")


def test_a_past_event(play_once: Any, three_runs: Path) -> None:
    def at_home() -> list[str]:
        return play_once("event 1068/1068", "home", "event    0/1068", root=three_runs, opened=three_runs / "first")

    lines = at_home()
    assert lines[2].startswith(" first  nasbench201 · digits · drnas") and lines[2].endswith("○ waiting")
    assert lines[3] == " search  ────────────────────────────────────   0/50 epochs  elapsed 0s  left -"
    assert lines[22][:28] == " event    0/1068       0s  ●" and lines[22].endswith("  replay")


def test_of_a_tuning(play_once: Any, make_tuning: MakeRun) -> None:
    folder = make_tuning()
    lines = play_once("finished", "3", "[3 learned]", root=folder.parent, opened=folder, size=(100, 24))
    assert lines[1] == "  1 overview  2 curves [3 learned] 4 trials  5 networks  6 hypergradient  7 resources  8 log"
    assert "decay, mean" in "\n".join(lines)


def test_two_runs_side_by_side(play_once: Any, three_runs: Path) -> None:
    lines = play_once(
        "third", "j", "▸   second", "p", "1 pinned", "j", "▸   first", "c", "facts", root=three_runs, size=(100, 40)
    )
    assert lines[0] == " compare  second, first"
    assert lines[2] == "                 a second                                  b first"
    assert lines[3] == " status          killed                                  * finished"
    assert lines[4] == " space           nasbench201                               nasbench201"
    assert any(line.startswith(" ── derived architectures ") and "choices differ" in line for line in lines)


def test_one_step(play_once: Any, make_run: MakeRun, events: list[dict[str, Any]]) -> None:
    folder = make_run(events[:3])
    lines = play_once("killed", "2", "[2 curves]", root=folder.parent, opened=folder)
    assert lines[2].endswith(" 1 step ──")
    assert lines[22].startswith(" event 3/3")


def test_nan(play_once: Any, make_run: MakeRun, events: list[dict[str, Any]]) -> None:
    broken = [{**event, "inner_loss": None, "inner_loss_is": "nan", "weights": {}} for event in events[:60]]
    folder = make_run(broken)
    lines = play_once("killed", root=folder.parent, opened=folder)
    assert "inner nan" in "\n".join(lines)


HOSTILE = "\x1b[2J\x1b]0;x\x07\u202e[/b][bold]"


def test_hostile_names_are_shown_and_not_obeyed(
    play_once: Any, make_run: MakeRun, events: list[dict[str, Any]]
) -> None:
    folder = make_run([*events[:25], {"kind": "log", "level": "error", "message": HOSTILE}])
    for name, path in (("recipe.json", ("data", "name")), ("space.json", ("name",))):
        document = json.loads((folder / name).read_text())
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = HOSTILE
        (folder / name).write_text(json.dumps(document))
    shown = "␛[2J␛]0;x␇<U+202E>[/b][bold]"
    screen = "\n".join(play_once("first", root=folder.parent, size=(200, 24)))
    assert shown in screen and "\x1b" not in screen and "\u202e" not in screen
    for key, tab in (("1", "1 overview"), ("h", "log")):
        lines = play_once("killed", key, f"[{tab}]", root=folder.parent, opened=folder, size=(200, 60))
        screen = "\n".join(lines)
        assert shown in screen and "\x1b" not in screen and "\u202e" not in screen


@pytest.mark.parametrize(("width", "height"), [(20, 5), (39, 9), (40, 8), (1, 1)])
def test_too_small(play_once: Any, three_runs: Path, width: int, height: int) -> None:
    for opened in (None, three_runs / "first"):
        lines = play_once("too small"[:width], root=three_runs, opened=opened, size=(width, height))
        assert lines[0] == "too small"[:width]
        if height > 1:
            assert lines[1] == f"{width}x{height}, needs 40x9"


def test_growing_out_of_it(use: Use, three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await user.until("too small")
        await user.pilot.resize_terminal(40, 9)
        await user.until("▸   third")
        await user.press("question_mark")
        await user.until(lambda: type(user.app.screen) is Help)
        await user.pilot.resize_terminal(20, 5)
        await user.press("escape")
        await user.until("too small")

    use(play, three_runs, size=(20, 5))


def test_no_color_is_obeyed(use: Use, three_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(user: Any) -> None:
        await user.until("finished")
        await user.press("3", "t")
        await user.until("plain (NO_COLOR is set)")
        strips = user.app.screen._compositor.render_strips()
        styles = [segment.style for strip in strips for segment in strip if segment.style]
        colours = {colour.name for style in styles for colour in (style.color, style.bgcolor) if colour}
        assert colours == {"default"} and len(styles) > 20

    monkeypatch.setenv("NO_COLOR", "1")
    use(play, three_runs, three_runs / "first")


def test_the_mouse(use: Use, three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await user.until("third")
        await user.pilot.click(offset=(8, 4))
        await user.until("▸   first")
        await user.pilot.click(offset=(8, 4))
        await user.until("[1 overview]")
        await user.loaded()
        await user.pilot.click(offset=(17, 1))
        await user.until("[2 curves]")
        await user.pilot.click(offset=(28, 22))
        await user.until("event   26/1068")
        await user.pilot.mouse_down(offset=(28, 22))
        await user.pilot.hover(offset=(78, 22))
        await user.until("●  live")

    use(play, three_runs)


def test_a_folder_that_vanishes(use: Use, three_runs: Path) -> None:
    async def play(user: Any) -> None:
        await user.loaded()
        shutil.rmtree(three_runs / "first")
        await user.until("the run folder is gone; this is what it told last")
        await user.press("left_square_bracket")
        await user.until("event 1067/1068")
        await user.press("q")
        await user.until("2 runs in")

    use(play, three_runs, three_runs / "first")


def test_a_run_that_goes_on(use: Use, three_runs: Path, events: list[dict[str, Any]]) -> None:
    log = three_runs / "second" / "events.jsonl"

    async def play(user: Any) -> None:
        await user.loaded()
        await user.press("left_square_bracket")
        await user.until("event 182/183")
        with open(log, "a") as file:
            file.write("".join(json.dumps(event) + "\n" for event in events[183:201]))
        await user.until("event 182/201")
        await user.press("end")
        await user.until("epochs 1 to 11")

    use(play, three_runs, three_runs / "second")


def test_no_key_waits_for_a_slow_disk(use: Use, three_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading hangs until the test is over, on a thread; help, tabs and the way out answer as ever."""
    hang = threading.Event()

    def slow(root: Path) -> tuple[RunSummary, ...]:
        hang.wait(30)
        return ()

    monkeypatch.setattr(reader, "list_runs", slow)
    monkeypatch.setattr(reader.Follower, "advance", lambda self: hang.wait(30))

    async def play(user: Any) -> None:
        await user.until("reading the run")
        for key, wanted in (
            ("2", "[2 curves]"),
            ("question_mark", "everywhere"),
            ("q", "[2 curves]"),
            ("q", "reading the runs"),
        ):
            began = time.monotonic()
            await user.press(key)
            await user.until(wanted)
            assert time.monotonic() - began < 2.0
        assert not hang.is_set()

    try:
        use(play, three_runs, three_runs / "first")
    finally:
        hang.set()


def test_an_export_writes_over_nothing(
    use: Use, three_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metanas-first-log.svg").write_text("mine")

    async def play(user: Any) -> None:
        await user.loaded()
        await user.press("h", "e")
        await user.until("wrote metanas-first-log-2.svg and metanas-first-log-2.txt")

    use(play, three_runs, three_runs / "first")
    assert (tmp_path / "metanas-first-log.svg").read_text() == "mine"
    drawn = (tmp_path / "metanas-first-log-2.svg").read_text()
    assert drawn.startswith("<svg ") and "url(http" not in drawn, "a picture asks for nothing from elsewhere"
    text = (tmp_path / "metanas-first-log-2.txt").read_text().splitlines()
    assert text[0] == "first  ✓ finished"
    assert text[2].startswith("── log ──")
    assert text[-2] == "     7s  warning  2 updates at step 121 were not finite and were skipped"


def test_a_file_that_cannot_be_written_is_said(
    use: Use, three_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    async def play(user: Any) -> None:
        await user.loaded()
        await user.press("e")
        await user.until("! cannot write metanas-first-overview.svg: No such file or directory")

    use(play, three_runs, three_runs / "first")


def test_a_place_of_the_scrubber() -> None:
    scrubber, state = Scrubber(None, 100), RunState("first")
    left, cells = scrubber._bar(80, state)
    assert [scrubber.pressed(column, 80, state).place for column in (0, left, left + cells - 2, left + cells - 1)] == [
        None,
        0,
        98,
        None,
    ]


def test_the_application_leaves_no_trace(use: Use, three_runs: Path) -> None:
    def trace() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in (three_runs, *three_runs.rglob("*"))}

    async def play(user: Any) -> None:
        await user.loaded()
        await user.press("3", "home", "end", "q", "p")
        await asyncio.sleep(0.3)

    before = trace()
    use(play, three_runs, three_runs / "first")
    assert trace() == before


@pytest.mark.parametrize(
    ("file", "way"),
    [
        (None, "metanas resume second"),
        ("my net.py", "metanas resume second --module 'my net.py'"),
        ("", "metanas.resume('second', module=...)"),
    ],
)
def test_the_question_before_a_stop_says_what_goes_on(
    use: Use, three_runs: Path, monkeypatch: pytest.MonkeyPatch, file: str | None, way: str
) -> None:
    """As the run itself says it once it has stopped: with the module that has to be handed over again."""
    monkeypatch.chdir(three_runs.parent)
    path = three_runs / "second" / "recipe.json"
    document = json.loads(path.read_text())
    if file is not None:
        document["handed"], document["recipe"]["space"] = {"module": "Net"}, {"name": file or None}
    path.write_text(json.dumps(document))

    async def play(user: Any) -> None:
        await user.loaded()
        await user.press("S")
        await user.until("goes on with")
        assert [line.strip() for line in user.lines if "resume" in line] == [way]

    with Lock.acquire(three_runs / "second"):
        use(play, Path("runs"), Path("runs/second"))


def test_a_long_way_to_go_on_is_folded(use: Use, three_runs: Path) -> None:
    deep = three_runs / ("d" * 60)
    deep.mkdir()
    shutil.move(three_runs / "second", deep / "second")

    async def play(user: Any) -> None:
        await user.loaded()
        await user.press("S")
        await user.until("goes on with")
        told = "".join(line.strip() for line in user.lines)
        assert f"metanas.resume(Path('{deep}/second'))" in told

    with Lock.acquire(deep / "second"):
        use(play, deep, deep / "second")
