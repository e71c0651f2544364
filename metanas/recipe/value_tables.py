"""The part of the table from names to constructors that needs no torch: controllers by values, and the constructing.

`tables.CONTROLLERS` is all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from metanas.controllers import Controller, LocalSearch, Nsga2, Predictor, RandomSearch, RegularisedEvolution
from metanas.errors import RecipeError, SpaceError, nearest
from metanas.samplers import OptunaSearch

VALUE_CONTROLLERS: Mapping[str, type[Controller]] = {
    "evolution": RegularisedEvolution,
    "local_search": LocalSearch,
    "nsga2": Nsga2,
    "optuna": OptunaSearch,
    "predictor": Predictor,
    "random": RandomSearch,
}


def made_from(table: Mapping[str, type[Controller]], name: str, options: Mapping[str, Any]) -> Controller:
    """The controller of that name in a table. Raises RecipeError for an unknown name or option, with the nearest."""
    if name not in table:
        raise RecipeError([f"search.controller: unknown name {name!r}{nearest(name, table)}"])
    kind = table[name]
    # Every controller of the table is a dataclass, which its type `Controller` does not say.
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    problems = [
        f"search.options.{key}: {name} has no such option{nearest(key, fields)}" for key in options if key not in fields
    ]
    problems += [
        f"search.options.{key}: {problem}"
        for key, value in options.items()
        if key in fields and (problem := _mistaken(fields[key], value))
    ]
    if problems:
        raise RecipeError(problems)
    try:
        return kind(**options)
    except SpaceError as error:
        raise RecipeError([f"search.options: {error}"]) from None


def name_in(table: Mapping[str, type[Controller]], controller: Controller) -> tuple[str, dict[str, Any]] | None:
    """The name and options that make an equal controller; None for one that is not in the table."""
    for name, kind in table.items():
        if type(controller) is kind:
            plain = kind()
            options = {
                f.name: getattr(controller, f.name)
                for f in dataclasses.fields(controller)  # type: ignore[arg-type]
                if getattr(controller, f.name) != getattr(plain, f.name)
            }
            if all(isinstance(v, int | float | str) for v in options.values()):
                return name, options
    return None


def _mistaken(option: dataclasses.Field[Any], value: Any) -> str:
    """What is wrong with the value of an option: a number, or one of the words that its field lists; "" for nothing."""
    words = option.metadata.get("words")
    if words is not None:
        return "" if value in words else f"unknown word {value!r}{nearest(value, words)}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "" if number else f"expected a number, got {value!r}"
