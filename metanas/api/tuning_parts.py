"""From the recipe of a tuning, and what was handed over beside it, to the objects of the run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from metanas.api.documents import HANDED_FACTS, facts_of
from metanas.api.handed import Metric, name_of
from metanas.api.identity import FREE, describe, space_identity
from metanas.bilevel import Bilevel, Estimator, Implicit, Tree
from metanas.data import Data, Split, Task
from metanas.data.seeds import seeded
from metanas.errors import RecipeError, ShapeError
from metanas.evaluation import Retraining, Shaped
from metanas.loop import Minibatches, TuneSchedule, Tuning, drawn
from metanas.modes import Losses, Part, Stateless, assemble, cross_entropies, meta_parameter
from metanas.network import derived
from metanas.recipe import TuneRecipe
from metanas.recipe.spaces import load_space
from metanas.recipe.tables import check_precision, make_device
from metanas.recipe.tuning_tables import OPTIMIZERS, make_estimator, make_parts, make_rule
from metanas.space import Architecture, Space


@dataclass(frozen=True)
class TuneHanded:
    """Objects that a user gave in place of names; a resumed run needs them again.

    network: a module in place of a space's network; every training begins at its own weights.
    parts:   more of what is learned (`modes.Part`), beside what the recipe names.
    losses:  (outputs, targets) -> (batch,), in place of the task's.
    """

    network: nn.Module | None = None
    parts: tuple[Part, ...] = ()
    estimator: Estimator | None = None
    losses: Losses | None = None
    metric: Metric | None = None

    def described(self) -> dict[str, str]:
        """Name -> a word on each that was given, equal for equal objects as far as that can be told from outside.

        >>> TuneHanded(losses=cross_entropies).described()
        {'losses': 'cross_entropies'}
        """
        given = {name: getattr(self, name) for name in ("network", "estimator", "losses", "metric")}
        words = {name: describe(value) for name, value in given.items() if value is not None}
        return {**words, "parts": ", ".join(part.name for part in self.parts)} if self.parts else words


def squared_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """The squared error of each example, of outputs (batch, 1) or (batch,).

    >>> squared_errors(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]))
    tensor([0., 4.])
    """
    return (outputs.reshape(targets.shape) - targets).square()


@dataclass(frozen=True)
class TuneParts:
    """What a tuning works with. `space` is None where a module was handed over; `right` holds the labels of the inner
    split before some were replaced by wrong ones, None where none were."""

    recipe: TuneRecipe
    space: Space | None
    data: Data
    right: Tensor | None = None
    handed: TuneHanded = field(default_factory=TuneHanded)

    def with_recipe(self, recipe: TuneRecipe) -> TuneParts:
        """The same with another recipe, whose network may be another, too."""
        space = None if self.handed.network is not None else built(recipe)
        return replace(self, recipe=recipe, space=space)

    @property
    def own(self) -> tuple[str, ...]:
        """Names of the parts that were handed over."""
        return tuple(part.name for part in self.handed.parts)

    @property
    def device(self) -> torch.device:
        return make_device(self.recipe.device)

    @property
    def task(self) -> Task:
        task, own = self.data.task, self.handed
        if own.losses is not None:
            losses = own.losses
            task = replace(task, loss=lambda outputs, targets: losses(outputs, targets).mean())
        if own.metric is not None:
            task = replace(task, metric=own.metric, metric_name=name_of(own.metric))
        return task

    @property
    def losses(self) -> Losses:
        return self.handed.losses or (cross_entropies if self.data.classes else squared_errors)

    @property
    def architecture(self) -> Architecture | None:
        """Of the space; RecipeError where the recipe's does not fit."""
        return None if self.space is None else self.space.architecture(self.recipe.network.architecture)

    def number(self, *parts: int | str) -> int:
        """A seed for one purpose, a function of the recipe's seed."""
        return seeded(self.recipe.seed, *parts).initial_seed()

    def network(self, name: int | str) -> nn.Module:
        """The network on the device, with weights seeded by `name`; one that was handed over has its own."""
        if self.handed.network is not None:
            return copy.deepcopy(self.handed.network).to(self.device)
        assert self.space is not None and self.architecture is not None  # one of the two is there
        seed = self.number("weights", name)
        network = derived(self.space, self.architecture, self.data.shape, self.data.outputs, seed=seed)
        return network.to(self.device)

    def theta(self, name: int | str) -> dict[str, Tensor]:
        """The weights of `network(name)`, cut from it."""
        return {key: p.detach() for key, p in self.network(name).named_parameters() if p.requires_grad}

    def parts(self) -> tuple[Part, ...]:
        """What is learned."""
        return (*make_parts(self.recipe, self.data, self.theta("shape")), *self.handed.parts)

    def check(self) -> None:
        """Finds what would otherwise be found after the run had begun.

        Raises:
            RecipeError: an estimator or an option that cannot be, a part that the data do not go with, a network whose
                norms keep statistics.
            BilevelError: two parts of one name, or that both give the losses.
            ShapeError: a network that does not take the data.
        """
        check_precision(self.recipe.precision, self.device, self.estimator)
        pacing = [part.name for part in self.parts() if part.lr is not None]
        if pacing and isinstance(self.estimator, Implicit):
            kind = type(self.estimator).__name__
            raise RecipeError([f"learn: {kind} looks at the losses alone, which {pacing[0]} is not in; take Unrolled"])
        network = self.network("shape")
        kept = [name for name, module in network.named_modules() if getattr(module, "track_running_stats", False)]
        if kept:
            raise RecipeError(
                [
                    f"network: {kept[0]} keeps statistics, which no hypergradient goes through; take a network without "
                    "norms, or norms with track_running_stats=False"
                ]
            )
        try:
            with torch.no_grad():
                outputs = network(self.data.inner.inputs[:2])
        except RuntimeError as error:
            line = str(error).partition("\n")[0]
            raise ShapeError(
                f"the network does not take inputs {self.data.shape}: {line}; give one that does"
            ) from None
        if outputs.shape != (min(2, len(self.data.inner)), self.data.outputs):
            raise ShapeError(
                f"the network gives {tuple(outputs.shape[1:])} for inputs {self.data.shape}, the data need "
                f"({self.data.outputs},)"
            )
        self.tuning().check()

    @property
    def estimator(self) -> Estimator:
        return self.handed.estimator or make_estimator(self.recipe.outer, self.recipe.inner.steps)

    def problem(self, parts: Sequence[Part]) -> Bilevel:
        """The bilevel problem with these parts; with none, the plain training."""
        network, rule = self.network("shape"), make_rule(self.recipe.inner)
        precision = self.recipe.precision
        if not parts:
            return meta_parameter(network, losses=self.losses, rule=rule, precision=precision)
        return assemble(network, parts, losses=self.losses, rule=rule, precision=precision)

    def tuning(self) -> Tuning:
        """The tuning at its beginning."""
        recipe, parts = self.recipe, self.parts()
        inner, outer = recipe.inner, recipe.outer
        return Tuning(
            self.problem(parts),
            self.estimator,
            self.theta,
            {part.name: part.start for part in parts},
            Minibatches(
                data=self.data,
                seed=recipe.seed,
                inner_batches=inner.steps + 1,
                inner_batch=inner.batch_size,
                outer_batch=outer.batch_size,
                noise=any(part.transform is not None for part in parts),
            ),
            TuneSchedule(steps=outer.steps, lr=outer.lr, cosine=outer.schedule == "cosine", clip=outer.clip),
            optimizer=OPTIMIZERS[outer.optimizer],
            shown=lambda tree: shown(parts, tree),
            restart=inner.restart,
            seed=recipe.seed,
        )

    def retraining(self, outer: Tree) -> Retraining:
        """A training from scratch with the outer variables as they are given."""
        parts = self.parts()
        plain = [part for part in parts if part.weights is None]  # the outer split has no weights of its own
        rows = [("inner", self.data.inner, list(parts))]
        rows += [("outer", self.data.outer, plain)] if self.recipe.evaluation.outer else []
        total = sum(len(split) for _, split, _ in rows)
        call = Stateless(self.network("shape"))
        return Retraining(
            tuple(
                Shaped(self.problem(kept), outer, self._batch_of(split, name), len(split) / total)
                for name, split, kept in rows
            ),
            self.theta("final"),
            self.recipe.evaluation.steps,
            outputs=call,
            task=self.task,
        )

    def _batch_of(self, split: Split, name: str) -> Callable[[int], Any]:
        size, seed = self.recipe.evaluation.batch_size, self.recipe.seed
        return lambda step: drawn(split, size, seeded(seed, "retraining", name, step))

    def filled(self, theta: Mapping[str, Tensor]) -> nn.Module:
        """The network with these weights, in evaluation mode."""
        network = self.network("final")
        parameters = dict(network.named_parameters())
        with torch.no_grad():
            for name, value in theta.items():
                parameters[name].copy_(value)
        return network.eval()

    def identity(self) -> dict[str, Any]:
        """Everything that decides the numbers of the run, as plain data for a checkpoint."""
        facts = facts_of(self.data)
        return {
            **{name: value for name, value in self.recipe.to_json().items() if name not in FREE},
            "space.json": None if self.space is None else space_identity(self.space),
            "data handed over": {k: facts[k] for k in HANDED_FACTS},
            "handed": self.handed.described(),
        }


