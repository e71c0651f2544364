"""From a recipe, and what was handed over beside it, to the objects of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metanas.api.conflicts import conflicts
from metanas.api.costing import Costing
from metanas.api.executor import fused_if_equal
from metanas.api.memory import check_extent
from metanas.api.origin import Origin
from metanas.api.own_module import build_of, check_module
from metanas.api.ranks import Ranks
from metanas.api.scoring import TRIED, useless
from metanas.api.trained import check_cells, trained_for
from metanas.bilevel import Bilevel, Estimator, ScoreFunction, over_ranks
from metanas.controllers import Controller, GradientController, ParetoController, ValueController
from metanas.data import Data, Task
from metanas.data.seeds import seeded
from metanas.errors import DataError, RankError, RecipeError, ShapeError
from metanas.evaluation import (
    Briefly,
    OperationTable,
    ScratchTraining,
    briefly_trained,
    short_measures,
    short_training,
    zero_cost,
)
from metanas.loop import VALUE, Brief, GradientSearch, Hyperband, Objective, Refinement, Round, ValueSearch
from metanas.loop.checks import check_scored
from metanas.modes import meta_network
from metanas.network import (
    OPS,
    Maker,
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
    check_precision,
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

Loss = Callable[[Tensor, Tensor], Tensor]
Metric = Callable[[Tensor, Tensor], Tensor | float]


@dataclass(frozen=True)
class Handed:
    """Objects that a user gave in place of names; a resumed run needs them again. `module`: one in which choices are
    marked, whose space it is.
    """

    controller: Controller | None = None
    estimator: Estimator | None = None
    ops: Mapping[str, Maker] | None = None
    loss: Loss | None = None
    metric: Metric | None = None
    module: nn.Module | None = None
    objective: Objective | None = None

    def described(self) -> dict[str, str]:
        """Name -> a word on each that was given, equal for equal objects as far as that can be told from outside.

        >>> Handed(loss=nn.functional.mse_loss).described()
        {'loss': 'mse_loss'}
        """
        given = {name: getattr(self, name) for name in ("controller", "estimator", "loss", "metric", "objective")}
        words = {name: describe(value) for name, value in given.items() if value is not None}
        if self.module is not None:
            words["module"] = build_of(self.module)
        return words if self.ops is None else {**words, "ops": ", ".join(map(self._operation, sorted(self.ops)))}

    def _operation(self, name: str) -> str:
        """Its name, and for a frozen module what tells its weights."""
        return " ".join([name, *filter(None, [getattr((self.ops or {})[name], "fingerprint", None)])])


def describe(value: object) -> str:
    """A word on an object of the user's.

    >>> describe(nn.functional.mse_loss), describe(nn.MSELoss())
    ('mse_loss', 'MSELoss')
    """
    if is_dataclass(value):
        return repr(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def name_of(metric: Metric) -> str:
    """What a metric of the user's is called: its `__name__`, or its class's.

    >>> name_of(nn.functional.mse_loss), name_of(nn.MSELoss())
    ('mse_loss', 'MSELoss')
    """
    return str(getattr(metric, "__name__", type(metric).__name__))


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

    def check(self) -> None:
        """Finds what would otherwise be found after the run had begun, on tensors without memory.

        Raises:
            SpaceError: a choice that the controller cannot relax, or an estimator or a price that it cannot learn from;
                an unknown operation.
            ShapeError: shapes that do not fit.
            RecipeError: other choices in the space of the networks that are trained from scratch; a precision that the
                device or the estimator does not go with; a score that is not finite.
        """
        if self.final_space.choices != self.space.choices:
            raise RecipeError(["evaluation.space: changes the choices of the space, so what is found would not fit"])
        controller = self.controller if self.searches else None
        learned = isinstance(controller, GradientController) and not controller.fixed
        self._check_ranks()
        self._check_together(controller)
        check_precision(self.recipe.precision, self.device, self.estimator if learned else None)
        if self.handed.module is None:
            self._check_networks(controller)
        else:
            check_module(self.handed.module, self.space, self.data, self.recipe, mixed=self.by_gradient)
            self._check_norms(self.handed.module)
        if isinstance(controller, GradientController):
            controller.start(self.space, generator=seeded(self.recipe.seed, "omega"))
        within, price = self.within, self.costing.price  # both raise what is wrong with them
        if isinstance(controller, GradientController):
            check_scored(controller, self.estimator, price)
        if self.origin is not None and not self.searches and not within.keeps(self.origin.architecture):
            raise RecipeError(["search.limits: the architecture that is carried over is beyond them; loosen them"])
        if self.searches:
            self._check_scores(within)

    def _check_scores(self, within: Space) -> None:
        """Refuses a score that is finite on none of the random architectures that it is tried on; mostly one is."""
        section, rng = self.recipe.search, np.random.default_rng(0)
        objective = None if section.objective == "training" else section.objective
        named = {"objective": objective, "screen.score": section.screen.score}
        problems = [
            f"search.{key}: {problem}"
            for key, name in named.items()
            if name and (problem := useless(name, self.scored(name), (within.sample(rng) for _ in range(TRIED))))
        ]
        if problems:
            raise RecipeError(problems)

    def _check_networks(self, controller: Controller | None) -> None:
        outputs, ops = self.data.outputs, self.handed.ops or OPS
        rows = len(self.data.shape) == 1
        with torch.device("meta"), self._advised("; for the rows of a table search mlp" if rows else ""):
            if isinstance(controller, GradientController):
                check_extent(self.space, self.data.shape, outputs, ops, self.device)
                trained = controller.supernet_space(self.space)
                self._require_outputs(supernet(trained, self.data.shape, outputs, ops=ops))
                self._check_weights_fit(trained is self.space)
            head = self._auxiliary_node()
            if not isinstance(controller, GradientController) or self.final_space is not self.space or head:
                one = self.space.sample(np.random.default_rng(0))
                last = derived(self.final_space, one, self.data.shape, outputs, ops=ops)
                self._require_outputs(last)
                if head:
                    WithAuxiliary(last, head, outputs, seed=0)

    def _check_weights_fit(self, fits: bool) -> None:
        """Refuses what goes on with a supernet's weights where the controller's supernet is not of the space."""
        wanted = []
        if self.recipe.search.refine and self.recipe.search.refine_from == "supernet":
            wanted.append("search.refine_from: the supernet's weights do not fit a derived network; take scratch")
        if self.origin is not None:
            wanted.append("search.controller: its supernet cannot begin with the weights of a network; take another")
        if wanted and not fits:
            raise RecipeError([f"{line} ({type(self.controller).__name__} has partial channels)" for line in wanted])

    def _check_together(self, controller: Controller | None) -> None:
        """Refuses settings that do not go with the controller, and limits that nothing keeps."""
        given = {"objective": self.handed.objective is not None, "module": self.handed.module is not None}
        problems = [] if controller is None else conflicts(self.recipe.search, controller, **given)
        if problems:
            raise RecipeError(problems)
        check_cells(self.recipe, self.space)
        if self.ranks.count > 1 and self.costing.measures:
            raise RankError(
                "every rank would measure other latencies; give a file that holds them: search.latency_table"
            )

    def _check_ranks(self) -> None:
        """Refuses what several processes cannot share."""
        if self.ranks.count == 1:
            return
        if not self.by_gradient:
            raise RankError(
                f"a search by values ({type(self.controller).__name__}) runs in one process, and torchrun started "
                f"{self.ranks.count}; start it without torchrun, or take a controller that needs gradients"
            )
        for name in ("inner", "outer"):
            size = min(self.recipe.search.batch_size, self.data.sizes[name])
            if size % self.ranks.count:
                raise RecipeError(
                    [f"search.batch_size: batches of {size} ({name} split) cannot be shared evenly by "
                     f"{self.ranks.count} ranks"]
                )  # fmt: skip

    @staticmethod
    @contextmanager
    def _advised(advice: str) -> Iterator[None]:
        try:
            yield
        except ShapeError as error:
            raise ShapeError(f"{error}{advice}") from None

    def _auxiliary_node(self) -> str | None:
        if self.recipe.evaluation.auxiliary and self.final_space.auxiliary is None:
            raise RecipeError([f"evaluation.auxiliary: {self.space.name} names no node for an auxiliary head; take 0"])
        return self.final_space.auxiliary if self.recipe.evaluation.auxiliary else None

    def _require_outputs(self, network: Network) -> None:
        """Refuses a network whose output is not what the data need, or whose norms would see one row at a time."""
        self._check_norms(network)
        given, needed = network.shapes[network.program.output], (self.data.outputs,)
        if given != needed:
            raise ShapeError(
                f"{self.space.name} gives {given} for inputs {self.data.shape}, the data need {needed}; take a space "
                "for such inputs, or end it with a classifier or a linear operation whose width is NEEDED"
            )

    def _check_norms(self, network: nn.Module) -> None:
        if any(isinstance(module, nn.BatchNorm1d) for module in network.modules()):
            single = [s for s in ("search", "evaluation") if getattr(self.recipe, s).batch_size == 1]
            if single:
                raise RecipeError([f"{s}.batch_size: one row has no batch statistics; take 2 or more" for s in single])
            short = [name for name, size in self.data.sizes.items() if size == 1]
            if short:
                raise DataError(
                    f"{' and '.join(short)} has 1 row, which has no batch statistics; at least 2 are needed"
                )

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

    def training(self, network: Network, *, name: str) -> ScratchTraining:
        """Its training on inner and outer split, at the beginning."""
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
        network = self._supernet(controller).to(self.device)
        if self.origin is not None:
            bequeath(network, self.origin.weights)
        if self.recipe.search.executor == "fused" and self.handed.module is None:
            ops, checkpoint = self.handed.ops or OPS, self.recipe.search.checkpoint
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
        )

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
                self.within, brief, controller, epochs=longest, eta=section.eta, budget=budget, seed=self.recipe.seed
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
        return Refinement(self.within, start, self.brief(shared, lr=lr), rounds, seed=self.number("refinement"))

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
            network = self._derived(architecture, self.space, phase=phase, seed=self.number("weights", "objective"))
            if weights is not None:
                own = self.handed.module
                inherit(network, weights if own is None else shared_weights(own, architecture, weights))
            return network.to(self.device)

        section = self.recipe.evaluation
        changes = {"lr": lr or section.lr, "precision": self.recipe.precision, "drop_path": 0.0}  # too short for it
        training = make_training(section, **changes)
        return briefly_trained(build, self.data, training, seed=self.number("objective"), task=self.task)
