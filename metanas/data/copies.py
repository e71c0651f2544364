"""Identical images, found by a hash of each one: the leak that disjoint positions alone do not exclude."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from metanas.errors import DataError


def image_keys(images: Tensor) -> list[bytes]:
    """One hash for each image of (examples, ...): equal where shape, type and every pixel are equal."""
    rows = images.reshape(len(images), -1).numpy()
    return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]


def first_copies(images: Tensor) -> Tensor:
    """For each image the position of the first one identical to it, itself where there is none before: (examples,).

    >>> first_copies(torch.tensor([[1], [2], [1]], dtype=torch.uint8))
    tensor([0, 1, 0])
    """
    seen: dict[bytes, int] = {}
    return torch.tensor([seen.setdefault(key, i) for i, key in enumerate(image_keys(images))])


def refuse_shared(parts: Mapping[str, Tensor], what: str = "images") -> None:
    """Raises DataError, with counts, where the same image (or row: `what`) stands in two of `parts`."""
    keys = {name: image_keys(images) for name, images in parts.items()}
    shared = []
    for a, b in combinations(keys, 2):
        known = set(keys[a])
        copies = sum(key in known for key in keys[b])
        if copies:
            shared.append(f"{copies} of {len(keys[b])} {b} {what} are also in {a}")
    if shared:
        raise DataError(
            f"leakage between splits: {', '.join(shared)}; each may stand in one split only: remove the copies, give "
            'one (x, y) to be split, or pass overlap="allow"'
        )
