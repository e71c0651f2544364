"""The run folder: `runs/first/` holds everything about one run, and a copy of it is a run as well.

    recipe.json  space.json          what was asked for, versions included; written once, before training
    events.jsonl  checkpoints/       what happened so far
    result.json  architecture.json  network.safetensors  network.py      what was found

Each JSON file says its schema.  An unknown, newer one is refused with the version that reads it, never guessed at.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from metanas.errors import RunError, nearest
from metanas.run.atomic import explained, read_json, remove_leftovers, write_json
from metanas.run.lock import LOCK, Lock
from metanas.run.names import is_name, next_name, run_path, runs_root
from metanas.run.requests import REQUESTS, withdraw

SCHEMA = 1
OWN = (
    "recipe.json",
    "space.json",
    "events.jsonl",
    "checkpoints",
    LOCK,
    "result.json",
    "architecture.json",
    "network.safetensors",
    "source.safetensors",
    "learned.safetensors",
    "learned.json",
    "study.journal",
    "network.py",
)
"""What a run folder holds."""


@final
@dataclass(frozen=True)
class RunFolder:
    """One run as a place: its paths and its documents.  `create` and `open` make one; readers need no lock.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     run = RunFolder.create("first", root=Path(root))
    ...     with run.lock() as lock:
    ...         run.write_result({"schema": 1, "test_score": 0.99})
    ...     run.name, run.read_result()["test_score"]
    ('first', 0.99)
    """

    path: Path

    @classmethod
    def create(cls, run: str | Path, *, root: Path | None = None) -> RunFolder:
        """Makes the folder of a new run (`run_path` says where).

        Raises RunError where the name is not allowed, something is there already, or the place is read-only.
        """
        path = run_path(run, root)
        with explained(path, "create"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.mkdir()
            except FileExistsError:
                empty = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
                if not empty:
                    way = cls(path).resumed_by
                    raise RunError(f"{path} exists; resume it ({way}) or choose another name") from None
        return cls(path)

    @classmethod
    def create_numbered(cls, stem: str, *, root: Path | None = None) -> RunFolder:
        """Makes the folder of a new run under the next free number, as `nasbench201-digits-3`; raises as `create`."""
        root = runs_root() if root is None else root
        with explained(root, "create a run in"):
            root.mkdir(parents=True, exist_ok=True)
            while True:
                path = root / next_name(stem, root)
                try:
                    path.mkdir()
                except FileExistsError:  # another search was quicker; the next look sees its number
                    continue
                return cls(path)

    @classmethod
    def open(cls, run: str | Path, *, root: Path | None = None) -> RunFolder:
        """An existing run.  RunError where there is none (with the nearest name) or it is not a run."""
        path = run_path(run, root)
        if not path.is_dir():
            others = [name for name in _names(path.parent) if name != path.name]
            hint = nearest(path.name, others) if others else "; metanas search makes one"
            raise RunError(f"there is no run at {path}{hint}")
        if not (path / "recipe.json").is_file():
            raise RunError(f"{path} is not a run: recipe.json is missing")
        return cls(path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def resumed_by(self) -> str:
        """What goes on with this run: the command, or where no name stands for its place, the Python call.

        >>> RunFolder(runs_root() / "first").resumed_by, RunFolder(Path("/data/first")).resumed_by
        ('metanas resume first', "metanas.resume(Path('/data/first'))")

        A module of the user's is handed over again: the file that made it is named, where one did.
        """
        named = is_name(self.name) and run_path(self.name) == self.path
        module, file = self._module()
        if named and (file or not module):
            return f"metanas resume {self.name}" + (f" --module {shlex.quote(file)}" if file else "")
        place = f"{self.name!a}" if named else f"Path({str(self.path)!a})"
        return f"metanas.resume({place}" + (f", module={f'{file!a}' if file else '...'})" if module else ")")

    def _module(self) -> tuple[bool, str]:
        """Whether the run is of a module of the user's, and the file that made it; "" where the recipe names none."""
        try:
            document = self.read_recipe()
            if "module" not in document.get("handed", {}):
                return False, ""
            return True, str(document["recipe"]["space"].get("name") or "")
        except (RunError, KeyError, TypeError, AttributeError):  # not there, or written by another hand
            return False, ""

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def file(self, name: str) -> Path:
        """Any other file of the run by its name: "network.safetensors", "architecture.json", "network.py"."""
        return self.path / name

    def refuse_links(self) -> None:
        """RunError where the folder, or anything that a run consists of, is a symbolic link.

        A run may come from elsewhere: through a link in it, a resume would empty and an export would read files that
        have nothing to do with it.
        """
        for path in (self.path, *(self.path / name for name in OWN)):
            if path.is_symlink():
                raise RunError(f"{path} is a symbolic link, which is not followed; put what it points to in its place")

    def lock(self) -> Lock:
        """The right to write: takes the lock, then removes what a killed writer and past requests left behind.

        `notes` of the lock say what was taken over and removed.  Raises RunError where the run is in use, read-only
        or gone, or where it holds symbolic links.
        """
        self.refuse_links()
        lock = Lock.acquire(self.path)
        try:
            leftovers = (*remove_leftovers(self.path), *remove_leftovers(self.checkpoints))
            for request in REQUESTS:
                withdraw(self.path, request)
        except RunError:
            lock.release()
            raise
        return replace(lock, notes=(*lock.notes, *(f"removed the unfinished file {name}" for name in leftovers)))

    def read_recipe(self) -> dict[str, Any]:
        """recipe.json; RunError where it is missing, damaged, or of a schema that this version does not know."""
        return self._read("recipe.json")

    def read_space(self) -> dict[str, Any]:
        """space.json; raises as `read_recipe` does."""
        return self._read("space.json")

    def read_result(self) -> dict[str, Any] | None:
        """result.json, or None where the run has no result yet; raises as `read_recipe` does."""
        return self._read("result.json") if self.file("result.json").exists() else None

    def write_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Writes recipe.json whole or not at all; RunError as `write_bytes` and `dump_json` raise it."""
        write_json(self.file("recipe.json"), recipe)

    def write_space(self, space: Mapping[str, Any]) -> None:
        """Writes space.json as `write_recipe` does."""
        write_json(self.file("space.json"), space)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes result.json as `write_recipe` does."""
        write_json(self.file("result.json"), result)

    def _read(self, name: str) -> dict[str, Any]:
        document = read_json(self.file(name))
        check_schema(document, self.file(name), known=SCHEMA)
        return document


def check_schema(document: Mapping[str, Any], path: Path, *, known: int) -> None:
    """RunError unless the document's "schema" is one that this version reads: 1 to `known`.

    >>> check_schema({"schema": 2, "metanas": "0.4.0"}, Path("runs/a/recipe.json"), known=1)
    Traceback (most recent call last):
    ...
    metanas.errors.RunError: runs/a/recipe.json needs metanas >= 0.4.0 (its schema is 2, this version reads up to 1)
    """
    schema = document.get("schema")
    if type(schema) is not int or schema < 1:
        raise RunError(f"{path} is damaged: schema must be a whole number >= 1, got {schema!a}")
    if schema > known:
        version = document.get("needs", document.get("metanas"))
        version = f"metanas >= {version}" if isinstance(version, str) and is_name(version) else "a newer metanas"
        raise RunError(f"{path} needs {version} (its schema is {schema}, this version reads up to {known})")


def _names(root: Path) -> list[str]:
    """The names of all run folders in `root`, sorted.  What cannot be opened by name is not listed."""
    try:
        entries = os.listdir(root)
    except OSError:
        return []
    return sorted(name for name in entries if is_name(name) and (root / name).is_dir())
