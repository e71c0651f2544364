"""FairDARTS: every candidate has a weight of its own, so that a skip gains nothing by pushing the others down.

    weights(choice) = sigmoid(omega[choice])           not on the simplex: they do not compete
    penalty         = zero_one * (1/4 - mean over all weights of (weight - 1/2)^2)
    omega          <- Adam on d (outer loss + penalty) / d omega
    derive            the operation with the largest weight of each choice; one that is not above `threshold` gives way
                      to `none`, where the space derives that, unless it is the strongest on its node
                      the strongest k inputs of each node

Chu, Zhou, Zhang, Li: Fair DARTS, ECCV 2020, arXiv:1911.12126. The penalty is its zero-one loss and a constant: it is 0
where every weight is 0 or 1. The paper's derivation leaves out every edge on which no operation is above the threshold,
and keeps two at most on a node. A space says itself how many inputs a node takes. In DARTS's it is two, so there the
strongest are taken also where nothing is above the threshold; `remarks` counts them. In NAS-Bench-201's an edge is left
out by `none`; a node whose edges are all below the threshold keeps the strongest, or nothing would reach the output.
`none` has no gradient from the losses and so takes no part in the comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.controllers.base import Evaluate, GradientController, Omega, by_rows, small_random
from metanas.controllers.derivation import strongest
from metanas.errors import SpaceError
from metanas.space import Architecture, Combine, Space, every_step


@dataclass(frozen=True, kw_only=True)
class FairDarts(GradientController):
    """Sigmoid relaxation.

    Args:
        lr, betas, weight_decay: of Adam on omega (paper: 3e-4; larger suits a search of minutes).
        zero_one: of the penalty (paper: 10).
        threshold: of a weight, above which an operation is wanted (paper: 0.85).
        scale: of the random start.

    Raises:
        SpaceError: a threshold that is not below 1 and at least 0.
    """

    lr: float = 3e-2
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-3
    zero_one: float = 10.0
    threshold: float = 0.85
    scale: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise SpaceError(f"threshold must be at least 0 and below 1, got {self.threshold}")

    @property
    def fixed(self) -> bool:
        return False

    @property
    def competing(self) -> bool:
        return False

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        return small_random(space, self.scale, generator=generator)

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        return self.mean(omega)

    def mean(self, omega: Omega) -> dict[str, Tensor]:
        return by_rows(torch.sigmoid, omega)

    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        if not self.zero_one or not omega:
            return torch.zeros(())
        weights = torch.cat([torch.sigmoid(row) for row in omega.values()])
        return self.zero_one * (0.25 - (weights - 0.5).square().mean())

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, weight_decay=self.weight_decay, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        weights = _of_operations(space, self.expected(omega))
        best = {name: float(row.max()) for name, row in weights.items()}
        dropped = {name: (space.nothings[name][0],) for name in self._dropped(space, best)}
        return space.architecture({**strongest(space, weights), **dropped})

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        found = self.preview(space, omega)
        assert found is not None  # omega is all it takes
        return found

    def remarks(self, space: Space, omega: Omega) -> tuple[str, ...]:
        best = {name: float(row.max()) for name, row in _of_operations(space, self.expected(omega)).items()}
        below = [name for name, weight in best.items() if weight <= self.threshold]
        dropped = len(self._dropped(space, best))
        if not below:
            return ()
        return (
            f"{len(below)} of {len(best)} choices have no operation with a weight above {self.threshold:g}: {dropped} "
            f"take none, {len(below) - dropped} the strongest",
        )

    def _dropped(self, space: Space, best: Mapping[str, float]) -> list[str]:
        """The choices that take nothing: below the threshold, and not the strongest on any node."""
        kept = {max(names, key=best.__getitem__) for names in _on_nodes(space, best)}
        options = {choice.name: choice.options for choice in space.choices}
        return [
            name
            for name, weight in best.items()
            if weight <= self.threshold and name not in kept
            if space.nothings.get(name, (None,))[0] in options[name]
        ]


def _of_operations(space: Space, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, and -1 for candidates that are nothing."""
    found = {name: row.clone() for name, row in weights.items()}
    for name, labels in space.nothings.items():
        if name in found:
            choice = space.program.choice(name)
            found[name][[choice.index(label) for label in labels]] = -1.0
    return found


def _on_nodes(space: Space, best: Mapping[str, float]) -> Iterator[list[str]]:
    """The choices of each node: those whose values come together there; one whose value goes its own way is alone."""
    maker = {s.out: s.choice for s in every_step(space.program) if isinstance(s, Combine) and s.choice in best}
    alone = set(best)
    for step in every_step(space.program):
        if isinstance(step, Combine) and step.choice not in best:
            names = [name for source in step.sources if (name := maker.get(source)) is not None]
            alone -= set(names)
            if names:
                yield names
    yield from ([name] for name in best if name in alone)
