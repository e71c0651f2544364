"""Classes that are compositions, made from grey images of digits: digit x ink x background x rotation x size.

    image = ink * coverage + background * (1 - coverage)         coverage: the grey image, turned and scaled
    class = one value of each key                                but ink and background differ

Some compositions are classes; of these some are held out, so that what is new about them is how known values come
together: each single value is seen in training. Every class has its attributes, and sentences in several wordings, some
of which are held out as well.

Sources: Romera-Paredes, Torr 2015 and Xian et al. 2017, arXiv:1707.00600, for the protocol; the classes are our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.data.seeds import seeded
from metanas.errors import DataError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INKS: Mapping[str, tuple[float, float, float]] = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.7, 0.2),
    "blue": (0.15, 0.25, 0.95),
    "yellow": (0.95, 0.9, 0.15),
    "violet": (0.6, 0.15, 0.7),
}
BACKGROUNDS: Mapping[str, tuple[float, float, float]] = {
    "black": (0.0, 0.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "blue": INKS["blue"],
    "yellow": INKS["yellow"],
}
ROTATIONS: Mapping[str, float] = {"upright": 0.0, "leaning left": 45.0, "leaning right": -45.0}
"""Degrees, counterclockwise. A six that stands on its head would be a nine."""
SIZES: Mapping[str, float] = {"small": 0.55, "large": 1.0}
KEYS = ("digit", "ink", "background", "rotation", "size")

WORDINGS = (
    "a {size} {rotation} {digit} in {ink} ink on a {background} background",
    "the digit {digit}, {size} and {rotation}, written with {ink} ink, the background is {background}",
    "{background} background; {ink} ink; digit {digit}; {rotation}; {size}",
    "on a background of {background} somebody wrote a {digit}; the ink is {ink}; it is {size} and {rotation}",
    "this picture shows the number {digit}, {rotation}, in {size} size. Its ink is {ink}, its background {background}",
)
HELD_OUT_WORDINGS = (
    "ink of the colour {ink}, {background} as the background: here stands {digit}, {rotation}, rather {size}",
    "before a {background} background we see a {size} {digit} drawn in {ink} ink, and it is {rotation}",
    "somebody took {ink} ink for one {rotation} {digit}, {size} too. Background: {background}",
)


@dataclass(frozen=True)
class Compositions:
    """Classes and which of them are held out.

    attributes: class's name -> {key: value}, all classes
    train, validation, test: the names of each part; those of validation and test are compositions that no training
                class is

    >>> found = compositions(classes=120, validation=10, test=20, seed=0)
    >>> len(found.train), len(found.attributes), found.test[0], found.wordings(found.test[:1], ["{ink} ink"])
    (90, 120, 'three green blue upright small', {'three green blue upright small': ['green ink']})
    """

    attributes: Mapping[str, Mapping[str, str]]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all classes."""
        return tuple(self.attributes)

    def described(self, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """Their attributes, for `Descriptions`. Raises KeyError for a name that is none."""
        return {name: self.attributes[name] for name in names}

    def wordings(self, names: Sequence[str], templates: Sequence[str] = WORDINGS) -> dict[str, list[str]]:
        """The sentences of some classes, one for each template, for `Descriptions`."""
        return {name: [text.format(**self.attributes[name]) for text in templates] for name in names}

    def images(self, grey: Tensor, labels: Tensor, names: Sequence[str], each: int, *, seed: int) -> Tensor:
        """Images of some classes, each made of another grey image of its digit.

        Args:
            grey: (n, height, width), uint8, ink = 255.
            labels: (n,), the digit that each shows.
            each: images of each class; drawn without repetition, while the digit has enough.

        Returns:
            (classes, each, 3, height, width), uint8.

        Raises:
            DataError: images of another shape or type, or no image of a digit.

        >>> grey, labels = torch.full((10, 8, 8), 255, dtype=torch.uint8), torch.arange(10)
        >>> found = compositions(classes=120, validation=10, test=20, seed=0)
        >>> found.images(grey, labels, found.test, 2, seed=0).shape
        torch.Size([20, 2, 3, 8, 8])
        """
        if grey.dim() != 3 or grey.dtype != torch.uint8 or labels.shape != grey.shape[:1]:
            raise DataError(
                f"grey images must be (n, height, width) of uint8 with a label each, got {tuple(grey.shape)} of "
                f"{grey.dtype} and {tuple(labels.shape)}"
            )
        return torch.stack([self._of_class(grey, labels, name, each, seed) for name in names])

    def _of_class(self, grey: Tensor, labels: Tensor, name: str, each: int, seed: int) -> Tensor:
        of = self.attributes[name]
        rows = (labels == DIGITS.index(of["digit"])).nonzero()[:, 0]
        if not len(rows):
            raise DataError(f"class {name!r} needs images of the digit {of['digit']}, there is none")
        order = torch.randperm(len(rows), generator=seeded("composition", name, seed))
        chosen = rows[order.repeat(-(-each // len(rows)))[:each]]
        return composed(grey[chosen], of)


def composed(grey: Tensor, of: Mapping[str, str]) -> Tensor:
    """Grey images (n, height, width), uint8, as those of a class with these attributes: (n, 3, height, width), uint8.

    >>> image = torch.tensor([[[255, 0], [0, 0]]], dtype=torch.uint8)
    >>> composed(image, {"ink": "red", "background": "white", "rotation": "upright", "size": "large"})[0, :, 0, 0]
    tensor([230,  26,  26], dtype=torch.uint8)
    """
    angle = torch.tensor(ROTATIONS[of["rotation"]]).deg2rad()
    cos, sin = angle.cos() / SIZES[of["size"]], angle.sin() / SIZES[of["size"]]
    theta = torch.stack([torch.stack([cos, -sin, sin * 0]), torch.stack([sin, cos, sin * 0])]).expand(len(grey), 2, 3)
    flat = grey[:, None].float() / 255  # (n, 1, height, width)
    grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
    cover = F.grid_sample(flat, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    ink, ground = (torch.tensor(colour).view(3, 1, 1) for colour in (INKS[of["ink"]], BACKGROUNDS[of["background"]]))
    return (255 * (ground + cover * (ink - ground))).round().to(torch.uint8)


def compositions(*, classes: int = 150, validation: int = 20, test: int = 30, seed: int = 0) -> Compositions:
    """Draws which compositions are classes, and which of these are held out.

    Args:
        classes: how many, of the 1,080 there are.
        validation, test: how many of them are held out.

    Raises:
        DataError: more than there are, or so few training classes that no draw shows every single value.

    >>> compositions(classes=20, validation=8, test=8)
    Traceback (most recent call last):
    metanas.errors.DataError: 4 training classes cannot show all 10 digits: hold out fewer, or ask for more classes
    """
    every = [dict(zip(KEYS, values, strict=True)) for values in product(DIGITS, INKS, BACKGROUNDS, ROTATIONS, SIZES)]
    every = [of for of in every if of["ink"] != of["background"]]
    kept = classes - validation - test
    if min(validation, test) < 0 or classes > len(every):
        raise DataError(
            f"classes must be at most {len(every)}, and validation and test >= 0, got {classes}, {validation}, {test}"
        )
    if kept < len(DIGITS):
        raise DataError(f"{kept} training classes cannot show all 10 digits: hold out fewer, or ask for more classes")
    generator = seeded("compositions", seed)
    wanted = {(key, of[key]) for of in every for key in KEYS}
    for _ in range(1000):
        order = torch.randperm(len(every), generator=generator)[:classes].tolist()
        drawn = {" ".join(every[k].values()): every[k] for k in order}
        names = tuple(drawn)
        train, rest = names[:kept], names[kept:]
        if {item for name in train for item in drawn[name].items()} == wanted:
            return Compositions(drawn, train, rest[:validation], rest[validation:])
    raise DataError(f"no draw of {kept} training classes shows every single value: hold out fewer, or ask for more")
