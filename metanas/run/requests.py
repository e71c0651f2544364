"""Requests to a running search: files in its folder, looked for once a step.

    ask(folder, "stop")    ->  runs/first/request.stop    the run writes a checkpoint and ends; as `metanas stop first`
    ask(folder, "pause")   ->  runs/first/request.pause   the run waits for as long as the file is there

A file needs no socket, works across containers and network folders, and cannot hurt the search.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from metanas.errors import RunError, nearest
from metanas.run.atomic import explained

REQUESTS = ("stop", "pause")


def ask(folder: Path, request: str) -> None:
    """Leaves a request ("stop" or "pause") for whoever runs the search in `folder`.

    >>> ask(Path("/nonexistent"), "stpo")
    Traceback (most recent call last):
    ...
    metanas.errors.RunError: unknown request 'stpo'; did you mean "stop"?
    """
    path = _file(folder, request)
    with explained(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))


def withdraw(folder: Path, request: str) -> None:
    """Takes a request back; nothing happens if there is none.  Withdrawing "pause" lets the search go on."""
    path = _file(folder, request)
    with explained(path), contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def pending(folder: Path) -> frozenset[str]:
    """The requests that wait in `folder`; a few microseconds, so that a loop may ask at every step.

    >>> pending(Path("/nonexistent"))
    frozenset()
    """
    return frozenset(request for request in REQUESTS if os.path.exists(_file(folder, request)))


def _file(folder: Path, request: str) -> Path:
    if request not in REQUESTS:
        raise RunError(f"unknown request {request!r}{nearest(request, REQUESTS)}")
    return folder / f"request.{request}"
