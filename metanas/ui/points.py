"""What a state is made of: one frozen value for each thing that a run tells of; None where it does not say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metanas.ui.fields import Label


@dataclass(frozen=True)
class Choice:
    """One choice of the space, as far as a view needs it."""

    name: str
    candidates: tuple[str, ...]
    skips: tuple[str, ...] | None = None  # those that skip; None: the run does not say


@dataclass(frozen=True)
class Link:
    """An edge of a cell: its source, and the choice of what is on it, or the name of what always is ("": nothing)."""

    source: str
    choice: str | None = None
    fixed: str = ""


@dataclass(frozen=True)
class Vertex:
    """A node of a cell. `inputs` is the choice of which links are taken, by the labels in `labels`, one a link."""

    name: str
    links: tuple[Link, ...]
    inputs: str | None = None
    labels: tuple[str, ...] = ()
    body: str | None = None  # the choice of what the node does with what it gets


@dataclass(frozen=True)
class Cell:
    """A graph of the space that holds choices: its nodes that matter, sources before those that read them."""

    name: str
    vertices: tuple[Vertex, ...]


@dataclass(frozen=True)
class StepPoint:
    """One outer iteration."""

    step: int
    inner_loss: float | None
    outer_loss: float | None
    outer_gradient_norm: float | None = None


@dataclass(frozen=True)
class EpochPoint:
    """One finished epoch; `changed` names the choices that were derived differently one epoch earlier."""

    epoch: int
    step: int | None
    elapsed: float
    inner_loss: float | None
    outer_loss: float | None
    inner_score: float | None
    outer_score: float | None
    entropy: float | None
    gap: float | None
    key: str | None
    weights: Mapping[str, tuple[float, ...]]
    architecture: Mapping[str, Label]
    before: Mapping[str, Label]
    changed: tuple[str, ...]
    derived_score: float | None = None  # of the derived architecture with the weights of the supernet
    eigenvalue: float | None = None  # the largest of the Hessian of the outer loss in omega, where a guard asked for it
    cost: float | None = None  # expected under the mean mixing weights


@dataclass(frozen=True)
class Derivation:
    """How many evaluations of a trained supernet are done, of those by which an architecture is derived from it;
    `begun` and `elapsed`: seconds of work before the first of them, and after the last."""

    done: int
    total: int | None
    begun: float
    elapsed: float


@dataclass(frozen=True)
class ValuePoint:
    """One architecture that was evaluated by a controller which needs only values; `values`: of several objectives;
    `epochs`: of its training, where some are longer than others.
    """

    step: int
    value: float | None
    best: float | None
    key: str | None
    architecture: Mapping[str, Label]
    values: Mapping[str, float] = field(default_factory=dict)
    epochs: int | None = None

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Larger is better: values of trainings of different length do not compare, and the longest say most."""
        sound = self.value is not None and self.value == self.value
        return sound, self.epochs or 0, self.value if sound and self.value is not None else -math.inf


def by_length(points: Sequence[ValuePoint]) -> dict[str, tuple[float | None, ...]]:
    """The values as series of one length, each with its name: where trainings are of different length, the longest ones
    apart from the others.

    >>> points = [ValuePoint(k, value, None, None, {}, epochs=k) for k, value in ((1, 0.5), (3, 0.25))]
    >>> by_length(points), by_length(points[:1])
    ({'shorter': (0.5, None), '3 epochs': (None, 0.25)}, {'value': (0.5,)})
    """
    lengths = sorted({point.epochs or 0 for point in points})
    if len(lengths) < 2:
        return {"value": tuple(point.value for point in points)}
    longest = [(point.epochs or 0) == lengths[-1] for point in points]
    parts = {"shorter": False, f"{lengths[-1]} epochs": True}
    return {
        name: tuple(point.value if long is part else None for point, long in zip(points, longest, strict=True))
        for name, part in parts.items()
    }


@dataclass(frozen=True)
class Training:
    """How far one network is with its training from scratch."""

    network: str
    epoch: int
    epochs: int | None
    loss: float | None
    score: float | None


@dataclass(frozen=True)
class Trained:
    """One network that was trained from scratch and tested once."""

    network: str
    key: str | None
    architecture: Mapping[str, Label]
    test_score: float | None
    test_loss: float | None
    parameters: float | None
    multiply_adds: float | None
    seconds: float | None = None


@dataclass(frozen=True)
class LogLine:
    """One line of the run's log, and when it was said (seconds of work)."""

    level: str
    message: str
    elapsed: float
