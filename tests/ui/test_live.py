"""The live view on a terminal of its own: it draws, ends with the run, and gives the terminal back whatever happens."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from metanas.ui import live
from metanas.ui.live import LiveView
from metanas.ui.pick import can_draw, view_for, watch
from metanas.ui.plain import PlainView

MakeRun = Callable[..., Path]
ENTER, LEAVE, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
WATCH = "import sys; from metanas.ui import watch; watch(sys.argv[1])"


def terminal_console(width: int = 80, height: int = 24) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="truecolor", width=width, height=height)
    return console, stream


@pytest.mark.parametrize(("width", "height", "shown"), [(80, 24, "✓ finished"), (20, 5, "too small")])
def test_it_draws_and_gives_the_screen_back(make_run: MakeRun, width: int, height: int, shown: str) -> None:
    console, stream = terminal_console(width, height)
    with LiveView(make_run(), console) as view:
        assert view.wait().status == "finished"
    assert shown in stream.getvalue()
    assert stream.getvalue().index(ENTER) < stream.getvalue().index(shown) < stream.getvalue().index(LEAVE)
    assert stream.getvalue().rindex(SHOW_CURSOR) > stream.getvalue().index(shown)


def test_an_error_in_the_view_is_one_line_and_never_reaches_the_body(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("a panel [/b] broke\x1b[31m")

    monkeypatch.setattr(live, "Sheet", fail)
    console, stream = terminal_console()
    with LiveView(make_run(), console) as view:
        view.wait()
        reached = True
    assert reached
    after = stream.getvalue().rpartition(LEAVE)[2]
    assert "the view stopped, the run goes on: RuntimeError: a panel [/b] broke␛[31m\n" in after


def test_an_error_in_the_body_goes_through_and_the_screen_is_given_back(make_run: MakeRun) -> None:
    console, stream = terminal_console()
    with pytest.raises(ZeroDivisionError), LiveView(make_run(), console) as view:
        view.wait()
        raise ZeroDivisionError
    assert LEAVE in stream.getvalue()


def test_a_terminal_that_takes_nothing_does_not_hold_up_the_search(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = threading.Event()
    monkeypatch.setattr(live, "PATIENCE", 0.05)
    monkeypatch.setattr(live.Live, "update", lambda *arguments, **keywords: freed.wait())
    console, _ = terminal_console()
    began = time.monotonic()
    with LiveView(make_run(), console) as view:
        pass
    assert time.monotonic() - began < 5
    freed.set()
    view._thread.join()


def test_which_view_suits_which_stream(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, term, draws in (
        (Terminal(), "xterm-256color", True),
        (Terminal(), "dumb", False),
        (io.StringIO(), "xterm", False),
    ):
        assert can_draw(stream, {"TERM": term}) is draws
    assert not can_draw(Terminal(), {})
    closed = io.StringIO()
    closed.close()
    assert not can_draw(closed, {"TERM": "xterm"})
    assert isinstance(view_for(tmp_path, io.StringIO()), PlainView)


def test_the_live_view_is_chosen_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metanas.ui.pick.can_draw", lambda stream: True)
    assert isinstance(view_for(tmp_path, io.StringIO()), LiveView)


def test_watch_returns_when_the_run_is_over(make_run: MakeRun) -> None:
    stream = io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    assert watch(make_run(), stream).status == "finished"
    assert stream.getvalue().endswith("first: finished after 53s\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def watched(make_run: MakeRun, events: list[dict[str, Any]]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that watches a run that goes on, on a terminal of its own of 80x24, once it has drawn."""
    now = time.time() + 3600  # a clock that is ahead: the run counts as alive
    folder = make_run([{**event, "at": now} for event in events[:200]])
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(
        [sys.executable, "-c", WATCH, str(folder)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    try:
        assert "derived architectures" in received(ours, "derived architectures")
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def received(terminal: int, wanted: str, seconds: float = 20.0) -> str:
    """What arrived on the terminal until the wanted text came, or it fell silent for good."""
    text, end = "", time.monotonic() + seconds
    while wanted not in text and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                text += os.read(terminal, 1 << 16).decode(errors="replace")
            except OSError:  # every other end is closed
                break
    return text


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -2)]
)
def test_a_viewer_that_is_killed_gives_the_terminal_back(
    watched: tuple[subprocess.Popen[bytes], int], number: int, status: int
) -> None:
    process, terminal = watched
    process.send_signal(number)
    text = received(terminal, LEAVE)
    assert LEAVE in text
    assert SHOW_CURSOR in text + received(terminal, SHOW_CURSOR, 2.0)
    assert process.wait(10) == status
