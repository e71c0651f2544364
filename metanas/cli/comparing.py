"""`metanas runs` and `metanas compare`: which runs there are, and how some of them differ."""

from __future__ import annotations

from typing import Annotated

import typer

from metanas.cli.guard import guarded
from metanas.errors import RunError


@guarded
def runs(
    filter: Annotated[
        str,
        typer.Option(
            metavar="WORDS",
            help="Runs of which every word tells: by name, space, data, controller, status.",
            show_default=False,
        ),
    ] = "",
    status: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="new, running, finished, interrupted, failed, killed, damaged.", show_default=False
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="NAME", help="started, name, score (the best first), time (the longest first).")
    ] = "started",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many.", show_default=False)] = None,
) -> None:
    """List the runs."""
    from rich.console import Console

    from metanas.run import list_runs
    from metanas.ui import runs_table
    from metanas.ui.report import matching, ordered

    everything = list_runs()
    found = ordered(matching(everything, filter, status), sort, reverse=reverse)[:limit]
    Console().print(runs_table(found, of=len(everything)))


@guarded
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Two to eight runs.", show_default=False)],
) -> None:
    """Show runs side by side: results, losses, and what differs in their recipes and architectures."""
    from rich.console import Console

    from metanas.run import RunFolder
    from metanas.ui import read
    from metanas.ui.compare import FEWEST, MOST, Comparison

    folders = [RunFolder.open(run).path for run in runs]
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        twice = next(run for place, run in enumerate(runs) if places.index(places[place]) < place)
        raise RunError(f"{twice} is named twice; name each run once")
    if not FEWEST <= len(runs) <= MOST:
        few = f"got {len(runs)} run{'s' * (len(runs) != 1)} to compare"
        raise RunError(f"{few}, allowed: {FEWEST} to {MOST}; metanas runs lists them")
    Console().print(Comparison(tuple(read(folder) for folder in folders)))
