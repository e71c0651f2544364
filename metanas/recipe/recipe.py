"""A recipe: everything a run needs, as one frozen value that is validated with all its mistakes at once.

    [space]       name, options
    [data]        source, sizes of the splits, augmentation
    [search]      controller and its options, estimator, how the supernet is trained
    [evaluation]  how the derived network and random ones beside it are trained from scratch
    seed, device, threads

It is read from TOML, overridden by dotted paths (`search.epochs`), printed as TOML, and kept as JSON in the run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metanas.errors import RecipeError, nearest

Value = bool | int | float | str
Options = dict[str, Value]
Size = Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, lt=1)]
Whole = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Frozen, strict about types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SpaceRecipe(Section):
    """`name`: of a space file, or its path; None where a Space was handed over. `options`: its arguments."""

    name: str | None = "nasbench201"
    options: Options = {"channels": 8, "cells": 1}


class DataRecipe(Section):
    """`source`: a name or a path; None where data was handed over. Sizes are fractions (below 1) or counts.

    `augment`: words such as "crop 1", "flip", "cutout 8"; None: what suits the source.
    """

    source: str | None = "digits"
    inner: Size | None = None
    outer: Size | None = None
    test: Size | None = None
    augment: tuple[str, ...] | None = None


class SearchRecipe(Section):
    """`budget`: evaluations of a controller that needs values; the rest is of `loop.Schedule`, where it is explained."""

    controller: str = "drnas"
    options: Options = {}
    estimator: str = "first_order"
    epochs: Whole = 30
    warmup: Annotated[int, Field(ge=0)] = 5
    batch_size: Whole = 64
    lr: Rate = 0.1
    lr_end: Part = 0.001
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Part = 5e-4
    clip: Rate = 5.0
    order: Literal["advance", "outer"] = "advance"
    monitor: Whole = 512
    budget: Whole = 20
    value_epochs: Whole = 5


class EvaluationRecipe(Section):
    """Training from scratch; `random`: how many random architectures stand beside; `space`: other options of the
    space.
    """

    epochs: Whole = 15
    batch_size: Whole = 64
    lr: Rate = 0.1
    warmup: Annotated[int, Field(ge=0)] = 0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Part = 5e-4
    clip: Rate = 5.0
    random: Annotated[int, Field(ge=0)] = 3
    space: Options = {}


class Recipe(Section):
    """Everything a run needs. `threads`: of the CPU; None: as torch finds it. `checkpoint_seconds`: time between two."""

    space: SpaceRecipe = SpaceRecipe()
    data: DataRecipe = DataRecipe()
    search: SearchRecipe = SearchRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Whole | None = None
    checkpoint_seconds: Part = 15.0

    def to_json(self) -> dict[str, Any]:
        """Plain data, `read_recipe`'s argument.

        >>> read(Recipe().to_json()) == Recipe()
        True
        """
        return self.model_dump(mode="json")

    def to_toml(self) -> str:
        """TOML text that reads back to the same recipe; what is None is left out."""
        return tomli_w.dumps(_without_none(self.to_json()))


def read(data: Mapping[str, Any]) -> Recipe:
    """The recipe of plain data.

    Raises:
        RecipeError: with every mistake at once, each with its path and, for an unknown key, the nearest known one.

    >>> try:
    ...     read({"search": {"epochs": 0, "epohcs": 3}})
    ... except RecipeError as error:
    ...     print("\\n".join(error.problems))
    search.epochs: should be greater than or equal to 1, got 0
    search.epohcs: unknown key; did you mean "epochs"?
    """
    try:
        return Recipe.model_validate(_tuples(data))
    except ValidationError as error:
        raise RecipeError(_problems(error)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The plain data of a TOML file. Raises RecipeError where it is missing, not TOML, or empty."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError([f"{path}: {error.strerror}; give the path of a TOML file"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError([f"{path}: not TOML ({error})"]) from None
    if not data:
        raise RecipeError([f"{path}: the recipe is empty; `metanas search --print-recipe` writes a whole one"])
    return data


def override(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `data` with values set by dotted paths.

    Raises:
        RecipeError: a path goes through something that is no section.

    >>> override({"search": {"epochs": 3}}, {"search.epochs": 5, "seed": 1})
    {'search': {'epochs': 5}, 'seed': 1}
    """
    result = {k: dict(v) if isinstance(v, Mapping) else v for k, v in data.items()}
    for path, value in changes.items():
        *sections, key = path.split(".")
        at = result
        for section in sections:
            inner = at.get(section, {})
            if not isinstance(inner, Mapping):
                raise RecipeError([f"{path}: {section} is no section but {inner!r}"])
            at[section] = dict(inner)
            at = at[section]
        at[key] = value
    return result


def parse_setting(text: str) -> tuple[str, Any]:
    """`search.lr=0.1` as a path and a value; a value that is not TOML is a word.

    >>> parse_setting("search.lr=0.1"), parse_setting("search.controller=darts"), parse_setting("data.augment=['flip']")
    (('search.lr', 0.1), ('search.controller', 'darts'), ('data.augment', ['flip']))
    """
    path, mark, value = text.partition("=")
    if not mark or not path.strip():
        raise RecipeError([f"{text!r}: expected path=value, as in search.epochs=50"])
    try:
        return path.strip(), tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return path.strip(), value.strip()


def _problems(error: ValidationError) -> list[str]:
    rows: dict[str, str] = {}
    for problem in error.errors():
        path = [str(p) for p in problem["loc"] if p not in ("constrained-int", "constrained-float")]
        where = ".".join(path)
        if problem["type"] == "extra_forbidden":
            rows[where] = f"{where}: unknown key{nearest(path[-1], _keys(path[:-1]))}"
        elif where not in rows:
            message = problem["msg"].removeprefix("Input ").replace("Value error, ", "")
            rows[where] = f"{where}: {message}, got {problem['input']!r}"
    return [rows[k] for k in sorted(rows)]


def _keys(path: list[str]) -> list[str]:
    section: type[BaseModel] = Recipe
    for key in path:
        kind = section.model_fields[key].annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        section = kind
    return list(section.model_fields)


def _tuples(data: Any) -> Any:
    """Lists as tuples (JSON and TOML know only lists), and whole numbers stay whole."""
    if isinstance(data, Mapping):
        return {k: _tuples(v) for k, v in data.items()}
    return tuple(data) if isinstance(data, list) else data


def _without_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _without_none(v) for k, v in data.items() if v is not None}
    return data
