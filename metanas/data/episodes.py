"""Few-shot episodes as a pure function of (seed, part, step): a resume needs no generator state.

    classes    `ways` different ones for every task, in a random order: this order is the labels
    examples   `shots` of each to learn from (support), `queries` others to be tested on (query)
    images     gathered at once, warped where asked for, normalised

Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra, Matching Networks for One Shot Learning, 2016, arXiv:1606.04080.
The original task of Omniglot (Lake et al. 2015) is `within=True, paired=True`: 20 characters of one alphabet, the
support by one drawer and the queries by another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from metanas.data.classes import ClassData, Classes
from metanas.data.seeds import seeded
from metanas.data.warps import bent, thickened
from metanas.errors import DataError, nearest

PARTS = ("train", "validation", "test")
WARPS = {"affine": 4.0, "elastic": 4.0, "stroke": 1.0}
"""How training images are distorted, and the most that may be asked for."""


class Episode(NamedTuple):
    """Tasks of one step.

    support: inputs (tasks, ways * shots, *shape), float32, normalised, and labels (tasks, ways * shots), long, each in
             0 .. ways - 1; ordered by class
    query:   the same with ways * queries
    classes: (tasks, ways), long: the class of each label, by its position in the part
    """

    support: tuple[Tensor, Tensor]
    query: tuple[Tensor, Tensor]
    classes: Tensor


@dataclass(frozen=True)
class Episodes:
    """Tasks that are drawn from the classes of one part of `data`.

    part:    "train", "validation" or "test"
    ways, shots, queries: how many classes a task has; how many examples of each to learn from, and to be tested on
    tasks:   how many tasks a step has
    within:  all classes of a task are of one group; each group that has enough is equally likely
    paired:  one example number for the whole support of a task and another for its queries (one drawer each)
    affine:  how far every training image is rotated, scaled, sheared and shifted, each image by itself; 1 is up to 0.35
             radians, 20 %, 0.3 and 15 % of half the side. What comes in from outside is 0, before normalisation.
    elastic: how far places of a training image are shifted apart, smoothly; 1 is a deviation of 10 % of half the side
    stroke:  how much bolder or thinner a training image's strokes become, up to this share of one pixel all around

    Raises DataError where `data` has not what is asked for.

    >>> from metanas.data import load_classes
    >>> episodes = Episodes(load_classes("digits"), "train", ways=5, shots=1, queries=3, tasks=4)
    >>> support, query, classes = episodes.at(0)
    >>> support[0].shape, query[1].shape, support[1][0].tolist()
    (torch.Size([4, 5, 1, 8, 8]), torch.Size([4, 15]), [0, 1, 2, 3, 4])
    >>> torch.equal(classes, episodes.at(0).classes)
    True
    """

    data: ClassData
    part: str
    ways: int
    shots: int
    queries: int
    tasks: int = 1
    seed: int = 0
    within: bool = False
    paired: bool = False
    affine: float = 0.0
    elastic: float = 0.0
    stroke: float = 0.0

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise DataError(f"part must be one of three words, got {self.part!r}{nearest(self.part, PARTS)}")
        least = {"ways": 2, "shots": 1, "queries": 1, "tasks": 1, "seed": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < bound:
                raise DataError(f"{name} must be an integer >= {bound}, got {value!r}")
        for name, most in WARPS.items():
            _require_warp(self, name, most)
        _require_enough(self)
        if self.paired and (self.shots, self.queries) != (1, 1):
            raise DataError(
                f"paired episodes have one example of each class to learn from and one to be tested on, got "
                f"shots={self.shots}, queries={self.queries}: give 1 and 1"
            )
        if self.within:
            _require_groups(self)

    @property
    def classes(self) -> Classes:
        """The classes of the part."""
        classes: Classes = getattr(self.data, self.part)
        return classes

    def at(self, step: int) -> Episode:
        """The tasks of a step (>= 0): always the same of one (seed, part, step), whichever were asked for before."""
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise DataError(f"step must be an integer >= 0, got {step!r}")
        generator = seeded("episode", self.seed, self.part, step)
        classes = self._classes(generator)  # (tasks, ways)
        examples = self._examples(classes, generator)  # (tasks, ways, shots + queries)
        pixels = self.classes.gather(classes[:, :, None], examples)  # (tasks, ways, shots + queries, *shape)
        inputs = self.data.normalised(self._warped(pixels, step))
        support, query = torch.split(inputs, [self.shots, self.queries], dim=2)
        device = inputs.device
        return Episode(
            (support.flatten(1, 2), self._labels(self.shots, device)),
            (query.flatten(1, 2), self._labels(self.queries, device)),
            classes.to(device),
        )

    def _warped(self, pixels: Tensor, step: int) -> Tensor:
        """Every image by itself; each kind has its own draws, so that one is the same with the others and without."""
        draws = {name: seeded(name, self.seed, self.part, step) for name in WARPS if getattr(self, name)}
        images = pixels.flatten(0, 2)
        if "affine" in draws or "elastic" in draws:
            images = bent(images, self.affine, self.elastic, draws)
        if "stroke" in draws:
            images = thickened(images, self.stroke, draws["stroke"])
        return images.view(pixels.shape)

    def _labels(self, each: int, device: torch.device) -> Tensor:
        """(tasks, ways * each), long."""
        return torch.arange(self.ways, device=device).repeat_interleave(each).repeat(self.tasks, 1)

    def _classes(self, generator: torch.Generator) -> Tensor:
        """Different classes for every task, in a random order: (tasks, ways)."""
        draws = torch.rand(self.tasks, len(self.classes), generator=generator, dtype=torch.float64)
        if self.within:
            group = torch.randint(len(self._members), (self.tasks,), generator=generator)
            draws = torch.where(self._members[group], draws, -1.0)
        return draws.topk(self.ways).indices

    @cached_property
    def _members(self) -> Tensor:
        """Which classes are of each group that has enough of them: (groups, classes), bool."""
        enough = [members for members in self.classes.by_group.values() if len(members) >= self.ways]
        found = torch.zeros(len(enough), len(self.classes), dtype=torch.bool)
        for row, members in zip(found, enough, strict=True):
            row[list(members)] = True
        return found

    def _examples(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Different examples of every class, in a random order: (tasks, ways, shots + queries)."""
        counts = torch.tensor(self.classes.counts)
        if self.paired:
            draws = torch.rand(self.tasks, 1, int(counts.min()), generator=generator, dtype=torch.float64)
            return draws.topk(2).indices.expand(-1, self.ways, -1)
        most = int(counts.max())
        draws = torch.rand(*classes.shape, most, generator=generator, dtype=torch.float64)
        there = torch.arange(most) < counts[classes][:, :, None]
        return torch.where(there, draws, -1.0).topk(self.shots + self.queries).indices


