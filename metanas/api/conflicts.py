"""Settings that do not go together with a controller, or with what was handed over: all of them at once.

Each is a rule of one line: where it holds, the path of the setting and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator

from metanas.api.costing import conflicts as costs_in_conflict
from metanas.controllers import Controller, GradientController, ParetoController, PcDarts
from metanas.recipe import SearchRecipe


def conflicts(section: SearchRecipe, controller: Controller, *, objective: bool, module: bool) -> list[str]:
    """A line for each setting that cannot be.

    Args:
        objective: an objective was handed over.
        module: a module of the user's own is searched.

    >>> from metanas.controllers import Darts, RandomSearch
    >>> conflicts(SearchRecipe(eta=3), Darts(), objective=False, module=False)
    ['search.eta: needs a controller by values and short trainings; leave it out']
    >>> conflicts(SearchRecipe(), RandomSearch(), objective=False, module=False)
    []
    """
    kind = type(controller).__name__
    rules = [*_of_gradients(section, controller, kind), *_of_values(section, controller, kind, objective=objective)]
    if section.checkpoint and section.executor != "fused":
        rules.append("search.checkpoint: only the fused executor does that; take search.executor = 'fused'")
    if module and (section.cost is not None or any(section.limits.model_dump().values())):
        rules.append("search.limits: what a module of your own costs is not known before it is decided; leave them out")
    if module and section.align:
        rules.append("search.align: which cells share their choices is not known of a module of your own; take 0")
    if module and section.sandwich:
        rules.append("search.sandwich: which option of a module of your own is the largest is not known; take 0")
    if module and isinstance(controller, PcDarts):
        rules.append(f"search.controller: {kind} runs part of the channels, which nobody knows of a module of your own")
    return [*rules, *costs_in_conflict(section, controller)]


def _of_gradients(section: SearchRecipe, controller: Controller, kind: str) -> Iterator[str]:
    """Guards, shrinking, perturbations and alignment need omega, or a mixture."""
    learned = isinstance(controller, GradientController) and not controller.fixed
    mixes = isinstance(controller, GradientController) and not controller.single_path
    guard = section.guard
    guarded = any(limit is not None for limit in (guard.skip_share, guard.entropy, guard.eigenvalue))
    if not learned and guarded:
        yield f"search.guard: {kind} learns no omega that could be guarded; leave the guards out"
    if guard.then != "end":
        beside = [f"search.{key}" for key in ("cost", "shrink_to") if getattr(section, key) is not None]
        if not mixes or isinstance(controller, PcDarts):
            beside = [kind]
        if not guarded:
            yield "search.guard.then: no guard is on; set search.guard.skip_share, entropy or eigenvalue"
        yield from (f"search.guard.then: darts_pt cannot go on after {what}; take end" for what in beside)
    if not learned and section.shrink_to is not None:
        yield f"search.shrink_to: {kind} learns no omega that tells what is weak; leave it out"
    if section.perturb and not mixes:
        yield f"search.perturb: {kind} mixes no candidates, so there is nothing to perturb; take 0"
    if section.align and not mixes:
        yield f"search.align: {kind} mixes no candidates, so there is nothing to align; take 0"
    if section.sandwich and not (isinstance(controller, GradientController) and controller.single_path):
        yield f"search.sandwich: {kind} runs no single paths; take spos or rsps (or gdas, reinforce), or 0"
    if isinstance(controller, GradientController) and controller.scored is not None and section.cost is not None:
        yield f"search.cost: {kind} learns from values and not from gradients; set search.limits in its place"


def _of_values(section: SearchRecipe, controller: Controller, kind: str, *, objective: bool) -> Iterator[str]:
    """Objectives, and longer trainings for the better ones."""
    by_gradient, names = isinstance(controller, GradientController), section.objectives
    if by_gradient and (names or objective):
        yield f"search.objectives: {kind} learns from gradients; take a controller by values, or none"
    if section.eta is not None and (by_gradient or objective or section.objective != "training"):
        yield "search.eta: needs a controller by values and short trainings; leave it out"
    if section.eta is not None and section.screen.score is not None:
        yield "search.screen: does not go with search.eta, which has candidates of its own; leave one of them out"
    if isinstance(controller, ParetoController) and len(names) < 2:
        yield f'search.objectives: {kind} needs two or more, as in ["score", "-parameters"]'
    if section.objective != "training" and (names or objective):
        yield "search.objective: a score takes the place of objectives and of one handed over; leave one of them out"
