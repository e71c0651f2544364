"""How the application begins and ends: whatever happens to it, the terminal is as it was before."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from metanas.ui.app.application import MetanasApp

# leaves the other screen, shows the cursor, ends the reports of mouse, focus, size and paste, and the keyboard protocol
RESTORE = r"""cat > /dev/null
printf '\033[?1049l\033[?25h\033[?1000l\033[?1003l\033[?1015l\033[?1006l\033[?1016l'
printf '\033[?1004l\033[?2004l\033[?2048l\033[<u'
stty "$0" <&1"""


def start(root: Path, run: Path | None = None, *, ascii_only: bool = False) -> None:
    """Runs the application until it is left; the list of `root`, and on top of it `run` where one is given."""
    with restored_after_a_kill():
        MetanasApp(root, run, ascii_only=ascii_only).run()


@contextlib.contextmanager
def restored_after_a_kill() -> Iterator[None]:
    """A process that is killed cannot restore its terminal: a small shell waits for its end and does.

    The shell reads a pipe that ends with this process. It is ended first where this process lives on.
    """
    try:
        modes = subprocess.run(["stty", "-g"], stdin=sys.__stdin__, capture_output=True, text=True, check=True).stdout
        guard = subprocess.Popen(
            ["/bin/sh", "-c", RESTORE, modes.strip()],
            stdin=subprocess.PIPE,
            stdout=sys.__stderr__,  # where textual draws
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not meant for it
        )
    except (OSError, ValueError, subprocess.CalledProcessError):  # no shell or no terminal: nothing to do it with
        yield
        return
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()
