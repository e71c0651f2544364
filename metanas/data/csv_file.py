"""A CSV file as cells: numbers, places among words, nan where nothing stands.

The first line names the columns. Cells are separated by whichever of `, ; tab |` the header has most of, and quoted by
`"`. A column whose cells are all numbers is one of numbers; one without numbers is one of words; a mixture is a fault.
The target is classes where it holds words or few whole numbers, else a quantity.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from metanas.data.table import MISSING, NUMBER, Heading
from metanas.errors import DataError, nearest

SUFFIXES = frozenset([".csv", ".tsv"])
SEPARATORS = ",;\t|"
FEW = 20
"""Different whole numbers up to which a target of numbers is taken for classes."""
SHOWN = 3


@dataclass(frozen=True, eq=False)
class Cells:
    """What a file holds.

    headings: of the columns but the target
    x:        (rows, columns), float64: see `Heading`
    y:        (rows,): long labels, or float64 quantities where `classes` is None
    classes:  the name of each label
    notes:    what was decided on the way
    """

    headings: tuple[Heading, ...]
    x: Tensor
    y: Tensor
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]


def read_csv(path: Path, target: str | None, drop: Sequence[str] = (), task: str | None = None) -> Cells:
    """The cells of a file.

    Args:
        target: name of the column to be predicted.
        drop: columns to leave out, as one that numbers the rows.
        task: "classification" or "regression"; None: by the target.

    Raises:
        DataError: in one line, with counts: no such column; no header; rows of other lengths; no target in some rows;
            numbers and words in one column; a column of names.
    """
    names, rows = _rows(path)
    if target is None:
        raise DataError(f"{path.name}: which column is the target? give target (--target): {_listed(names)}")
    for name in (target, *drop):
        if name not in names:
            raise DataError(f"{path.name} has no column {name!r}{nearest(name, names)}")
    if target in drop:
        raise DataError(f"{path.name}: {target!r} is the target, so it cannot be dropped; take it out of drop")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    y, classes, note = _target(path.name, target, columns.pop(target), task)
    kept = {name: cells for name, cells in columns.items() if name not in drop}
    if not kept:
        raise DataError(f"{path.name} has no column beside the target {target!r}; at least one is needed")
    faults, headings, values = [], [], []
    for name, cells in kept.items():
        try:
            heading, column = _column(name, cells)
        except DataError as error:
            faults.append(str(error))
        else:
            headings.append(heading)
            values.append(column)
    if faults:
        more = f"; and {len(faults) - SHOWN} more columns" if len(faults) > SHOWN else ""
        raise DataError(f"{path.name}: {'; '.join(faults[:SHOWN])}{more}")
    x = torch.stack(values, 1)
    if bool(((x == x[0]) | (x.isnan() & x[0].isnan())).all()):
        raise DataError(
            f"{path.name}: no column but the target differs from row to row, so there is nothing to learn from"
        )
    return Cells(tuple(headings), x, y, classes, (note,))


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a file by the names of their columns. Raises DataError as `read_csv`."""
    names, rows = _rows(path)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = max(SEPARATORS, key=first.count)
            file.seek(0)
            lines = list(_lines(csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]
        raise DataError(f"{str(path)!r} cannot be read as CSV ({reason}); save it as CSV in UTF-8") from error
    if len(lines) < 2:
        raise DataError(f"{path.name} holds {len(lines)} lines: a header and a row for each split are needed")
    (_, names), rows = lines[0], lines[1:]
    names = [name.strip() for name in names]
    if any(NUMBER.fullmatch(name) for name in names) or "" in names:
        raise DataError(
            f"{path.name}: the first line must name every column, got {_listed(names)}; write a header into it"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path.name}: columns must have different names, got twice: {_listed(twice)}")
    wrong = [number for number, row in rows if len(row) != len(names)]
    if wrong:
        raise DataError(
            f"{path.name}: {len(wrong)} of {len(rows)} rows do not have {len(names)} cells as the header has, the "
            f"first in line {wrong[0]}; mend them, or quote cells that hold {separator!r}"
        )
    return names, [[cell.strip() for cell in row] for _, row in rows]


def _lines(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """(line in the file, cells), without empty lines."""
    for row in reader:
        if row:
            yield reader.line_num, row  # type: ignore[attr-defined]  # of csv's own reader


def _column(name: str, cells: Sequence[str]) -> tuple[Heading, Tensor]:
    there = [cell for cell in cells if cell.lower() not in MISSING]
    numbers = [cell for cell in there if NUMBER.fullmatch(cell)]
    if len(numbers) == len(there):
        values = [float(cell) if cell.lower() not in MISSING else math.nan for cell in cells]
        if any(map(math.isinf, values)):
            raise DataError(f"column {name!r} has numbers beyond {torch.finfo(torch.float64).max:.0e}; mend them")
        return Heading(name), torch.tensor(values, dtype=torch.float64)
    words = sorted(set(there))
    if numbers:
        strange = [(row, cell) for row, cell in enumerate(cells, 2) if cell in set(there) - set(numbers)]
        row, cell = strange[0]
        raise DataError(
            f"column {name!r} has {len(numbers)} numbers and {len(strange)} that are none, as {cell[:40]!r} in row "
            f"{row - 1}: mend these, or leave them empty"
        )
    if len(words) > 16 and 4 * len(words) > len(cells):
        raise DataError(
            f"column {name!r} has {len(words)} different words in {len(cells)} rows, which say nothing of new rows: "
            "drop it (data.drop), or group the words"
        )
    places = {word: float(k) for k, word in enumerate(words)}
    return Heading(name, tuple(words)), torch.tensor([places.get(c, math.nan) for c in cells], dtype=torch.float64)


def _target(file: str, name: str, cells: Sequence[str], task: str | None) -> tuple[Tensor, tuple[str, ...] | None, str]:
    absent = [row for row, cell in enumerate(cells, 1) if cell.lower() in MISSING]
    if absent:
        raise DataError(
            f"{file}: {len(absent)} of {len(cells)} rows have no target {name!r}, the first is row {absent[0]}: "
            "fill it in, or remove them"
        )
    numbers = all(NUMBER.fullmatch(cell) and math.isfinite(float(cell)) for cell in cells)
    if task == "regression" and not numbers:
        strange = next(cell for cell in cells if not NUMBER.fullmatch(cell) or not math.isfinite(float(cell)))
        raise DataError(f"{file}: the target of a regression must be finite numbers, {name!r} holds {strange[:40]!r}")
    values = [float(cell) for cell in cells] if numbers else []
    whole = numbers and all(value.is_integer() for value in values)
    few = whole and len(set(values)) <= FEW
    if task == "regression" or (task is None and numbers and not few):
        return torch.tensor(values, dtype=torch.float64), None, f"{name}: numbers, so a regression"
    if whole:  # 2, 10 and 2.0: by size, and the same number is the same class
        labels = [str(int(value)) for value in values]
        classes = sorted(set(labels), key=int)
    else:
        labels, classes = list(cells), sorted(set(cells))
    if len(classes) < 2:
        raise DataError(f"{file}: the target {name!r} is {classes[0]!r} in all rows: at least 2 classes are needed")
    places = {label: k for k, label in enumerate(classes)}
    note = f"{name}: {len(classes)} different {'whole numbers' if whole else 'words'}, so a classification"
    return torch.tensor([places[label] for label in labels]), tuple(classes), note


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
