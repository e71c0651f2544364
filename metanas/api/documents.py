"""recipe.json: what a run was started with, and whether that is still the same when it goes on.

A checkpoint holds the run's *identity*: everything that decides its numbers, as plain data. A run is resumed only where
the identity of what is in the folder, and of what is handed over, equals that of the checkpoint.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import torch

from metanas import __version__
from metanas.api.parts import Parts
from metanas.api.ranks import started
from metanas.data import CLASSIFICATION, Data
from metanas.data.table import Table
from metanas.errors import RecipeError, RunError
from metanas.evaluation import OperationTable
from metanas.exporters import Source
from metanas.recipe import Recipe, override, read
from metanas.run import RunFolder, dump_json, parse_json
from metanas.space import Architecture, Space, space_from_json, space_to_json

SCHEMA = 1
FREE = ("device", "threads", "workers", "checkpoint_seconds", "logs")
"""What of a recipe may change on the way: where, how often, for whom. The first three may cost bit-exactness."""
HANDED_FACTS = ("fingerprint", "classes", "shape", "sizes", "augment", "task")
KEYS = ("recipe", "data", "handed", "versions")


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {
        "metanas": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


class Placed(Protocol):
    """What a run works on, as far as every kind of run has it."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def device(self) -> torch.device | str: ...


def surroundings(data: Placed) -> dict[str, Any]:
    """Everything beside the identity that a result depends on bit for bit."""
    device = str(data.device)
    return {**versions(), "threads": torch.get_num_threads(), "device": device, "ranks": started()}


def document_of(parts: Parts) -> dict[str, Any]:
    """The content of recipe.json. RunError where it holds something that JSON has no word for."""
    same = parts.final_space is parts.space
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "metanas": __version__,
        "versions": surroundings(parts.data),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": parts.recipe.to_json(),
        "data": facts_of(parts.data),
        "handed": parts.handed.described(),
        "metric": parts.task.metric_name,
        "final_space": None if same else space_to_json(parts.final_space),
    }
    if (latencies := parts.costing.table()) is not None:
        document["latencies"] = latencies
    if parts.origin is not None:
        document |= {"kind": "transfer", "transfer": {**parts.origin.described(), "run": parts.origin.run}}
    dump_json(document)
    return document


def read_document(folder: RunFolder) -> dict[str, Any]:
    """recipe.json of a run. RunError where it is missing, damaged or of a newer version."""
    document = folder.read_recipe()
    for key in KEYS:
        if not isinstance(document.get(key), dict):
            raise RunError(f"{folder.file('recipe.json')} is damaged: {key!r} is missing; a run needs all of it")
    return document


def read_settings(folder: RunFolder, document: Mapping[str, Any], changes: Mapping[str, Any]) -> Recipe:
    """The recipe of a run, with changes by dotted path. RecipeError names the file."""
    try:
        return read(override(document["recipe"], changes))
    except RecipeError as error:
        raise RecipeError([f"{folder.file('recipe.json')}: {problem}" for problem in error.problems]) from None


def read_spaces(folder: RunFolder, document: Mapping[str, Any]) -> tuple[Space, Space]:
    """The space that was searched, and the one of the networks that were trained from scratch, often the same."""
    space = space_from_json(folder.read_space())
    last = document.get("final_space")
    return space, space if last is None else space_from_json(last)


def read_latencies(document: Mapping[str, Any]) -> OperationTable | None:
    """What the run measured when it began; None where it needed none."""
    held = document.get("latencies")
    return None if held is None else OperationTable.from_json(held)


def facts_of(data: Data) -> dict[str, Any]:
    """What a run says of its data."""
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "classes": list(data.classes),
        "shape": list(data.shape),
        "sizes": data.sizes,
        "mean": list(data.mean),
        "std": list(data.std),
        "pixels": list(data.pixels),
        "augment": [str(a) for a in data.augment],
        "task": data.task.name,
        "table": None if data.table is None else data.table.to_json(),
        "scale": list(data.scale),
    }


