"""Plain data of a recipe: from TOML, from words of a command line, with values set by dotted paths.

A later source overrides an earlier one: defaults, then a file, then flags.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metanas.errors import RecipeError


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
