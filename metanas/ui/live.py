"""The live view: a thread that reads the run folder and draws it on the whole terminal while a search runs.

It knows the folder and nothing of the search, so nothing that goes wrong here can reach it: an error ends the view with
one line, a terminal that blocks is left alone. Drawing takes at most a fortieth of one core: the slower a frame, the
rarer the frames.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import final

from rich.console import Console
from rich.live import Live

from metanas.ui.follow import Follower
from metanas.ui.guard import restored_after_a_kill
from metanas.ui.screen import Sheet
from metanas.ui.state import UNDER_WAY, RunState, status_at
from metanas.ui.text import inert

PERIOD = 0.25  # seconds between two looks at the folder
IDLE = 1.0  # seconds after which the ages on the screen are drawn anew although nothing happened
SHARE = 40  # a frame may take one part in this many of the time
SLOWEST = 2.0  # seconds between two frames, however slow they are
PATIENCE = 2.0  # seconds that the end of the search waits for a terminal that does not take the last frame
RESTORE = r"cat > /dev/null; printf '\033[?1049l\033[?25h'"  # leave the other screen, show the cursor


@final
class LiveView:
    """Shows a run folder on `console` while the body of `with` runs; afterwards the terminal is as it was before."""

    def __init__(self, folder: str | Path, console: Console) -> None:
        self._follower = Follower(folder)
        self._console = console
        self._done = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metanas live view", daemon=True)

    def wait(self) -> RunState:
        """Waits until the run is over, or the view is; returns the state that was reached."""
        self._over.wait()
        return self._follower.state

    def close(self) -> None:
        """Ends the view and restores the terminal; does nothing the second time."""
        atexit.unregister(self.close)
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def __enter__(self) -> LiveView:
        atexit.register(self.close)  # a program that ends in the body, from another thread, restores it too
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            with restored_after_a_kill(RESTORE, _descriptor(self._console)), self._live() as live:
                self._draw_until_done(live)
        except Exception as error:  # whatever it is: the view ends, the search goes on
            reason = inert(error).strip() or "no reason given"
            with contextlib.suppress(OSError, ValueError):
                line = f"the view stopped, the run goes on: {type(error).__name__}: {reason}"
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        finally:
            self._over.set()

    def _live(self) -> Live:
        return Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,  # the streams belong to the search
            redirect_stderr=False,
        )

    def _draw_until_done(self, live: Live) -> None:
        drawn_at, pause = -IDLE, 0.0
        while not self._done.wait(pause):
            news = self._follower.advance()
            began = time.monotonic()
            if news or began - drawn_at >= IDLE:
                sheet = Sheet(self._follower.state, now=time.time(), height=self._console.size.height)
                live.update(sheet, refresh=True)
                drawn_at = time.monotonic()
            pause = min(max(PERIOD, SHARE * (time.monotonic() - began)), SLOWEST)
            if status_at(self._follower.state, time.time()) not in UNDER_WAY:
                self._over.set()


def _descriptor(console: Console) -> int | None:
    """Of the console's file; None where it is no file, and nothing can be restored."""
    try:
        return console.file.fileno()
    except (OSError, ValueError):
        return None
