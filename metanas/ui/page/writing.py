"""The report as a file: written whole or not at all, never over something without being told to."""

from __future__ import annotations

import re
import time
from pathlib import Path

from metanas.errors import ExportError, RunError
from metanas.run import read_json
from metanas.run.atomic import explained, write_bytes
from metanas.run.folder import OWN
from metanas.ui.fields import Record
from metanas.ui.follow import read
from metanas.ui.page.whole import page


def write_page(folder: str | Path, to: str | Path | None = None, force: bool = False) -> Path:
    """Writes the report of the run in `folder`; returns where it is.

    Args:
        folder: of the run. It is read, and nothing in it is changed.
        to: the file; a folder: RUN-report.html in it; None: that in the current folder, which must not be in a run.
        force: replace a file that is there. The files of a run are never replaced.

    Raises:
        ExportError: the target exists, is a folder, or is a file of a run; or the current folder is in a run.
        RunError: the disk is full, or the target cannot be written to.
    """
    folder = Path(folder)
    target = _target(folder, None if to is None else Path(to))
    if target.is_dir():
        raise ExportError(f"a folder is in the way: {target}; choose another file with --to")
    if target.name in OWN and (target.parent / "recipe.json").is_file():
        raise ExportError(f"{target} is a file of a run; choose another file with --to")
    if not force and (target.exists() or target.is_symlink()):
        raise ExportError(f"already there: {target}; choose another file with --to, or give force=True (--force)")
    text = page(read(folder), _recipe(folder), now=time.time())
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, text.encode("utf-8", "replace"))
    return target


def _target(folder: Path, to: Path | None) -> Path:
    name = f"{file_stem(folder.absolute().name)}-report.html"
    if to is not None:
        return to / name if to.is_dir() else to
    here = Path.cwd()
    inside = next((place for place in (here, *here.parents) if (place / "recipe.json").is_file()), None)
    if inside is not None:
        raise ExportError(f"the current folder is in a run ({inside}); say where the report goes with --to FILE")
    return Path(name)


def file_stem(name: str) -> str:
    """A run's name as the beginning of a file's.

    >>> file_stem("first"), file_stem("a b\\x1b[2J"), file_stem("..")
    ('first', 'a-b-2J', 'run')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:200] or "run"


def _recipe(folder: Path) -> Record:
    try:
        return read_json(folder / "recipe.json")
    except RunError:
        return {}
