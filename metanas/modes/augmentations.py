"""Augmentation of images whose magnitudes are learned: each image is moved as far as its noise says, times a magnitude.

    name         what happens, where m is the magnitude and u the image's noise in -1 .. 1    unit of m
    shift        moved by m u across and by m u' down                                        share of the side
    rotation     turned about its centre by m u                                              radians; shown in degrees
    scale        enlarged by exp(m u)                                                        logarithm of a factor
    shear        sheared, x + m u y about the centre                                         slope
    brightness   + m u                                                                       as the pixels
    contrast     (x - mean of the image) exp(m u) + mean                                     logarithm of a factor

The first four are one affine map and one bilinear sampling, black outside. A magnitude is positive, the exponential of
its outer variable; with magnitudes of 0 the images stay as they are. The noise is that of the batch, so that the same
batch is augmented in the same way however often it is looked at, and each image in its own.

The distribution is learned by its reparametrisation, as in Benton et al. 2020 (Augerino), arXiv:2010.11882; there the
training loss decides, with a term that asks for more augmentation, here the outer loss does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.bilevel import Tree
from metanas.errors import BilevelError, nearest
from metanas.modes.part import NOISE, Part

COLUMNS = {"shift": 0, "rotation": 2, "scale": 3, "shear": 4, "brightness": 5, "contrast": 6}
"""Name -> which column of the noise moves it; a shift takes two."""
AFFINE = ("shift", "rotation", "scale", "shear")


def augmentation(
    names: Sequence[str],
    shape: tuple[int, int, int],
    *,
    start: float | Mapping[str, float] = 0.05,
    name: str = "augmentation",
) -> Part:
    """Learned magnitudes of the augmentations that are named, of the inner batch alone.

    Args:
        names: some of shift, rotation, scale, shear, brightness, contrast.
        shape: (channels, height, width) of an image. Inputs are (batch, channels, height, width), or flattened.
        start: the magnitudes at first, > 0, one for all or one for each name.
        name: of the part.

    Returns:
        A part with {name: 0-d logarithm} and `transform`, which reads inputs and noise of the batch. Shown: the
        magnitudes, of a rotation in degrees.

    Raises:
        BilevelError: no name, one twice or unknown, a shape that is none, a start that is missing or not > 0; while
            training, a batch whose noise is not (batch, NOISE).

    >>> part = augmentation(["shift"], (1, 2, 3), start=1 / 3)
    >>> images, noise = torch.arange(6.0).view(1, 1, 2, 3), torch.zeros(1, 8)
    >>> noise[0, 0] = 1.0                                           # a third of the side: one pixel to the right
    >>> part.transform(part.start, (images, None, None, noise))[0]
    tensor([[[[0., 0., 1.],
              [0., 3., 4.]]]])
    >>> augmentation(["rotation"], (1, 8, 8),).shown({"rotation": torch.tensor(0.1).log()})
    {'rotation': 5.729...}
    """
    starts = _starts(names, shape, start)

    def transform(own: Tree, batch: Any) -> Any:
        inputs, targets, positions, noise = batch
        if noise.shape != (len(inputs), NOISE):
            raise BilevelError(f"noise must have shape ({len(inputs)}, {NOISE}), got {tuple(noise.shape)}")
        amounts = {what: own[what].exp() * noise[:, COLUMNS[what]] for what in names}  # each (batch,)
        images = inputs.reshape(-1, *shape)
        if any(what in AFFINE for what in names):
            down = own["shift"].exp() * noise[:, COLUMNS["shift"] + 1] if "shift" in names else None
            images = sampled(images, *_sources(amounts, down, shape, noise))
        images = _recoloured(images, amounts)
        return images.reshape(inputs.shape).to(inputs.dtype), targets, positions, noise

    def shown(own: Tree) -> Mapping[str, float]:
        values = {what: float(own[what].detach().exp()) for what in names}
        return {what: math.degrees(value) if what == "rotation" else value for what, value in values.items()}

    return Part(name, {what: torch.tensor(math.log(m)) for what, m in starts.items()}, shown, transform=transform)


def sampled(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The images at points between their pixels, bilinearly; 0 outside.

    As `F.grid_sample`, which has neither forward-mode nor second derivatives; this has both, and costs about the same.

    Args:
        images: (batch, channels, height, width).
        x, y: (batch, height', width'), in pixels from the first one's centre.

    Returns:
        (batch, channels, height', width').

    >>> image = torch.tensor([[[[1.0, 3.0]]]])
    >>> sampled(image, torch.tensor([[[0.0, 0.5, 1.5]]]), torch.zeros(1, 1, 3))
    tensor([[[[1.0000, 2.0000, 1.5000]]]])
    """
    channels, height, width = images.shape[-3:]
    # One black row above and two below: clamped there, every point has its four corners without a mask.
    flat = F.pad(images, (1, 2, 1, 2)).flatten(2)
    x, y = (x + 1).clamp(0, width + 1), (y + 1).clamp(0, height + 1)
    left, top = x.detach().floor(), y.detach().floor()
    across, down = (x - left)[:, None], (y - top)[:, None]
    corner = (top * (width + 3) + left).nan_to_num().long()  # a point that is nan reads anything, and stays nan
    corner = corner.flatten(1)[:, None].expand(-1, channels, -1)

    def at(offset: int) -> Tensor:
        return flat.gather(2, corner + offset).reshape(len(x), channels, *x.shape[1:])

    upper, lower = at(0), at(width + 3)
    upper = upper + across * (at(1) - upper)
    lower = lower + across * (at(width + 4) - lower)
    found: Tensor = upper + down * (lower - upper)
    return found


