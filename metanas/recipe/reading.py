"""The recipes of a search, a tuning and a few-shot run from plain data: what each of them may not hold together.

How a mistake is told is in `parsing`; the recipe of a search by values is read where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import ValidationError

from metanas.errors import RecipeError
from metanas.recipe.few_shot import FewShotRecipe, few_shot_contradictions
from metanas.recipe.parsing import as_tuples, problems_of, validated
from metanas.recipe.plain import override
from metanas.recipe.recipe import Recipe
from metanas.recipe.tuning import RangeRecipe, TuneRecipe, flattened


def read(data: Mapping[str, Any]) -> Recipe:
    """The recipe of plain data: what `to_json` or a TOML file gives.

    Raises:
        RecipeError: with every mistake at once, each with its path and, for an unknown key, the nearest known one.

    >>> read({"search": {"epochs": 3}}).search.epochs, read(Recipe().to_json()) == Recipe()
    (3, True)
    >>> try:
    ...     read({"search": {"epochs": 0, "epohcs": 3}})
    ... except RecipeError as error:
    ...     print("\\n".join(error.problems))
    search.epochs: should be greater than or equal to 1, got 0
    search.epohcs: unknown key; did you mean "epochs"?
    """
    return validated(Recipe, data, _contradictions)


def read_tuning(data: Mapping[str, Any], *, more: Sequence[str] = ()) -> TuneRecipe:
    """The recipe of a tuning run; as `read`.

    Args:
        more: names of what is learned beside what the recipe names.

    >>> read_tuning({"learn": {"decay": {}}, "outer": {"steps": 5}}).learn.names
    ('decay',)
    >>> read_tuning({"learn": {"decays": {}}})
    Traceback (most recent call last):
    metanas.errors.RecipeError: learn.decays: unknown key; did you mean "decay"?
    """
    choose = data.get("choose")
    if isinstance(choose, Mapping) and isinstance(values := choose.get("values"), Mapping):
        data = {
            **data,
            "choose": {**choose, "values": dict(flattened(dict(values)))},
        }  # so that mistakes have their path
    return validated(TuneRecipe, data, partial(_contradictions_in_tuning, more=more))


def read_few_shot(data: Mapping[str, Any]) -> FewShotRecipe:
    """The recipe of a few-shot run; as `read`.

    >>> read_few_shot({"episodes": {"ways": 8}, "learner": {"name": "maml"}})
    Traceback (most recent call last):
    metanas.errors.RecipeError: episodes.ways: maml has one output for each class, so it is tested with ...
    """
    return validated(FewShotRecipe, data, few_shot_contradictions)


def _contradictions(recipe: Recipe) -> Iterator[str]:
    """Values that are allowed one by one, and not together."""
    for name, warmup, epochs in (
        ("search", recipe.search.warmup, recipe.search.epochs),
        ("evaluation", recipe.evaluation.warmup, recipe.evaluation.epochs),
    ):
        if warmup is not None and warmup >= epochs:
            yield f"{name}.warmup: should be below {name}.epochs, which is {epochs}, got {warmup}"
    if recipe.search.perturb_steps and not recipe.search.perturb:
        yield f"search.perturb_steps: goes with search.perturb above 0, got {recipe.search.perturb_steps}"
    if recipe.search.align_epsilon and not recipe.search.align:
        yield f"search.align_epsilon: goes with search.align above 0, got {recipe.search.align_epsilon}"
    if recipe.search.align_epsilon and recipe.precision != "float32":
        yield f"search.align_epsilon: the step is lost in the rounding of {recipe.precision}; take 0"
    learned = recipe.search.epochs - recipe.search.warmup_epochs
    if recipe.search.shrink_to is not None and recipe.search.shrink_stages >= learned:
        yield f"search.shrink_stages: should be below the {learned} epochs in which omega is learned, got " + str(
            recipe.search.shrink_stages
        )
    counts = [r.candidates for r in recipe.search.refine]
    if counts != sorted(counts, reverse=True):
        yield f"search.refine: every round should take at most as many candidates as the one before, got {counts}"

    names = [name.removeprefix("-") for name in recipe.search.objectives]
    if len(set(names)) < len(names):
        yield f"search.objectives: should each be named once, got {', '.join(recipe.search.objectives)}"
    if counts and len(names) > 1:
        yield "search.refine: judges by the loss alone; leave it out, or search.objectives"
    eta, longest = recipe.search.eta, recipe.search.value_epochs
    if eta is not None and eta > longest:
        yield f"search.eta: should be at most search.value_epochs, which is {longest}, got {eta}"
    if eta is not None and names:
        yield "search.eta: judges by the loss alone; leave it out, or search.objectives"


def _contradictions_in_tuning(recipe: TuneRecipe, more: Sequence[str]) -> Iterator[str]:
    learn, inner, outer = recipe.learn, recipe.inner, recipe.outer
    if not learn.names and not more:
        yield f"learn: should name something that is learned: {', '.join(type(learn).model_fields)}"
    if learn.rate is not None and "step" in learn.rate.per and not inner.restart:
        yield f"learn.rate.per: {learn.rate.per!r} needs a training that begins anew each time; set inner.restart"
    if inner.nesterov and not (inner.rule == "sgd" and inner.momentum):
        yield "inner.nesterov: goes with sgd and a momentum > 0"
    if recipe.data.augment:
        yield "data.augment: goes with searches; here augmentation is learned: learn.augmentation"
    unseen = [name for name in learn.names if name != "rate"]
    if unseen and outer.estimator == "first_order":
        yield f"outer.estimator: first_order does not look into the inner loss: no {', '.join(unseen)}; take unrolled"
    if inner.steps == 0 and outer.estimator in ("evolution", "first_order", "forward", "unrolled"):
        yield f"inner.steps: {outer.estimator} sees what the inner steps do; take at least 1, got 0"
    if learn.rate is not None and outer.estimator in ("conjugate_gradient", "neumann", "nystrom", "t1t2"):
        yield f"learn.rate: {outer.estimator} looks at the losses alone, which no rate is in; take unrolled or forward"
    if outer.estimator == "finite_difference" and inner.steps != 1:
        yield f"inner.steps: finite_difference looks one step ahead; take 1, got {inner.steps}"
    for path, wanted in recipe.choose.values.items():
        yield from (f"choose.values.{path}: {problem}" for problem in _mistaken(recipe, path, wanted))


CHOOSABLE = ("network", "learn", "inner", "outer")


def _mistaken(recipe: TuneRecipe, path: str, wanted: Sequence[Any] | RangeRecipe) -> Iterator[str]:
    """What is wrong with the values for one path; they are tried one by one."""
    if path.split(".")[0] not in CHOOSABLE or path == "outer.steps":
        yield f"is not of the tuning itself; choose among {', '.join(CHOOSABLE)}"
        return
    if isinstance(wanted, RangeRecipe):
        low, high = (math.ceil(wanted.low), math.floor(wanted.high)) if wanted.whole else (wanted.low, wanted.high)
        if low >= high or (wanted.log and low <= 0):
            whole = ", two of them whole numbers" if wanted.whole else ""
            yield f"should have low < high{whole}, and low > 0 where log, got {wanted.low} and {wanted.high}"
            return
        tried: Sequence[Any] = (low, high)
    elif len(wanted) < 2:
        yield f"should list at least two values, got {list(wanted)}"
        return
    else:
        tried = wanted
    said: list[str] = []
    for value in tried:
        data: dict[str, Any] = {**recipe.to_json(), "choose": {}}
        try:
            data = override(data, {path: value})
            TuneRecipe.model_validate(as_tuples(data))
        except RecipeError as error:
            said += error.problems
        except ValidationError as error:
            said += problems_of(error, data, TuneRecipe)
    yield from dict.fromkeys(said)
