"""What a finished run gives back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from metanas.api.documents import read_document, read_spaces, scale_of, table_of
from metanas.api.handed import Handed, Loss, Metric
from metanas.api.jobs import View
from metanas.api.own_module import build_of, given
from metanas.api.telling import Formats, Writing
from metanas.api.transferring import Asked, transferred
from metanas.data.csv_file import rows_of
from metanas.data.table import Table
from metanas.errors import DataError, RunError
from metanas.exporters import Source, Written, load_weights
from metanas.network import OPS, Maker, Network, derived, own_derived, whole
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


@dataclass(frozen=True)
class OnFront:
    """An architecture that no other one beats in every objective, and its values, by the names in the recipe."""

    architecture: Architecture
    values: Mapping[str, float]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> OnFront:
        """From a row of a result's data."""
        return cls(Architecture.from_json(row["architecture"], row.get("key")), dict(row["values"]))


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of a search, or of a transfer (`how` it was made).

    `found` is the derived network, `random` are random ones of the same space, trained the same way; `scratch`, after a
    transfer, is one of the same architecture that began with nothing. `run` is the folder, absolute. `network` is an
    nn.Module in evaluation mode that takes images normalised as in `mean` and `std`, (batch, channels, height, width),
    or rows as `table.encode` gives them, (batch, features), to (batch, classes); in a regression to (batch, 1), in
    units of `scale`, the mean and deviation of the targets. Where a module of the user's own was searched it is that
    module, decided: plain torch. `front`: of a search for several objectives, what no other one beats, the best in the
    first objective first; `found` is the one of them that gives up least.
    """

    found: Trained
    random: tuple[Trained, ...]
    network: nn.Module
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
    scratch: Trained | None = None
    how: str | None = None
    front: tuple[OnFront, ...] = ()

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
    def scratch_score(self) -> float | None:
        """The metric on the test split of the same architecture from scratch; None where nothing was carried."""
        return None if self.scratch is None else self.scratch.test_score

    @property
    def seconds(self) -> float:
        """Of the search and the trainings."""
        return self.search_seconds + self.train_seconds

    @property
    def test_accuracy(self) -> float:
        """`test_score`, where the metric is accuracy. AttributeError where it is another."""
        return self._accuracy("test", self.test_score)

    @property
    def random_accuracy(self) -> float | None:
        """`random_score`, where the metric is accuracy. AttributeError where it is another."""
        return self._accuracy("random", self.random_score)

    @property
    def scratch_accuracy(self) -> float | None:
        """`scratch_score`, where the metric is accuracy. AttributeError where it is another."""
        return self._accuracy("scratch", self.scratch_score)

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
            what = "images" if len(self.shape) == 3 else "inputs"
            raise DataError(f"the network takes {what} {self.shape}, not rows; call result.network on a batch of them")
        listed = rows_of(Path(rows)) if isinstance(rows, str | Path) else rows
        inputs = self.table.encode(listed).to(next(iter(self.network.state_dict().values())).device)
        outputs = self.network(inputs)
        if self.classes:
            return [self.classes[k] for k in outputs.argmax(-1).tolist()]
        mean, std = self.scale
        return [output * std + mean for output in outputs[:, 0].tolist()]

    def transfer(
        self,
        data: Any,
        *,
        how: str = "finetune",
        lr: float | None = None,
        target: str | None = None,
        seed: int | None = None,
        device: str | None = None,
        settings: Mapping[str, Any] | None = None,
        ops: Mapping[str, Maker] | None = None,
        loss: Loss | None = None,
        metric: Metric | None = None,
        run: str | Path | None = None,
        view: View | None = None,
    ) -> Result:
        """Carries the network to new data, trains it there beside one from scratch, and writes a run folder.

        The head, which is what the number of classes decides, is new in every case. The rest has the weights of
        `network`; inputs are normalised by the new data's own inner split, so that they have mean 0 and deviation 1 as
        those that the network has seen, in whatever units pixels come.

        Args:
            data, target: as of `metanas.search`: images with as many channels, of any size that the network takes, or
                rows with the same columns; any number of classes.
            how: `"finetune"`: everything is trained, what was carried more slowly; `"frozen"`: only the head is, and no
                statistics of norms move; `"search"`: a new search, in the same space, whose supernet starts from these
                weights, and so does the network that it derives, wherever both have the same operation.
            lr: learning rate of what was carried, at the start; default: a tenth of `evaluation.lr`, the head's.
            seed, device, settings: of the recipe, which is that of this result's run but for the data, without random
                networks beside: `{"evaluation.epochs": 100, "evaluation.random": 3, "data.test": 0.5}`.
            ops: of `network`, where a search was given some.
            loss, metric, run, view: as of `metanas.search`.

        Returns:
            As of a search; `scratch` is the same architecture after the same training from nothing.

        Raises:
            RecipeError, SpaceError, DataError, RunError: before any training, in one line.
            InterruptedSearchError, DivergedError: as of `metanas.search`.

        >>> import tempfile
        >>> import metanas
        >>> quick = {"search.batch_size": 256, "evaluation.epochs": 1, "evaluation.random": 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = metanas.search("nasbench201", "digits", epochs=1, settings=quick, run=Path(folder, "first"))
        ...     images, labels = torch.rand(40, 1, 12, 12), torch.arange(40) % 3
        ...     moved = first.transfer((images, labels), how="frozen", run=Path(folder, "second"))
        >>> moved.architecture == first.architecture, len(moved.classes), moved.scratch is None
        (True, 3, False)
        """
        folder = transferred(
            self,
            data,
            Asked(how, lr, target, seed, device, settings or {}),
            Handed(None, None, ops, loss, metric),
            run,
            view,
        )
        return result_of(folder, ops)

    def __str__(self) -> str:
        others = {"from scratch": self.scratch_score, "random networks": self.random_score}
        shown = ", ".join(f"{name} {self.shown(score)}" for name, score in others.items() if score is not None)
        beside = f" ({shown})" if shown else ""
        return (
            f"{self.architecture}: test {self.metric} {self.shown(self.test_score)}{beside}, "
            f"{self.found.parameters:,} parameters"
        )

    def shown(self, score: float) -> str:
        """A score as it is printed: an accuracy in per cent."""
        return f"{score:.2%}" if self.metric == "accuracy" else f"{score:.4f}"


def make_result(
    folder: RunFolder,
    data: Mapping[str, Any],
    document: Mapping[str, Any],
    ops: Mapping[str, Maker] = OPS,
    module: nn.Module | None = None,
) -> Result:
    """A Result from the documents and weights of a finished run."""
    facts = document["data"]
    found = Trained.of(data)
    _, space = read_spaces(folder, document)
    network: nn.Module
    if module is not None:
        network = own_derived(space, module, found.architecture, tuple(facts["shape"])).module
    else:
        network = derived(space, found.architecture, tuple(facts["shape"]), len(facts["classes"]) or 1, ops=ops)
    load_weights(network, folder.file("network.safetensors"))
    return Result(
        found=found,
        random=tuple(map(Trained.of, data["random"])),
        network=network.eval(),
        run=folder.path.absolute(),
        space=space,
        classes=tuple(facts["classes"]),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        pixels=tuple(facts["pixels"]),
        shape=tuple(facts["shape"]),
        table=table_of(facts),
        scale=scale_of(facts),
        search_seconds=data["search_seconds"],
        train_seconds=data["train_seconds"],
        metric=data.get("metric", "accuracy"),
        scratch=None if data.get("scratch") is None else Trained.of(data["scratch"]),
        how=data.get("how"),
        front=tuple(map(OnFront.of, data.get("front", ()))),
    )


def result_of(
    folder: RunFolder, ops: Mapping[str, Maker] | None = None, module: nn.Module | str | Path | None = None
) -> Result:
    """The result of a run. RunError where there is none yet, or where it needs the user's own operations or module."""
    data = folder.read_result()
    if data is None:
        status = summarise(folder.path).status
        raise RunError(f"{folder.path} has no result yet ({status}); resume it: {folder.resumed_by}")
    document = read_document(folder)
    if ops is None and "ops" in document["handed"]:
        raise RunError(
            f"{folder.path} was made with your own ops; hand them over again: metanas.load_run(...).result(ops=...)"
        )
    known = document["handed"].get("module")
    own = None if known is None else given(module, document)
    if known is not None and (own is None or build_of(own) != known):
        other = "" if own is None else f", which was built in another way than this {type(own).__qualname__}"
        raise RunError(
            f"{folder.path} was made with your own module{other}; hand it over again: "
            "metanas.load_run(...).result(module=...), or --module FILE"
        )
    try:
        return make_result(folder, data, document, ops or OPS, own)
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder.file('result.json')} is damaged: {error!r}") from error


def write_network(result: Result, folder: str | Path, formats: Formats, how: Writing) -> Written:
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
        result.space,
    )
    network = result.network if isinstance(result.network, Network) else whole(result.network, result.shape)
    return how.write(network, source, result.run, Path(folder), formats)
