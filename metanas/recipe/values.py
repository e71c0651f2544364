"""The recipe of a search by values alone: a space, a controller, and a table in place of trainings.

[space]   name, options
[table]   source, key, what is chosen by, what is reported, what an evaluation is charged
[search]  controller and its options, how many evaluations, how many charged seconds
seed, checkpoint_seconds, logs
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from metanas.recipe.parsing import validated
from metanas.recipe.section import Options, Part, Rate, Section, SpaceRecipe, Whole, to_toml

Charge = dict[str, Part]
NO_CHARGE: Charge = {}
NO_OPTIONS: Options = {}


class TableRecipe(Section):
    """`source`: a CSV file, or one in gzip; None where an objective was handed over. `key`: the column with the names
    of architectures, as `str()` gives them. `choose`: the column that is maximised. `report`: columns that are read
    once, of what was found, and that no search may choose by. `charge`: column -> factor; the sum of the products is
    what an evaluation would have taken, in seconds.
    """

    source: str | None = None
    key: str = "arch"
    choose: str | None = None
    report: tuple[str, ...] = ()
    charge: Charge = NO_CHARGE


class ValueSearchRecipe(Section):
    """`budget`: evaluations at most; `seconds`: no evaluation begins when so many were charged; None: no bound."""

    controller: str = "evolution"
    options: Options = NO_OPTIONS
    budget: Whole = 1000
    seconds: Rate | None = None


class ValueRecipe(Section):
    """Everything that a search by values needs.

    >>> ValueRecipe().search.controller
    'evolution'
    """

    space: SpaceRecipe = SpaceRecipe()
    table: TableRecipe = TableRecipe()
    search: ValueSearchRecipe = ValueSearchRecipe()
    seed: Annotated[int, Field(ge=0)] = 0
    checkpoint_seconds: Part = 15.0
    logs: tuple[Literal["tensorboard", "optuna"], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, `read_values`'s argument."""
        return self.model_dump(mode="json")

    def to_toml(self) -> str:
        """ASCII TOML text that reads back to the same recipe."""
        return to_toml(self.to_json())


def contradictions_in_values(recipe: ValueRecipe) -> Iterator[str]:
    """Values that are allowed one by one, and not together."""
    table = recipe.table
    if table.source is not None and table.choose is None:
        yield "table.choose: which column is maximised? name one of the table's"
    if table.source is not None and recipe.search.seconds is not None and not table.charge:
        yield "search.seconds: nothing is charged; say in table.charge what is, as in charge = {train_seconds = 1.0}"
    if table.choose is not None and table.choose in table.report:
        yield f"table.report: {table.choose!r} is what the search chooses by, so it says nothing about the choice"


def read_values(data: Mapping[str, Any]) -> ValueRecipe:
    """The recipe of a search by values; as `read`.

    >>> read_values({"table": {"source": "table.csv"}})
    Traceback (most recent call last):
    metanas.errors.RecipeError: table.choose: which column is maximised? name one of the table's
    """
    return validated(ValueRecipe, data, contradictions_in_values)
