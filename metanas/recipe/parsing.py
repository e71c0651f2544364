"""Recipes from plain data and TOML, with all their mistakes at once, each with its path.

    search.epochs: should be greater than or equal to 1, got 0
    search.epohcs: unknown key; did you mean "epochs"?

A later source overrides an earlier one by dotted paths: defaults, then a file, then flags.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
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


def read_toml(path: Path) -> dict[str, Any]:
    """The plain data of a TOML file. Raises RecipeError where it is missing, not TOML, or empty."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError([f"{path}: {error.strerror}; give the path of a TOML file"]) from None
    except (ValueError, RecursionError) as error:  # bytes that are no text, text that is no TOML, bottomless nesting
        raise RecipeError([f"{path}: not TOML ({error})"]) from None
    if not data:
        raise RecipeError([f"{path}: the recipe is empty; `metanas search --print-recipe` writes a whole one"])
    return data


def override(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `data` with values set by dotted paths, in their order.

    Raises:
        RecipeError: with every path at once that goes through something that is no section.

    >>> override({"search": {"epochs": 3}}, {"search.epochs": 5, "seed": 1})
    {'search': {'epochs': 5}, 'seed': 1}
    """
    result = dict(data)
    problems = []
    for path, value in changes.items():
        *sections, key = path.split(".")
        at = result
        for name in sections:
            inner = at.get(name, {})
            if not isinstance(inner, Mapping):
                problems.append(f"{path}: {name} is no section but {inner!r}")
                break
            at[name] = dict(inner)
            at = at[name]
        else:
            at[key] = value
    if problems:
        raise RecipeError(problems)
    return result


def parse_setting(text: str) -> tuple[str, Any]:
    """`search.lr=0.1` as a path and a value; a value that is not TOML is a word.

    >>> parse_setting("search.lr=0.1"), parse_setting("search.controller=darts"), parse_setting("data.augment=['flip']")
    (('search.lr', 0.1), ('search.controller', 'darts'), ('data.augment', ['flip']))
    """
    path, mark, value = text.partition("=")
    if not mark or not path.strip():
        raise RecipeError([f"{text!r}: expected path=value, as in search.epochs=50"])
    word = value.strip()
    try:
        read = tomllib.loads(f"x = {word}")
    except (ValueError, RecursionError):
        return path.strip(), word
    return path.strip(), read["x"] if set(read) == {"x"} else word  # a line break could smuggle in other keys


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