def _sources(
    amounts: Mapping[str, Tensor], down: Tensor | None, shape: tuple[int, int, int], noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from, x and y (batch, height, width): the affine map backwards, about the centre."""
    _, height, width = shape
    nothing = torch.zeros_like(noise[:, 0])
    turn, bigger, slope, right = (amounts.get(what, nothing) for what in ("rotation", "scale", "shear", "shift"))
    v, u = (torch.arange(n, dtype=noise.dtype, device=noise.device) - (n - 1) / 2 for n in (height, width))
    u = u[None, None, :] - (right * width)[:, None, None]  # (batch, 1, width)
    v = v[None, :, None] - (nothing if down is None else down * height)[:, None, None]  # (batch, height, 1)
    shrink = (-bigger).exp()
    cos, sin, slope = (x[:, None, None] for x in (turn.cos() * shrink, turn.sin() * shrink, slope))
    x, y = cos * u + sin * v, cos * v - sin * u
    return x - slope * y + (width - 1) / 2, y + (height - 1) / 2


def _recoloured(images: Tensor, amounts: Mapping[str, Tensor]) -> Tensor:
    if "contrast" in amounts:
        mean = images.mean((1, 2, 3), keepdim=True)
        factor = amounts["contrast"].exp()[:, None, None, None]
        images = factor * images + (1 - factor) * mean
    if "brightness" in amounts:
        images = images + amounts["brightness"][:, None, None, None]
    return images


def _starts(
    names: Sequence[str], shape: tuple[int, int, int], start: float | Mapping[str, float]
) -> Mapping[str, float]:
    if not names:
        raise BilevelError(f"nothing is augmented: give at least one of {', '.join(COLUMNS)}")
    for what in names:
        if what not in COLUMNS:
            raise BilevelError(f"no augmentation is called {what!r}{nearest(what, COLUMNS)}")
    if len(set(names)) < len(names):
        raise BilevelError(f"an augmentation is named twice in {', '.join(names)}; leave one out")
    if len(shape) != 3 or min(shape) < 1:
        raise BilevelError(f"shape must be (channels, height, width), each >= 1, got {tuple(shape)}")
    starts = {what: start for what in names} if isinstance(start, int | float) else start
    if set(starts) != set(names):
        raise BilevelError(f"start must have one magnitude for each of {', '.join(names)}, got {', '.join(starts)}")
    for what, magnitude in starts.items():
        if not 0 < magnitude < math.inf:
            raise BilevelError(f"start of {what} must be > 0 and finite, got {magnitude}")
    return {what: starts[what] for what in names}
