"""From a recipe, and what was handed over beside it, to the objects of a search."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from metanas.api.costing import Costing
from metanas.api.executor import fused_if_equal
from metanas.api.handed import Handed, name_of
from metanas.api.host import building
from metanas.api.origin import Origin
from metanas.api.ranks import Ranks
from metanas.api.trained import trained_for
from metanas.bilevel import Bilevel, CudaGraphs, Estimator, ScoreFunction, over_ranks
from metanas.controllers import Controller, DartsPt, GradientController, ParetoController, ValueController
from metanas.data import Data, Task
from metanas.data.seeds import seeded
from metanas.evaluation import (
    Briefly,
    OperationTable,
    ScratchTraining,
    briefly_trained,
    short_measures,
    short_training,
    zero_cost,
)
from metanas.loop import VALUE, Brief, GradientSearch, Hyperband, Refinement, Round, ValueSearch
from metanas.modes import meta_network
from metanas.network import (
    OPS,
    Network,
    WithAuxiliary,
    bequeath,
    derived,
    inherit,
    own_derived,
    own_supernet,
    shared_weights,
    supernet,
)
from metanas.network.blocks import Phase
from metanas.recipe import Recipe
from metanas.recipe.tables import (
    make_controller,
    make_device,
    make_estimator,
    make_guards,
    make_schedule,
    make_training,
)
from metanas.space import Architecture, Space

COMPARED = 4
"""Examples on which the executors are compared."""
DRAWING = threading.Lock()
"""Held while a network draws its weights: torch's modules know one generator, which is that of all threads."""


