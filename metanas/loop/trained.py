"""What the weights of a supernet are trained on, where that is more than the problem's inner loss.

    Plain       the inner loss
    Alignment   it, and that the cells want the same of their mixing weights (Lambda-DARTS)
    Sandwich    it for the largest architecture, whose outputs teach the smallest and some that are drawn

Each gives a loss, so that optimiser, ranks and the masking of what is not finite are as ever. The problem that an
estimator sees has the plain inner loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from torch import Tensor

from metanas.bilevel import Bilevel
from metanas.controllers import GradientController
from metanas.errors import SpaceError

Loss = Callable[[Any, Any, Any], Tensor]
"""(theta, outer, batch) -> a 0-d tensor."""


class Trained(ABC):
    """What a step of the weights descends on."""

    @property
    def draws(self) -> int:
        """How many mixing weights are drawn for a step: the first is outer["mix"], the rest are outer["others"]."""
        return 1

    @abstractmethod
    def check(self, controller: GradientController) -> None:
        """Raises SpaceError where the controller's mixing weights are not of the kind that it takes."""

    @abstractmethod
    def loss(self, plain: Loss, theta: Any, outer: Any, batch: Any, *, progress: float) -> Tensor:
        """A 0-d tensor whose gradient in theta moves the weights, and whose value is reported as the inner loss.

        Args:
            plain: the problem's inner loss.
            outer: {"mix": mixing weights, "others": a list of such} ("others" where there are any).
            progress: the part of the search that is done, 0 to 1.
        """

    def keep(self, kept: Mapping[str, tuple[int, ...]]) -> None:
        """From now on only these candidates run, as `Network.keep` of the supernet is told."""
        return


@final
@dataclass(frozen=True)
class Plain(Trained):
    """The problem's inner loss."""

    def check(self, controller: GradientController) -> None:
        return

    def loss(self, plain: Loss, theta: Any, outer: Any, batch: Any, *, progress: float) -> Tensor:
        return plain(theta, outer, batch)


PLAIN = Plain()


@final
@dataclass(frozen=True)
class Sandwich(Trained):
    """The sandwich rule (`modes.sandwich`).

    Args:
        taught: (theta, outer, batch) -> 0-d tensor: of the largest, the smallest and the drawn architectures.
        random: how many architectures are drawn for a step.
    """

    taught: Loss
    random: int = 2

    @property
    def draws(self) -> int:
        return self.random

    def check(self, controller: GradientController) -> None:
        if not controller.single_path:
            name = type(controller).__name__
            raise SpaceError(f"sandwich: {name} mixes all candidates; take a controller that runs one path, as spos")

    def loss(self, plain: Loss, theta: Any, outer: Any, batch: Any, *, progress: float) -> Tensor:
        return self.taught(theta, outer, batch)


def trained_on(problem: Bilevel, trained: Trained, progress: Callable[[], float]) -> Bilevel:
    """The problem as the weights see it; one without an inner loss stays as it is."""
    plain = problem.inner_loss
    if plain is None:
        return problem

    def loss(theta: Any, outer: Any, batch: Any) -> Tensor:
        return trained.loss(plain, theta, outer, batch, progress=progress())

    return replace(problem, inner_loss=loss)
