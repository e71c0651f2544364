"""The two values of this room: a `Split` (inputs and targets) and `Data` (three splits and what was done to them)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metanas.data.augment import Augmentation
from metanas.data.table import Table
from metanas.data.task import CLASSIFICATION, Task


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Inputs and their targets, on one device.

    inputs:  float32: images (examples, channels, height, width), normalised per channel, rows (examples, features),
             tokens (examples, time) or graphs (examples, nodes, features + nodes)
    targets: long (examples,), each in 0 .. classes - 1; of a regression, float32 (examples,), normalised

    >>> Split(torch.zeros(5, 1, 8, 8), torch.arange(5))
    Split(5 of (1, 8, 8), cpu)
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"Split({len(self)} of {tuple(self.inputs.shape[1:])}, {self.inputs.device})"

    def to(self, device: torch.device | str) -> Split:
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, eq=False)
class Data:
    """Three disjoint splits: a search trains θ on `inner`, learns the structure on `outer`, and tests once on `test`.

    name:        what the data is called in a run
    classes:     the name of each label; none for a regression
    augment:     what a training batch goes through, in this order
    fingerprint: SHA-256 (hex) of the splits as they came, before normalisation, and of the classes; a run refuses to
                 go on with another one. `augment` is a setting of the training, so it is not part of it.
    mean, std:   per channel, of the inner split, in the units of the source's pixels (0 .. 255 for uint8):
                 `inputs = (pixels - mean) / std`; none for rows
    pixels:      (lowest, highest) value of a source pixel: (0, 255) for uint8, else what the inner split holds; an
                 exported network needs it to read an ordinary image file
    task:        what a network is asked for
    table:       how a row of the source becomes an input; None for images
    scale:       (mean, std) of the targets of the inner split of a regression: `targets = (y - mean) / std`
    notes:       what was decided where the source left it open
    vocabulary:  of inputs that are tokens, how many there are: 0 .. vocabulary - 1; 0: numbers

    >>> from metanas.data import load_data
    >>> data = load_data("digits")
    >>> data.shape, data.sizes
    ((1, 8, 8), {'inner': 719, 'outer': 719, 'test': 359})
    """

    name: str
    inner: Split
    outer: Split
    test: Split
    classes: tuple[str, ...]
    augment: tuple[Augmentation, ...]
    fingerprint: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: tuple[float, float]
    task: Task = CLASSIFICATION
    table: Table | None = None
    scale: tuple[float, float] = (0.0, 1.0)
    notes: tuple[str, ...] = ()
    vocabulary: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: (channels, height, width) of an image, (features,) of a row, (time,) of tokens."""
        return tuple(self.inner.inputs.shape[1:])

    @property
    def outputs(self) -> int:
        """Width of a network's output."""
        return self.task.outputs(len(self.classes))

    @property
    def sizes(self) -> dict[str, int]:
        return {"inner": len(self.inner), "outer": len(self.outer), "test": len(self.test)}

    @property
    def device(self) -> torch.device:
        return self.inner.inputs.device

    @property
    def train(self) -> Split:
        """Inner and outer together (a copy), for training a derived network from scratch."""
        return Split(
            torch.cat([self.inner.inputs, self.outer.inputs]),
            torch.cat([self.inner.targets, self.outer.targets]),
        )

    def to(self, device: torch.device | str) -> Data:
        """The same data with every split on `device`."""
        return replace(self, inner=self.inner.to(device), outer=self.outer.to(device), test=self.test.to(device))
