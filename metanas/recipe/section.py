"""What all recipes are made of: the kinds of numbers, a section, the section that names a space, and TOML text.

Each kind of recipe has a file of its own (`recipe`, `tuning`, `few_shot`, `values`): to build the sections of all of
them takes a tenth of a second, which a search over a table need not wait for.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False)]
Value = bool | int | Finite | str
Options = dict[str, Value]
Size = Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, lt=1)]
Whole = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, allow_inf_nan=False)]

USUAL_SPACE = "nasbench201"
USUAL_OPTIONS: Options = {"channels": 8, "cells": 1}


class Section(BaseModel):
    """Frozen, strict about types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SpaceRecipe(Section):
    """`name`: of a space file, or its path; None where a Space was handed over. `options`: its arguments.

    What is left out of the usual space's options is as here, which suits a minute on a CPU; other spaces have their own
    defaults.
    """

    name: str | None = USUAL_SPACE
    options: Options = USUAL_OPTIONS

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("options", {}), dict):
            return data
        usual = USUAL_OPTIONS if data.get("name", USUAL_SPACE) == USUAL_SPACE else {}
        return {**data, "options": {**usual, **data.get("options", {})}}


def to_toml(data: dict[str, Any]) -> str:
    """ASCII TOML text of plain data, without what is None.

    >>> to_toml({"seed": 0, "threads": None})
    'seed = 0\\n'
    """
    text = tomli_w.dumps(_without_none(data))
    return re.sub(r"[^\x00-\x7f]", lambda letter: f"\\U{ord(letter[0]):08x}", text)  # stands in quotes, always


def _without_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _without_none(v) for k, v in data.items() if v is not None}
    return data
