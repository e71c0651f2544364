"""Options that several commands have, said once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

DATA = "digits, or a path: an .npz, a .csv, a folder of images by class, a .zip of it."


def data_option(help: str = DATA) -> Any:
    """`--data DATA`."""
    return typer.Option(metavar="DATA", help=help, show_default=False)


def settings_option(example: str) -> Any:
    """`--set KEY=VALUE`, as often as is wanted."""
    return typer.Option("--set", metavar="KEY=VALUE", help=f"Anything of the recipe: {example}", show_default=False)


RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run: first, or runs/first.", show_default=False)]
RecipeName = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE", help="A recipe that ships (--list names them), or a .toml file.", show_default=False
    ),
]
Data = Annotated[str | None, data_option()]
Target = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Of a .csv: the column to be predicted.", show_default=False)
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Of everything that is drawn.", show_default=False)]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="auto (cuda where it is there), cpu, cuda or mps.", show_default=False),
]
Threads = Annotated[int | None, typer.Option(metavar="N", help="CPU threads.", show_default=False)]
NewRun = Annotated[
    str | None, typer.Option(metavar="RUN", help="Name of the run folder, which must be new.", show_default=False)
]
PrintRecipe = Annotated[bool, typer.Option("--print-recipe", help="Print the whole recipe as TOML and stop.")]
ListRecipes = Annotated[bool, typer.Option("--list", help="List the recipes that ship and stop.")]
Module = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Of a search of your own module: the file that makes it.", show_default=False),
]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live view.")]
