"""Recipes from plain data and TOML, with all their mistakes at once, each with its path.

    search.epochs: should be greater than or equal to 1, got 0
    search.epohcs: unknown key; did you mean "epochs"?

A later source overrides an earlier one by dotted paths: defaults, then a file, then flags.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from metanas.errors import RecipeError, nearest
from metanas.recipe.few_shot import FewShotRecipe, few_shot_contradictions
from metanas.recipe.recipe import Recipe, Section
from metanas.recipe.tuning import RangeRecipe, TuneRecipe, flattened
from metanas.recipe.values import ValueRecipe, contradictions_in_values

R = TypeVar("R", bound=Section)


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
    return _read(Recipe, data, _contradictions)


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
    return _read(TuneRecipe, data, partial(_contradictions_in_tuning, more=more))


def read_few_shot(data: Mapping[str, Any]) -> FewShotRecipe:
    """The recipe of a few-shot run; as `read`.

    >>> read_few_shot({"episodes": {"ways": 8}, "learner": {"name": "maml"}})
    Traceback (most recent call last):
    metanas.errors.RecipeError: episodes.ways: maml has one output for each class, so it is tested with ...
    """
    return _read(FewShotRecipe, data, few_shot_contradictions)


def read_values(data: Mapping[str, Any]) -> ValueRecipe:
    """The recipe of a search by values; as `read`.

    >>> read_values({"table": {"source": "table.csv"}})
    Traceback (most recent call last):
    metanas.errors.RecipeError: table.choose: which column is maximised? name one of the table's
    """
    return _read(ValueRecipe, data, contradictions_in_values)


def _read(kind: type[R], data: Mapping[str, Any], contradictions: Callable[[R], Iterator[str]]) -> R:
    try:
        recipe = kind.model_validate(_tuples(data))
    except ValidationError as error:
        raise RecipeError(_problems(error, data, kind)) from None
    problems = list(contradictions(recipe))
    if problems:
        raise RecipeError(problems)
    return recipe


def read_toml(path: Path) -> dict[str, Any]:
    """The plain data of a TOML file. Raises RecipeError where it is missing, not TOML, or empty."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError([f"{path}: {error.strerror}; give the path of a TOML file"]) from None
    except (ValueError, RecursionError) as error:  # bytes that are no text, text that is no TOML, bottomless nesting
        raise RecipeError([f"{path}: not TOML ({error})"]) from None
    if not data:
        raise RecipeError([f"{path}: the recipe is empty; `metanas search --print-recipe` writes a whole one"])
    return data


def override(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `data` with values set by dotted paths, in their order.

    Raises:
        RecipeError: with every path at once that goes through something that is no section.

    >>> override({"search": {"epochs": 3}}, {"search.epochs": 5, "seed": 1})
    {'search': {'epochs': 5}, 'seed': 1}
    """
    result = dict(data)
    problems = []
    for path, value in changes.items():
        *sections, key = path.split(".")
        at = result
        for name in sections:
            inner = at.get(name, {})
            if not isinstance(inner, Mapping):
                problems.append(f"{path}: {name} is no section but {inner!r}")
                break
            at[name] = dict(inner)
            at = at[name]
        else:
            at[key] = value
    if problems:
        raise RecipeError(problems)
    return result


def parse_setting(text: str) -> tuple[str, Any]:
    """`search.lr=0.1` as a path and a value; a value that is not TOML is a word.

    >>> parse_setting("search.lr=0.1"), parse_setting("search.controller=darts"), parse_setting("data.augment=['flip']")
    (('search.lr', 0.1), ('search.controller', 'darts'), ('data.augment', ['flip']))
    """
    path, mark, value = text.partition("=")
    if not mark or not path.strip():
        raise RecipeError([f"{text!r}: expected path=value, as in search.epochs=50"])
    word = value.strip()
    try:
        read = tomllib.loads(f"x = {word}")
    except (ValueError, RecursionError):
        return path.strip(), word
    return path.strip(), read["x"] if set(read) == {"x"} else word  # a line break could smuggle in other keys


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
            TuneRecipe.model_validate(_tuples(data))
        except RecipeError as error:
            said += error.problems
        except ValidationError as error:
            said += _problems(error, data, TuneRecipe)
    yield from dict.fromkeys(said)


def _problems(error: ValidationError, data: Mapping[str, Any], kind: type[Section]) -> list[str]:
    """One line for each place; where a value may be of several types, pydantic has a word on each of them."""
    said: dict[str, tuple[list[str], str]] = {}
    for problem in error.errors():
        path = _place(problem["loc"], data)
        where = ".".join(path)
        if problem["type"] == "missing":
            said[f"{where}.{problem['loc'][-1]}"] = (["should be there"], ", and is not")
            continue
        if problem["type"] == "extra_forbidden":
            said[where] = ([f"unknown key{nearest(path[-1], _keys(kind, path[:-1]))}"], "")
            continue
        section = problem["type"] in ("model_type", "dict_type")
        message = "should be a section" if section else problem["msg"].removeprefix("Input ")
        messages, _ = said.setdefault(where, ([], f", got {_shown(data, path)}"))
        if message not in messages:
            messages.append(message)
    # Of a list or a section, what is wrong inside says that it was one.
    outside = {"should be a valid tuple", "should be a section"}
    for where in list(said):
        if set(said[where][0]) <= outside and any(other.startswith(f"{where}.") for other in said):
            del said[where]
    return [f"{where}: {' or '.join(messages)}{got}" for where, (messages, got) in sorted(said.items())]


def _place(loc: tuple[int | str, ...], data: Any) -> list[str]:
    """The parts of pydantic's place that are in the data; the others name the types that were tried."""
    path = []
    for key in loc:
        if isinstance(data, list | tuple) and isinstance(key, int) and key < len(data):
            data = data[key]
        elif isinstance(data, Mapping) and key in data:
            data = data[key]
        else:
            continue
        path.append(str(key))
    return path


def _shown(data: Any, path: list[str]) -> str:
    for key in path:
        data = data[int(key)] if isinstance(data, list | tuple) else data[key]
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys(kind: Any, path: list[str]) -> list[str]:
    for key in path:
        # a number is a place in a tuple of sections: tuple[Section, ...]; a name in a mapping has the mapping's type
        inside = kind.model_fields[key].annotation if hasattr(kind, "model_fields") else None
        kind = get_args(kind)[0] if key.isdigit() else inside or get_args(kind)[-1]
        if isinstance(kind, UnionType):  # Section | None
            kind = next((k for k in get_args(kind) if hasattr(k, "model_fields")), kind)
    return list(kind.model_fields)  # only sections forbid keys


def _tuples(data: Any) -> Any:
    """Lists as tuples: JSON and TOML know only lists."""
    if isinstance(data, Mapping):
        return {k: _tuples(v) for k, v in data.items()}
    return tuple(map(_tuples, data)) if isinstance(data, list | tuple) else data
