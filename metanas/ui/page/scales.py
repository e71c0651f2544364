"""Axes: from numbers to places, and the round numbers at which an axis has its ticks.

Linear(0.0, 2.3)      0, 0.5, 1, 1.5, 2
Log(0.003, 40.0)      0.01, 0.1, 1, 10
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from metanas.ui.units import THOUSANDS

HUGE = 1e150  # numbers beyond it are as good as infinite: their difference could not be told
WANTED = 5  # ticks


@dataclass(frozen=True)
class Scale(ABC):
    """A range of numbers, as shares of an axis: `low` is at 0, `high` at 1."""

    low: float
    high: float

    @abstractmethod
    def share(self, value: float) -> float:
        """Where a number is; outside of 0 to 1 where it is out of the range. nan where it has no place."""

    @abstractmethod
    def ticks(self) -> list[float]:
        """Round numbers within the range, ascending."""


@final
@dataclass(frozen=True)
class Linear(Scale):
    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5

    def ticks(self) -> list[float]:
        """
        >>> Linear(0.0, 2.3).ticks(), Linear(1.0, 1.0).ticks()
        ([0.0, 0.5, 1.0, 1.5, 2.0], [1.0])
        """
        if not self.high - self.low > 1 / HUGE:
            return [self.low]
        step = nice_step((self.high - self.low) / WANTED)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        if last - first > 4 * WANTED:  # the range is a few last bits of large numbers
            return [self.low, self.high]
        return [round(place * step, 12) if step > 1e-9 else place * step for place in range(first, last + 1)]


@final
@dataclass(frozen=True)
class Log(Scale):
    """`low` is above zero."""

    def share(self, value: float) -> float:
        if value < self.low * (1 - 1e-9):
            return math.nan  # zero, or so small that nobody reads it off
        low, high = math.log10(self.low), math.log10(self.high)
        return (math.log10(value) - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[float]:
        """Powers of ten; with few of them, 2 and 5 times those as well.

        >>> Log(0.003, 40.0).ticks(), Log(0.5, 30.0).ticks(), Log(2.2, 2.4).ticks()
        ([0.01, 0.1, 1.0, 10.0], [0.5, 1.0, 2.0, 5.0, 10.0, 20.0], [2.2, 2.25, 2.3, 2.35, 2.4])
        """
        bottom, top = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        every = max((top - bottom) // (WANTED + 1), 1)
        times = (1.0,) if top - bottom > 3 else (1.0, 2.0, 5.0)
        found = [times_ * 10.0**power for power in range(bottom, top + 1, every) for times_ in times]
        inside = [float(f"{value:.1e}") for value in found if self.low <= value * (1 + 1e-9) <= self.high * (1 + 2e-9)]
        return inside if len(inside) > 1 else Linear(self.low, self.high).ticks()


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `least`.

    >>> nice_step(0.13), nice_step(0.46), nice_step(9.0)
    (0.2, 0.5, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(least))
    return next(times * power for times in (1.0, 2.0, 2.5, 5.0, 10.0) if times * power >= least * (1 - 1e-9))


def drawable(value: float | None) -> bool:
    """Whether a number has a place on some axis."""
    return value is not None and math.isfinite(value) and abs(value) < HUGE


def span(values: Iterable[float | None]) -> tuple[float, float] | None:
    """The least and the greatest number that can be drawn; None without any.

    >>> span([1.0, None, math.nan, 3.0]), span([math.inf])
    ((1.0, 3.0), None)
    """
    known = [value for value in values if value is not None and drawable(value)]
    return (min(known), max(known)) if known else None


def widened(low: float, high: float, share: float = 0.04) -> tuple[float, float]:
    """A little room at both ends, so that no curve lies on the frame; a single number gets a range around it.

    >>> widened(0.0, 1.0), widened(2.0, 2.0), widened(0.0, 0.0)
    ((-0.04, 1.04), (1.8, 2.2), (-0.1, 0.1))
    """
    room = (high - low) * share if high > low else abs(low) * 0.1 or 0.1
    return low - room, high + room


def possible(low: float, high: float, show: Callable[[float | None], str]) -> tuple[float, float]:
    """A range without what no percentage can be, where all that is shown are shares.

    >>> from metanas.ui.units import loss, percent
    >>> possible(0.9, 1.1, percent), possible(0.9, 1.1, loss), possible(-2.0, 1.1, percent)
    ((0.9, 1.0), (0.9, 1.1), (-2.0, 1.1))
    """
    shares = show(1.0).endswith("%") and low > -1 and high < 2
    return (max(low, 0.0), min(high, 1.0)) if shares else (low, high)


def shown_tick(value: float, ticks: Iterable[float], show: Callable[[float | None], str]) -> str:
    """A tick in the unit of the values: a percentage where they are shown as such.

    >>> from metanas.ui.units import loss, percent
    >>> shown_tick(0.5, [0.0, 0.5], percent), shown_tick(0.5, [0.0, 0.5], loss)
    ('50%', '0.5')
    """
    text = show(value)
    return text.replace(".0%", "%") if text.endswith("%") else tick_text(value, ticks)


def tick_text(value: float, ticks: Iterable[float]) -> str:
    """A tick in as many digits as tell it from its neighbours: large ones in thousands, small ones with an exponent.

    >>> [tick_text(x, [0.0, 0.5]) for x in (0.0, 0.5)], tick_text(2e4, [0.0, 2e4]), tick_text(2.5e-4, [0.0, 5e-4])
    (['0', '0.5'], '20k', '2.5e-4')
    """
    size = max((abs(number) for number in ticks), default=abs(value))
    if value == 0:
        return "0"
    if size >= 1e15 or size < 0.01 or abs(value) < 1e-3:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    steps = min(int(math.log10(size) // 3), len(THOUSANDS) - 1) if size >= 10_000 else 0
    return f"{value / 1000**steps:.6g}{THOUSANDS[steps]}"
