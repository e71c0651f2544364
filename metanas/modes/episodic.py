"""A module as a pure function of its parameters and of the statistics of its norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from metanas.modes.stateless import Stateless
from metanas.network import EpisodeNorm, Statistics, episodic, norms_of


class Episodic:
    """Calls a copy of `module`, whose batch norms are `EpisodeNorm`s, at given parameters and statistics.

    Not for several threads at once.

    >>> import torch
    >>> call = Episodic(nn.BatchNorm1d(1))
    >>> theta = {"weight": torch.ones(1), "bias": torch.zeros(1)}
    >>> support = torch.tensor([[0.0], [2.0]])
    >>> call(theta, torch.tensor([[3.0]]), call.statistics(theta, support))
    tensor([[2.0000]])
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = episodic(module)
        self.norms: list[EpisodeNorm] = norms_of(self.module)
        self.call = Stateless(self.module)

    @property
    def theta(self) -> dict[str, Tensor]:
        """The module's own parameters, cut from it."""
        return {name: p.detach() for name, p in self.module.named_parameters() if p.requires_grad}

    def __call__(
        self, theta: Mapping[str, Tensor], inputs: Tensor, statistics: Statistics | None = None, **arguments: Any
    ) -> Tensor:
        """The outputs (batch, width).

        Args:
            theta: {name: parameter}.
            statistics: what the norms use; None: those of `inputs`, so that each output depends on all inputs.
            arguments: for the module.
        """
        given = None if statistics is None else iter(statistics)
        return self._called(theta, inputs, arguments, given=given, found=None)

    def statistics(self, theta: Mapping[str, Tensor], inputs: Tensor, **arguments: Any) -> Statistics:
        """The statistics of the norms on `inputs`, differentiable in theta; [] for a module without batch norms."""
        found: Statistics = []
        if self.norms:
            self._called(theta, inputs, arguments, given=None, found=found)
        return found

    def _called(
        self, theta: Mapping[str, Tensor], inputs: Tensor, arguments: Mapping[str, Any], *, given: Any, found: Any
    ) -> Tensor:
        for norm in self.norms:
            norm.given, norm.found = given, found
        try:
            outputs: Tensor = self.call(theta, inputs, **arguments)
            return outputs
        finally:
            for norm in self.norms:
                norm.given, norm.found = None, None