def _require_warp(episodes: Episodes, name: str, most: float) -> None:
    value = getattr(episodes, name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value <= most:
        raise DataError(f"{name} must be a number, 0 to {most:g}, got {value!r}")
    if value and len(episodes.data.shape) != 3:
        raise DataError(f"{name} is for images, got {value!r} for rows {episodes.data.shape}: leave it out")
    if value and episodes.part != "train":
        raise DataError(f"{name} is for training, got {value!r} for {episodes.part}: leave it out, or give 0")


def _require_enough(episodes: Episodes) -> None:
    classes, ways, needed = episodes.classes, episodes.ways, episodes.shots + episodes.queries
    if ways > len(classes):
        raise DataError(
            f"an episode of {ways} ways needs {ways} classes, {episodes.part} has {len(classes)}: "
            f"ask for fewer ways, or give {episodes.part} more classes"
        )
    small = [i for i, count in enumerate(classes.counts) if count < needed]
    if small:
        name, count = classes.names[small[0]], classes.counts[small[0]]
        more = f" (and {len(small) - 1} more)" if len(small) > 1 else ""
        raise DataError(
            f"{episodes.shots} shots and {episodes.queries} queries need {needed} examples of each class, {name!r} of "
            f"{episodes.part} has {count}{more}: ask for less, or leave the class out"
        )


def _require_groups(episodes: Episodes) -> None:
    sizes = {group: len(members) for group, members in episodes.classes.by_group.items()}
    if not sizes:
        raise DataError(
            f"within needs classes in groups, {episodes.part} has none: give groups={{class: group}} to load_classes"
        )
    if max(sizes.values()) < episodes.ways:
        largest = max(sizes, key=lambda group: sizes[group])
        raise DataError(
            f"within needs a group of {episodes.ways} classes, the largest of {episodes.part} is {largest!r} with "
            f"{sizes[largest]}: ask for fewer ways"
        )
