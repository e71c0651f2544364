"""The literal table of few-shot recipes, from names of learners to constructors, and the constructing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from metanas.data import ClassData, load_classes
from metanas.errors import BilevelError, RecipeError, nearest
from metanas.modes import (
    FewShot,
    Structure,
    anil,
    describer,
    fomaml,
    imaml,
    maml,
    meta_sgd,
    prototypical,
    reptile,
    zero_shot,
)
from metanas.recipe.few_shot import FewShotRecipe, LearnerRecipe

LEARNERS: Mapping[str, Callable[..., FewShot]] = {
    "anil": anil,
    "fomaml": fomaml,
    "imaml": imaml,
    "maml": maml,
    "meta_sgd": meta_sgd,
    "prototypical": prototypical,
    "reptile": reptile,
    "zero_shot": zero_shot,
}
"""Name -> (network, options) -> learner."""

COMMON = {"norms": "support", "hold": 0.0}
"""Options that every learner which adapts takes, with their values where nothing is said."""


def make_learner(
    section: LearnerRecipe,
    network: nn.Module,
    structure: Structure | None = None,
    *,
    described: int | None = None,
    outputs: int = 0,
    seed: int = 0,
    reads: nn.Module | None = None,
) -> FewShot:
    """The learner of a recipe.

    Args:
        described: length of a description, for a learner that reads them; `outputs`: width of the network's output;
            `seed`: of the weights of what reads descriptions.
        reads: the module that reads descriptions, where there is one; else it is made with these three.

    Raises:
        RecipeError: an unknown name, an unknown option, or one that cannot be, with the nearest name.

    >>> make_learner(LearnerRecipe(name="maml", options={"stepz": 1}), nn.Linear(2, 2))
    Traceback (most recent call last):
    metanas.errors.RecipeError: learner.options.stepz: maml has no such option; did you mean "steps"?
    """
    check_learner(section)
    given: dict[str, Any] = dict(section.options)
    if structure is not None:
        given["structure"] = structure
    if section.name == "zero_shot" and reads is not None:
        given["describer"] = reads
    elif section.name == "zero_shot":
        if described is None:
            raise RecipeError(
                ["learner: zero_shot learns from descriptions, and there are none; give data.descriptions"]
            )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            given["describer"] = describer(described, outputs).to(next(network.parameters()).device)
    try:
        return LEARNERS[section.name](network, **given)
    except (BilevelError, TypeError) as error:
        raise RecipeError([f"learner: {section.name} cannot be with {dict(section.options)}: {error}"]) from None


def check_learner(section: LearnerRecipe) -> None:
    """RecipeError for a name that is not in the table, and for options that the learner does not have or of another
    kind than their default."""
    if section.name not in LEARNERS:
        raise RecipeError([f"learner.name: unknown name {section.name!r}{nearest(section.name, LEARNERS)}"])
    signature = inspect.signature(LEARNERS[section.name]).parameters
    usual = {name: p.default for name, p in signature.items() if p.kind is p.KEYWORD_ONLY and name != "structure"}
    if any(p.kind is p.VAR_KEYWORD for p in signature.values()):
        usual |= {name: value for name, value in COMMON.items() if name not in usual}
    problems = []
    for key, value in section.options.items():
        if key not in usual:
            problems.append(f"learner.options.{key}: {section.name} has no such option{nearest(key, usual)}")
        elif not _like(value, usual[key]):
            problems.append(f"learner.options.{key}: should be like {usual[key]!r}, got {value!r}")
    if problems:
        raise RecipeError(problems)


def _like(value: object, default: object) -> bool:
    """Whether a value is of the kind of a default; None stands for a word."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, str if default is None else type(default))


def make_class_data(recipe: FewShotRecipe, source: Any = None) -> ClassData:
    """The data of a recipe, or what `source` holds, its classes split as the recipe says."""
    section = recipe.data
    if isinstance(source, ClassData):
        return source
    return load_classes(
        section.source if source is None else source,
        train=section.train,
        validation=section.validation,
        test=section.test,
        rotations=section.rotations,
        seed=recipe.seed,
        size=section.size,
        target=section.target,
        drop=section.drop,
    )
