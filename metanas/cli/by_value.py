"""`metanas table`: a search that looks values up in place of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from metanas.cli.guard import guarded, put, shown
from metanas.cli.learning import view_of
from metanas.cli.options import NewRun, Plain, PrintRecipe, Seed, settings_option
from metanas.errors import RecipeError

Space = Annotated[
    str | None, typer.Option(metavar="SPACE", help="Name of a space, or path to its file.", show_default=False)
]
Key = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="With the names of architectures: arch.", show_default=False)
]
Choose = Annotated[str | None, typer.Option(metavar="COLUMN", help="What is maximised.", show_default=False)]
Report = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Read of what was found, and by no search.", show_default=False),
]
Charge = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=FACTOR",
        help="What an evaluation would have taken: seconds, or a part of them; several are added.",
        show_default=False,
    ),
]


@guarded
def table(
    file: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="A CSV file, or one in gzip.", show_default=False)
    ] = None,
    space: Space = None,
    key: Key = None,
    choose: Choose = None,
    report: Report = None,
    charge: Charge = None,
    controller: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="random, evolution, local_search, predictor.", show_default=False),
    ] = None,
    budget: Annotated[int | None, typer.Option(metavar="N", help="Evaluations at most.", show_default=False)] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Charged seconds at most.", show_default=False)
    ] = None,
    seed: Seed = None,
    run: NewRun = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe as TOML to start from.", show_default=False)
    ] = None,
    settings: Annotated[list[str] | None, settings_option("search.options.population=20")] = None,
    print_recipe: PrintRecipe = False,
    plain: Plain = False,
) -> None:
    """Search a table of architectures that were trained once and for all; nothing is trained."""
    from metanas.recipe import ValueRecipe, override, parse_setting, read_toml, read_values

    base = read_toml(recipe) if recipe else ValueRecipe().to_json()
    given: dict[str, Any] = {
        **table_changes(file, space, key, choose, report, charge),
        "search.controller": controller,
        "search.budget": budget,
        "search.seconds": seconds,
        "seed": seed,
    }
    changes = dict(parse_setting(text) for text in settings or [])
    changes |= {path: value for path, value in given.items() if value is not None}
    whole = read_values(override(base, changes))
    if print_recipe:
        print(whole.to_toml(), end="")
        return
    from metanas.api import search_by_value

    print_best(search_by_value(recipe=whole, run=run, view=view_of(plain)))


def table_changes(
    file: str | None,
    space: str | None,
    key: str | None,
    choose: str | None,
    report: list[str] | None,
    charge: list[str] | None,
) -> dict[str, Any]:
    """The arguments about a table as changes of its recipe; None where nothing was said."""
    return {
        "space": None if space is None else {"name": space},
        "table.source": file,
        "table.key": key,
        "table.choose": choose,
        "table.report": report or None,
        "table.charge": dict(map(_charge, charge)) if charge else None,
    }


def _charge(text: str) -> tuple[str, float]:
    name, _, factor = text.partition("=")
    try:
        return name, float(factor or 1)
    except ValueError:
        raise RecipeError([f"--charge {text}: expected COLUMN=FACTOR, as in train_seconds=0.06"]) from None


def print_best(result: Any) -> None:
    """What a search by values found, in a few lines."""
    charged = "" if result.spent is None else f", {result.spent:,.0f} seconds charged"
    put(f"found     {result.architecture}")
    put(f"value     {result.value:.6g} after {result.evaluations:,} evaluations{charged}")
    for name, value in result.report.items():
        put(f"report    {name} {value:.6g}")
    put(f"files     {shown(result.run)}/result.json")
