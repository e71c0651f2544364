"""What an export tells beside the network: how it was found, and what a lower precision costs on the run's own test
split."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metanas.api.documents import facts_of, read_document, read_spaces
from metanas.api.identity import told_differences
from metanas.data import Data
from metanas.errors import DataError, ExportError, RecipeError, RunError, ShapeError
from metanas.evaluation import cost
from metanas.exporters import Source, Story, Written, chosen, usual_formats, write
from metanas.exporters.draft import FULL, Measure
from metanas.exporters.precision import check_precision
from metanas.exporters.writing import check_verify
from metanas.network import Network
from metanas.recipe import Recipe, read, read_tuning
from metanas.recipe.tables import make_data
from metanas.run import RunFolder

BATCH = 256
Rows = dict[str, str | int | float]
Formats = str | Sequence[str] | None


@dataclass(frozen=True)
class Writing:
    """How files are written, whatever they hold; as of `metanas.export`."""

    force: bool = False
    precision: str = FULL
    verify: str = "process"
    data: Any = None

    def write(self, network: Network, source: Source, run: Path, folder: Path, formats: Formats) -> Written:
        """The files of the network of a run, whose folder is read for a model card and a lower precision alone."""
        formats = usual_formats(network) if formats is None else chosen(formats, self.precision)
        check_precision(self.precision, formats)
        measure = None if self.precision == FULL else measure_of(RunFolder.open(run), self.data)
        return write(
            network,
            source,
            folder=folder,
            formats=formats,
            force=self.force,
            precision=self.precision,
            verify=self.verify,
            measure=measure,
            story=with_cost(story_of(RunFolder.open(run)), network) if "card" in formats else None,
        )

    def of_a_learner(self) -> None:
        """Raises ExportError where it asks for what the files of a learner have not."""
        check_precision(self.precision, ())
        check_verify(self.verify)
        if self.precision != FULL or self.data is not None:
            raise ExportError(
                "a learner is written in float32 and not measured; leave precision and data out, or export a "
                "classifier that it makes: load_learner(...).adapt(images, labels).export(folder, precision=...)"
            )


def with_cost(story: Story, network: Network) -> Story:
    """The story with the multiply-adds of one example, where the run has not counted them."""
    if story.multiply_adds is not None or len(network.program.inputs) > 1:
        return story
    with contextlib.suppress(ShapeError):
        return replace(story, multiply_adds=cost(network, network.shapes[network.program.inputs[0]]).multiply_adds)
    return story


def story_of(folder: RunFolder) -> Story:
    """How the network of a finished run was found, from the run's documents; for searches, transfers and tunings.

    Raises RunError where there is no result yet.
    """
    document, data = read_document(folder), folder.read_result()
    if data is None:
        raise RunError(f"{folder.path} has no result yet; resume it: {folder.resumed_by}")
    tuning = document.get("kind") == "tune"
    how = (document.get("transfer") or {}).get("how", "search")
    return Story(
        made=MADE["tune" if tuning else how],
        method=_tuned(document) if tuning else _searched(document, data),
        space_size=None if tuning or how != "search" else read_spaces(folder, document)[0].size,
        data=_data(document),
        metric=data.get("metric", "accuracy"),
        score=data.get("test_score", data.get("test_accuracy")),
        tested=document["data"]["sizes"]["test"],
        random=tuple(row["test_score"] for row in data.get("random", ()) if row.get("test_score") is not None),
        scratch=(data.get("scratch") or {}).get("test_score"),
        start=(data.get("start") or {}).get("test_score"),
        multiply_adds=data.get("multiply_adds"),
        versions={
            name: str(version)
            for name, version in document["versions"].items()
            if name in ("metanas", "torch", "numpy", "python")
        },
    )


MADE = {
    "search": "found by architecture search",
    "tune": "trained with what a tuning learned",
    "finetune": "carried over from another run and fine-tuned",
    "frozen": "carried over from another run, with a new head",
}


def _searched(document: Mapping[str, Any], data: Mapping[str, Any]) -> Rows:
    recipe = document["recipe"]
    search, evaluation = recipe["search"], recipe["evaluation"]
    transfer = document.get("transfer")
    rows: Rows = {}
    if transfer is not None:
        rows |= {"Carried from": Path(str(transfer.get("run"))).name, "How": str(transfer.get("how"))}
    if transfer is not None and transfer.get("how") != "search":
        rows |= {"Epochs of the training": evaluation["epochs"], "Seed": recipe["seed"]}
        return rows | _times(document, {})
    rows |= {"Controller": search["controller"]}
    if search["controller"] == "random":
        rows |= {"Evaluations": search["budget"], "Epochs of each": search["value_epochs"]}
    else:
        rows |= {"Estimator": search["estimator"], "Epochs": search["epochs"]}
        guard = data.get("guard")
        if guard:
            instead = guard.get("instead")
            label = f"Handed over to {instead} by a guard" if instead else "Ended by a guard"
            rows |= {label: f"after epoch {guard['epoch']}: {guard['reason']}"}
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
    wrong = recipe["data"].get("wrong_labels")
    rows |= {"Labels of the inner split made wrong on purpose": f"{wrong:.0%}"} if wrong else {}
    return rows | _times(document, {})


def _times(document: Mapping[str, Any], seconds: Mapping[str, float | None]) -> Rows:
    rows: Rows = {name: round(value, 1) for name, value in seconds.items() if value is not None}
    surroundings = document["versions"]
    rows |= {"Device": str(surroundings.get("device"))} if "device" in surroundings else {}
    return rows | ({"Begun": str(document["created"])} if "created" in document else {})


def _data(document: Mapping[str, Any]) -> Rows:
    facts, recipe = document["data"], document["recipe"]
    sizes = facts["sizes"]
    rows: Rows = {"Name": facts["name"]}
    rows |= {"Classes": len(facts["classes"])} if facts["classes"] else {}
    rows |= {"Predicted": str(recipe["data"]["target"])} if recipe["data"].get("target") else {}
    rows |= {f"{name.capitalize()} split": sizes[name] for name in ("inner", "outer", "test") if name in sizes}
    both = recipe["evaluation"].get("outer", True)  # a tuning may leave the outer split out of the last training
    total = sizes["inner"] + (sizes["outer"] if both else 0)
    rows |= {"Weights were trained on": f"{'inner and outer' if both else 'inner'} split, {total} examples"}
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
        shown = told_differences(document["data"], facts_of(found))
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
