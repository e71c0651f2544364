"""From a run folder to its state, once (`read`) or again and again (`Follower`).

The folder is all that is looked at: a run that is going on, is over, was killed or was copied from elsewhere is read in
the same way. Files that are missing, cut or damaged count as absent, lines that are not JSON objects are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from metanas.errors import RunError
from metanas.run import EventTail, is_alive, read_holder, read_json
from metanas.run.events import Event
from metanas.ui.fields import Record, whole
from metanas.ui.state import RECENT, RunState, concluded, described, fold
from metanas.ui.tuning import tells_of_tuning


class Follower:
    """Reads what was added to a run folder since it last looked.

    `state` is the state so far; `poll` brings it up to date and yields each new event with the state after it. A log
    that was cut or replaced is read from its beginning again, with a new state.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.state = RunState(self.folder.absolute().name)
        self._tail = EventTail(self.folder / "events.jsonl")
        self._described = False

    def poll(self) -> Iterator[tuple[Record, RunState]]:
        """Each event that is new, with the state after it; at the end, `state` also has the result and the writer."""
        for event in self._news(every=True):
            self.state = fold(self.state, event)
            yield event, self.state
        self._conclude()

    def advance(self) -> bool:
        """As `poll`, without the states in between, and so without the steps that they alone would show.

        Returns whether anything was new.
        """
        events = self._news(every=False)
        for event in events if self.state.tuning else _without_old_steps(events):
            self.state = fold(self.state, event)
        self._conclude()
        return bool(events)

    def _news(self, *, every: bool) -> list[Event]:
        if not self._described:
            self._describe()
        restarts = self._tail.restarts
        some = not every and self.state.tuning is None
        events = self._tail.read(steps=RECENT, enough=_are_recent) if some else self._tail.read()
        if self._tail.restarts != restarts:
            self.state = RunState(self.state.name)
            self._describe()
        return events

    def _conclude(self) -> None:
        if self.state.status in ("finished", "waiting"):
            self.state = concluded(self.state, _load(self.folder / "result.json"))
        self.state = replace(self.state, writer=_writer(self.folder))

    def _describe(self) -> None:
        recipe, space = _load(self.folder / "recipe.json"), _load(self.folder / "space.json")
        self.state = described(self.state, recipe, space)
        self._described = bool(recipe and (space or self.state.tuning))


def read(folder: str | Path) -> RunState:
    """The state of a run as its folder tells now. Never raises: an empty or missing folder is a run that waits.

    >>> read("/nonexistent/first").status
    'waiting'
    """
    follower = Follower(folder)
    follower.advance()
    return follower.state


def _without_old_steps(events: list[Event]) -> list[Event]:
    """The events without the steps that leave no trace: a state keeps the last RECENT, and a log may hold a million.

    Only where these go up strictly, as they do unless the run was resumed among them, is it sure that no other counts.
    The state of a tuning run has steps from the first on.
    """
    places = [place for place, event in enumerate(events) if event["kind"] == "step"]
    if len(places) <= RECENT or not _are_recent([events[place] for place in places[-RECENT:]]):
        return events
    first = places[-RECENT]
    return [event for place, event in enumerate(events) if place >= first or event["kind"] != "step"]


def _are_recent(steps: list[Event]) -> bool:
    """Whether these steps of the end of a log are all that a state keeps."""
    numbers = [whole(event, "step") for event in steps]
    rising = all(a is not None and b is not None and a < b for a, b in pairwise(numbers))
    return rising and not any(map(tells_of_tuning, steps))


def _writer(folder: Path) -> str:
    holder = read_holder(folder)
    if holder is None:
        return "none"
    alive = is_alive(holder)
    return "elsewhere" if alive is None else "alive" if alive else "dead"


def _load(path: Path) -> Record:
    try:
        return read_json(path)
    except RunError:
        return {}
