"""Recipes that ship, one small TOML file each beside this one; and where a recipe of the user's is found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from metanas.errors import RecipeError, nearest

Kind = Literal["tuning", "few-shot"]
FOLDERS: dict[Kind, Path] = {
    "tuning": Path(__file__).parent / "tunings",
    "few-shot": Path(__file__).parent / "fewshots",
}


def list_recipes(kind: Kind) -> dict[str, tuple[Path, str]]:
    """Name -> (file, its first comment) of every recipe that ships.

    >>> list_recipes("tuning")["clean"][1]
    'Which labels are wrong? A weight for each example, on digits with 40 % wrong labels.'
    """
    found = {}
    for path in sorted(FOLDERS[kind].glob("*.toml")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        found[path.stem] = path, first.removeprefix("#").strip()
    return found


def find_recipe(kind: Kind, name: str | Path) -> Path:
    """The file of a recipe: a path where it ends in .toml or has a separator, else one that ships.

    Raises:
        RecipeError: an unknown name, with the nearest.

    >>> find_recipe("tuning", "clena")
    Traceback (most recent call last):
    metanas.errors.RecipeError: no tuning recipe named 'clena'; did you mean "clean"?
    """
    text = str(name)
    if text.endswith(".toml") or os.sep in text:
        return Path(name)
    known = list_recipes(kind)
    if text not in known:
        raise RecipeError([f"no {kind} recipe named {text!r}{nearest(text, known)}"])
    return known[text][0]
