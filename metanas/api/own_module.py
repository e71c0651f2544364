"""A module of the user's own, with choices marked in it, in place of a space.

Every network of its run begins at the weights that the module has. They are kept in the run, so that it is gone on with
from the same ones, however the module that is handed over again was initialised; it must be built alike.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metanas.data import Data
from metanas.data.seeds import seeded
from metanas.errors import CheckpointError, RecipeError, RunError
from metanas.exporters import load_weights, write_tensors
from metanas.network import check_mixture, check_options, space_of
from metanas.recipe import Recipe
from metanas.recipe.spaces import load_made
from metanas.run import RunFolder
from metanas.space import Space

WEIGHTS = "module.safetensors"
COMPARED = 4
"""Examples on which the supernet is compared with what is derived from it."""


def build_of(module: nn.Module) -> str:
    """A module's class, and what tells whether two are built alike: classes, torch's settings, shapes; not weights.

    >>> build_of(nn.Linear(1, 2)) == build_of(nn.Linear(1, 2)), build_of(nn.Linear(1, 2)) == build_of(nn.Linear(1, 3))
    (True, False)
    """
    digest = hashlib.sha256()
    for path, inner in module.named_modules():
        kind = type(inner)
        settings = inner.extra_repr() if kind.__module__.startswith("torch.") else ""  # others may show anything
        digest.update(f"{path} {kind.__qualname__} {settings};".encode())
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
    return f"{type(module).__qualname__} {digest.hexdigest()[:12]}"


def check_module(module: nn.Module, space: Space, data: Data, recipe: Recipe, *, mixed: bool) -> None:
    """Refuses what a search of a module cannot do, and a module that does not go with the data.

    Args:
        mixed: the candidates are to be mixed in a supernet.

    Raises:
        RecipeError: a setting that needs to know what a module computes inside.
        ShapeError, SpaceError: as of `check_options` and `check_mixture`.
    """
    wrong = {
        "evaluation.drop_path": recipe.evaluation.drop_path,
        "evaluation.auxiliary": recipe.evaluation.auxiliary,
        "evaluation.space": recipe.evaluation.space,
        "search.checkpoint": recipe.search.checkpoint,
    }
    problems = [
        f"{path}: a module of your own does that itself, or not; leave it out" for path, on in wrong.items() if on
    ]
    if problems:
        raise RecipeError(problems)
    check_options(space, module, data.shape, data.outputs)
    if mixed:
        check_mixture(space, copy.deepcopy(module).to(data.device), data.inner.inputs[:COMPARED])


def made_by(recipe: Recipe) -> nn.Module | None:
    """The module that the file of the recipe's space makes, its weights by the recipe's seed; None for a Space."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeded(recipe.seed, "weights", "module").initial_seed())
        made = load_made(recipe.space.name or "", **recipe.space.options)
    return made if isinstance(made, nn.Module) else None


def given(module: Any, document: Mapping[str, Any]) -> nn.Module | None:
    """A module that is handed over for a run, itself or the file that makes it.

    Raises:
        RunError: it is neither.
    """
    found = module
    if isinstance(module, str | Path):
        found = load_made(module, **document["recipe"].get("space", {}).get("options", {}))
    if found is not None and not isinstance(found, nn.Module):
        raise RunError(f"module: {module} is or makes a {type(found).__name__}; give the module that was searched")
    return found


def started(make: Callable[[], RunFolder], module: nn.Module) -> RunFolder:
    """A new run that holds the weights of the module."""
    folder = make()
    write_tensors(folder.file(WEIGHTS), module.state_dict())
    return folder


def taken_up(module: nn.Module, folder: RunFolder, space: Space) -> nn.Module:
    """A copy of a module that is handed over again, with the weights that the run began with.

    Raises:
        RunError: its space, or its weights, are others than the run's.
    """
    if space_of(module, space.name) != space:
        raise RunError(f"{folder.path} searches other choices than {type(module).__name__} has; give the same module")
    found = copy.deepcopy(module)
    _load(found, folder.file(WEIGHTS))
    return found


def _load(module: nn.Module, path: Path) -> None:
    try:
        load_weights(module, path)
    except CheckpointError as error:
        raise RunError(f"{error}; give a module that is built as the run's was") from error
