"""The commands that learn something else than a structure: `tune` and `fewshot`."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from metanas.cli.guard import guarded, put, shown
from metanas.cli.options import (
    Data,
    Device,
    ListRecipes,
    NewRun,
    Plain,
    PrintRecipe,
    RecipeName,
    Seed,
    Target,
    Threads,
    data_option,
    settings_option,
)
from metanas.errors import RecipeError


@guarded
def tune(
    recipe: RecipeName = None,
    data: Data = None,
    target: Target = None,
    estimator: Annotated[
        str | None, typer.Option(metavar="NAME", help="unrolled, conjugate_gradient, forward, ...", show_default=False)
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Outer steps.", show_default=False)] = None,
    seed: Seed = None,
    device: Device = None,
    threads: Threads = None,
    run: NewRun = None,
    settings: Annotated[list[str] | None, settings_option("inner.lr=0.05")] = None,
    list_them: ListRecipes = False,
    print_recipe: PrintRecipe = False,
    plain: Plain = False,
) -> None:
    """Learn what shapes a training (weights of examples, decays, rates, augmentation) by hypergradients."""
    from metanas.recipe import override, parse_setting, read_toml, read_tuning
    from metanas.recipe.shipped import find_recipe, list_recipes

    if list_them:
        _list("tuning")
        return
    if recipe is None:
        raise RecipeError([f"which recipe? a .toml file, or one of {', '.join(list_recipes('tuning'))}"])
    changes = dict(parse_setting(text) for text in settings or [])
    given: dict[str, Any] = {
        "data.source": data,
        "data.target": target,
        "outer.estimator": estimator,
        "outer.steps": steps,
        "seed": seed,
        "device": device,
        "threads": threads,
    }
    changes |= {path: value for path, value in given.items() if value is not None}
    base = read_toml(find_recipe("tuning", recipe))
    if data is not None:
        base["data"] = {}  # splits, target and wrong labels of a recipe are those of its own data
    whole = read_tuning(override(base, changes))
    if print_recipe:
        print(whole.to_toml(), end="")
        return
    from metanas.api import tune as run_tune

    print_learned(run_tune(whole, run=run, view=view_of(plain)))


@guarded
def fewshot(
    recipe: RecipeName = None,
    data: Annotated[
        str | None, data_option("digits, Omniglot's .npz, an .npz, a folder or .zip of images by class.")
    ] = None,
    learner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="prototypical, maml, fomaml, anil, meta_sgd, reptile, imaml.", show_default=False
        ),
    ] = None,
    ways: Annotated[int | None, typer.Option(metavar="N", help="Classes of a task.", show_default=False)] = None,
    shots: Annotated[
        int | None, typer.Option(metavar="N", help="Examples of each to learn from.", show_default=False)
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Outer steps.", show_default=False)] = None,
    seed: Seed = None,
    device: Device = None,
    threads: Threads = None,
    run: NewRun = None,
    settings: Annotated[list[str] | None, settings_option("episodes.tasks=8")] = None,
    list_them: ListRecipes = False,
    print_recipe: PrintRecipe = False,
    plain: Plain = False,
) -> None:
    """Learn to learn new classes from a few examples, and test that on classes never seen."""
    from metanas.recipe import override, parse_setting, read_few_shot, read_toml
    from metanas.recipe.few_shot import COMPARES
    from metanas.recipe.shipped import find_recipe, list_recipes

    if list_them:
        _list("few-shot")
        return
    if recipe is None:
        raise RecipeError([f"which recipe? a .toml file, or one of {', '.join(list_recipes('few-shot'))}"])
    changes = dict(parse_setting(text) for text in settings or [])
    base = read_toml(find_recipe("few-shot", recipe))
    if learner is not None:
        base["learner"] = {"name": learner}  # another learner has other options
    if data is not None:
        base["data"] = {}  # its classes go where its own recipe says
    section = base.get("learner")
    named = section.get("name") if isinstance(section, dict) else None
    given: dict[str, Any] = {
        "data.source": data,
        "evaluation.ways": ways,
        "episodes.ways": None if named in COMPARES else ways,
        "evaluation.shots": shots,
        "episodes.shots": shots,
        "outer.steps": steps,
        "seed": seed,
        "device": device,
        "threads": threads,
    }
    changes |= {path: value for path, value in given.items() if value is not None}
    whole = read_few_shot(override(base, changes))
    if print_recipe:
        print(whole.to_toml(), end="")
        return
    from metanas.api import fewshot as run_few_shot

    print_learner(run_few_shot(whole, run=run, view=view_of(plain)))


def _list(kind: Literal["tuning", "few-shot"]) -> None:
    from metanas.recipe.shipped import list_recipes

    known = list_recipes(kind)
    width = max(map(len, known))
    for name, (_, summary) in known.items():
        put(f"{name:<{width}}  {summary}")


def view_of(plain: bool) -> Any:
    """The view of a run: plain lines, or what suits the terminal."""
    from metanas.ui import PlainView, view_for

    return (lambda folder: PlainView(folder, sys.stdout)) if plain else view_for


def print_learned(result: Any) -> None:
    """What a tuning found, in a few lines."""
    for name, value in result.shown.items():
        put(f"learned   {name} {value:.4g} (was {result.shown_at_start.get(name, value):.4g})")
    for path, value in result.chosen.items():
        put(f"chosen    {path} = {value}")
    if result.wrong_labels:
        found = result.wrong_labels
        put(f"found     {found['found']} of {found['wrong']} wrong labels, F1 {found['f1']:.3f}")
    put(f"{result.metric:<8}  {result.score(result.test_score)} on test, {result.score(result.start_score)} before")
    names = ("learned.safetensors", "learned.json", "network.py", "network.safetensors")
    put(f"files     {shown(result.run)}/{', '.join(name for name in names if (result.run / name).exists())}")


def print_learner(result: Any) -> None:
    """What a few-shot run found, in a few lines."""
    put(f"accuracy  {result.accuracy:.2%} +- {result.interval:.2%} on {result.episodes} episodes of new classes")
    put(f"beside    {result.start_accuracy:.2%} before it learned, {result.transductive_accuracy:.2%} transductive")
    if result.architecture is not None and len(result.architecture):
        put(f"found     {result.architecture}")
    put(f"files     {shown(result.run)}/learned.safetensors, learned.json")