def identity_of(parts: Parts) -> dict[str, Any]:
    """Everything that decides the numbers of a run, as plain data for a checkpoint."""
    facts = facts_of(parts.data)
    recipe = {name: value for name, value in parts.recipe.to_json().items() if name not in FREE}
    identity: dict[str, Any] = parse_json(
        dump_json(
            {
                **recipe,
                "space.json": space_identity(parts.space),
                "final_space": None if parts.final_space is parts.space else space_identity(parts.final_space),
                "data handed over": {k: facts[k] for k in HANDED_FACTS},
                "handed": parts.handed.described(),
                **({} if parts.origin is None else {"transfer": parts.origin.described()}),
            }
        )
    )
    return identity


def space_identity(space: Space) -> dict[str, Any]:
    """The choices in words; the graph, which may be large, by its hash."""
    data = space_to_json(space)
    digest = hashlib.sha256(dump_json([data["graph"], data["limits"]]).encode("ascii")).hexdigest()
    choices = {choice.pop("name"): choice for choice in data["choices"]}
    for choice in choices.values():
        del choice["skips"]  # follows from the graph, and older runs do not say it
    return {"settings": data["settings"], "template": data["template"], "choices": choices, "graph": digest[:16]}


def refuse_difference(folder: RunFolder, before: Any, now: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """RunError that shows what differs between the identity in a checkpoint and the one of what was handed over.

    Args:
        defaults: of the recipe; a setting that the version of the checkpoint did not know yet worked as they do.
    """
    found = list(differences(_with_defaults(before, defaults), now))
    if found:
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise RunError(f"{folder.path} was changed since its checkpoint: {shown}; undo that, or start a new run")


def _with_defaults(identity: Any, defaults: Mapping[str, Any]) -> Any:
    """An identity with the recipe's settings that are missing in it; what is inside of a setting is left alone."""
    if not isinstance(identity, dict):
        return identity
    whole = dict(identity)
    if isinstance(facts := whole.get("data handed over"), dict):
        whole["data handed over"] = {"task": CLASSIFICATION.name, **facts}
    for name, default in defaults.items():
        if name not in FREE:
            found = whole.get(name, default)
            whole[name] = {**default, **found} if isinstance(default, dict) and isinstance(found, dict) else found
    return whole


def differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """The places where two plain values differ.

    >>> list(differences({"search": {"epochs": 3, "lr": 0.1}}, {"search": {"epochs": 5, "lr": 0.1}}))
    ['search.epochs was 3, is 5']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            where = f"{path}.{key}" if path else str(key)
            if key not in before:
                yield f"{where} is new"
            elif key not in now:
                yield f"{where} is missing"
            else:
                yield from differences(before[key], now[key], where)
    elif before != now or type(before) is not type(now):
        yield f"{path} was {_short(before)}, is {_short(now)}"


def told_differences(before: Any, now: Any) -> str:
    """The first four of them, on one line.

    >>> told_differences({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, {"a": 2, "b": 2, "c": 2, "d": 2, "e": 2})
    'a was 1, is 2; b was 1, is 2; c was 1, is 2; d was 1, is 2; and 1 more'
    """
    found = list(differences(before, now))
    more = [f"and {len(found) - 4} more"] if len(found) > 4 else []
    return "; ".join([*found[:4], *more])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else dump_json(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def source_of(data: Mapping[str, Any], space: Space, document: Mapping[str, Any]) -> Source:
    """What exporters need to know, from the content of result.json and recipe.json."""
    facts = document["data"]
    classes, mean, std, pixels = (tuple(facts[name]) for name in ("classes", "mean", "std", "pixels"))
    architecture = Architecture.from_json(data["architecture"], data["key"])
    return Source(architecture, space.name, classes, mean, std, pixels, table_of(facts), scale_of(facts), space)


def table_of(facts: Mapping[str, Any]) -> Table | None:
    """The rules for rows; runs of the first version know only images."""
    rules = facts.get("table")
    return None if rules is None else Table.from_json(rules)


def scale_of(facts: Mapping[str, Any]) -> tuple[float, float]:
    mean, std = facts.get("scale", (0.0, 1.0))
    return mean, std
