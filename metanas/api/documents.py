"""recipe.json of a search: what it was started with (`identity` says whether that is still the same)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from metanas import __version__
from metanas.api.identity import FREE, SCHEMA, space_identity, surroundings
from metanas.api.parts import Parts
from metanas.data import Data
from metanas.data.table import Table
from metanas.errors import RecipeError, RunError
from metanas.evaluation import OperationTable
from metanas.exporters import Source
from metanas.recipe import Recipe, override, read
from metanas.run import RunFolder, dump_json, parse_json
from metanas.space import Architecture, Space, space_from_json, space_to_json

HANDED_FACTS = ("fingerprint", "classes", "shape", "sizes", "augment", "task")
KEYS = ("recipe", "data", "handed", "versions")


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
