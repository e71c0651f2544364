"""`metanas report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metanas.cli.guard import guarded, put
from metanas.cli.options import RunName


@guarded
def report(
    run: RunName,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE or FOLDER",
            help="The file, or a folder for it (default: RUN-report.html here).",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a report that is there.")] = False,
) -> None:
    """Write a run as one HTML page that needs no network: curves, structure, networks, log and recipe."""
    from metanas.run import RunFolder
    from metanas.ui.page import write_page

    put(str(write_page(RunFolder.open(run).path, to, force)))
