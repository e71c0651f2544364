"""What architectures cost in a run: its limits, and the price of its mixing weights, from its recipe.

Costs are those of the network that is trained from scratch: of the final space, at the shape of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from metanas.controllers import Controller, GradientController
from metanas.errors import MetanasError, RecipeError, SpaceError
from metanas.evaluation import AdditiveCost, ExactCost, Limits, OperationTable, additive
from metanas.loop import Price
from metanas.network import OPS, Maker
from metanas.recipe.recipe import SearchRecipe
from metanas.space import Architecture, Space

Costs = Callable[[Architecture], float]
LATENCY = "latency_ms"


@dataclass(frozen=True, eq=False)
class Costing:
    """The costs of a run's architectures.

    Args:
        section: of the recipe.
        space: of the networks that are trained from scratch.
        shape, outputs: of one input, and of the network's output.
        ops: kinds of operation to makers.
        device: where latency is measured.
        known: the table of latencies that the run began with; None: measured, or read from the recipe's file.
    """

    section: SearchRecipe
    space: Space
    shape: tuple[int, ...]
    outputs: int
    ops: Mapping[str, Maker] | None
    device: torch.device
    known: OperationTable | None = None

    @property
    def at_most(self) -> dict[str, float]:
        """The limits that the recipe sets."""
        return {name: limit for name, limit in self.section.limits.model_dump().items() if limit is not None}

    @property
    def times(self) -> bool:
        """Whether the run needs latencies."""
        return LATENCY in self.at_most or self.section.cost == LATENCY

    @property
    def measures(self) -> bool:
        """Whether it measures them here, so that another process would find others."""
        return self.times and self.known is None and self.section.latency_table is None

    @cached_property
    def latencies(self) -> OperationTable:
        """Of every operation of the space."""
        if self.known is not None:
            if self.section.latency_table is None:  # an operation that the run had not met yet
                self.known.find = OperationTable.measured(ops=self.ops or OPS, device=self.device).find
            return self.known
        if self.section.latency_table is None:
            return OperationTable.measured(ops=self.ops or OPS, device=self.device)
        try:
            table = OperationTable.read(self.section.latency_table)
        except MetanasError as error:
            raise RecipeError([f"search.latency_table: {error}"]) from None
        if table.what != LATENCY:
            raise RecipeError([f"search.latency_table: holds {table.what}; give a table of {LATENCY}"])
        return table

    def sums(self, name: str) -> AdditiveCost:
        """A cost as a sum over steps. Raises SpaceError where it is none."""
        table = self.latencies if name == LATENCY else OperationTable.counted(name, ops=self.ops or OPS)
        return additive(self.space, self.shape, self.outputs, table)

    def cost(self, name: str) -> Costs:
        """A cost: by sums where that holds; else by networks that are built, or the table of their own operations."""
        try:
            return self.sums(name)
        except SpaceError:
            if name == LATENCY:
                return self.latencies.of(self.space, self.shape, self.outputs)
            return ExactCost(self.space, self.shape, self.outputs, name, self.ops or OPS)

    @cached_property
    def limits(self) -> Limits | None:
        """The limits; None where there are none. RecipeError where no architecture was found to keep them."""
        if not self.at_most:
            return None
        limits = Limits({name: self.cost(name) for name in self.at_most}, self.at_most)
        problems = limits.problems(self.space)
        if problems:
            raise RecipeError(
                [f"search.limits.{line}" if ":" in line else f"search.limits: {line}" for line in problems]
            )
        return limits

    def bounded(self, space: Space) -> Space:
        """The searched space within the limits."""
        return space if self.limits is None else replace(space, bounds=self.limits)

    @cached_property
    def price(self) -> Price | None:
        """What mixing weights are charged; None where the recipe names no cost. RecipeError where there is no sum."""
        if self.section.cost is None:
            return None
        try:
            cost = self.sums(self.section.cost)
        except SpaceError as error:
            raise RecipeError([f"search.cost: {error}; set limits in its place: search.limits"]) from None
        target = self.section.cost_target
        return Price(
            expected=cost.expected,
            weight=self.section.cost_weight,
            reference=target or cost.mean or 1.0,
            beyond=target is not None,
        )

    def table(self) -> dict[str, Any] | None:
        """The latencies as plain data, for the run; None where it needs none."""
        return self.latencies.to_json() if self.times else None


def conflicts(section: SearchRecipe, controller: Controller) -> list[str]:
    """A line for each cost or score that the controller has no use for."""
    word, learns = section.controller, isinstance(controller, GradientController)
    asked = {"objective": section.objective != "training", "screen.score": section.screen.score is not None}
    problems = [
        f"search.{name}: goes with a controller by values; {word} learns from gradients"
        for name, set_ in asked.items()
        if learns and set_
    ]
    if section.cost is not None and (not isinstance(controller, GradientController) or controller.fixed):
        problems.append(f"search.cost: {word} takes no gradient of it; set limits in its place: search.limits")
    return problems
