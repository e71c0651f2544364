"""Where the time of a step goes, without making the host wait for the device.

    clock.turn("data")       from now on time is the data's
    clock.turn("inner")      and now that of the inner problem
    clock.read()             -> {"data": seconds, "inner": ..., ...} since the last reading

On the CPU the turns are times; on CUDA they are events in the device's queue, which are looked at when they are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch

PARTS = ("data", "inner", "outer", "other")


class Clock:
    """Owns the turns since the last reading.

    Args:
        now: seconds, from any beginning; on CUDA the device's queue is asked.

    >>> clock = Clock(torch.device("cpu"))
    >>> clock.turn("data"); clock.turn("other"); clock.turn("data")
    >>> sorted(clock.read()), clock.read()
    (['data', 'inner', 'other', 'outer'], {'data': 0.0, 'inner': 0.0, 'outer': 0.0, 'other': 0.0})
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self.on_device, self.now = device.type == "cuda", now
        self.turns: list[tuple[str, float | torch.cuda.Event]] = []

    def turn(self, part: str) -> None:
        """What comes now is the time of `part`, one of PARTS."""
        self.turns.append((part, self._now()))

    def _now(self) -> float | torch.cuda.Event:
        if not self.on_device:
            return self.now()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own
        event.record()
        return event

    def read(self) -> Mapping[str, float]:
        """Seconds of each part between the first turn and the last one since the last reading, and begins anew from
        the last. On CUDA the host waits for the last turn: to be called where it waits anyway.
        """
        found = dict.fromkeys(PARTS, 0.0)
        turns, self.turns = self.turns, self.turns[-1:]
        if turns and isinstance(last := turns[-1][1], torch.cuda.Event):
            last.synchronize()
        for (part, begin), (_, end) in pairwise(turns):
            found[part] += _between(begin, end)
        return found


def _between(begin: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(begin, float) and isinstance(end, float):
        return end - begin
    assert isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event)  # a clock has one kind
    return float(begin.elapsed_time(end)) / 1000
