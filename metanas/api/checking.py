"""What can be wrong with the parts of a run, found before a folder is made and on tensors without memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from metanas.api.conflicts import conflicts
from metanas.api.memory import check_extent
from metanas.api.own_module import check_module
from metanas.api.parts import Parts
from metanas.api.scoring import TRIED, useless
from metanas.api.trained import check_cells
from metanas.api.vocabulary import check_vocabulary
from metanas.controllers import Controller, GradientController
from metanas.data.seeds import seeded
from metanas.errors import DataError, RankError, RecipeError, ShapeError
from metanas.loop.checks import check_scored
from metanas.network import OPS, WithAuxiliary, derived
from metanas.network.network import different, infer_shapes
from metanas.network.ops import Shape
from metanas.recipe.tables import check_precision
from metanas.space import Space
from metanas.space.derive import resolve


def check(parts: Parts) -> None:
    """Finds what would otherwise be found after the run had begun, on tensors without memory.

    Raises:
        SpaceError: a choice that the controller cannot relax, or an estimator or a price that it cannot learn from;
            an unknown operation.
        ShapeError: shapes that do not fit.
        RecipeError: other choices in the space of the networks that are trained from scratch; a precision that the
            device or the estimator does not go with; a score that is not finite.
    """
    if parts.final_space.choices != parts.space.choices:
        raise RecipeError(["evaluation.space: changes the choices of the space, so what is found would not fit"])
    controller = parts.controller if parts.searches else None
    learned = isinstance(controller, GradientController) and not controller.fixed
    _check_ranks(parts)
    _check_together(parts, controller)
    check_precision(parts.recipe.precision, parts.device, parts.estimator if learned else None)
    if parts.handed.module is None:
        check_vocabulary(parts.space, parts.data)
        _check_networks(parts, controller)
    else:
        check_module(parts.handed.module, parts.space, parts.data, parts.recipe, mixed=parts.by_gradient)
        _check_norms(parts, parts.handed.module)
    if isinstance(controller, GradientController):
        controller.start(parts.space, generator=seeded(parts.recipe.seed, "omega"))
    within, price = parts.within, parts.costing.price  # both raise what is wrong with them
    if isinstance(controller, GradientController):
        check_scored(controller, parts.estimator, price)
    if parts.origin is not None and not parts.searches and not within.keeps(parts.origin.architecture):
        raise RecipeError(["search.limits: the architecture that is carried over is beyond them; loosen them"])
    if parts.searches:
        _check_scores(parts, within)


def _check_scores(parts: Parts, within: Space) -> None:
    """Refuses a score that is finite on none of the random architectures that it is tried on; mostly one is."""
    section, rng = parts.recipe.search, np.random.default_rng(0)
    objective = None if section.objective == "training" else section.objective
    named = {"objective": objective, "screen.score": section.screen.score}
    problems = [
        f"search.{key}: {problem}"
        for key, name in named.items()
        if name and (problem := useless(name, parts.scored(name), (within.sample(rng) for _ in range(TRIED))))
    ]
    if problems:
        raise RecipeError(problems)


def _check_networks(parts: Parts, controller: Controller | None) -> None:
    outputs, ops = parts.data.outputs, parts.handed.ops or OPS
    rows = len(parts.data.shape) == 1 and not parts.data.vocabulary
    with torch.device("meta"), _advised("; for the rows of a table search mlp" if rows else ""):
        if isinstance(controller, GradientController):
            check_extent(parts.space, parts.data.shape, outputs, ops, parts.device)
            trained = controller.supernet_space(parts.space)
            program = resolve(trained.program, None, outputs)  # its shapes alone: it is built when the search begins
            shapes = infer_shapes(program, [parts.data.shape], "search", ops)
            _require_outputs(parts, shapes[program.output], nn.ModuleList(different(program, shapes, "search", ops)))
            _check_weights_fit(parts, trained is parts.space)
        head = _auxiliary_node(parts)
        if not isinstance(controller, GradientController) or parts.final_space is not parts.space or head:
            one = parts.space.sample(np.random.default_rng(0))
            last = derived(parts.final_space, one, parts.data.shape, outputs, ops=ops)
            _require_outputs(parts, last.shapes[last.program.output], last)
            if head:
                WithAuxiliary(last, head, outputs, seed=0)


def _check_weights_fit(parts: Parts, fits: bool) -> None:
    """Refuses what goes on with a supernet's weights where the controller's supernet is not of the space."""
    wanted = []
    if parts.recipe.search.refine and parts.recipe.search.refine_from == "supernet":
        wanted.append("search.refine_from: the supernet's weights do not fit a derived network; take scratch")
    if parts.origin is not None:
        wanted.append("search.controller: its supernet cannot begin with the weights of a network; take another")
    if wanted and not fits:
        raise RecipeError([f"{line} ({type(parts.controller).__name__} has partial channels)" for line in wanted])


def _check_together(parts: Parts, controller: Controller | None) -> None:
    """Refuses settings that do not go with the controller, and limits that nothing keeps."""
    given = {"objective": parts.handed.objective is not None, "module": parts.handed.module is not None}
    problems = [] if controller is None else conflicts(parts.recipe.search, controller, **given)
    if problems:
        raise RecipeError(problems)
    check_cells(parts.recipe, parts.space)
    if parts.ranks.count > 1 and parts.costing.measures:
        raise RankError("every rank would measure other latencies; give a file that holds them: search.latency_table")


def _check_ranks(parts: Parts) -> None:
    """Refuses what several processes cannot share."""
    if parts.ranks.count == 1:
        return
    if not parts.by_gradient:
        raise RankError(
            f"a search by values ({type(parts.controller).__name__}) runs in one process, and torchrun started "
            f"{parts.ranks.count}; start it without torchrun, or take a controller that needs gradients"
        )
    for name in ("inner", "outer"):
        size = min(parts.recipe.search.batch_size, parts.data.sizes[name])
        if size % parts.ranks.count:
            raise RecipeError(
                [f"search.batch_size: batches of {size} ({name} split) cannot be shared evenly by "
                 f"{parts.ranks.count} ranks"]
            )  # fmt: skip


@contextmanager
def _advised(advice: str) -> Iterator[None]:
    try:
        yield
    except ShapeError as error:
        raise ShapeError(f"{error}{advice}") from None


def _auxiliary_node(parts: Parts) -> str | None:
    if parts.recipe.evaluation.auxiliary and parts.final_space.auxiliary is None:
        raise RecipeError([f"evaluation.auxiliary: {parts.space.name} names no node for an auxiliary head; take 0"])
    return parts.final_space.auxiliary if parts.recipe.evaluation.auxiliary else None


def _require_outputs(parts: Parts, given: Shape, network: nn.Module) -> None:
    """Refuses a network whose output is not what the data need, or whose norms would see one row at a time."""
    _check_norms(parts, network)
    needed = (parts.data.outputs,)
    if given != needed:
        raise ShapeError(
            f"{parts.space.name} gives {given} for inputs {parts.data.shape}, the data need {needed}; take a space "
            "for such inputs, or end it with a classifier or a linear operation whose width is NEEDED"
        )


def _check_norms(parts: Parts, network: nn.Module) -> None:
    if any(isinstance(module, nn.BatchNorm1d) for module in network.modules()):
        single = [s for s in ("search", "evaluation") if getattr(parts.recipe, s).batch_size == 1]
        if single:
            raise RecipeError([f"{s}.batch_size: one row has no batch statistics; take 2 or more" for s in single])
        short = [name for name, size in parts.data.sizes.items() if size == 1]
        if short:
            raise DataError(f"{' and '.join(short)} has 1 row, which has no batch statistics; at least 2 are needed")
