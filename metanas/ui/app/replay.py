"""Any past moment of a run: what its view showed after the first n events of its log.

    replay = Replay(described(RunState("first"), recipe, space))
    replay.extend(events)                    # again and again, as the log grows
    replay.at(1204)                          # == reduce(fold, events[:1204], start)

The state is kept after every EVERY-th event, so a jump folds at most that many, however long the log is; states share
what they have in common, so keeping them costs little. One thread extends while others look.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from metanas.run.events import Event
from metanas.ui.state import RunState, fold

EVERY = 400  # events between two states that are kept: some 10 ms to fold


@final
class Replay:
    """The states of one run over its events.

    >>> replay = Replay(RunState("first"))
    >>> replay.extend([{"kind": "begin", "pid": 7}, {"kind": "step", "step": 1}, {"kind": "end"}])
    >>> len(replay), [replay.at(n).status for n in range(4)], replay.at(2).step
    (3, ['waiting', 'running', 'running', 'finished'], 1)
    """

    def __init__(self, start: RunState, *, every: int = EVERY) -> None:
        self._every = every
        self._kept = [start]
        self._newest = start
        self._events: list[Event] = []
        self._last = (0, start)  # where the last look was: a step forward from there is one fold

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, in order."""
        return tuple(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def extend(self, events: Iterable[Event]) -> None:
        """Takes the events that follow."""
        for event in events:
            self._newest = fold(self._newest, event)
            self._events.append(event)
            if len(self._events) % self._every == 0:
                self._kept.append(self._newest)

    def at(self, place: int) -> RunState:
        """The state after the first `place` events; a place beyond either end is that end.

        >>> Replay(RunState("first")).at(9).status
        'waiting'
        """
        place = min(max(place, 0), len(self._events))
        kept = min(place // self._every, len(self._kept) - 1)  # another thread may be about to keep one more
        first, state = kept * self._every, self._kept[kept]
        if first <= self._last[0] <= place:
            first, state = self._last
        for event in self._events[first:place]:
            state = fold(state, event)
        self._last = (place, state)
        return state
