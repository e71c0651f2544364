"""Tables of architectures that were trained once and for all: a search that takes milliseconds, with the time that it
would have taken charged.

    table = ArchitectureTable.read("nasbench201.csv.gz", key="arch", test=("cifar10_test",))
    objective = table.objective("valid_12_epochs", seconds=lambda row: row["train_seconds"] * 12 / 200)
    ... a search by values ...; objective.spent says how long it would have taken
    table.test(architecture, "cifar10_test")

What a search chooses by and what is reported are kept apart: an objective refuses a column that was named as a test.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metanas.errors import DataError, nearest
from metanas.space import Architecture

Row = Mapping[str, float]
LONGEST = 120
"""Letters of an architecture in an error."""


@dataclass(frozen=True, eq=False)
class ArchitectureTable:
    """Numbers of architectures. Made by `read`, or from columns that are at hand.

    places:  what an architecture is called in it (its `str()`) -> its row
    columns: name -> one number for each row
    tests:   columns that only a report may read
    """

    places: Mapping[str, int]
    columns: Mapping[str, NDArray[np.float64]]
    tests: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: str | Path, *, key: str, test: Sequence[str] = ()) -> ArchitectureTable:
        """From a CSV file, or one in gzip; columns that hold anything but numbers are left out.

        Args:
            key: the column with the names of architectures.
            test: columns that no search may see.

        Raises:
            DataError: a file that cannot be read, without rows, with a column that is missing or a name that stands
                there twice.
        """
        path = Path(path)
        names, rows = _parsed(path)
        for column in (key, *test):
            if column not in names:
                raise DataError(f"{path}: no column {column!r}{nearest(column, names)}")
        if not rows:
            raise DataError(f"{path} has no rows")
        keys = [row[names.index(key)] for row in rows]
        places = {name: k for k, name in enumerate(keys)}
        if len(places) < len(keys):
            twice = next(name for k, name in enumerate(keys) if places[name] != k)
            raise DataError(f"{path}: {twice!r} stands in {key!r} more than once")
        columns = {}
        for k, name in enumerate(names):
            if name != key and (numbers := _numbers([row[k] for row in rows])) is not None:
                columns[name] = numbers
        wrong = [name for name in test if name not in columns]
        if wrong:
            raise DataError(f"{path}: column {wrong[0]!r} holds something that is no number")
        return cls(places, columns, frozenset(test))

    def write(self, path: str | Path, *, key: str = "arch") -> None:
        """As a CSV file that `read` reads, in gzip where the name ends in .gz.

        Raises:
            DataError: it cannot be written.
        """
        path = Path(path)
        try:
            with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else open(path, "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([key, *self.columns])
                for name, place in self.places.items():
                    writer.writerow([name, *(repr(float(numbers[place])) for numbers in self.columns.values())])
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from None

    def __len__(self) -> int:
        return len(self.places)

    @property
    def fingerprint(self) -> str:
        """Equal for tables with the same names, columns and numbers."""
        digest = hashlib.sha256("\n".join([*self.places, *self.columns]).encode())
        for numbers in self.columns.values():
            digest.update(numbers.tobytes())
        return digest.hexdigest()[:16]

    def place(self, architecture: Architecture) -> int:
        """The row of an architecture. Raises DataError where it has none."""
        name = str(architecture)
        if name not in self.places:
            short = name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
            raise DataError(f"the table has no row for {short}, of {len(self)}; is it of another space?")
        return self.places[name]

    def objective(self, column: str, *, seconds: Callable[[Row], float] | None = None) -> TableObjective:
        """What a search may look at.

        Args:
            column: what is maximised.
            seconds: what an evaluation is charged, from the row without its tests; None: nothing.

        Raises:
            DataError: no such column, or a test.
        """
        if column in self.tests:
            open_ = sorted(self.columns.keys() - self.tests)
            raise DataError(f"{column!r} is a test: a search chooses by one of {', '.join(open_)}")
        return TableObjective(self, self._column(column), seconds)

    def charged(self, factors: Mapping[str, float]) -> Callable[[Row], float] | None:
        """What an evaluation is charged: the sum of factor * column; None where there is no factor.

        Raises:
            DataError: no such column, or a test; a charge that is not finite, below 0, or 0 for every architecture.
        """
        for name in factors:
            self.objective(name)
        if factors:
            sums = sum(factor * self._column(name) for name, factor in factors.items())
            if not np.all(np.isfinite(sums)) or np.min(sums) < 0 or not np.max(sums) > 0:
                raise DataError(
                    f"charge: {', '.join(factors)} come to {np.min(sums):.6g} to {np.max(sums):.6g} seconds an "
                    "evaluation; they must be finite, not below 0, and not 0 for all"
                )
        return (lambda row: sum(factor * row[name] for name, factor in factors.items())) if factors else None

    def test(self, architecture: Architecture, column: str) -> float:
        """A number of an architecture, for a report. DataError where there is none."""
        return float(self._column(column)[self.place(architecture)])

    def row(self, place: int) -> dict[str, float]:
        """The numbers of a row that are no tests."""
        return {name: float(numbers[place]) for name, numbers in self.columns.items() if name not in self.tests}

    def _column(self, name: str) -> NDArray[np.float64]:
        if name not in self.columns:
            raise DataError(f"the table has no column {name!r} of numbers{nearest(name, self.columns)}")
        return self.columns[name]


@dataclass(eq=False)
class TableObjective:
    """An objective (architecture -> a number, larger is better) that looks a value up; `spent` are the seconds charged,
    also for what was looked up before.
    """

    table: ArchitectureTable
    column: NDArray[np.float64]
    seconds: Callable[[Row], float] | None = None
    spent: float = 0.0
    charges: dict[int, float] = field(default_factory=dict)

    def __call__(self, architecture: Architecture) -> float:
        place = self.table.place(architecture)
        if self.seconds is not None:
            if place not in self.charges:
                self.charges[place] = float(self.seconds(self.table.row(place)))
            self.spent += self.charges[place]
        return float(self.column[place])


def _parsed(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        opened = gzip.open(path, "rt", newline="") if path.suffix == ".gz" else open(path, newline="", encoding="utf-8")
        with opened as file:
            names, *rows = csv.reader(file)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    except (ValueError, csv.Error):
        raise DataError(f"{path} is no table: it needs a line of names and lines of values") from None
    short = next((k for k, row in enumerate(rows, 2) if len(row) != len(names)), None)
    if short is not None:
        raise DataError(f"{path}, line {short}: {len(rows[short - 2])} values for {len(names)} names")
    return names, rows


def _numbers(texts: Iterable[str]) -> NDArray[np.float64] | None:
    try:
        return np.array([float(text) for text in texts])
    except ValueError:
        return None
