"""Distortions of images, each image by itself: rotated, scaled, sheared, shifted, bent, its strokes bolder or thinner.

A point p of the result, seen from the centre, is looked up at

    shift + rotation @ shear @ (p / scale) + bend(p)

where `bend` is a smooth field: normal deviates on a grid of KNOTS x KNOTS places, cubic between them. What comes in
from outside is 0. Strokes are thickened by moving a pixel towards the largest of its 3x3 neighbourhood, or thinned
towards the smallest (a share of a dilation or erosion by one pixel).

Source of the bending: Simard, Steinkraus, Platt, Best practices for convolutional neural networks applied to visual
document analysis, 2003, whose field is noise that was smoothed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

ANGLE, SCALE, SHEAR, SHIFT = 0.35, 0.2, 0.3, 0.15
"""How far `affine=1` goes: radians; of the size; of the side; of half the side."""
VIEW = 0.5
"""How far `views` go, as `affine`."""
BEND, KNOTS = 0.1, 5
"""The deviation of the field at `elastic=1`, of half the side; its grid."""


def bent(images: Tensor, affine: float, elastic: float, draws: Mapping[str, torch.Generator]) -> Tensor:
    """Images (n, channels, height, width), float, each rotated, scaled, sheared and shifted by up to `affine` times the
    usual amounts, and bent by `elastic` times the usual field.

    Args:
        draws: the generators of "affine" and of "elastic", the latter where that is not 0.

    >>> spot = F.pad(torch.ones(1, 1, 1, 1), (2, 2, 2, 2))
    >>> torch.equal(bent(spot, 0.0, 0.0, {}), spot)
    True
    """
    n, _, height, width = images.shape
    theta = affine_maps(n, affine, height / width, draws["affine"]) if affine else torch.eye(2, 3).expand(n, 2, 3)
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    if elastic:
        field = torch.randn(n, 2, KNOTS, KNOTS, generator=draws["elastic"]).to(images.device) * (elastic * BEND)
        grid = grid + F.interpolate(field, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def views(images: Tensor, count: int, outside: Tensor | float = 0.0) -> Tensor:
    """Images (..., channels, height, width) as they are, and `count` - 1 times distorted a little, the same distortions
    for all of them and on every call: (count, ..., channels, height, width).

    Args:
        outside: what comes in from outside, as normalised images have it; it broadcasts with an image.

    >>> views(torch.ones(5, 1, 4, 4), 3).shape
    torch.Size([3, 5, 1, 4, 4])
    """
    n, shape = images.shape[:-3].numel(), images.shape[-3:]
    maps = affine_maps(count - 1, VIEW, shape[1] / shape[2], torch.Generator().manual_seed(0)).to(images)
    flat = (images - outside).reshape(n, *shape)
    found = [images]
    for theta in maps:
        grid = F.affine_grid(theta.expand(n, 2, 3), list(flat.shape), align_corners=False)
        found.append(F.grid_sample(flat, grid, align_corners=False).view(images.shape) + outside)
    return torch.stack(found)


def affine_maps(n: int, strength: float, aspect: float, generator: torch.Generator) -> Tensor:
    """`n` maps from places of the result to places of the image, (n, 2, 3), on the CPU; `aspect`: height / width."""
    drawn = (2 * torch.rand(n, 5, generator=generator) - 1) * strength
    angle, shear = drawn[:, 0] * ANGLE, drawn[:, 1] * SHEAR
    shrink = 1 / (1 + drawn[:, 2] * SCALE)
    cos, sin = angle.cos() * shrink, angle.sin() * shrink
    along = torch.stack([cos, cos * shear - sin, drawn[:, 3] * SHIFT], dim=1)
    across = torch.stack([sin, sin * shear + cos, drawn[:, 4] * SHIFT], dim=1)
    # affine_grid measures each axis by its own half side; angles are right where both have one unit.
    return torch.stack([along * torch.tensor([1, aspect, 1]), across * torch.tensor([1 / aspect, 1, 1])], dim=1)


def thickened(images: Tensor, stroke: float, generator: torch.Generator) -> Tensor:
    """Images (n, channels, height, width) whose bright strokes are bolder or thinner by up to `stroke` of a pixel.

    >>> row = torch.tensor([[[[0.0, 0.0, 4.0, 4.0, 0.0, 0.0]]]])
    >>> made = thickened(row, 1.0, torch.Generator().manual_seed(0))  # here thinner by a tenth or so of a pixel
    >>> bool((made[..., 2:4] < 4).all()) or bool((made[..., [1, 4]] > 0).all())
    True
    """
    share = ((2 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1) * stroke).to(images.device)
    bolder = F.max_pool2d(images, 3, 1, 1) - images
    thinner = F.max_pool2d(-images, 3, 1, 1) + images
    return images + share.clamp(min=0) * bolder + share.clamp(max=0) * thinner
