"""What an export needs to know beside the network: the architecture, the classes, how pixels become inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from metanas.data import Table
from metanas.errors import ExportError
from metanas.space import Architecture, Space


@dataclass(frozen=True)
class Source:
    """Where a network comes from and what its numbers mean.

    Args:
        architecture: what the network was derived from.
        space: name of the space.
        classes: the name of each output, in order; none for a regression, which has one output.
        mean, std: per channel, in the units of the source's pixels: `inputs = (pixels - mean) / std`; both empty where
            the inputs are no images.
        pixels: (lowest, highest) value of a source pixel.
        table: how a row becomes an input; None where the inputs are no rows.
        scale: of a regression (no classes): `quantity = output * std + mean`, as (mean, std).
        structure: the space itself, for pictures, and for the options that it was built with; None where it is not at
            hand.

    Raises:
        ExportError: a number that is not finite, a std that is not > 0, unequal lengths.

    >>> Source(Architecture({"op": "conv"}), "tiny", ("cat", "dog"), mean=(0.5,), std=(0.25,), pixels=(0.0, 1.0)).space
    'tiny'
    """

    architecture: Architecture
    space: str
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pixels: tuple[float, float] = (0.0, 255.0)
    table: Table | None = None
    scale: tuple[float, float] = (0.0, 1.0)
    structure: Space | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std", "pixels", "scale"):
            numbers = getattr(self, name)
            if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
                raise ExportError(f"{name} must hold finite numbers, got {numbers}; was the training data finite?")
        if len(self.mean) != len(self.std):
            raise ExportError(f"mean has {len(self.mean)} channels and std {len(self.std)}; give one of each a channel")
        if any(s <= 0 for s in self.std):
            raise ExportError(f"std must be > 0, got {self.std}; a constant channel takes 1")
        if len(self.scale) != 2 or not self.scale[1] > 0:
            raise ExportError(f"scale must be (mean, std) with std > 0, got {self.scale}")
        if len(self.pixels) != 2 or not self.pixels[0] < self.pixels[1]:
            raise ExportError(f"pixels must be (lowest, highest), got {self.pixels}")
        if not all(isinstance(c, str) for c in self.classes):
            raise ExportError(f"classes must be names, got {self.classes}")
