"""How a row of a table becomes an input: a rule for each column, fitted on the inner split only.

    number     (value - mean) / std; where it is missing, the median
    word       1 at its place among the known words, 0 elsewhere; all 0 for a word that was never seen
    missing    one more number, 1 where the cell is missing: for columns with missing cells in the inner split

A column that is the same in the whole inner split is left out. An exported network reads rows by the same rule
(`exporters.tail`): change both or none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from metanas.errors import DataError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?"])
"""What stands in a cell that has no value, in lower case."""


@dataclass(frozen=True)
class Heading:
    """A column as it came: its name and, where it holds words, the different ones in order. Missing cells are nan,
    words their places among `words`.
    """

    name: str
    words: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Column:
    """What is done to the cells of a column.

    name:    as in the table's header
    words:   the known ones; None for a column of numbers
    mean, std, median: of the numbers of the inner split
    missing: whether one more number says that the cell is missing
    """

    name: str
    words: tuple[str, ...] | None = None
    mean: float = 0.0
    std: float = 1.0
    median: float = 0.0
    missing: bool = False

    @property
    def width(self) -> int:
        """How many numbers of an input it becomes."""
        return (1 if self.words is None else len(self.words)) + self.missing

    def encode(self, cells: Tensor) -> Tensor:
        """Cells (rows,), float64, as in `Heading`, to (rows, width), float64."""
        absent = cells.isnan()
        if self.words is None:
            values = ((cells.where(~absent, self.median) - self.mean) / self.std)[:, None]
        else:
            values = (cells[:, None] == torch.arange(len(self.words))).double()
        return torch.cat([values, absent[:, None].double()], 1) if self.missing else values


@dataclass(frozen=True)
class Table:
    """The columns of a table that became the inputs of a network, in order."""

    columns: tuple[Column, ...]

    @property
    def width(self) -> int:
        """Numbers of one input."""
        return sum(column.width for column in self.columns)

    def encode(self, rows: Iterable[Mapping[str, Any]]) -> Tensor:
        """Rows by the names of their columns to inputs (rows, width), float32. Cells: text, numbers or None (missing).

        Further columns are ignored. Raises DataError where a column is missing, or holds text where a number must be.

        >>> table = Table((Column("age", mean=40.0, std=10.0), Column("sex", words=("f", "m"))))
        >>> table.encode([{"age": "50", "sex": "m"}, {"age": 30, "sex": "x"}])
        tensor([[ 1.,  0.,  1.],
                [-1.,  0.,  0.]])
        """
        listed = list(rows)
        if not listed:
            return torch.zeros(0, self.width)
        parts = [column.encode(_cells(column, listed)) for column in self.columns]
        return torch.cat(parts, 1).float()

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data, `from_json`'s argument."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> Table:
        """
        >>> table = Table((Column("sex", words=("f", "m")), Column("age", median=3.5)))
        >>> Table.from_json(table.to_json()) == table
        True
        """
        rows = ({**row, "words": None if row["words"] is None else tuple(row["words"])} for row in data)
        return cls(tuple(Column(**row) for row in rows))


def _cells(column: Column, rows: Sequence[Mapping[str, Any]]) -> Tensor:
    places = {} if column.words is None else {word: float(k) for k, word in enumerate(column.words)}
    cells = []
    for k, row in enumerate(rows, 1):
        if column.name not in row:
            raise DataError(f"row {k} has no column {column.name!r}; the network needs all columns it was trained on")
        text = "" if row[column.name] is None else str(row[column.name]).strip()
        if text.lower() in MISSING:
            cells.append(math.nan)
        elif column.words is not None:
            cells.append(places.get(text, -1.0))
        elif NUMBER.fullmatch(text) and math.isfinite(float(text)):
            cells.append(float(text))
        else:
            raise DataError(f"row {k}, column {column.name!r}: {text[:40]!r} is not a finite number; mend the cell")
    return torch.tensor(cells, dtype=torch.float64)


def fit(headings: Sequence[Heading], cells: Tensor) -> tuple[Table, tuple[str, ...]]:
    """The rules for a table, and notes on what was left out.

    Args:
        headings: of all columns.
        cells: (rows, columns) of the inner split, float64, as in `Heading`.

    Raises:
        DataError: no column says anything.

    >>> table, notes = fit([Heading("a"), Heading("b")], torch.tensor([[1.0, 7.0], [3.0, 7.0]]).double())
    >>> table.columns[0].mean, len(table.columns), notes
    (2.0, 1, ("column 'b' is the same in the whole inner split: left out",))
    """
    columns, notes = [], []
    for heading, column in zip(headings, cells.unbind(1), strict=True):
        present = column[~column.isnan()]
        missing = len(present) < len(column)
        if len(present) == 0 or (bool((present == present[0]).all()) and not missing):
            notes.append(f"column {heading.name!r} is the same in the whole inner split: left out")
        elif heading.words is not None:
            seen = tuple(heading.words[int(k)] for k in sorted(set(present.tolist())))
            columns.append(Column(heading.name, seen, missing=missing))
        else:
            # A deviation that is only rounding would blow up what it divides.
            std, size = float(present.std(correction=0)), float(present.abs().max())
            scale = std if std > 1e-12 * size else 1.0
            middle = float(present.median())
            columns.append(Column(heading.name, None, float(present.mean()), scale, middle, missing))
    if not columns:
        raise DataError("no column differs from row to row in the inner split, so there is nothing to learn from")
    return Table(tuple(columns)), tuple(notes)


def encode(table: Table, headings: Sequence[Heading], cells: Tensor) -> Tensor:
    """Inputs (rows, width), float32, of cells (rows, columns) as in `Heading`."""
    places = {heading.name: k for k, heading in enumerate(headings)}
    parts = []
    for column in table.columns:
        values = cells[:, places[column.name]]
        words = headings[places[column.name]].words
        if words is not None and column.words is not None:
            known = {word: float(k) for k, word in enumerate(column.words)}
            place = torch.tensor([known.get(word, -1.0) for word in words], dtype=torch.float64)
            values = torch.where(values.isnan(), values, place[values.nan_to_num(0.0).long()])
        parts.append(column.encode(values))
    return torch.cat(parts, 1).float()