def built(recipe: TuneRecipe) -> Space:
    """The space of a recipe's network. RecipeError where it names none, SpaceError where it cannot be."""
    if recipe.network.name is None:
        raise RecipeError(["network.name: is missing, and no module was handed over; give one of the two"])
    return load_space(recipe.network.name, **recipe.network.options)


def shown(parts: Sequence[Part], outer: Mapping[str, Tree]) -> dict[str, float]:
    """What all parts show of their outer variables."""
    return {what: float(value) for part in parts for what, value in part.shown(outer[part.name]).items()}


def spoil(data: Data, share: float, seed: int) -> tuple[Data, Tensor | None]:
    """The data with that share of the inner split's labels replaced by wrong ones, and the right ones; (data, None)
    where the share is 0.

    Raises:
        RecipeError: a regression has no labels that could be wrong.
    """
    if not share:
        return data, None
    if not data.classes:
        raise RecipeError(["data.wrong_labels: needs classes, and the data are a regression"])
    right, draw = data.inner.targets, seeded(seed, "wrong labels")
    turned = torch.randperm(len(right), generator=draw)[: round(share * len(right))].to(right.device)
    moves = torch.randint(1, len(data.classes), (len(turned),), generator=draw).to(right.device)  # never the right one
    labels = right.clone()
    labels[turned] = (right[turned] + moves) % len(data.classes)
    return replace(data, inner=Split(data.inner.inputs, labels)), right


def on_cpu(tree: Tree) -> Tree:
    """The same tree, cut from every graph, on the CPU."""
    return tree_map(lambda x: x.detach().cpu(), tree)
