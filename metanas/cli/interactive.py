"""`metanas ui`: runs in a terminal, to go through with keys and mouse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from metanas.cli.guard import guarded
from metanas.cli.waiting import wait_for
from metanas.errors import MetanasError, RunError


@guarded
def ui(
    runs: Annotated[
        str | None,
        typer.Argument(metavar="RUN or FOLDER", help="A run to open, or a folder that holds runs.", show_default=False),
    ] = None,
) -> None:
    """Go through runs in the terminal: live, at any past step, side by side."""
    from metanas.ui import can_draw

    if runs is not None and not Path(runs).is_dir():
        wait_for(runs)
    root, run = places(runs)
    if not all(map(can_draw, (sys.stdin, sys.stdout, sys.stderr))):  # textual draws on standard error
        instead = f"metanas show {runs}" if run else "metanas runs, or metanas show RUN"
        raise MetanasError(f"metanas ui needs a terminal that it can draw on; elsewhere use {instead}")
    try:
        from metanas.ui.app import start
    except ImportError as error:
        from metanas.errors import MissingDependencyError

        raise MissingDependencyError(f"metanas ui needs textual ({error}); pip install 'textual>=8,<9'") from error
    start(root, run, ascii_only="utf" not in (sys.stderr.encoding or "").lower())


def places(given: str | None) -> tuple[Path, Path | None]:
    """The folder whose runs are listed, and the run that is opened; a name of a run comes before a folder.

    >>> places("/")
    (PosixPath('/'), None)
    """
    from metanas.run import is_name, run_path, runs_root

    if given is None:
        return runs_root(), None
    name = given.removeprefix("runs/").removesuffix("/")
    if is_name(name) and _is_run(run_path(given)):
        return runs_root(), run_path(given)
    place = Path(given)
    if not place.is_dir():
        raise RunError(f"there is no run and no folder {given!a}; metanas runs lists the runs")
    return (place.absolute().parent, place) if _is_run(place) else (place, None)


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.json").is_file() or (folder / "events.jsonl").is_file()
