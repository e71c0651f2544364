"""What is said of a run's classes: their facts, and descriptions; the training classes teach how others are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from metanas.data import ClassData, Descriptions
from metanas.data.descriptions import as_known
from metanas.data.seeds import seeded
from metanas.errors import DataError, RecipeError, nearest
from metanas.modes import Interpolated, interpolated

EACH = 200
"""Images of a training class that its mean embedding is taken over, at most: the first ones."""
ANCHORS = 2000
"""Wordings that prototypes are put between, at most; of more, each class has one anchor, their mean."""


def class_facts(data: ClassData) -> dict[str, Any]:
    """What a run says of its data."""
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "classes": [],
        "shape": list(data.shape),
        "sizes": data.sizes,
        "mean": list(data.mean),
        "std": list(data.std),
        "pixels": list(data.pixels),
        "augment": [],
        "task": "few-shot",
    }


@dataclass(frozen=True, eq=False)
class Told:
    """Descriptions of all classes of `data`.

    known: fitted on the training classes, in their order
    all:   {class: descriptions} of every class that is described
    """

    data: ClassData
    known: Descriptions
    all: dict[str, Any]

    def drawn(self, step: int, seed: int) -> Tensor:
        """One wording of each training class, (classes, d), a function of (seed, step)."""
        return self.known.draw(generator=seeded(seed, "wording", step)).to(self.data.device)

    def of(self, part: str) -> Tensor:
        """The mean description of each class of a part, (classes, d)."""
        return self._vectors[part]

    @torch.no_grad()
    def interpolated(self, embed: Callable[[Tensor], Tensor]) -> Interpolated:
        """A describer between the mean embeddings of the training classes.

        Args:
            embed: images (examples, *shape), normalised, to (examples, width).

        Raises:
            BilevelError: embeddings that are not finite.
        """
        means = []
        for k, count in enumerate(self.data.train.counts):
            images = self.data.train.gather(torch.tensor(k), torch.arange(min(count, EACH)))
            means.append(embed(self.data.normalised(images)).mean(0))
        found = torch.stack(means)
        counts = torch.tensor([len(rows) for rows in self.known.rows])
        if counts.sum() > ANCHORS:
            return interpolated(self.known.vectors.to(found.device), found)
        rows = torch.cat(self.known.rows).to(found.device)
        return interpolated(rows, found.repeat_interleave(counts.to(found.device), 0), found.mean(0))

    @cached_property
    def _vectors(self) -> dict[str, Tensor]:
        found = {}
        for part in ("train", "validation", "test"):
            names = getattr(self.data, part).names
            if names:
                found[part] = self.known.encode({name: self.all[name] for name in names}).to(self.data.device)
        return found


def told(data: ClassData, source: Any, encoder: Any = None) -> Told:
    """Reads the descriptions of all classes of `data`.

    Args:
        source: what `Descriptions.fit` takes, of all classes.
        encoder: of sentences; None: the one that needs no download.

    Raises:
        RecipeError: classes that are rotated have no description of their own.
        DataError: a class that is not described; and as `Descriptions.fit` and `encode`.
    """
    if any(data.train.turns):
        raise RecipeError(["data.rotations: a turned class is not what its description says; set it to false"])
    given: dict[str, Any] = {name: list(rows) for name, rows in as_known(source).classes.items()}
    for part in ("train", "validation", "test"):
        for name in getattr(data, part).names:
            if name not in given:
                raise DataError(
                    f"class {name!r} of {part} is not described{nearest(name, given)}; describe every class"
                )
    known = Descriptions.fit({name: given[name] for name in data.train.names}, encoder=encoder)
    made = Told(data, known, given)
    made.of("test")  # raises for words that no training class has
    return made
