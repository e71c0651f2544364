"""The literal tables of tuning recipes, from names to constructors, and the constructing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from metanas.bilevel import (
    SGD,
    T1T2,
    Adam,
    AdamW,
    ConjugateGradient,
    Estimator,
    EvolutionStrategies,
    FiniteDifference,
    FirstOrder,
    ForwardMode,
    Neumann,
    Nystrom,
    Tree,
    Unrolled,
)
from metanas.data import Data
from metanas.errors import BilevelError, RecipeError, nearest
from metanas.modes import Part, augmentation, decay, example_weights, label_smoothing, learned_loss, rate
from metanas.recipe.tuning import InnerRecipe, OuterRecipe, TuneRecipe

ESTIMATORS: Mapping[str, Callable[..., Estimator]] = {
    "conjugate_gradient": lambda steps, /, **options: ConjugateGradient(**{"steps": 20, **options}, inner_steps=steps),
    "evolution": lambda steps, /, **options: EvolutionStrategies(steps, **{"samples": 16, **options}),
    "finite_difference": lambda steps, /, **options: FiniteDifference(**options),
    "first_order": FirstOrder,
    "forward": ForwardMode,
    "neumann": lambda steps, /, **options: Neumann(**{"terms": 20, "lr": 0.1, **options}, inner_steps=steps),
    "nystrom": lambda steps, /, **options: Nystrom(**{"rank": 20, **options}, inner_steps=steps),
    "t1t2": lambda steps, /, **options: T1T2(**{"lr": 0.1, **options}, inner_steps=steps),
    "unrolled": Unrolled,
}
"""Name -> (inner steps, options) -> estimator."""

OPTIMIZERS: Mapping[str, Callable[[Iterable[Tensor], float], torch.optim.Optimizer]] = {
    "adam": lambda tensors, lr: torch.optim.Adam(tensors, lr, fused=True),
    "rmsprop": lambda tensors, lr: torch.optim.RMSprop(tensors, lr),
    "sgd": lambda tensors, lr: torch.optim.SGD(tensors, lr, fused=True),
}


def make_estimator(outer: OuterRecipe, steps: int) -> Estimator:
    """The estimator of a recipe, through `steps` inner steps.

    Raises:
        RecipeError: an unknown name, an unknown option, or one that cannot be, with the nearest name.

    >>> make_estimator(OuterRecipe(estimator="unrolled", options={"truncate": 5}), 20)
    Unrolled(steps=20, truncate=5, checkpoint=None, stationary=None)
    """
    if outer.estimator not in ESTIMATORS:
        raise RecipeError([f"outer.estimator: unknown name {outer.estimator!r}{nearest(outer.estimator, ESTIMATORS)}"])
    make = ESTIMATORS[outer.estimator]
    # Every estimator of the table is a dataclass, which its type `Estimator` does not say.
    fields = {f.name for f in dataclasses.fields(make(steps or 1))} - {"inner_steps"}  # type: ignore[arg-type]
    fields -= {"steps"} if outer.estimator != "conjugate_gradient" else set()
    wrong = list(_wrong_kinds(make(steps or 1), outer))
    unknown = [key for key in outer.options if key not in fields]
    if unknown:
        raise RecipeError(
            [f"outer.options.{key}: {outer.estimator} has no such option{nearest(key, fields)}" for key in unknown]
        )
    if wrong:
        raise RecipeError(wrong)
    try:
        return make(steps, **outer.options)
    except (BilevelError, TypeError) as error:
        raise RecipeError([f"outer: {outer.estimator} cannot be with {dict(outer.options)}: {error}"]) from None


def _wrong_kinds(plain: Estimator, outer: OuterRecipe) -> Iterator[str]:
    """A line for each option whose value is of another kind than its field ("int", "float | None", ...)."""
    # a dataclass, as above
    kinds = {f.name: str(f.type).split(" | ") for f in dataclasses.fields(plain)}  # type: ignore[arg-type]
    words = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    for key, value in outer.options.items():
        allowed = [kind for kind in kinds.get(key, []) if kind in words]
        given = type(value).__name__
        if allowed and given not in allowed and not (given == "int" and "float" in allowed):
            yield f"outer.options.{key}: should be {' or '.join(words[k] for k in allowed)}, got {value!r}"


def make_rule(inner: InnerRecipe) -> SGD | Adam:
    """The rule of the inner steps; a learned rate takes the place of its own.

    >>> make_rule(InnerRecipe(rule="adam", lr=0.01))
    Adam(lr=0.01, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0, decoupled=False)
    """
    if inner.rule == "sgd":
        return SGD(inner.lr, inner.momentum, inner.weight_decay, inner.nesterov)
    make = Adam if inner.rule == "adam" else AdamW
    return make(inner.lr, weight_decay=inner.weight_decay)


def make_parts(recipe: TuneRecipe, data: Data, theta: Tree) -> tuple[Part, ...]:
    """What is learned, for the data and for the weights `theta`.

    Raises:
        RecipeError: a part that the data do not go with.
    """
    learn, parts, problems = recipe.learn, [], []
    if learn.example_weights is not None:
        parts.append(example_weights(len(data.inner), start=learn.example_weights.start, name="example_weights"))
    if learn.decay is not None:
        parts.append(decay(theta, per=learn.decay.per, start=learn.decay.start, name="decay"))
    if learn.rate is not None:
        steps = recipe.inner.steps if "step" in learn.rate.per else None
        parts.append(rate(theta, per=learn.rate.per, steps=steps, start=recipe.inner.lr, name="rate"))
    for name in ("label_smoothing", "loss"):
        if getattr(learn, name) is not None and not data.classes:
            problems.append(f"learn.{name}: needs classes, and the data are a regression")
    if learn.augmentation is not None and len(data.shape) != 3:
        problems.append(f"learn.augmentation: needs images, and an input of the data is {data.shape}")
    if problems:
        raise RecipeError(problems)
    if learn.augmentation is not None:
        channels, height, width = data.shape
        made = augmentation(learn.augmentation.names, (channels, height, width), start=learn.augmentation.start)
        parts.append(dataclasses.replace(made, name="augmentation"))
    if learn.label_smoothing is not None:
        parts.append(label_smoothing(len(data.classes), start=learn.label_smoothing.start, name="label_smoothing"))
    if learn.loss is not None:
        parts.append(learned_loss(len(data.classes), terms=learn.loss.terms, name="loss"))
    return tuple(parts)
