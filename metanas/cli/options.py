"""Options that several commands have, said once."""

from __future__ import annotations

from typing import Annotated

import typer

Target = Annotated[str | None, typer.Option(help="Of a .csv: the column to be predicted.", show_default=False)]
Seed = Annotated[int | None, typer.Option(help="Of everything that is drawn.", show_default=False)]
Device = Annotated[
    str | None, typer.Option(help="auto (cuda where it is there), cpu, cuda or mps.", show_default=False)
]
Threads = Annotated[int | None, typer.Option(help="CPU threads.", show_default=False)]
NewRun = Annotated[str | None, typer.Option(help="Name of the run folder, which must be new.", show_default=False)]
PrintRecipe = Annotated[bool, typer.Option("--print-recipe", help="Print the whole recipe as TOML and stop.")]
ListRecipes = Annotated[bool, typer.Option("--list", help="List the recipes that ship and stop.")]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live view.")]
