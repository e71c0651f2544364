"""Stratified splits that are disjoint by construction: every example gets exactly one owner.

    quota[class, split]  = images of the class * size of the split / all images
    count[class, split]  = floor(quota), and one more for some, so that the counts add up to the sizes exactly
    each class is shuffled and dealt out by its counts

The "one more" is a 0/1 table with given row and column sums. Dealing each row to the columns that need most always
ends (Ryser, Combinatorial properties of matrices of zeros and ones, 1957), so each count is within 1 of its quota.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metanas.errors import DataError

Share = int | float
"""The size of a split: a fraction of the source (0.4) or a number of images (400)."""


def stratified(
    targets: Tensor,
    shares: Mapping[str, Share],
    *,
    generator: torch.Generator,
    first: Tensor | None = None,
) -> dict[str, Tensor]:
    """Disjoint positions (ascending, long) for every split named in `shares`, stratified by class.

    targets: labels (examples,), integers >= 0
    shares:  fractions in (0, 1) or numbers of images; together at most the source, what is left over stays unused
    first:   for every example the position of the first identical image (itself where there is none); copies follow
             their first into its split, so that identical images never stand in two splits

    Raises DataError where a share is out of range or the shares exceed the source.

    >>> parts = stratified(torch.tensor([0, 1] * 5), {"inner": 0.6, "outer": 4}, generator=torch.Generator())
    >>> len(parts["inner"]), sorted(torch.cat(list(parts.values())).tolist()) == list(range(10))
    (6, True)
    """
    sizes = _sizes(len(targets), shares)
    unused = len(targets) - sum(sizes)
    per_class = torch.bincount(targets).tolist()
    counts = _counts(per_class, [*sizes, unused])
    owner = torch.empty(len(targets), dtype=torch.long)
    for label, row in enumerate(counts):
        members = (targets == label).nonzero().flatten()
        dealt = torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row))
        owner[members[torch.randperm(len(members), generator=generator)]] = dealt
    if first is not None:
        owner = owner[first]
    return {name: (owner == i).nonzero().flatten() for i, name in enumerate(shares)}


def _sizes(total: int, shares: Mapping[str, Share]) -> list[int]:
    said = ", ".join(f"{name}={share!r}" for name, share in shares.items())
    for name, share in shares.items():
        whole = isinstance(share, int) and not isinstance(share, bool) and share >= 1
        if not whole and not (isinstance(share, float) and 0 < share < 1):
            raise DataError(f"{name} must be a fraction in (0, 1) or a number of images >= 1, got {share!r}")
    sizes = [share if isinstance(share, int) else round(share * total) for share in shares.values()]
    fractions = [share for share in shares.values() if isinstance(share, float)]
    if len(fractions) == len(sizes) and abs(sum(fractions) - 1) < 1e-9:
        sizes[0] = total - sum(sizes[1:])  # rounding must not leave an image unused
    if sum(sizes) > total or (len(fractions) == len(sizes) and sum(fractions) > 1 + 1e-9):
        raise DataError(f"{said} are more than the {total} images that came; ask for less")
    return sizes


def _counts(per_class: list[int], sizes: list[int]) -> list[list[int]]:
    """How many of each class (rows) go to each split (columns); row and column sums are exact."""
    total = max(sum(sizes), 1)
    counts = [[members * size // total for size in sizes] for members in per_class]
    needed = [size - sum(row[i] for row in counts) for i, size in enumerate(sizes)]
    for members, row in zip(per_class, counts, strict=True):
        # Where two splits need the same, one that would have none of this class goes first.
        wanting = sorted(range(len(sizes)), key=lambda i: (-needed[i], row[i] > 0))
        for i in wanting[: members - sum(row)]:
            row[i] += 1
            needed[i] -= 1
    return counts
