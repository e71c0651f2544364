"""Augmentation of a whole batch at once, on the images' device; each image has its own randomness.

An augmentation is a frozen value that is called with images and a generator: `Crop(2)`, `Flip()`, `Cutout(8)`, or any
function of the user's with the same two arguments. It is pure: the images it is given are not written to.

Images are normalised before they are augmented, so the zeros that fill a border or a hole are the mean colour of the
inner split, not black.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.errors import DataError


class Augmentation(Protocol):
    """`(images, generator) -> images`, shapes (batch, channels, height, width) in and out.

    `batches` passes a generator on the CPU, whatever the images' device, so that the same recipe sees the same images
    on every device: draw on `generator.device`, then move the few numbers drawn to the images.
    """

    def __call__(self, images: Tensor, generator: torch.Generator, /) -> Tensor: ...


@dataclass(frozen=True)
class Crop:
    """Pads every side by `padding` zeros and cuts the original size out again at a random place.

    Each of the (2 * padding + 1)^2 places is equally likely. Raises DataError where padding is not an integer >= 0.

    >>> image = torch.ones(1, 1, 2, 2)
    >>> Crop(1)(image, torch.Generator().manual_seed(0))
    tensor([[[[0., 1.],
              [0., 0.]]]])
    """

    padding: int

    def __post_init__(self) -> None:
        _require_integer("Crop padding", self.padding, least=0)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, channels, height, width = images.shape
        p = self.padding
        shift = _integers(2 * p + 1, (2, n), images, generator)
        tall, wide = height + 2 * p, width + 2 * p
        # An output row is a run of `width` neighbours in the padded images laid out flat, so a row is copied as one
        # piece: three times as fast on the CPU as an index for every pixel.
        flat = F.pad(images, (p, p, p, p)).reshape(-1)
        image, channel, row = (torch.arange(size, device=images.device) for size in (n, channels, height))
        first = ((image * channels * tall + shift[0]) * wide + shift[1])[:, None, None]  # (batch, 1, 1)
        start = first + (channel * tall * wide)[:, None] + row * wide  # (batch, channels, height)
        return flat.unfold(0, width, 1).index_select(0, start.reshape(-1)).view(images.shape)


@dataclass(frozen=True)
class Flip:
    """Mirrors left and right with probability 1/2. Not for digits or letters: a mirrored 2 is not a 2.

    >>> Flip()(torch.arange(4.0).view(2, 1, 1, 2), torch.Generator().manual_seed(0)).flatten(1)
    tensor([[0., 1.],
            [3., 2.]])
    """

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        mirrored = _integers(2, (len(images), 1, 1, 1), images, generator).bool()
        return torch.where(mirrored, images.flip(3), images)


@dataclass(frozen=True)
class Cutout:
    """Sets a square of side `size` to zero; its centre is any pixel, what lies beyond the border is cut off.

    DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017, arXiv:1708.04552.
    Raises DataError where size is not an integer >= 1.

    >>> Cutout(1)(torch.ones(1, 1, 2, 2), torch.Generator().manual_seed(0)).sum()
    tensor(3.)
    """

    size: int

    def __post_init__(self) -> None:
        _require_integer("Cutout size", self.size, least=1)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        top = _integers(height, (n, 1), images, generator) - self.size // 2
        left = _integers(width, (n, 1), images, generator) - self.size // 2
        row = torch.arange(height, device=images.device) - top  # (batch, height)
        column = torch.arange(width, device=images.device) - left  # (batch, width)
        in_rows = (row >= 0) & (row < self.size)
        in_columns = (column >= 0) & (column < self.size)
        return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)


def augmented(images: Tensor, augment: Sequence[Augmentation], generator: torch.Generator) -> Tensor:
    """The images after every augmentation, in order; each draws from `generator` where the one before stopped.

    >>> augmented(torch.ones(1, 1, 2, 2), (), torch.Generator()).shape
    torch.Size([1, 1, 2, 2])
    """
    for change in augment:
        images = change(images, generator)
    return images


def default_augment(shape: tuple[int, int, int]) -> tuple[Augmentation, ...]:
    """What `load_data` uses when nothing is said, for images of `shape` (channels, height, width).

    A shift by up to an eighth of the shorter side; colour images (3 channels) are mirrored as well. Grey images are
    not: they are often characters, and digits are.

    >>> default_augment((1, 8, 8)), default_augment((3, 32, 32))
    ((Crop(padding=1),), (Crop(padding=4), Flip()))
    """
    channels, height, width = shape
    padding = min(height, width) // 8
    crop: tuple[Augmentation, ...] = (Crop(padding),) if padding else ()
    return (*crop, Flip()) if channels == 3 else crop


def _integers(high: int, shape: tuple[int, ...], images: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform integers in 0 .. high - 1, drawn where the generator lives and moved to the images' device."""
    drawn = torch.randint(high, shape, generator=generator, device=generator.device)
    return drawn.to(images.device, non_blocking=True)


def _require_integer(what: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise DataError(f"{what} must be an integer >= {least}, got {value!r}")
