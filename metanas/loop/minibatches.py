"""The batches of a tuning on data: minibatches of the inner split for the inner steps, a batch of the outer split.

Every number is a function of (seed, purpose, step).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metanas.bilevel import Bilevel
from metanas.data import Data, Split
from metanas.data.seeds import seeded

NOISE = 8  # uniform numbers that travel with each example


@dataclass(frozen=True, kw_only=True)
class Minibatches:
    """Batches (inputs, targets, positions, noise) of a tuning (`loop.tuning.Draws`).

    data:          inner and outer split
    seed:          of what is drawn
    inner_batches: how many minibatches an estimate may ask for; the last one is that of all later steps, too
    inner_batch, outer_batch: examples of a batch; 0 for the whole split
    noise:         whether anything reads the noise of a batch; else it is zero
    """

    data: Data
    seed: int
    inner_batches: int = 1
    inner_batch: int = 0
    outer_batch: int = 0
    noise: bool = True

    @property
    def device(self) -> torch.device:
        return self.data.device

    def batches(self, step: int) -> tuple[Any, Any]:
        """((the inner split's inputs and targets, positions (minibatches, batch), noise (minibatches, batch, NOISE)),
        an outer batch); the problem's `batch_at` picks from the first, so that nothing is copied before it is needed.
        """
        split = self.data.inner
        several = self.noise or 0 < self.inner_batch < len(split)
        rows = [
            picked(split, self.inner_batch, seeded(self.seed, "inner", step, i), noise=self.noise)
            for i in range(self.inner_batches if several else 1)
        ]
        positions, noise = (torch.stack(column) for column in zip(*rows, strict=True))
        outer = drawn(self.data.outer, self.outer_batch, seeded(self.seed, "outer", step), noise=self.noise)
        return (split.inputs, split.targets, positions, noise), outer

    def fitted(self, problem: Bilevel) -> Bilevel:
        """The problem, whose inner batch is what `batches` makes for all minibatches of an estimate."""
        return replace(problem, batch_at=_minibatch)


def picked(split: Split, size: int, generator: torch.Generator, *, noise: bool = True) -> tuple[Tensor, Tensor]:
    """Which examples a batch has, (batch,), and their noise, (batch, NOISE), uniform in -1 .. 1.

    Args:
        size: how many examples, drawn without putting back; 0, or more than there are: all, in their order.
        noise: False: zeros.
    """
    whole = not 0 < size < len(split)
    chosen = torch.arange(len(split)) if whole else torch.randperm(len(split), generator=generator)[:size]
    shape = (len(chosen), NOISE)
    shaken = 2 * torch.rand(shape, generator=generator) - 1 if noise else torch.zeros(shape)
    return chosen.to(split.targets.device), shaken.to(split.inputs)


def drawn(
    split: Split, size: int, generator: torch.Generator, *, noise: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch with what its parts may ask for: (inputs, targets, positions (batch,), noise (batch, NOISE)).

    Arguments as of `picked`.

    >>> split = Split(torch.zeros(5, 2), torch.arange(5))
    >>> [x.shape for x in drawn(split, 3, torch.Generator())], drawn(split, 0, torch.Generator())[2]
    ([torch.Size([3, 2]), torch.Size([3]), torch.Size([3]), torch.Size([3, 8])], tensor([0, 1, 2, 3, 4]))
    """
    chosen, shaken = picked(split, size, generator, noise=noise)
    if len(chosen) == len(split):
        return split.inputs, split.targets, chosen, shaken
    return split.inputs[chosen], split.targets[chosen], chosen, shaken


def _minibatch(batch: Any, step: int) -> Any:
    inputs, targets, positions, noise = batch
    k = min(step, len(positions) - 1)
    if positions.shape[1] == len(targets):
        return inputs, targets, positions[k], noise[k]
    return inputs[positions[k]], targets[positions[k]], positions[k], noise[k]
