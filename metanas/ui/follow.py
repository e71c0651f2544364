"""From a run folder to its state, once (`read`) or again and again (`Follower`).

The folder is all that is looked at: a run that is going on, is over, was killed or was copied from elsewhere is read in
the same way. Files that are missing, cut or damaged count as absent, lines that are not JSON objects are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from metanas.errors import RunError
from metanas.run import EventTail, is_alive, read_holder, read_json
from metanas.ui.fields import Record
from metanas.ui.state import RunState, concluded, described, fold


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
        if not self._described:
            self._describe()
        restarts = self._tail.restarts
        events = self._tail.read()
        if self._tail.restarts != restarts:
            self.state = RunState(self.state.name)
            self._describe()
        for event in events:
            self.state = fold(self.state, event)
            yield event, self.state
        if self.state.status in ("finished", "waiting"):
            self.state = concluded(self.state, _load(self.folder / "result.json"))
        self.state = replace(self.state, writer=_writer(self.folder))

    def _describe(self) -> None:
        recipe, space = _load(self.folder / "recipe.json"), _load(self.folder / "space.json")
        self.state = described(self.state, recipe, space)
        self._described = bool(recipe and space)


def read(folder: str | Path) -> RunState:
    """The state of a run as its folder tells now. Never raises: an empty or missing folder is a run that waits.

    >>> read("/nonexistent/first").status
    'waiting'
    """
    follower = Follower(folder)
    for _ in follower.poll():
        pass
    return follower.state


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
