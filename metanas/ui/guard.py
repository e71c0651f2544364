"""A terminal that a view draws on is given back, also by a view that is killed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from typing import IO


@contextlib.contextmanager
def restored_after_a_kill(script: str, terminal: IO[str] | int | None, arguments: Sequence[str] = ()) -> Iterator[None]:
    """A process killed with SIGKILL cannot restore its terminal: a small shell waits for its end and does.

    The shell reads a pipe that ends with this process. It is ended first where this process lives on.

    Args:
        script: for /bin/sh; it reads its standard input to the end, then writes to `terminal` what restores it.
        terminal: what the view draws on; None: nothing that could be restored.
        arguments: of the script, $0 and so on.
    """
    if terminal is None:
        yield
        return
    try:
        guard = subprocess.Popen(
            ["/bin/sh", "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=terminal,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not meant for it
        )
    except (OSError, ValueError):  # no shell, or not a file: nothing to restore, or nothing to do it with
        yield
        return
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()
