"""The one literal table from names in a recipe to constructors, and the constructing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from metanas.bilevel import Estimator, FiniteDifference, FirstOrder, Unrolled
from metanas.controllers import (
    Controller,
    Darts,
    DartsPt,
    DrNas,
    FairDarts,
    Gdas,
    GradientController,
    GumbelSoftmax,
    PcDarts,
    Reinforce,
    Rsps,
    Spos,
)
from metanas.data import Augmentation, Crop, Cutout, Data, Flip, load_data
from metanas.errors import RecipeError, nearest
from metanas.evaluation import MEASURES, Training
from metanas.evaluation.operations import COSTS
from metanas.evaluation.proxies import SCORES
from metanas.loop import Decided, EigenvalueGrowth, Guard, Schedule, SkipShare
from metanas.recipe.recipe import EvaluationRecipe, GuardRecipe, Recipe
from metanas.recipe.tuning import TuneRecipe
from metanas.recipe.value_tables import VALUE_CONTROLLERS, made_from, name_in

CONTROLLERS: Mapping[str, type[Controller]] = {
    "darts": Darts,
    "darts_pt": DartsPt,
    "drnas": DrNas,
    "fair_darts": FairDarts,
    "gdas": Gdas,
    "gumbel": GumbelSoftmax,
    "pc_darts": PcDarts,
    "reinforce": Reinforce,
    "rsps": Rsps,
    "spos": Spos,
    **VALUE_CONTROLLERS,
}

ESTIMATORS: Mapping[str, Callable[[], Estimator]] = {
    "first_order": lambda: FirstOrder(0),
    "finite_difference": FiniteDifference,
    "unrolled": lambda: Unrolled(1),
}

OBJECTIVES = ("training", *SCORES)

AUGMENTATIONS: Mapping[str, Callable[..., Augmentation]] = {"crop": Crop, "flip": Flip, "cutout": Cutout}


def make_controller(name: str, options: Mapping[str, Any]) -> Controller:
    """The controller of that name. Raises RecipeError for an unknown name or option, with the nearest."""
    controller = made_from(CONTROLLERS, name, options)
    if isinstance(controller, GradientController):
        try:
            controller.optimizer([torch.zeros(1)])
        except ValueError as error:
            raise RecipeError([f"search.options: {name} cannot be with {dict(options)} ({error})"]) from None
    return controller


def check_objectives(names: Sequence[str]) -> None:
    """RecipeError for an objective that is not measured, with the nearest, or that would be searched for its worst: the
    score is to be large, everything else small.

    >>> check_objectives(["score", "-paramters"])
    Traceback (most recent call last):
    metanas.errors.RecipeError: search.objectives: unknown name '-paramters'; did you mean "parameters"?
    """
    plain = {name: name.removeprefix("-") for name in names}
    problems = []
    for name in names:
        right = plain[name] if plain[name] == "score" else f"-{plain[name]}"
        if plain[name] not in MEASURES:
            problems.append(f"unknown name {name!r}{nearest(plain[name], MEASURES)}")
        elif name != right:
            problems.append(f"{name!r} is to be {'large' if right == 'score' else 'small'}; write {right!r}")
    if problems:
        raise RecipeError([f"search.objectives: {problem}" for problem in problems])


def check_names(recipe: Recipe, *, controller: bool = True, estimator: bool = True, objective: bool = True) -> None:
    """RecipeError with every name and option at once that the tables do not know.

    Args:
        controller, estimator, objective: whether they are named at all; False where objects stand in their place.
    """
    section = recipe.search
    makers: list[Callable[[], object]] = [lambda: make_device(recipe.device)]
    makers += [partial(make_augmentation, words) for words in recipe.data.augment or ()]
    if controller:
        makers.append(lambda: make_controller(section.controller, section.options))
    if estimator:
        makers.append(lambda: make_estimator(section.estimator))
    if objective:
        makers.append(lambda: check_objectives(section.objectives))
    problems: list[str] = []
    for make in makers:
        try:
            make()
        except RecipeError as error:
            problems += error.problems
    problems += cost_problems(recipe)
    if problems:
        raise RecipeError(sorted(problems))


def cost_problems(recipe: Recipe) -> list[str]:
    """A line for each name of a cost or a score that is not known."""
    section = recipe.search
    named: list[tuple[str, str, Sequence[str]]] = [("objective", section.objective, OBJECTIVES)]
    named += [] if section.cost is None else [("cost", section.cost, COSTS)]
    named += [] if section.screen.score is None else [("screen.score", section.screen.score, tuple(SCORES))]
    return [
        f"search.{key}: unknown name {name!r}{nearest(name, known)}" for key, name, known in named if name not in known
    ]


def controller_name(controller: Controller) -> tuple[str, dict[str, Any]] | None:
    """The name and options that make an equal controller; None for one that is not in the table."""
    return name_in(CONTROLLERS, controller)


def make_estimator(name: str) -> Estimator:
    """The estimator of that name. Raises RecipeError for an unknown one, with the nearest."""
    if name not in ESTIMATORS:
        raise RecipeError([f"search.estimator: unknown name {name!r}{nearest(name, ESTIMATORS)}"])
    return ESTIMATORS[name]()


def make_augmentation(words: str) -> Augmentation:
    """`"crop 2"`, `"flip"`, `"cutout 8"` as an augmentation. Raises RecipeError for anything else.

    >>> make_augmentation("crop 2")
    Crop(padding=2)
    """
    name, *numbers = words.split() or [""]
    if name not in AUGMENTATIONS:
        raise RecipeError([f"data.augment: unknown name {name!r}{nearest(name, AUGMENTATIONS)}"])
    try:
        return AUGMENTATIONS[name](*map(int, numbers))
    except (TypeError, ValueError) as error:
        raise RecipeError(
            [f"data.augment: {words!r} cannot be ({error}); as in 'crop 2', 'flip', 'cutout 8'"]
        ) from None


def make_data(recipe: Recipe | TuneRecipe, source: Any = None) -> Data:
    """The data of a recipe, or what `source` holds, split as the recipe says."""
    section = recipe.data
    augment = None if section.augment is None else tuple(map(make_augmentation, section.augment))
    return load_data(
        section.source if source is None else source,
        inner=section.inner,
        outer=section.outer,
        test=section.test,
        seed=recipe.seed,
        augment=augment,
        size=section.size,
        target=section.target,
        drop=section.drop,
        task=section.task,
        inputs=section.inputs,
    )


def make_schedule(recipe: Recipe) -> Schedule:
    """How the supernet is trained."""
    names = {f.name for f in dataclasses.fields(Schedule)}
    section = recipe.search.model_dump() | {"warmup": recipe.search.warmup_epochs}
    return Schedule(**{k: v for k, v in section.items() if k in names})


def make_guards(section: GuardRecipe) -> tuple[Guard, ...]:
    """What may end the search early, in the order in which it is asked.

    >>> make_guards(GuardRecipe(skip_share=0.5))
    (SkipShare(most=0.5, roll_back=True),)
    """
    found: list[Guard] = []
    if section.eigenvalue is not None:
        names = ("window", "earlier", "roll_back", "examples")
        found.append(EigenvalueGrowth(growth=section.eigenvalue, **{name: getattr(section, name) for name in names}))
    if section.skip_share is not None:
        found.append(SkipShare(most=section.skip_share, roll_back=section.roll_back))
    if section.entropy is not None:
        found.append(Decided(least=section.entropy))
    return tuple(found)


def make_training(section: EvaluationRecipe, **changes: Any) -> Training:
    """How a network is trained from scratch."""
    names = {f.name for f in dataclasses.fields(Training)}
    return Training(**({k: v for k, v in section.model_dump().items() if k in names} | changes))


def check_precision(precision: str, device: torch.device, estimator: Estimator | None) -> None:
    """RecipeError for a precision that the device or the estimator does not go with; None: nothing is estimated."""
    if precision == "float32":
        return
    if isinstance(estimator, FiniteDifference):
        raise RecipeError(
            [
                f"precision: {precision} does not go with finite_difference, whose steps are lost in the rounding; "
                "take float32, or first_order or unrolled"
            ]
        )
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise RecipeError([f"precision: this GPU does not compute in {precision}; take float32"])


def make_device(name: str) -> torch.device:
    """The device; "auto" is CUDA where it is there, else the CPU. Raises RecipeError where it is not there.

    MPS is taken only where it is asked for: it lacks operations that a search needs, as gamma samples for DrNAS.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available.get(name, False):
        there = ", ".join(d for d, here in available.items() if here)
        raise RecipeError([f"device: {name} is not available here; take one of: auto, {there}"])
    return torch.device(name)
