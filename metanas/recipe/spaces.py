"""Space files: where they are found, and how one is loaded.

A space file is a small Python file with a function `space(**options) -> Space`, or one that gives a module with choices
marked in it. It is looked for

    as a path            when the name ends in .py or has a separator
    in METANAS_SPACES    folders of the user's own, separated as in PATH
    beside the package   the packaged copy, or the checkout's `search_spaces/`

Beside the function it may hold `RECIPE`, settings by dotted path that a search of the space starts from, where no
recipe is given: `RECIPE = {"search.epochs": 60, "evaluation.lr": 0.01}`.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import metanas
from metanas.errors import MetanasError, SpaceError, nearest
from metanas.space import Space

REQUIRED = "?"
"""What a listing shows of an option that has no default."""


def folders() -> list[Path]:
    """The folders that hold space files, in the order in which they are searched."""
    package = Path(metanas.__file__).parent
    own = [Path(p) for p in os.environ.get("METANAS_SPACES", "").split(os.pathsep) if p]
    return [p for p in (*own, package / "search_spaces", package.parent / "search_spaces") if p.is_dir()]


def list_spaces() -> dict[str, Path]:
    """Name -> file of every space that is found by name.

    >>> "nasbench201" in list_spaces()
    True
    """
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith("_"):
                found.setdefault(path.stem, path)
    return found


def find_space(name: str) -> Path:
    """The file of a space. Raises SpaceError with the nearest name, or where the path does not exist."""
    if name.endswith(".py") or os.sep in name:
        path = Path(name)
        if not path.is_file():
            raise SpaceError(
                f"no space file at {path}; give a name ({', '.join(list_spaces())}) or a path to a .py file"
            )
        return path
    found = list_spaces()
    if name not in found:
        raise SpaceError(f"no space named {name!r}{nearest(name, found)}")
    return found[name]


def load_space(name: str | Path | Space, **options: Any) -> Space:
    """The space of that name or file, built with `options`; a Space is handed through.

    Raises:
        SpaceError: unknown name, unknown option (with the nearest), or a file that gives neither a Space nor a module
            with marks.

    >>> load_space("nasbench201", channels=8, cells=1).size
    15625
    """
    if isinstance(name, Space):
        if options:
            raise SpaceError(f"a Space takes no options, got {', '.join(options)}; build it with them")
        return name
    made = load_made(name, **options)
    if isinstance(made, Space):
        return made
    if not hasattr(made, "named_modules"):
        raise SpaceError(f"{find_space(str(name))}: space() must return a Space or a module, got {type(made).__name__}")
    from metanas.network import space_of  # torch is there: the file made a module

    return space_of(made, find_space(str(name)).stem)


def load_made(name: str | Path, **options: Any) -> Any:
    """What the function of a space file gives: a Space, or a module in which choices are marked.

    Raises:
        SpaceError: unknown name, unknown option (with the nearest), or a file that cannot be run.
    """
    path = find_space(str(name))
    make = _function(path)
    known = inspect.signature(make).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
    for key in options:
        if key not in known and not takes_any:
            raise SpaceError(f"space {path.stem!r} has no option {key!r}{nearest(key, known)}")
    try:
        return make(**options)
    except MetanasError:
        raise
    except (Exception, SystemExit) as error:  # somebody's own code may raise anything
        raise SpaceError(f"space {path.stem!r} with options {options}: {_reason(error)}") from error


@dataclass(frozen=True)
class SpaceFile:
    """What a listing says of a space file: the first line of its docstring, and its options with their defaults.

    An option without a default has `REQUIRED`; a function that takes any option (`**others`) lists the named ones.
    """

    summary: str
    options: dict[str, Any]


def describe_space(path: Path) -> SpaceFile:
    """Reads a space file without building its space. Raises SpaceError for a file that cannot be loaded.

    >>> describe_space(find_space("nasbench201")).options
    {'channels': 16, 'cells': 5}
    """
    module = _module(path)
    known = inspect.signature(_function_of(module, path)).parameters
    options = {
        k: REQUIRED if p.default is p.empty else p.default for k, p in known.items() if p.kind is not p.VAR_KEYWORD
    }
    doc = inspect.getdoc(module) or ""
    return SpaceFile(doc.partition("\n")[0], options)


def usual_settings(name: str | Path) -> dict[str, Any]:
    """What a search of the space of that name or file starts from, by dotted path.

    Raises SpaceError for an unknown name, or a file that cannot be loaded.

    >>> usual_settings("nasbench201"), usual_settings("mlp")["search.batch_size"]
    ({}, 32)
    """
    path = find_space(str(name))
    settings = getattr(_module(path), "RECIPE", {})
    if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
        raise SpaceError(f"{path}: RECIPE must be a mapping of settings by dotted path, as {{'search.lr': 0.05}}")
    return dict(settings)


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"metanas_space_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a .py path always has both
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except MetanasError:
        raise
    except (Exception, SystemExit) as error:  # somebody's own code may raise anything
        raise SpaceError(f"{path} cannot be loaded: {_reason(error)}") from error
    return module


def _function(path: Path) -> Callable[..., Any]:
    return _function_of(_module(path), path)


def _function_of(module: Any, path: Path) -> Callable[..., Any]:
    function = getattr(module, "space", None)
    if not callable(function):
        raise SpaceError(f"{path}: a space file needs a function space(**options) -> Space")
    made: Callable[..., Any] = function
    return made


def _reason(error: BaseException) -> str:
    """The kind and the first line of an error."""
    line = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
