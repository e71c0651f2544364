"""Names of runs: what a run may be called, and which folder a name stands for.

A name is taken from command lines and files of other people, so it passes an allow-list: `first`, `runs/first` and
`nasbench201-digits-3` are names; `../x`, `/etc`, `-rf` and anything with a control or bidirectional mark are not.  A
`pathlib.Path` is different: a program chose that place on purpose, so only its last part has to be a name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from metanas.errors import RunError

LONGEST = 255  # bytes in one path component on every common file system; names are ASCII, so characters too
ALLOWED = f"letters, digits, '.', '_' and '-', at most {LONGEST}, beginning with a letter or digit"
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST - 1}}}")


def runs_root() -> Path:
    """The folder that holds the runs: the environment variable METANAS_RUNS, else `runs` in the working directory.

    >>> runs_root().name
    'runs'
    """
    return Path(os.environ.get("METANAS_RUNS") or "runs")


def is_name(text: str) -> bool:
    """Whether `text` may name a run.

    >>> is_name("first"), is_name("../x"), is_name(".hidden")
    (True, False, False)
    """
    return _NAME.fullmatch(text) is not None


def check_name(text: str) -> str:
    """`text` itself where it may name a run; otherwise RunError, one line that says what is allowed.

    >>> check_name("nasbench201-digits-3")
    'nasbench201-digits-3'
    >>> check_name("../x")
    Traceback (most recent call last):
    ...
    metanas.errors.RunError: run name '../x' is not allowed; use letters, digits, '.', '_' and '-', at most 255, \
beginning with a letter or digit
    """
    if is_name(text):
        return text
    # ascii() shows NUL, escape sequences and bidirectional marks as inert text
    shown = ascii(text) if len(text) <= 60 else f"{text[:60]!a}... ({len(text)} characters)"
    raise RunError(f"run name {shown} is not allowed; use {ALLOWED}")


def run_path(run: str | Path, root: Path | None = None) -> Path:
    """The folder that `run` stands for, whether or not it exists.

    A string is a name, with or without the folder of the runs before it (`first`, `runs/first`, `runs/first/`); a
    Path is a place, relative to the working directory as any other.  RunError for a name that is not allowed.

    >>> run_path("first") == run_path("runs/first") == run_path("runs/first/")
    True
    >>> run_path(Path("/data/first")).as_posix()
    '/data/first'
    """
    if isinstance(run, Path):
        check_name(run.name)
        if "\0" in str(run):
            raise RunError(f"run path {str(run)!a} holds a NUL character; a path may not")
        return run
    root = runs_root() if root is None else root
    name = run
    for prefix in (f"{root}/", "runs/"):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return root / check_name(name.removesuffix("/"))


def next_name(stem: str, root: Path | None = None) -> str:
    """`stem` with the next free number behind it; characters that a name may not have become '-'.

    The number is one above the highest in use, so that the order of the numbers is the order of the runs.

    >>> next_name("nasbench201-my photos", Path("/nonexistent"))
    'nasbench201-my-photos-1'
    """
    root = runs_root() if root is None else root
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:200] or "run"
    pattern = re.compile(re.escape(stem) + r"-([0-9]{1,9})")
    taken = os.listdir(root) if root.is_dir() else []
    numbers = [int(match[1]) for match in map(pattern.fullmatch, taken) if match]
    return f"{stem}-{max(numbers, default=0) + 1}"
