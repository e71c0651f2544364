"""What a controller by gradients is: how the structure parameters omega are used, moved and read.

A relaxation is a function from omega and drawn noise to mixing weights. It runs once per step, *outside* the losses:
the outer variable of the bilevel problem is the mixing weights, and their hypergradient is pulled back to omega. That
is exact, and it is needed: a Dirichlet sample cannot be drawn under the transforms of `torch.func`.

What all controllers share, and those by values, are in `contract`, which needs no torch; they are given here as well.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from metanas.controllers.contract import Controller as Controller
from metanas.controllers.contract import ParetoController as ParetoController
from metanas.controllers.contract import ValueController as ValueController
from metanas.errors import SpaceError
from metanas.space import Architecture, Space

Omega: TypeAlias = dict[str, Tensor]
"""Structure parameters: choice -> one number per candidate, shape (candidates,)."""

Evaluate: TypeAlias = Callable[[Mapping[str, Any]], float]
"""The supernet's loss on held-out data at given mixing weights, or at places (`uniform_path.path_of`); smaller is
better."""


class GradientController(Controller):
    """Learns omega from hypergradients."""

    @property
    def needs(self) -> str:
        return "gradient"

    @property
    @abstractmethod
    def fixed(self) -> bool:
        """Whether omega stays as it starts: then only the weights are trained, and no hypergradient is taken."""

    @property
    def competing(self) -> bool:
        """Whether the mixing weights of a choice sum to 1."""
        return True

    @property
    def single_path(self) -> bool:
        """Whether the weights are one-hot, so that the supernet runs what they take and nothing else."""
        return False

    def supernet_space(self, space: Space) -> Space:
        """What the supernet is of: the space, or one with the same choices in which less of each candidate runs."""
        return space

    @property
    def scored(self) -> float | None:
        """Where omega learns from the value of the loss alone, the decay of the baseline of `bilevel.ScoreFunction`,
        which is then the estimator; None: from any hypergradient.
        """
        return None

    @abstractmethod
    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        """Omega before the first step, on the CPU: numbers for every choice of one of n, see `small_random`; also for
        those of k of n, where the inputs have weights of their own.

        Raises:
            SpaceError: a choice that the controller cannot relax, limits that it does not keep, or nothing to learn.
        """

    @abstractmethod
    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        """Mixing weights (candidates,) of every choice in omega, differentiable in omega: at least 0, with the sum 1
        or, where candidates do not compete, each at most 1.

        Args:
            progress: the part of the search that is done, 0 to 1.
            generator: source of the noise, on omega's device; the same noise gives the same weights.
        """

    @abstractmethod
    def mean(self, omega: Omega) -> dict[str, Tensor]:
        """The mean of the mixing weights of `relax`, differentiable in omega."""

    def expected(self, omega: Omega) -> dict[str, Tensor]:
        """The mean of the mixing weights: what is shown, and what is derived from. No graph."""
        with torch.no_grad():
            return self.mean(omega)

    @abstractmethod
    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        """A scalar that is added to the outer loss: an anchor or a regulariser of omega itself (0 where there is
        none).

        Args:
            progress: the part of the search that is done, 0 to 1.
        """

    @abstractmethod
    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimiser that moves omega."""

    @abstractmethod
    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        """What `derive` would give now, shown after every epoch; None where that takes evaluations."""

    def evaluates(self, space: Space) -> int:
        """How often `derive` calls `evaluate` at most; 0: omega is enough. These calls may take longer than the steps
        of the search, so a budget leaves room for them, and views say how far they are.
        """
        return 0

    @abstractmethod
    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        """The architecture that the search ends with.

        Args:
            evaluate: the supernet's loss at mixing weights; a rule that needs only omega does not call it. What it
                raises passes through: so a derivation is stopped.
            generator: source of randomness of a rule that samples, on the CPU.
        """

    def remarks(self, space: Space, omega: Omega) -> tuple[str, ...]:
        """What is to be said of what `derive` gives, in words; nothing where it needs no explanation."""
        return ()


def by_rows(function: Callable[[Tensor], Tensor], omega: Omega) -> Omega:
    """A function of rows (choices, candidates) -> the same shape, applied to all choices of equal length at once.

    A choice has a handful of numbers, so the time goes into the number of calls: one row at a time, the relaxation of
    NAS-Bench-201 and its derivative take some per cent of a step on a small supernet.

    >>> by_rows(lambda rows: rows / rows.sum(-1, keepdim=True), {"a": torch.tensor([1.0, 3.0]), "b": torch.ones(1)})
    {'a': tensor([0.2500, 0.7500]), 'b': tensor([1.])}
    """
    groups: dict[int, list[str]] = {}
    for name, row in omega.items():
        groups.setdefault(len(row), []).append(name)
    found: Omega = {}
    for names in groups.values():
        rows = function(torch.stack([omega[name] for name in names]))
        found.update(zip(names, rows.unbind(), strict=True))
    return {name: found[name] for name in omega}


def small_random(space: Space, scale: float, *, generator: torch.Generator) -> Omega:
    """`scale` times standard normal numbers for every choice of one of n.

    Choices of k of n inputs have no parameters of their own: DARTS mixes all inputs and judges them by their
    operations.

    Raises:
        SpaceError: a choice of any subset, which has no such relaxation; joint limits, which the strongest options of
            all choices need not keep; no choice of one of n.
    """
    omega: Omega = {}
    for choice in space.choices:
        if choice.take is None:
            raise SpaceError(
                f"choice {choice.name!r} takes any subset, which has no mixture of one of n; "
                "use a controller by values (evolution, local_search, random, ...)"
            )
        if choice.take == 1:
            omega[choice.name] = scale * torch.randn(len(choice.candidates), generator=generator)
    if space.limits:
        raise SpaceError(
            f"space {space.name!r} allows {space.limits[0]}, which the strongest options of all choices need not keep; "
            "use a controller by values (evolution, local_search, random, ...)"
        )
    if not omega:
        raise SpaceError(f"space {space.name!r} has no choice of one of n, so there is nothing to learn; add one")
    return omega