@dataclass(frozen=True)
class Parts:
    """What a session works with. `final_space`: the space of the networks that are trained from scratch; `origin`: what
    a transfer starts from; `ranks`: the processes that search together; `latencies`: measured when the run began.
    """

    recipe: Recipe
    space: Space
    final_space: Space
    data: Data
    handed: Handed = field(default_factory=Handed)
    origin: Origin | None = None
    ranks: Ranks = field(default_factory=Ranks)
    latencies: OperationTable | None = None

    @cached_property
    def costing(self) -> Costing:
        """What architectures cost, by the recipe."""
        shape, outputs, ops = self.data.shape, self.data.outputs, self.handed.ops
        return Costing(self.recipe.search, self.final_space, shape, outputs, ops, self.device, self.latencies)

    @cached_property
    def within(self) -> Space:
        """The space within the recipe's limits: what is searched, and what random architectures are drawn from."""
        return self.costing.bounded(self.space)

    @property
    def device(self) -> torch.device:
        return make_device(self.recipe.device)

    @property
    def controller(self) -> Controller:
        section = self.recipe.search
        return self.handed.controller or make_controller(section.controller, section.options)

    @property
    def estimator(self) -> Estimator:
        if self.handed.estimator is not None:
            return self.handed.estimator
        decay = getattr(self.controller, "scored", None)
        return make_estimator(self.recipe.search.estimator) if decay is None else ScoreFunction(decay)

    @property
    def task(self) -> Task:
        """The data's, with the user's own loss and metric, of every training and test."""
        task, own = self.data.task, self.handed
        if own.loss is not None:
            task = replace(task, loss=own.loss)
        if own.metric is not None:
            task = replace(task, metric=own.metric, metric_name=name_of(own.metric))
        return task

    @property
    def by_gradient(self) -> bool:
        """Whether the structure is learned from gradients, in epochs, and not from values."""
        return isinstance(self.controller, GradientController)

    @property
    def searches(self) -> bool:
        """Whether there is an architecture to be found; False where a transfer brings it."""
        return self.origin is None or self.origin.how == "search"

    def number(self, *parts: int | str) -> int:
        """A seed for one purpose, a function of the recipe's seed."""
        return seeded(self.recipe.seed, *parts).initial_seed()

    def network(self, architecture: Architecture, *, name: str, shape: tuple[int, ...] | None = None) -> Network:
        """A derived network at the start of its training, on the device: with fresh weights, which `name` seeds, and
        the "derived" one of a transfer with those that it brings.
        """
        network = self._derived(architecture, self.final_space, shape, seed=self.number("weights", name))
        if self.origin is not None and name == "derived":
            bequeath(network, self.origin.weights)
        return network.to(self.device)

    def _derived(
        self,
        architecture: Architecture,
        space: Space,
        shape: tuple[int, ...] | None = None,
        *,
        phase: Phase = "scratch",
        seed: int,
    ) -> Network:
        shape = shape or self.data.shape
        if self.handed.module is not None:
            return own_derived(space, self.handed.module, architecture, shape, phase=phase)
        ops = self.handed.ops or OPS
        return derived(space, architecture, shape, self.data.outputs, ops=ops, phase=phase, seed=seed)

    def training(
        self, network: Network, *, name: str, warn: Callable[[str], None] = lambda message: None
    ) -> ScratchTraining:
        """Its training on inner and outer split, at the beginning. `warn` is told where steps cannot be recorded."""
        origin = self.origin if name == "derived" else None
        changes: dict[str, Any] = {"precision": self.recipe.precision}
        if origin is not None and origin.how == "frozen":
            changes["drop_path"] = 0.0
        return ScratchTraining(
            self.trained(network, name=name) if origin is None else network,
            self.data.train,
            make_training(self.recipe.evaluation, **changes),
            seed=self.number("training"),
            augment=self.data.augment,
            task=self.task,
            carried=None if origin is None else origin.carried(network),
            graphs=self._recorder(self.recipe.evaluation.capture, warn),
        )

    def trained(self, network: Network, *, name: str) -> nn.Module:
        """What is trained: the network, with an auxiliary head where the recipe wants one."""
        node = self.final_space.auxiliary
        if not self.recipe.evaluation.auxiliary or node is None:
            return network
        seed = self.number("weights", name, "auxiliary")
        return WithAuxiliary(network, node, self.data.outputs, seed=seed).to(self.device)

    def search(self, warn: Callable[[str], None] = lambda message: None) -> GradientSearch | ValueSearch | Hyperband:
        """The search at its beginning. `warn` is told where the fused executor cannot be used."""
        controller = self.controller
        if isinstance(controller, ValueController | ParetoController):
            return self._by_value(controller)
        assert isinstance(controller, GradientController)  # there are two kinds
        with building():
            network = self._supernet(controller).to(self.device)
        if self.origin is not None:
            bequeath(network, self.origin.weights)
        if self.recipe.search.executor == "fused" and self.handed.module is None:
            ops, checkpoint = self.handed.ops or OPS, self.recipe.search.checkpoint
            with building():
                network = fused_if_equal(network, *self.probe(controller), ops=ops, warn=warn, checkpoint=checkpoint)
        problem = meta_network(
            network, loss=self.task.loss, precision=self.recipe.precision, single_path=controller.single_path
        )
        return GradientSearch(
            self.within,
            network,
            self._over_ranks(problem),
            self.estimator,
            controller,
            self.data,
            make_schedule(self.recipe),
            seed=self.recipe.seed,
            task=self.task,
            price=self.costing.price,
            trained=trained_for(self.recipe, network, self.task, self._over_ranks),
            share=self.ranks.share,
            guards=make_guards(self.recipe.search.guard),
            instead=DartsPt() if self.recipe.search.guard.then == "darts_pt" else None,
            graphs=self._graphs(controller, warn),
        )

    def _graphs(self, controller: GradientController, warn: Callable[[str], None]) -> CudaGraphs | None:
        """What launches steps as graphs; None where there is no GPU, or they would read the host: to see which
        candidate runs, to meet other ranks, to keep the state of random numbers for what is computed twice."""
        section = self.recipe.search
        alone = self.ranks.count == 1 and not controller.single_path and not section.checkpoint
        return self._recorder(section.capture and alone, warn)

    def _recorder(self, wanted: bool, warn: Callable[[str], None] = lambda message: None) -> CudaGraphs | None:
        return CudaGraphs(self.device, warn) if wanted and self.device.type == "cuda" else None

    def _over_ranks(self, problem: Bilevel) -> Bilevel:
        return over_ranks(problem) if self.ranks.count > 1 else problem

    def _supernet(self, controller: GradientController) -> Network:
        if self.handed.module is not None:
            return own_supernet(self.space, self.handed.module, self.data.shape)
        ops, seed = self.handed.ops or OPS, self.number("weights", "supernet")
        space = controller.supernet_space(self.space)
        return supernet(space, self.data.shape, self.data.outputs, ops=ops, seed=seed)

    def probe(self, controller: GradientController) -> tuple[Tensor, dict[str, Tensor]]:
        """A few examples and some mixing weights, to try a supernet with."""
        omega = controller.start(self.space, generator=seeded(self.recipe.seed, "omega"))
        generator = seeded(0, "executor")
        mix = {name: torch.rand(len(row), generator=generator).to(self.device) for name, row in omega.items()}
        return self.data.inner.inputs[:COMPARED], mix

    def _by_value(self, controller: ValueController | ParetoController) -> ValueSearch | Hyperband:
        section = self.recipe.search
        if section.eta is not None:
            assert isinstance(controller, ValueController)  # the others need objectives, which eta does not go with
            brief = self.brief(None if self.origin is None else self.origin.weights)
            longest, budget = section.value_epochs, section.budget * section.value_epochs
            return Hyperband(
                self.within,
                brief,
                controller,
                epochs=longest,
                eta=section.eta,
                budget=budget,
                seed=self.recipe.seed,
                once=True,
            )
        screen = section.screen
        return ValueSearch(
            self.within,
            self.handed.objective or self._measured(),
            controller,
            budget=section.budget,
            seed=self.recipe.seed,
            names=section.objectives or (VALUE,),
            screen=None if screen.score is None else self.scored(screen.score),
            candidates=screen.candidates,
            once=self.handed.objective is None,  # nobody knows what the user's own gives when it is asked again
        )

    def _measured(self) -> Callable[[Architecture], Any]:
        """What architectures are judged by: a zero-cost score, or what short trainings give."""
        section = self.recipe.search
        if section.objective != "training":
            return self.scored(section.objective)
        briefly = self.briefly(None if self.origin is None else self.origin.weights)
        names, shape = section.objectives, self.data.shape
        brief: Callable[..., Any] = short_measures(briefly, names, shape) if names else short_training(briefly)
        return lambda architecture: brief(architecture, section.value_epochs)

    def scored(self, name: str) -> Callable[[Architecture], float]:
        """A zero-cost score, on the first batch of the inner split."""
        count = self.recipe.search.batch_size
        inputs, targets = self.data.inner.inputs[:count], self.data.inner.targets[:count]
        seed = self.number("weights", "objective")

        def score(architecture: Architecture) -> float:
            network = self._derived(architecture, self.final_space, seed=seed)
            return zero_cost(network.to(self.device), inputs, targets, self.task.loss, scores=[name])[name]

        return score

    def refinement(self, start: Architecture, weights: Mapping[str, Tensor] | None = None) -> Refinement | None:
        """The local search from a derived architecture at its beginning; None where the recipe wants none.

        Args:
            weights: of the supernet, where there is one.
        """
        rounds = [Round(r.candidates, r.epochs) for r in self.recipe.search.refine]
        if not rounds:
            return None
        section, usual = self.recipe.search, self.recipe.evaluation.lr
        shared = weights if section.refine_from == "supernet" else None
        lr = section.refine_lr or (usual if shared is None else usual / 2)  # more would undo what was learned
        seed, workers = self.number("refinement"), self.recipe.workers
        return Refinement(self.within, start, self.brief(shared, lr=lr), rounds, seed=seed, workers=workers)

    def brief(self, weights: Mapping[str, Tensor] | None = None, *, lr: float | None = None) -> Brief:
        """The objective of short trainings, as of `briefly`."""
        return short_training(self.briefly(weights, lr=lr))

    def briefly(self, weights: Mapping[str, Tensor] | None = None, *, lr: float | None = None) -> Briefly:
        """Short trainings, every one with the same seeds.

        Args:
            weights: of a supernet, where every training starts; None: from scratch.
            lr: learning rate at the start; None: of the recipe's evaluation.
        """

        def build(architecture: Any) -> nn.Module:
            phase: Phase = "scratch" if weights is None else "search"  # the supernet's weights know batch statistics
            with DRAWING:
                network = self._derived(architecture, self.space, phase=phase, seed=self.number("weights", "objective"))
            if weights is not None:
                own = self.handed.module
                inherit(network, weights if own is None else shared_weights(own, architecture, weights))
            return network.to(self.device)

        section = self.recipe.evaluation
        changes = {"lr": lr or section.lr, "precision": self.recipe.precision, "drop_path": 0.0}  # too short for it
        training = make_training(section, **changes)
        # Threads that record at the same time would be in each other's way.
        record = partial(self._recorder, self.recipe.search.capture and self.recipe.workers == 1)
        return briefly_trained(build, self.data, training, seed=self.number("objective"), task=self.task, graphs=record)
