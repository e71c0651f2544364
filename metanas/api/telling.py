"""What an export tells beside the network: how it was found, and what a lower precision costs on the run's own test
split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metanas.api.documents import differences, facts_of, read_document, read_spaces
from metanas.data import Data
from metanas.errors import DataError, RecipeError, RunError
from metanas.exporters import Story
from metanas.exporters.draft import FULL, Measure
from metanas.exporters.precision import check_precision
from metanas.recipe import Recipe, read, read_tuning
from metanas.recipe.tables import make_data
from metanas.run import RunFolder

BATCH = 256
Rows = dict[str, str | int | float]


@dataclass(frozen=True)
class Writing:
    """How files are written, whatever they hold; as of `metanas.export`."""

    force: bool = False
    precision: str = FULL
    verify: str = "process"
    data: Any = None

    def arguments(self, folder: RunFolder, formats: Sequence[str]) -> dict[str, Any]:
        """Those of `exporters.written`, for the network of a run."""
        check_precision(self.precision, formats)
        return {
            "force": self.force,
            "precision": self.precision,
            "verify": self.verify,
            "measure": None if self.precision == FULL else measure_of(folder, self.data),
            "story": story_of(folder),
        }


def story_of(folder: RunFolder) -> Story:
    """How the network of a finished run was found, from the run's documents; for searches, transfers and tunings.

    Raises RunError where there is no result yet.
    """
    document, data = read_document(folder), folder.read_result()
    if data is None:
        raise RunError(f"{folder.path} has no result yet; resume it: {folder.resumed_by}")
    tuning = document.get("kind") == "tune"
    searched = not tuning and bool(document["recipe"].get("space"))
    return Story(
        method=_tuned(document) if tuning else _searched(document, data),
        space_size=read_spaces(folder, document)[0].size if searched else None,
        data=_data(document["data"]),
        metric=data.get("metric", "accuracy"),
        score=data.get("test_score", data.get("test_accuracy")),
        tested=document["data"]["sizes"]["test"],
        random=tuple(row["test_score"] for row in data.get("random", ()) if row.get("test_score") is not None),
        scratch=(data.get("scratch") or {}).get("test_score"),
        multiply_adds=data.get("multiply_adds"),
        versions={
            name: str(version)
            for name, version in document["versions"].items()
            if name in ("metanas", "torch", "numpy", "python")
        },
    )


def _searched(document: Mapping[str, Any], data: Mapping[str, Any]) -> Rows:
    recipe = document["recipe"]
    search, evaluation = recipe["search"], recipe["evaluation"]
    transfer = document.get("transfer")
    rows: Rows = {}
    if transfer is not None:
        rows |= {"Carried from another run": str(transfer.get("run")), "How": str(transfer.get("how"))}
    if transfer is None or transfer.get("how") == "search":
        rows |= {"Controller": search["controller"], "Estimator": search["estimator"], "Epochs": search["epochs"]}
    rows |= {"Epochs of the training from scratch": evaluation["epochs"], "Seed": recipe["seed"]}
    return rows | _times(document, {"Seconds of the search": data.get("search_seconds")})


def _tuned(document: Mapping[str, Any]) -> Rows:
    recipe = document["recipe"]
    learned = [name for name, part in recipe["learn"].items() if part is not None]
    rows: Rows = {
        "Learned by hypergradients": ", ".join(learned) or "parts of the user's own",
        "Estimator": str(recipe["outer"].get("estimator")),
        "Outer steps": recipe["outer"]["steps"],
        "Seed": recipe["seed"],
    }
    return rows | _times(document, {})


def _times(document: Mapping[str, Any], seconds: Mapping[str, float | None]) -> Rows:
    rows: Rows = {name: round(value, 1) for name, value in seconds.items() if value is not None}
    surroundings = document["versions"]
    rows |= {"Device": str(surroundings.get("device"))} if "device" in surroundings else {}
    return rows | ({"Begun": str(document["created"])} if "created" in document else {})


def _data(facts: Mapping[str, Any]) -> Rows:
    splits = {"inner": "Inner split (weights)", "outer": "Outer split (structure)", "test": "Test split"}
    rows: Rows = {"Name": facts["name"], "Classes": len(facts["classes"])}
    rows |= {words: facts["sizes"][name] for name, words in splits.items() if name in facts["sizes"]}
    return rows | {"Fingerprint (SHA-256)": facts["fingerprint"]}


def measure_of(folder: RunFolder, data: Any) -> Measure | None:
    """The run's metric on its test split, for whatever takes a batch as the network does; None where the data cannot be
    had without being handed over, or the metric was the user's own.

    Args:
        data: what the run was started with; None: what its recipe names.

    Raises:
        RunError: data that are handed over are not those of the run.
    """
    document = read_document(folder)
    if "metric" in document["handed"]:
        return None
    try:
        found = make_data(_recipe(document), data)
    except (DataError, RecipeError, OSError):
        if data is not None:
            raise
        return None
    if found.fingerprint != document["data"].get("fingerprint"):
        if data is None:
            return None
        shown = "; ".join(differences(document["data"], facts_of(found)))
        raise RunError(f"the data are not those of {folder.path}: {shown}; give the same data")
    return _measure(found)


def _recipe(document: Mapping[str, Any]) -> Recipe | Any:
    return (read_tuning if document.get("kind") == "tune" else read)(document["recipe"])


def _measure(data: Data) -> Measure:
    def measure(call: Callable[..., Tensor]) -> float:
        with torch.no_grad():
            outputs = torch.cat([call(inputs) for inputs in torch.split(data.test.inputs, BATCH)])
        return float(data.task.metric(outputs, data.test.targets))

    return measure
