"""Batches as a pure function of (split, size, seed, stream, epoch): a resume needs no generator state.

    order   = permutation from (seed, stream, epoch)
    batch i = examples order[i * size : (i + 1) * size], augmented from (seed, stream, epoch, i)

Batch i does not depend on whether the batches before it were made, so a run that stopped in the middle of an epoch
starts at its next batch with `start=`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from metanas.data.augment import Augmentation, augmented
from metanas.data.seeds import seeded
from metanas.data.types import Split
from metanas.errors import DataError

Batch = tuple[Tensor, Tensor]


def steps(split: Split, size: int, *, drop_last: bool = True) -> int:
    """How many batches an epoch has. A split smaller than a batch is one batch, also with `drop_last`.

    >>> split = Split(torch.zeros(10, 1, 2, 2), torch.zeros(10, dtype=torch.long))
    >>> steps(split, 4), steps(split, 4, drop_last=False), steps(split, 64)
    (2, 3, 1)
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise DataError(f"batch size must be an integer >= 1, got {size!r}")
    whole, rest = divmod(len(split), size)
    return max(whole, 1) if drop_last else whole + (rest > 0)


def batches(
    split: Split,
    size: int,
    *,
    seed: int,
    epoch: int,
    stream: str = "inner",
    augment: Sequence[Augmentation] = (),
    drop_last: bool = True,
    start: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch in random order: inputs (size, channels, height, width) and targets (size,).

    `stream` keeps readers of one seed apart ("inner", "outer", "train"): each has its own order and augmentation.
    `start` is the index of the first batch to give (0 .. steps). `drop_last` leaves out the examples that do not fill
    a batch; they differ from epoch to epoch. Raises DataError where size or start are out of range.

    >>> split = Split(torch.zeros(6, 1, 2, 2), torch.arange(6))
    >>> epoch = [targets.tolist() for _, targets in batches(split, 2, seed=0, epoch=3)]
    >>> sorted(sum(epoch, [])), [t.tolist() for _, t in batches(split, 2, seed=0, epoch=3, start=1)] == epoch[1:]
    ([0, 1, 2, 3, 4, 5], True)
    """
    count = steps(split, size, drop_last=drop_last)
    if not 0 <= start <= count:
        raise DataError(f"start must be the index of a batch, 0 to {count}, got {start}")
    return _shuffled(split, size, (seed, stream, epoch), tuple(augment), range(start, count))


def _shuffled(
    split: Split,
    size: int,
    key: tuple[int | str, ...],
    augment: tuple[Augmentation, ...],
    indices: range,
) -> Iterator[Batch]:
    order = torch.randperm(len(split), generator=seeded("shuffle", *key)).to(split.targets.device)
    for i in indices:
        chosen = order[i * size : (i + 1) * size]
        inputs = split.inputs.index_select(0, chosen)
        if augment:
            inputs = augmented(inputs, augment, seeded("augment", *key, i))
        yield inputs, split.targets.index_select(0, chosen)


def in_order(split: Split, size: int) -> Iterator[Batch]:
    """Every example once, in the split's order and unchanged, for evaluation; the last batch may be smaller.

    >>> split = Split(torch.zeros(5, 1, 2, 2), torch.arange(5))
    >>> [targets.tolist() for _, targets in in_order(split, 2)]
    [[0, 1], [2, 3], [4]]
    """
    count = steps(split, size, drop_last=False)
    return ((split.inputs[i * size : (i + 1) * size], split.targets[i * size : (i + 1) * size]) for i in range(count))
