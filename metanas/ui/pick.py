"""Which view suits a stream: the live one on a terminal that can draw, plain lines everywhere else."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from metanas.ui.plain import PlainView
from metanas.ui.state import RunState

if TYPE_CHECKING:
    from metanas.ui.live import LiveView


def can_draw(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the stream is a terminal on which letters can be placed.

    >>> import io
    >>> can_draw(io.StringIO(), {"TERM": "xterm"})
    False
    """
    try:
        terminal = stream.isatty()
    except ValueError:  # closed
        return False
    return terminal and environment.get("TERM", "dumb") not in ("dumb", "unknown", "")


def view_for(folder: str | Path, stream: TextIO | None = None) -> LiveView | PlainView:
    """A context manager that shows the run in `folder` while its body runs; `stream`: standard output by default.

    NO_COLOR is obeyed, and a stream that cannot carry the glyphs (cp1252) gets ASCII.

        with view_for(run.path):
            for step in search: ...
    """
    stream = sys.stdout if stream is None else stream
    if not can_draw(stream):
        return PlainView(folder, stream)
    from rich.console import Console

    from metanas.ui.live import LiveView

    return LiveView(folder, Console(file=stream))


def watch(folder: str | Path, stream: TextIO | None = None) -> RunState:
    """Shows a run until it is over, or until this process is told to stop (Ctrl-C, SIGTERM, SIGHUP); returns its state.

    Raises KeyboardInterrupt, and SystemExit with 128 + the signal's number; the terminal is restored before.
    """
    with _signals_raise(), view_for(folder, stream) as view:
        return view.wait()


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that the view restores the terminal."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
