"""Reading values that anybody may have written: a field that is missing, null or of the wrong kind is `None`.

A viewer meets cut logs, older and newer versions of the schema, and folders made by hand; it shows what it can read.
Each reader takes the record and the name of the field and never raises:

    number({"loss": 0.5}, "loss")                         0.5
    number({"loss": None, "loss_is": "nan"}, "loss")      nan
    string({"key": 7}, "key")                             None
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MANY = 500  # entries kept of a recipe
LONGEST = 2000  # characters kept of any one string: a view has no use for more

Record = Mapping[str, Any]
Label = str | tuple[str, ...]

NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def as_record(value: object) -> Record:
    """The value where it is a mapping with names for keys, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def as_number(value: object) -> float | None:
    """
    >>> as_number(2), as_number(True), as_number("2"), as_number(10**400)
    (2.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def number(record: Record, name: str, formerly: str = "") -> float | None:
    """A number; `<name>_is` tells which one where JSON could not (nan, inf, -inf).

    Args:
        formerly: what older versions called it.

    >>> number({"loss": None, "loss_is": "inf"}, "loss"), number({"accuracy": 0.5}, "score", "accuracy")
    (inf, 0.5)
    """
    if formerly and name not in record:
        return number(record, formerly)
    value = record.get(name)
    if value is None:
        reason = record.get(f"{name}_is")
        return NOT_FINITE.get(reason) if isinstance(reason, str) else None
    return as_number(value)


def whole(record: Record, name: str) -> int | None:
    """A whole number, finite and not negative.

    >>> whole({"epoch": 3}, "epoch"), whole({"epoch": 3.0}, "epoch"), whole({"epoch": -1}, "epoch")
    (3, 3, None)
    """
    value = number(record, name)
    return int(value) if value is not None and math.isfinite(value) and value >= 0 else None


def string(record: Record, name: str) -> str | None:
    """
    >>> string({"key": "|none~0|"}, "key"), string({"key": ""}, "key")
    ('|none~0|', None)
    """
    value = record.get(name)
    return value[:LONGEST] if isinstance(value, str) and value else None


def strings(record: Record, name: str) -> tuple[str, ...]:
    """A list of strings; entries of another kind are shown as Python writes them, so that positions stay right."""
    value = record.get(name)
    return tuple(str(entry)[:LONGEST] for entry in value) if isinstance(value, list | tuple) else ()


def flattened(record: Record, prefix: str = "") -> dict[str, str]:
    """What a nested record holds, {dotted path: the value as text}, at most MANY entries.

    >>> flattened({"search": {"epochs": 50, "lr": 0.1}, "seed": None, "names": ["a", 1]})
    {'search.epochs': '50', 'search.lr': '0.1', 'seed': 'None', 'names': '[a, 1]'}
    """
    found: dict[str, str] = {}
    waiting: list[tuple[str, object]] = [(prefix, record)]
    while waiting and len(found) < MANY:
        path, value = waiting.pop()
        if isinstance(value, dict) and value:
            inside = [(f"{path}.{name}" if path else str(name), part) for name, part in value.items()]
            waiting += reversed(inside)
        elif path:
            shown = f"[{', '.join(map(str, value[:MANY]))}]" if isinstance(value, list) else str(value)
            found[path[:LONGEST]] = shown[:LONGEST]
    return found


def weights(record: Record, name: str) -> dict[str, tuple[float, ...]]:
    """{choice: a weight per candidate}; a weight that is not a number is nan."""
    found = {}
    for choice, values in as_record(record.get(name)).items():
        if isinstance(values, list | tuple):
            numbers = (as_number(value) for value in values)
            found[str(choice)] = tuple(math.nan if value is None else value for value in numbers)
    return found


def architecture(record: Record, name: str) -> dict[str, Label]:
    """{choice: the label taken, or a tuple of them}.

    >>> architecture({"a": {"1<-0": "none", "in": ["x", "y"], "odd": 3}}, "a")
    {'1<-0': 'none', 'in': ('x', 'y'), 'odd': '3'}
    """
    found: dict[str, Label] = {}
    for choice, label in as_record(record.get(name)).items():
        if isinstance(label, list | tuple):
            found[str(choice)] = tuple(str(part)[:LONGEST] for part in label)
        elif label is not None:
            found[str(choice)] = str(label)[:LONGEST]
    return found
