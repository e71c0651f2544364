"""Threads that look at files, so that no key ever waits for a disk: what they find comes to the screens as messages.

    Reader(look, tell).start()     # look() again and again, each time tell(what it found)
    aside(work, tell)              # once

They are daemons: a folder on a network that does not answer holds up neither a key nor the end. A look that fails tells
its error, and is made again.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, final

from metanas.errors import RunError
from metanas.run import EventTail, RunFolder, RunSummary, list_runs, pending, read_json
from metanas.run.events import Event
from metanas.ui.app.replay import Replay
from metanas.ui.fields import Record
from metanas.ui.follow import Follower
from metanas.ui.state import RunState, described

PERIOD = 0.25  # seconds between two looks
SHARE = 20  # a look may take one part in this many of the time
SLOWEST = 2.0  # seconds between two looks, however slow they are
CHUNK = 1000  # events that are folded between two looks while a log is loaded
MANY = 20_000  # events from which on a search for cycles among them takes longer than a jump may
HOLDING = 2.0  # seconds without an event after which a run that was asked to pause counts as holding

Found = TypeVar("Found")


@dataclass(frozen=True)
class RunTold:
    """What a look at a run told.

    `fresh` says whether anything is new; `loaded` is the share of the log that can be replayed; `held` is how long a
    pending pause has seen no event (None: no pause is pending); `resumed_by` is what would go on with the run.
    """

    state: RunState
    replay: Replay
    requests: frozenset[str] = frozenset()
    gone: bool = False
    fresh: bool = True
    loaded: float = 1.0
    held: float | None = None
    resumed_by: str = ""


@final
class Reader(Generic[Found]):
    """Looks again and again until it is stopped; `busy` says of what was found that the next look comes at once."""

    def __init__(
        self,
        look: Callable[[], Found],
        tell: Callable[[Found | RunError], object],
        *,
        busy: Callable[[Found], bool] = lambda found: False,
    ) -> None:
        self._look, self._tell, self._busy = look, tell, busy
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metanas reader", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, without waiting for a look that is under way."""
        self._done.set()

    def _run(self) -> None:
        pause = 0.0
        while not self._done.wait(pause):
            began = time.monotonic()
            pause = PERIOD
            try:
                found = self._look()
            except RunError as error:
                self._say(error)
                continue
            self._say(found)
            pause = 0.001 if self._busy(found) else min(max(PERIOD, SHARE * (time.monotonic() - began)), SLOWEST)

    def _say(self, found: Found | RunError) -> None:
        if not self._done.is_set():
            self._tell(found)


def aside(work: Callable[[], Found], tell: Callable[[Found | RunError], object]) -> None:
    """Does something slow in a thread of its own, and tells what came of it."""

    def run() -> None:
        try:
            found: Found | RunError = work()
        except RunError as error:
            found = error
        tell(found)

    threading.Thread(target=run, name="metanas aside", daemon=True).start()


def look_at_runs(root: Path) -> tuple[RunSummary, ...]:
    """All runs of a folder. Raises RunError where it cannot be read."""
    return list_runs(root)


@final
class RunLook:
    """Looks at one run: its newest state, at once; then its log for the replay, a chunk with each look."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._follower = Follower(folder)
        self._tail = EventTail(folder / "events.jsonl")
        self._replay = Replay(RunState(folder.absolute().name))
        self._described = False
        self._resumed_by = ""
        self._waiting: list[Event] = []  # read, and not yet in the replay
        self._looks = 0
        self._before: tuple[object, ...] = ()
        self._quiet_since: float | None = None  # while a pause is pending

    def __call__(self) -> RunTold:
        """What the folder tells now; never raises."""
        news = self._follower.advance()
        if not self._described:  # its recipe says whether a module has to be handed over again
            self._resumed_by = RunFolder(self._folder).resumed_by
        if self._looks:  # the first look shows the run as soon as can be
            self._load()
        self._looks += 1
        state, requests, gone = self._follower.state, pending(self._folder), not self._folder.is_dir()
        held = self._held(news, "pause" in requests)
        now = (state.status, state.writer, requests, gone, len(self._replay), held is not None and held >= HOLDING)
        fresh, self._before = news or now != self._before, now
        events = len(self._replay) + len(self._waiting)
        loaded = len(self._replay) / events if events else float(self._looks > 1)
        return RunTold(state, self._replay, requests, gone, fresh, loaded, held, self._resumed_by)

    def _load(self) -> None:
        restarts = self._tail.restarts
        news = self._tail.read()
        if self._tail.restarts != restarts:  # the log was cut or replaced
            self._waiting, self._described = [], False
            self._replay = Replay(RunState(self._replay.at(0).name))
        self._waiting += news
        if not self._described:
            self._describe()
        chunk, self._waiting = self._waiting[:CHUNK], self._waiting[CHUNK:]
        self._replay.extend(chunk)
        if chunk and not self._waiting and len(self._replay) > MANY:
            gc.freeze()  # or a jump would now and then wait while Python looks for cycles among all these events

    def _describe(self) -> None:
        """A replay begins with what was asked for; where that is known later than the first events, it begins anew."""
        recipe, space = _document(self._folder / "recipe.json"), _document(self._folder / "space.json")
        start = described(RunState(self._replay.at(0).name), recipe, space)
        if start != self._replay.at(0):
            self._waiting = [*self._replay.events, *self._waiting]
            self._replay = Replay(start)
        self._described = bool(recipe and (space or start.tuning))

    def _held(self, news: bool, asked: bool) -> float | None:
        now = time.monotonic()
        if not asked or news or self._quiet_since is None:
            self._quiet_since = now if asked else None
        return None if self._quiet_since is None else now - self._quiet_since


def busy(told: RunTold) -> bool:
    """Whether the log is not loaded yet, so that the next look should come at once."""
    return told.loaded < 1.0 and not told.gone


def _document(path: Path) -> Record:
    try:
        return read_json(path)
    except RunError:
        return {}
