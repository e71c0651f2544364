"""How long a call takes: the median of some passes and the middle half of them, after passes that do not count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

PASSES, SECONDS = 15, 0.5
"""At most so many passes, and no more once so much time is spent; at least three."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one pass: the median, and the quartiles around it; of how many passes."""

    median: float
    low: float
    high: float
    passes: int


def timed(
    call: Callable[[], object],
    *,
    device: torch.device | None = None,
    warmup: int = 1,
    passes: int = PASSES,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Times a call.

    Args:
        device: where it works; an accelerator is waited for.
        warmup: passes before the first that counts.
        passes, seconds: no more than either; three at least.

    >>> ticks = iter(range(100))
    >>> timed(lambda: None, passes=4, clock=lambda: next(ticks) / 1000)
    Timing(median=1.0, low=1.0, high=1.0, passes=4)
    """
    for _ in range(warmup):
        call()
    settle(device)
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < passes and sum(taken) < 1000 * seconds):
        start = clock()
        call()
        settle(device)
        taken.append(1000 * (clock() - start))
    low, median, high = statistics.quantiles(taken, n=4)
    return Timing(median, low, high, len(taken))


def settle(device: torch.device | None) -> None:
    """Waits for an accelerator: its work is not over when a call returns."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
