"""Curves in letters: a sparkline of one row, and a plot of several series of Braille dots (or ASCII marks).

sparkline([1, 2, 3, 4], width=4)      ▁▃▆█           . : - =  in ASCII
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

BARS = "▁▂▃▄▅▆▇█"
MARKS = ".:-=+*%#"
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row (4) and column (2) of one Braille letter
Values = Sequence[float | None]


@dataclass(frozen=True)
class Series:
    """One curve: its name, its values (None and what is not finite leave a gap), its style, its ASCII mark.

    `joined` False: single points, for values that have no order but that in which they were measured.
    """

    name: str
    values: Values
    style: str
    mark: str
    joined: bool = True


def finite(values: Values) -> list[float]:
    """The values that can be drawn."""
    return [value for value in values if value is not None and math.isfinite(value)]


def resample(values: Values, width: int) -> list[float | None]:
    """The values over `width` columns: the mean of those that fall into a column, in order, the last at the right end.

    >>> resample([1, 3, 5, 7], 2), resample([1, 2], 4)
    ([2.0, 6.0], [1, 1, 2, 2])
    """
    size = len(values)
    if not size or width < 1:
        return []
    columns: list[float | None] = []
    for column in range(width):
        start = column * size // width
        part = values[start : max((column + 1) * size // width, start + 1)]
        numbers = finite(part)
        columns.append(part[0] if len(part) == 1 else sum(numbers) / len(numbers) if numbers else None)
    return columns


def stretch(values: Values, width: int) -> list[float | None]:
    """The values over `width` columns, with straight lines between them where there are fewer than columns.

    >>> stretch([1, 3], 3), stretch([1, None, 3], 5), stretch([1, 3, 5, 7], 2)
    ([1.0, 2.0, 3.0], [1.0, None, None, None, 3.0], [2.0, 6.0])
    """
    if not 1 < len(values) < width:
        return resample(values, width)
    columns: list[float | None] = []
    for column in range(width):
        place = column * (len(values) - 1) / (width - 1)
        left, right = values[math.floor(place)], values[math.ceil(place)]
        share = place - math.floor(place)
        columns.append(None if left is None or right is None else left + (right - left) * share)
    return columns


def bar(share: float, *, ascii_only: bool = False) -> str:
    """One letter as high as the share (0 to 1).

    >>> bar(0.0), bar(0.5), bar(1.0), bar(1.0, ascii_only=True), bar(math.nan)
    ('▁', '▅', '█', '#', ' ')
    """
    if not math.isfinite(share):
        return " "
    letters = MARKS if ascii_only else BARS
    return letters[min(int(max(share, 0.0) * len(letters)), len(letters) - 1)]


def sparkline(
    values: Values,
    width: int,
    *,
    low: float | None = None,
    high: float | None = None,
    ascii_only: bool = False,
) -> str:
    """One row of bars between `low` and `high` (by default, of the values); at most one column per value.

    >>> sparkline([1, 2, 3, 4], 8), sparkline([1, None, 4], 8), sparkline([2, 2, math.nan], 8), sparkline([], 8)
    ('▁▃▆█', '▁ █', '▅▅ ', '')
    """
    columns = resample(values, min(width, len(values)))
    numbers = finite(columns)
    if not numbers:
        return ""
    floor = min(numbers) if low is None else low
    span = (max(numbers) if high is None else high) - floor
    known = (math.nan if value is None or not math.isfinite(value) else value for value in columns)
    shares = ((value - floor) / span if span > 0 else 0.5 + 0 * value for value in known)  # nan stays nan: a gap
    return "".join(bar(share, ascii_only=ascii_only) for share in shares)


def plot(
    series: Sequence[Series], width: int, height: int, *, low: float, high: float, marks: bool = False
) -> list[Text]:
    """`height` rows of `width` letters with all series between `low` and `high`; a later series is drawn on top.

    Where two series share a letter, the letter has the dots of both and the colour of the later one; with `marks`,
    every series is drawn in its own mark instead, and the later one is seen. Without a column or a row there is nothing
    to draw: the rows are empty.

    >>> [row.plain for row in plot([Series("loss", [1.0], "", ".", joined=False)], 0, 2, low=0.0, high=1.0)]
    ['', '']
    """
    if width < 1 or height < 1:
        return [Text(no_wrap=True) for _ in range(height)]
    across, down = (1, 1) if marks else (2, 4)
    dots: list[list[int]] = [[0] * width for _ in range(height)]
    letters = [[(" ", "")] * width for _ in range(height)]
    for one in series:
        for x, y in _points(one, width * across, height * down, low, high):
            row, column = y // down, x // across
            if marks:
                letters[row][column] = (one.mark, one.style)
            else:
                dots[row][column] |= DOTS[y % 4][x % 2]
                letters[row][column] = (chr(BRAILLE + dots[row][column]), one.style)
    rows = []
    for places in letters:
        line = Text(no_wrap=True)
        for letter, style in places:
            line.append(letter, style=style)
        rows.append(line)
    return rows


def _points(series: Series, width: int, height: int, low: float, high: float) -> list[tuple[int, int]]:
    """The dots of one curve, (column, row from the top), with steep parts joined."""

    def row(value: float) -> int:
        share = (value - low) / (high - low) if high > low else 0.5
        return height - 1 - min(max(round(share * (height - 1)), 0), height - 1)

    if not series.joined:
        last = max(len(series.values) - 1, 1)
        places = ((place * (width - 1) // last, value) for place, value in enumerate(series.values))
        return [(x, row(value)) for x, value in places if value is not None and math.isfinite(value)]
    found: list[tuple[int, int]] = []
    before: int | None = None
    for x, value in enumerate(stretch(series.values, width)):
        if value is None or not math.isfinite(value):
            before = None
            continue  # a gap
        y = row(value)
        found.append((x, y))
        if before is not None and abs(y - before) > 1:
            middle = (y + before) // 2
            found += [(x - 1 if near else x, between) for between, near in _between(before, y, middle)]
        before = y
    return found


def _between(start: int, end: int, middle: int) -> list[tuple[int, bool]]:
    """The rows strictly between two, and whether each lies nearer to the first."""
    step = 1 if end > start else -1
    return [(row, (row - middle) * step <= 0) for row in range(start + step, end, step)]
