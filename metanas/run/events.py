"""The log of a run: one JSON object a line, appended by one writer, read by any number of readers at any time.

    {"kind": "step", "at": 1760000000.5, "elapsed": 12.25, "step": 40, "inner_loss": 1.5}
    {"kind": "epoch", ..., "outer_loss": null, "outer_loss_is": "nan"}

`at` is the wall clock (unix seconds) and may jump; `elapsed` is seconds of work on a monotonic clock, and goes on
where it stood when a run is resumed.  A killed writer leaves at most one line without its newline: readers drop it,
and the next writer cuts it off.  A resumed run repeats the steps since its checkpoint; `latest` keeps the last of each.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, final

from metanas.errors import RunError
from metanas.run.atomic import dump_json, explained, finite, parse_json, write_all

Event = dict[str, Any]

_BATCHED = {"step", "derivation"}  # many a second; every other kind is rare and wanted at once by whoever watches
_BATCH_SECONDS = 0.2
_STEP = b'{"kind":"step",'  # how a step begins in a log
_TAIL_BYTES = 1 << 16
_SAME = {
    "step": ("step",),
    "epoch": ("epoch",),
    "pace": ("step",),
    "derivation": ("done",),
    "value": ("step",),
    "validation": ("step",),
    "trial": ("trial",),
    "train": ("network", "epoch"),
    "network": ("network",),
}


@dataclass(frozen=True)
class EventLog:
    """What a log holds: its readable events in order, and one line for each kind of damage."""

    events: tuple[Event, ...]
    warnings: tuple[str, ...] = ()


def parse_events(data: bytes) -> EventLog:
    r"""The events in the bytes of a log; never raises.  Unknown kinds are kept: a newer version may have written them.

    >>> parse_events(b'{"kind": "log"}\n{"kind": "st')
    EventLog(events=({'kind': 'log'},), warnings=('dropped a torn last line (12 bytes)',))
    """
    *lines, torn = data.split(b"\n")
    events = [_parse_line(line) for line in lines]
    good = tuple(event for event in events if event is not None)
    warnings = []
    if len(good) < len(events):
        first = events.index(None) + 1
        warnings.append(f"skipped {len(events) - len(good)} unreadable lines, the first is line {first}")
    if torn:
        warnings.append(f"dropped a torn last line ({len(torn)} bytes)")
    return EventLog(good, tuple(warnings))


def _parse_line(line: bytes) -> Event | None:
    try:
        event = parse_json(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def read_events(path: Path) -> EventLog:
    """The events of a log file; a file that is missing or unreadable is an empty log with a warning.

    >>> read_events(Path("/nonexistent/events.jsonl")).events
    ()
    """
    try:
        return parse_events(path.read_bytes())
    except OSError as error:
        return EventLog((), (f"{path.name} cannot be read: {error.strerror}",))


def last_events(path: Path) -> tuple[Event, ...]:
    """The events of the last 64 KiB of a log, in order: enough for a summary, however long the log is."""
    try:
        with open(path, "rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            data = file.read()
    except OSError:
        return ()
    return parse_events(data if start == 0 else data.partition(b"\n")[2]).events


def latest(events: Iterable[Event]) -> list[Event]:
    """`events` with the last of each repeated step, epoch or network, at the place of the first.

    >>> latest([{"kind": "step", "step": 1, "n": 1}, {"kind": "log"}, {"kind": "step", "step": 1, "n": 2}])
    [{'kind': 'step', 'step': 1, 'n': 2}, {'kind': 'log'}]
    """
    kept: dict[object, Event] = {}
    for number, event in enumerate(events):
        fields = _SAME.get(event["kind"])
        # repr: a damaged log may hold a list where a number belongs, and a list cannot be a key
        key = number if fields is None else (event["kind"], *(repr(event.get(field)) for field in fields))
        kept[key] = event
    return list(kept.values())


@final
class EventTail:
    """Reads a log that is being written: each `read` returns the events that are new since the last one.

    It never raises: a file that is not there yet has no events.  One that was cut or replaced is read from the start
    again and `restarts` goes up by one; since readers keep the `latest`, a viewer may ignore that or begin afresh.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped = 0  # unreadable lines so far, of those that were looked at
        self.restarts = 0
        self._offset = 0  # behind the last newline that was read: a torn line is read again when it is whole
        self._inode: int | None = None

    def read(self, *, steps: int | None = None, enough: Callable[[list[Event]], bool] = bool) -> list[Event]:
        """The new events, in order; empty where there are none.

        Args:
            steps: where more steps than that are new, the others may be passed over, unread. A log is mostly steps, and
                reading the text of a hundred thousand takes a second.
            enough: whether those steps are all that is wanted, from what they hold; otherwise all are read.

        >>> EventTail(Path("/nonexistent/events.jsonl")).read()
        []
        """
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                if self._inode not in (None, status.st_ino) or status.st_size < self._offset:
                    self.restarts += 1
                    self._offset = 0
                self._inode = status.st_ino
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        if steps is not None:
            whole = _without_steps(whole, steps, enough)
        events = parse_events(whole).events
        self.skipped += whole.count(b"\n") - len(events)
        return list(events)


