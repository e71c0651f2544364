"""Omniglot as it is published: 964 characters of 30 alphabets to learn from, 659 of 20 others to be tested on.

An `.npz` (or a mapping) with `background` and `evaluation`, each (characters, drawers, height, width) in the order of
the official character numbers. `omniglot_alphabets.csv` beside it says which numbers an alphabet has:

    part,alphabet,first_char_1based,last_char_1based
    background,Arcadian,1,26
    evaluation,Angelic,965,984

Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic program induction, 2015.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metanas.errors import DataError

PARTS = ("background", "evaluation")
ALPHABETS = "omniglot_alphabets.csv"


@dataclass(frozen=True, eq=False)
class Characters:
    """A part of Omniglot: images (characters, drawers, 1, height, width), the name and the alphabet of each character
    ("" where it is not known).
    """

    images: Tensor
    names: tuple[str, ...]
    alphabets: tuple[str, ...]


def read_omniglot(source: object) -> tuple[str, Characters, Characters] | None:
    """(name, background, evaluation); None for a source that is not Omniglot.

    Raises DataError where it is, but its arrays or alphabets are not what they must be.

    >>> images = np.zeros((3, 2, 4, 4), dtype=np.uint8)
    >>> read_omniglot({"background": images, "evaluation": images[:1]})[2].names
    ('evaluation/character0001',)
    >>> read_omniglot("digits") is None
    True
    """
    if isinstance(source, Mapping):
        if not set(PARTS) <= set(source):
            return None
        name, arrays, alphabets = "omniglot", {part: source[part] for part in PARTS}, None
    else:
        path = Path(source) if isinstance(source, str | Path) else None
        if path is None or path.suffix.lower() != ".npz" or not _has_parts(path):
            return None
        name, arrays, alphabets = path.stem, _load(path), _alphabets(path.parent / ALPHABETS)
    background, evaluation = (_images(part, arrays[part]) for part in PARTS)
    if background.shape[2:] != evaluation.shape[2:] or background.dtype != evaluation.dtype:
        said = ", ".join(f"{x.dtype} {tuple(x.shape[2:])}" for x in (background, evaluation))
        raise DataError(f"{name}: background and evaluation must have one shape and type of image, got {said}")
    known = _names("background", len(background), 0, alphabets)
    tested = _names("evaluation", len(evaluation), len(background), alphabets)
    return name, Characters(background, *known), Characters(evaluation, *tested)


def _has_parts(path: Path) -> bool:
    """Whether the `.npz` holds both arrays; a file that cannot be read is left to the reader of `.npz` files."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{part}.npy" for part in PARTS} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _load(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:  # never a pickle: an array of objects could run code
            return {part: file[part] for part in PARTS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{str(path)!r} is damaged ({reason}): fetch it again") from error


def _images(part: str, array: Any) -> Tensor:
    images = torch.as_tensor(np.array(array)) if not isinstance(array, Tensor) else array.detach().cpu()
    if images.ndim != 4 or images.numel() == 0 or (images.dtype != torch.uint8 and not images.is_floating_point()):
        raise DataError(
            f"{part} must be (characters, drawers, height, width), uint8 or float, got {images.dtype} "
            f"{tuple(images.shape)}"
        )
    return images[:, :, None] if images.dtype == torch.uint8 else images[:, :, None].float()


def _alphabets(path: Path) -> dict[str, list[tuple[str, int, int]]] | None:
    """For each part, the alphabets with their first and last character, numbers from 1 through both parts."""
    if not path.is_file():
        return None
    found: dict[str, list[tuple[str, int, int]]] = {part: [] for part in PARTS}
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), 2):
            try:
                span = (row["alphabet"], int(row["first_char_1based"]), int(row["last_char_1based"]))
                found[row["part"]].append(span)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{path.name}, line {line}: must be part (background or evaluation), alphabet, first_char_1based, "
                    f"last_char_1based, got {', '.join(str(cell) for cell in row.values())}"
                ) from error
    return found


def _names(
    part: str, count: int, before: int, alphabets: Mapping[str, list[tuple[str, int, int]]] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names and alphabets of the characters `before` + 1 .. `before` + `count`."""
    if alphabets is None:
        return tuple(f"{part}/character{i:04d}" for i in range(1, count + 1)), ("",) * count
    spans = sorted(alphabets[part], key=lambda span: span[1])
    numbers = [number for _, first, last in spans for number in range(first, last + 1)]
    if numbers != list(range(before + 1, before + count + 1)):
        raise DataError(
            f"{ALPHABETS}: the {part} alphabets must cover the characters {before + 1} to {before + count}, each once, "
            f"got {len(numbers)} from {numbers[0] if numbers else 'none'} to {numbers[-1] if numbers else 'none'}"
        )
    names = [f"{name}/character{i:02d}" for name, first, last in spans for i in range(1, last - first + 2)]
    return tuple(names), tuple(name for name, first, last in spans for _ in range(first, last + 1))
