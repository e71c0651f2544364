"""`Result.transfer`: what a search found, carried to new data; a run of its own, as a search's but for where it starts
(`Origin`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from metanas.api.checking import check
from metanas.api.documents import read_document
from metanas.api.handed import Handed
from metanas.api.host import threads
from metanas.api.jobs import View, begin
from metanas.api.origin import HOWS, Origin, without_head
from metanas.api.parts import Parts
from metanas.api.work import SearchJob
from metanas.data import Data, Table
from metanas.errors import DataError, RecipeError, RunError, ShapeError, nearest
from metanas.network import OPS, Network, derived
from metanas.recipe import Recipe, override, read
from metanas.recipe.tables import check_names, make_data, make_device
from metanas.run import RunFolder
from metanas.space import Architecture, Space

SLOWER = 0.1
"""Learning rate of what was carried, as a share of the head's, where nothing is said."""


class Found(Protocol):
    """What is carried: a `Result`."""

    @property
    def architecture(self) -> Architecture: ...
    @property
    def network(self) -> nn.Module | None: ...
    @property
    def run(self) -> Path: ...
    @property
    def space(self) -> Space: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def table(self) -> Table | None: ...


@dataclass(frozen=True)
class Asked:
    """The arguments of `Result.transfer` that are settings."""

    how: str
    lr: float | None
    target: str | None
    seed: int | None
    device: str | None
    settings: Mapping[str, Any]


def transferred(
    found: Found, data: Any, asked: Asked, handed: Handed, run: str | Path | None, view: View | None
) -> RunFolder:
    """The folder of a finished transfer; see `Result.transfer`."""
    _check(asked)
    recipe = recipe_of(found, data, asked)
    with threads(recipe.threads):
        parts = prepare(found, recipe, None if isinstance(data, str | Path) else data, asked, handed)
        stem = f"{asked.how}-{parts.space.name}-{parts.data.name}"
        make = partial(RunFolder.create_numbered, stem) if run is None else partial(RunFolder.create, run)
        return begin(SearchJob(parts), partial(_started, make, parts), view)


def _started(make: Any, parts: Parts) -> RunFolder:
    folder: RunFolder = make()
    assert parts.origin is not None  # it is a transfer
    parts.origin.write(folder)
    return folder


def _check(asked: Asked) -> None:
    if asked.how not in HOWS:
        raise RecipeError([f"how: unknown name {asked.how!r}{nearest(asked.how, HOWS)}"])
    if asked.lr is not None and not (asked.lr > 0 and math.isfinite(asked.lr)):
        raise RecipeError([f"lr: must be > 0, got {asked.lr}"])
    if asked.lr is not None and asked.how == "frozen":
        raise RecipeError([f"lr: what is frozen has none, got {asked.lr}; the head's is evaluation.lr"])


def recipe_of(found: Found, data: Any, asked: Asked) -> Recipe:
    """That of the run it comes from, with the new data, no random networks, and what was asked for."""
    base = read_document(RunFolder.open(found.run))["recipe"]
    space, evaluation = base.get("space", {}), base.get("evaluation", {})
    final = {} if space.get("name") is None else {**space.get("options", {}), **evaluation.get("space", {})}
    inputs = base.get("data", {}).get("inputs")
    kept = {} if inputs is None or isinstance(data, Data) else {"inputs": inputs}
    start = {
        **base,
        "space": {**space, "options": final},
        "data": {"source": str(data) if isinstance(data, str | Path) else None, **kept},
        "search": base.get("search", {}) if asked.how == "search" else {},
        "evaluation": {**evaluation, "space": {}, "random": 0},
    }
    given = {"data.target": asked.target, "seed": asked.seed, "device": asked.device}
    changes = {path: value for path, value in given.items() if value is not None}
    return read(override(start, {**asked.settings, **changes}))


def prepare(found: Found, recipe: Recipe, data: Any, asked: Asked, handed: Handed) -> Parts:
    """The parts of a new transfer; everything that can be wrong is found here, before a folder is made.

    Raises:
        RecipeError, SpaceError, DataError, RunError: as `Result.transfer` says.
    """
    if found.network is None:
        raise RunError(f"the result of {found.run} has no network, so there is nothing to be carried; load it again")
    if not isinstance(found.network, Network):
        raise RunError(
            f"{type(found.network).__name__} is a module of your own, whose head metanas does not know; put a new one "
            "into it, and train or search that"
        )
    if recipe.evaluation.space:
        raise RecipeError(["evaluation.space: a transfer keeps the space of its network; leave it out"])
    check_names(recipe)
    loaded = make_data(recipe, data).to(make_device(recipe.device))
    _check_data(found, loaded)
    ops = handed.ops or OPS
    weights = without_head(found.network, found.space, found.architecture, ops)
    lr = recipe.evaluation.lr
    rate = 0.0 if asked.how == "frozen" else SLOWER if asked.lr is None else asked.lr / lr
    origin = Origin(asked.how, rate, str(found.run), found.architecture, weights)
    parts = Parts(recipe, found.space, found.space, loaded, handed, origin)
    check(parts)
    _check_shapes(parts, origin, found.shape)
    return parts


def _check_data(found: Found, data: Data) -> None:
    if bool(found.classes) != bool(data.classes):
        kinds = ("a regression", "classes")
        old, new = kinds[bool(found.classes)], kinds[bool(data.classes)]
        raise DataError(f"the network was trained for {old}, the data are for {new}; search on them anew")
    if len(found.shape) != len(data.shape):
        raise DataError(f"the network takes inputs {found.shape}, the data have {data.shape}; search on them anew")
    if len(data.shape) == 3 and found.shape[0] != data.shape[0]:
        raise DataError(
            f"the network takes images of {_channels(found.shape)}, the data have {_channels(data.shape)}; convert "
            "them, or search on them anew"
        )
    if _columns(found.table) != _columns(data.table):
        raise DataError("the columns of the table are not those that the network was trained on; take the same ones")


def _channels(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} channel{'' if shape[0] == 1 else 's'}"


def _columns(table: Table | None) -> list[Any] | None:
    """What decides the meaning of each input."""
    return None if table is None else [(c.name, c.words, c.width) for c in table.columns]


def _check_shapes(parts: Parts, origin: Origin, shape: tuple[int, ...]) -> None:
    """ShapeError where the network for the new data has other weights than the one that is carried."""
    data = parts.data
    with torch.device("meta"):
        there = derived(parts.space, origin.architecture, data.shape, data.outputs, ops=parts.handed.ops or OPS)
    state = there.state_dict()
    if state.keys() <= origin.weights.keys():
        raise ShapeError(f"{parts.space.name} has no head that is as wide as the classes, so none can be new")
    for name, value in origin.weights.items():
        if value.shape != state[name].shape:
            raise ShapeError(
                f"{name} is {tuple(state[name].shape)} for inputs {data.shape}, and {tuple(value.shape)} in the one "
                f"that takes {shape}; bring the data to that size"
            )
