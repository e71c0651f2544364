"""Recipes from plain data, with all their mistakes at once, each with its path.

    search.epochs: should be greater than or equal to 1, got 0
    search.epohcs: unknown key; did you mean "epochs"?

`plain` is what comes before: TOML, words of a command line, dotted paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from metanas.errors import RecipeError, nearest
from metanas.recipe.section import Section

R = TypeVar("R", bound=Section)


def validated(kind: type[R], data: Mapping[str, Any], contradictions: Callable[[R], Iterator[str]]) -> R:
    """The recipe of plain data. Raises RecipeError with every mistake at once, each with its path.

    Args:
        contradictions: gives a line for values that are allowed one by one, and not together.
    """
    try:
        recipe = kind.model_validate(as_tuples(data))
    except ValidationError as error:
        raise RecipeError(problems_of(error, data, kind)) from None
    problems = list(contradictions(recipe))
    if problems:
        raise RecipeError(problems)
    return recipe


def problems_of(error: ValidationError, data: Mapping[str, Any], kind: type[Section]) -> list[str]:
    """One line for each place; where a value may be of several types, pydantic has a word on each of them."""
    said: dict[str, tuple[list[str], str]] = {}
    for problem in error.errors():
        path = _place(problem["loc"], data)
        where = ".".join(path)
        if problem["type"] == "missing":
            said[f"{where}.{problem['loc'][-1]}"] = (["should be there"], ", and is not")
            continue
        if problem["type"] == "extra_forbidden":
            said[where] = ([f"unknown key{nearest(path[-1], _keys(kind, path[:-1]))}"], "")
            continue
        section = problem["type"] in ("model_type", "dict_type")
        message = "should be a section" if section else problem["msg"].removeprefix("Input ")
        messages, _ = said.setdefault(where, ([], f", got {_shown(data, path)}"))
        if message not in messages:
            messages.append(message)
    # Of a list or a section, what is wrong inside says that it was one.
    outside = {"should be a valid tuple", "should be a section"}
    for where in list(said):
        if set(said[where][0]) <= outside and any(other.startswith(f"{where}.") for other in said):
            del said[where]
    return [f"{where}: {' or '.join(messages)}{got}" for where, (messages, got) in sorted(said.items())]


def _place(loc: tuple[int | str, ...], data: Any) -> list[str]:
    """The parts of pydantic's place that are in the data; the others name the types that were tried."""
    path = []
    for key in loc:
        if isinstance(data, list | tuple) and isinstance(key, int) and key < len(data):
            data = data[key]
        elif isinstance(data, Mapping) and key in data:
            data = data[key]
        else:
            continue
        path.append(str(key))
    return path


def _shown(data: Any, path: list[str]) -> str:
    for key in path:
        data = data[int(key)] if isinstance(data, list | tuple) else data[key]
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys(kind: Any, path: list[str]) -> list[str]:
    for key in path:
        # a number is a place in a tuple of sections: tuple[Section, ...]; a name in a mapping has the mapping's type
        inside = kind.model_fields[key].annotation if hasattr(kind, "model_fields") else None
        kind = get_args(kind)[0] if key.isdigit() else inside or get_args(kind)[-1]
        if isinstance(kind, UnionType):  # Section | None
            kind = next((k for k in get_args(kind) if hasattr(k, "model_fields")), kind)
    return list(kind.model_fields)  # only sections forbid keys


def as_tuples(data: Any) -> Any:
    """Lists as tuples: JSON and TOML know only lists."""
    if isinstance(data, Mapping):
        return {k: as_tuples(v) for k, v in data.items()}
    return tuple(map(as_tuples, data)) if isinstance(data, list | tuple) else data
