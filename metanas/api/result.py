"""What a finished run gives back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from metanas.api.documents import read_document, read_spaces
from metanas.data.csv_file import rows_of
from metanas.data.table import Table
from metanas.errors import DataError, RunError
from metanas.exporters import Source, load_weights, write
from metanas.network import OPS, Maker, Network, derived
from metanas.run import RunFolder, summarise
from metanas.space import Architecture, Space

T = TypeVar("T")


@dataclass(frozen=True)
class Trained:
    """A network that was trained from scratch and tested once: `test_score` is the run's metric (accuracy: 0 to 1); it
    and the loss are nan where they are not finite; costs as in `metanas.evaluation.Cost`.
    """

    architecture: Architecture
    test_score: float
    test_loss: float
    parameters: int
    multiply_adds: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Trained:
        """From a row of a result's data."""
        return cls(
            Architecture.from_json(row["architecture"], row.get("key")),
            _number(row["test_score"] if "test_score" in row else row["test_accuracy"]),  # as it was called before
            _number(row["test_loss"]),
            row["parameters"],
            row["multiply_adds"],
        )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of a search.

    `found` is the derived network, `random` are random ones of the same space, trained the same way. `network` is an
    nn.Module in evaluation mode that takes images normalised as in `mean` and `std`, (batch, channels, height, width),
    or rows as `table.encode` gives them, (batch, features), to (batch, classes); in a regression to (batch, 1), in
    units of `scale`, the mean and deviation of the targets.
    """

    found: Trained
    random: tuple[Trained, ...]
    network: Network
    run: Path
    space: Space
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: tuple[float, float]
    shape: tuple[int, ...]
    table: Table | None
    scale: tuple[float, float]
    search_seconds: float
    train_seconds: float
    metric: str

    @property
    def architecture(self) -> Architecture:
        return self.found.architecture

    @property
    def test_score(self) -> float:
        """The metric of the derived network on the test split."""
        return self.found.test_score

    @property
    def random_score(self) -> float | None:
        """The mean metric of the random networks on the test split; None where there are none."""
        return sum(r.test_score for r in self.random) / len(self.random) if self.random else None

    @property
    def test_accuracy(self) -> float:
        """`test_score`, where the metric is accuracy. AttributeError where it is another."""
        return self._accuracy("test", self.test_score)

    @property
    def random_accuracy(self) -> float | None:
        """`random_score`, where the metric is accuracy. AttributeError where it is another."""
        return self._accuracy("random", self.random_score)

    def _accuracy(self, which: str, score: T) -> T:
        if self.metric != "accuracy":
            raise AttributeError(f"the run's metric is {self.metric}, not accuracy; use {which}_score")
        return score

    @torch.no_grad()
    def predict(self, rows: str | Path | Iterable[Mapping[str, Any]]) -> list[str] | list[float]:
        """The class, or the quantity, of each row of a table.

        Args:
            rows: the path of a .csv, or rows by the names of their columns, cells as text, numbers or None (missing).

        Raises:
            DataError: the network was trained on images; a column is missing; a cell cannot be read.
        """
        if self.table is None:
            raise DataError(f"the network takes images {self.shape}, not rows; call result.network on a batch of them")
        listed = rows_of(Path(rows)) if isinstance(rows, str | Path) else rows
        inputs = self.table.encode(listed).to(next(iter(self.network.state_dict().values())).device)
        outputs = self.network(inputs)
        if self.classes:
            return [self.classes[k] for k in outputs.argmax(-1).tolist()]
        mean, std = self.scale
        return [output * std + mean for output in outputs[:, 0].tolist()]

    def __str__(self) -> str:
        beside = "" if self.random_score is None else f" (random networks {self.shown(self.random_score)})"
        return (
            f"{self.architecture}: test {self.metric} {self.shown(self.test_score)}{beside}, "
            f"{self.found.parameters:,} parameters"
        )

    def shown(self, score: float) -> str:
        """A score as it is printed: an accuracy in per cent."""
        return f"{score:.2%}" if self.metric == "accuracy" else f"{score:.4f}"


def make_result(
    folder: RunFolder, data: Mapping[str, Any], document: Mapping[str, Any], ops: Mapping[str, Maker] = OPS
) -> Result:
    """A Result from the documents and weights of a finished run."""
    facts = document["data"]
    found = Trained.of(data)
    _, space = read_spaces(folder, document)
    network = derived(space, found.architecture, tuple(facts["shape"]), len(facts["classes"]) or 1, ops=ops)
    load_weights(network, folder.file("network.safetensors"))
    return Result(
        found=found,
        random=tuple(map(Trained.of, data["random"])),
        network=network.eval(),
        run=folder.path,
        space=space,
        classes=tuple(facts["classes"]),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        pixels=tuple(facts["pixels"]),
        shape=tuple(facts["shape"]),
        table=_table(facts),
        scale=_scale(facts),
        search_seconds=data["search_seconds"],
        train_seconds=data["train_seconds"],
        metric=data.get("metric", "accuracy"),
    )


def result_of(folder: RunFolder, ops: Mapping[str, Maker] | None = None) -> Result:
    """The result of a run. RunError where there is none yet, or where it needs the user's own operations."""
    data = folder.read_result()
    if data is None:
        status = summarise(folder.path).status
        raise RunError(f"{folder.path} has no result yet ({status}); resume it: {folder.resumed_by}")
    document = read_document(folder)
    if ops is None and "ops" in document["handed"]:
        raise RunError(
            f"{folder.path} was made with your own ops; hand them over again: metanas.load_run(...).result(ops=...)"
        )
    try:
        return make_result(folder, data, document, ops or OPS)
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder.file('result.json')} is damaged: {error!r}") from error


def write_network(
    result: Result, folder: str | Path, formats: tuple[str, ...], *, force: bool = False
) -> tuple[Path, ...]:
    """The network of a result as files; see `metanas.export`."""
    source = Source(
        result.architecture,
        result.space.name,
        result.classes,
        result.mean,
        result.std,
        result.pixels,
        result.table,
        result.scale,
    )
    return write(result.network, source, folder=folder, formats=formats, force=force)


def source_of(data: Mapping[str, Any], space: str, document: Mapping[str, Any]) -> Source:
    """What exporters need to know, from the content of result.json and recipe.json."""
    facts = document["data"]
    classes, mean, std, pixels = (tuple(facts[name]) for name in ("classes", "mean", "std", "pixels"))
    architecture = Architecture.from_json(data["architecture"], data["key"])
    return Source(architecture, space, classes, mean, std, pixels, _table(facts), _scale(facts))


def _table(facts: Mapping[str, Any]) -> Table | None:
    """The rules for rows; runs of the first version know only images."""
    rules = facts.get("table")
    return None if rules is None else Table.from_json(rules)


def _scale(facts: Mapping[str, Any]) -> tuple[float, float]:
    mean, std = facts.get("scale", (0.0, 1.0))
    return mean, std