def _without_steps(data: bytes, steps: int, enough: Callable[[list[Event]], bool]) -> bytes:
    """The lines without the steps before the last so many, known by how `EventWriter` begins them."""
    lines = data.split(b"\n")
    places = [place for place, line in enumerate(lines) if line.startswith(_STEP)]
    if len(places) <= steps:
        return data
    newest = places[len(places) - steps :]
    read = [_parse_line(lines[place]) for place in newest]
    known = [event for event in read if event is not None]
    if len(known) < len(read) or not enough(known):
        return data
    return b"\n".join(line for place, line in enumerate(lines) if place >= newest[0] or not line.startswith(_STEP))


@final
class EventWriter:
    """Appends events to a log; the one writer of a run uses it while it holds the lock.

    Steps, and what comes as often, are gathered and written together at most every 0.2 s, other kinds at once.  What
    was written survives a kill of the process; with `flush(sync=True)` also a power failure.  Where the log ends in a
    torn line, opening cuts that line off, never a whole event, and `warning` says so. `also`, where it is set, is given
    every event that is written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, EventWriter(Path(folder, "events.jsonl")) as log:
    ...     _ = log.write("step", step=1, inner_loss=float("nan"))
    ...     log.flush() == Path(folder, "events.jsonl").stat().st_size
    ...     [event["inner_loss_is"] for event in read_events(log.path).events]
    True
    ['nan']
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.warning: str | None = None
        self.also: Callable[[Event], None] | None = None
        self._clock, self._wall_clock = clock, wall_clock
        self._batch: list[str] = []
        with explained(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            self._offset = self._cut_torn_line()
        before = [event.get("elapsed") for event in last_events(path)]
        worked = max((float(value) for value in before if isinstance(value, int | float) and value < 1e12), default=0.0)
        self._started = clock() - worked
        self._flushed = clock()

    def _cut_torn_line(self) -> int:
        size = os.fstat(self._descriptor).st_size
        end, tail = size, b""
        while end and b"\n" not in tail:
            begin = max(0, end - _TAIL_BYTES)
            tail, end = os.pread(self._descriptor, end - begin, begin), begin
        whole = end + tail.rfind(b"\n") + 1
        if whole < size:
            os.ftruncate(self._descriptor, whole)
            self.warning = f"{self.path.name}: dropped a torn last line ({size - whole} bytes)"
        return whole

    @property
    def elapsed(self) -> float:
        """Seconds of work so far, those before a resume included."""
        return self._clock() - self._started

    def write(self, kind: str, **fields: Any) -> Event:
        """Appends one event and returns it; `at` and `elapsed` are added, numbers that are not finite become null.

        Raises RunError for a value that JSON cannot hold, and as `flush` does.
        """
        head = {"kind": kind, "at": round(self._wall_clock(), 3), "elapsed": round(self.elapsed, 6)}
        event = head | finite(fields)
        self._batch.append(dump_json(event) + "\n")
        if kind not in _BATCHED or self._clock() - self._flushed >= _BATCH_SECONDS:
            self.flush()
        if self.also is not None:
            self.also(event)
        return event

    def flush(self, *, sync: bool = False) -> int:
        """Writes what was gathered; returns the length of the log in bytes, which a checkpoint records.

        Raises RunError when the disk is full (the log then ends with its last whole event, and what was gathered is
        kept for another attempt) and when the log was removed, moved or replaced.
        """
        with explained(self.path):
            # an open file outlives its folder: without this look, a run whose folder is gone would write into nothing
            if not os.path.samestat(os.stat(self.path), os.fstat(self._descriptor)):
                raise RunError(f"{self.path} was replaced while the run was writing to it; stop the other writer")
            data = "".join(self._batch).encode("ascii")
            try:
                write_all(self._descriptor, data)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._offset)
                raise
            self._offset += len(data)
            self._batch.clear()
            self._flushed = self._clock()
            if sync:
                os.fsync(self._descriptor)
        return self._offset

    def close(self) -> None:
        """Writes what was gathered and closes the file, also when that writing fails."""
        try:
            self.flush(sync=True)
        finally:
            os.close(self._descriptor)

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
