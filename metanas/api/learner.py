"""What a few-shot run gives: a learner of new classes, and the classifiers that it makes.

    learner.adapt(images, labels) -> Classifier         from a few examples
    classifier.predict(images)    -> labels             each image for itself
    classifier.network            -> an nn.Module       plain: nothing of it is of metanas's learning

A classifier is an ordinary network: the adapted weights, batch norms that hold the statistics of the support set or of
the training classes, and a linear head. Where prototypes are compared, the head is

    2 c_k . (W f + b) - |c_k|^2  =  (2 W' c_k) . f + 2 c_k . b - |c_k|^2
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metanas.api.telling import with_cost
from metanas.bilevel import Tree
from metanas.data import Descriptions
from metanas.data.descriptions import Wordings, as_known
from metanas.data.load import channels_first
from metanas.data.warps import views
from metanas.errors import DataError, ExportError
from metanas.exporters import Source, Story, Written, write
from metanas.modes import Described, FewShot, Support, adapt, one_hot
from metanas.modes.adapting import last_linear
from metanas.network import Network, Statistics, called_norms, derived, episodic, settled
from metanas.space import Architecture, Space

FORMATS = ("json", "safetensors", "python")


@dataclass(frozen=True)
class Pixels:
    """How pixels become inputs: `(pixels - mean) / std` of images (channels, height, width) or rows (features,)."""

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    span: tuple[float, float]

    def inputs(self, images: Any, device: torch.device) -> Tensor:
        """Float32 inputs (examples, *shape) from images as the source has them: (N, H, W), (N, C, H, W), (N, H, W, C),
        one image without the first axis, or rows.

        Raises:
            DataError: no numbers, or some that are not finite; none; another shape.
        """
        try:
            array = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
        except (TypeError, ValueError) as error:
            raise DataError(f"images must be an array or a tensor of numbers: {error}") from None
        whole = len(self.shape)
        if array.dim() == whole - 1 or (array.dim() == whole and tuple(array.shape) == self.shape):
            array = array[None]
        if whole == 3 and array.dim() in (3, 4):
            array = channels_first(array)
        if not array.numel():
            raise DataError(f"the learner takes images of shape {self.shape}, got none")
        if tuple(array.shape[1:]) != self.shape:
            raise DataError(
                f"the learner takes images of shape {self.shape}, got {tuple(array.shape[1:])}; scale or crop them"
            )
        if not bool(torch.isfinite(array).all()):
            raise DataError("images hold numbers that are not finite (nan or inf); leave them out")
        axes = (-1, 1, 1) if whole == 3 else (-1,)
        mean, std = (torch.tensor(t, device=device).view(axes) for t in (self.mean, self.std))
        return (array.to(device).float() - mean) / std

    def looked_at(self, inputs: Tensor, count: int) -> Tensor:
        """The inputs so many times, from the second on distorted a little (`data.warps.views`): (count, *inputs)."""
        if count == 1:
            return inputs[None]
        mean, std = (torch.tensor(t, device=inputs.device).view(-1, 1, 1) for t in (self.mean, self.std))
        return views(inputs, count, -mean / std)


@dataclass(frozen=True, eq=False)
class Classifier:
    """Tells the classes apart that it was made for.

    network: an nn.Module in evaluation mode, inputs (batch, *shape), normalised, to scores (batch, classes)
    classes: the name of each output
    structure: the space of the architecture, where there is one
    learned_from: what of its classes it has seen, in words
    views:   how many times it looks at an image, slightly distorted; the scores are the mean. `network` is of one look
    """

    network: nn.Module
    classes: tuple[str, ...]
    pixels: Pixels
    space: str
    architecture: Architecture
    structure: Space | None = None
    learned_from: str = ""
    views: int = 1

    @torch.no_grad()
    def scores(self, images: Any) -> Tensor:
        """(examples, classes), unnormalised logarithms of probabilities, of images as the source has them."""
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        looks = self.pixels.looked_at(self.pixels.inputs(images, device), self.views)
        return torch.stack([self.network(look) for look in looks]).mean(0)

    def probabilities(self, images: Any) -> Tensor:
        """(examples, classes), of images as the source has them."""
        return self.scores(images).softmax(-1)

    def predict(self, images: Any) -> list[str]:
        """The class of each image, answered for itself."""
        return [self.classes[k] for k in self.scores(images).argmax(-1).tolist()]

    def export(
        self,
        folder: str | Path,
        formats: str | Sequence[str] = FORMATS,
        *,
        force: bool = False,
        precision: str = "float32",
        verify: str = "process",
    ) -> Written:
        """The classifier as files that need metanas no more, read back and compared; arguments as of `metanas.export`.

        Raises:
            ExportError: a network of your own, which has no text that could stand alone; and as `metanas.export`.
        """
        if not isinstance(self.network, Network):
            raise ExportError("a network of your own has no description to write; save classifier.network with torch")
        source = Source(
            self.architecture,
            self.space,
            self.classes,
            self.pixels.mean,
            self.pixels.std,
            self.pixels.span,
            structure=self.structure,
        )
        story = Story(
            made="adapted to its classes by a few-shot learner",
            method={"Learned from": self.learned_from} if self.learned_from else {},
            limits=("The learner was tested on other classes, see its run.", *self._limits()),
        )
        return write(
            self.network,
            source,
            folder=folder,
            formats=formats,
            force=force,
            precision=precision,
            verify=verify,
            story=with_cost(story, self.network),
        )

    def _limits(self) -> tuple[str, ...]:
        said = f"It looks at an image once; what made it takes the mean of {self.views} slightly distorted looks."
        return (said,) if self.views > 1 else ()


@dataclass(frozen=True, eq=False)
class Learner:
    """Learns new classes from a few examples of each.

    few_shot:   how it starts, adapts and answers
    outer:      what was learned, {"weights": {name: tensor}, ...}
    statistics: of the norms on the training classes; None where the support set's are used
    network:    the module whose parameters `outer["weights"]` are
    ways:       how many classes it tells apart; None: any number
    known:      descriptions of the training classes, by which others are read; None where it learns from examples
    views:      how many times it looks at an image, an example or a query, slightly distorted
    """

    few_shot: FewShot
    outer: dict[str, Tree]
    statistics: Statistics | None
    network: nn.Module
    pixels: Pixels
    ways: int | None
    space: Space | None
    architecture: Architecture | None
    known: Descriptions | None = None
    views: int = 1

    def adapt(self, images: Any, labels: Sequence[Any]) -> Classifier:
        """A classifier of the classes in `labels`, from examples of them.

        Args:
            images: (examples, ...) as the source had them: pixels, not normalised.
            labels: of each image; anything that can be compared. Classes are named by `str`, in the order in which they
                come.

        Raises:
            DataError: not one label for each image, one class only, another number of classes than the learner was
                made for, another shape.
        """
        if self.known is not None:
            raise DataError("this learner reads descriptions, not examples; call describe({class: description})")
        named = [str(label.item() if isinstance(label, Tensor | np.generic) else label) for label in labels]
        classes = tuple(dict.fromkeys(named))
        inputs = self.pixels.inputs(images, self.device)
        if len(named) != len(inputs):
            raise DataError(f"adapt needs a label for each image, got {len(inputs)} images and {len(named)} labels")
        if len(classes) < 2:
            raise DataError(f"adapt needs two classes or more to tell apart, got {', '.join(classes) or 'none'}")
        if self.ways is not None and len(classes) != self.ways:
            raise DataError(
                f"this learner tells {self.ways} classes apart, got {len(classes)}; give that many, or train with "
                f"episodes.ways = {len(classes)}"
            )
        targets = one_hot(torch.tensor([classes.index(name) for name in named], device=self.device), len(classes))
        looks = self.pixels.looked_at(inputs, self.views).flatten(0, 1)
        support = Support(looks, targets.repeat(self.views, 1), self.statistics)
        with torch.no_grad():
            return self._classifier(support, classes, _examples(targets))

    def describe(self, classes: Wordings) -> Classifier:
        """A classifier of classes that no example shows.

        Args:
            classes: {class: description or list of them}, as the training classes were described.

        Raises:
            DataError: a learner that learns from examples; one class only; an unknown key or word, a class described
                twice, or as another is.
        """
        if self.known is None:
            raise DataError("this learner learns from examples, not descriptions; call adapt(images, labels)")
        names = tuple(as_known(classes).classes)
        if len(names) < 2:
            raise DataError(f"describe needs two classes or more to tell apart, got {', '.join(names) or 'none'}")
        vectors = self.known.encode(classes).to(self.device)
        with torch.no_grad():
            return self._classifier(Described(vectors, self.statistics), names, "a description")

    @property
    def device(self) -> torch.device:
        weights: Mapping[str, Tensor] = self.outer["weights"]
        return next(iter(weights.values())).device

    def _classifier(self, support: Any, classes: tuple[str, ...], seen: str) -> Classifier:
        theta = adapt(self.few_shot, self.outer, support)
        statistics = support.statistics
        if statistics is None:
            statistics = self.few_shot.statistics(theta, self.outer, support.images)
        network = self._plain(theta, statistics, len(classes))
        return Classifier(
            network,
            classes,
            self.pixels,
            "own" if self.space is None else self.space.name,
            self.architecture or Architecture({}),
            self.space,
            f"{seen} of each of {len(classes)} classes",
            self.views,
        )

    def _plain(self, theta: Tree, statistics: Statistics, ways: int) -> nn.Module:
        """The adapted network with a head of as many outputs as there are classes."""
        unlinear = "prototypes" in theta and self.few_shot.head is None
        if self.few_shot.mixes or unlinear:
            return Mixed(self.few_shot, copy.deepcopy(self.outer), theta, statistics).eval()
        weights = {**self.outer["weights"], **theta.get("weights", {})}
        base = episodic(self.network)
        names = called_norms(base, torch.zeros(2, *self.pixels.shape, device=self.device))
        if self.few_shot.head is None:
            return _scratch(settled(base, weights, statistics, names, affine=self.space is not None))
        weight, bias = self.few_shot.head(theta, self.outer)
        if self.space is None or self.architecture is None:
            last = nn.Linear(weight.shape[1], ways).to(weight)
            last.weight.copy_(weight)
            last.bias.copy_(bias)
            return nn.Sequential(settled(base, weights, statistics, names), last).eval()
        made = derived(self.space, self.architecture, self.pixels.shape, ways, phase="search").to(self.device)
        head = last_linear(made)  # the embedding's own linear map, and the one that compares, are one
        weights[f"{head}.bias"] = weight @ weights[f"{head}.bias"] + bias
        weights[f"{head}.weight"] = weight @ weights[f"{head}.weight"]
        return _scratch(settled(episodic(made), weights, statistics, names, affine=True))


def _scratch(network: nn.Module) -> nn.Module:
    """A network whose norms keep statistics is one of the other phase: as after a training from scratch."""
    if isinstance(network, Network):
        network.phase = "scratch"
    return network


class Mixed(nn.Module):
    """An adapted learner that no plain network equals, as a module of inputs alone: its structure is a mixture, or its
    scores are not linear in the embedding."""

    def __init__(self, learner: FewShot, outer: Tree, theta: Tree, statistics: Statistics) -> None:
        super().__init__()
        self.learner, self.outer, self.theta, self.statistics = learner, outer, theta, statistics

    def forward(self, inputs: Tensor) -> Tensor:
        return self.learner.scores(self.theta, self.outer, inputs, self.statistics)


def _examples(targets: Tensor) -> str:
    """How many a learner has seen of a class, in words; targets (examples, classes)."""
    each = targets.sum(0)
    least, most = int(each.min()), int(each.max())
    return f"{least if least == most else f'{least} to {most}'} examples"
