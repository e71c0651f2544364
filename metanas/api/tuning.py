"""`metanas.tune`: learns what shapes a training, and writes a run folder; its result, and its resume."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metanas import __version__
from metanas.api.choosing import check_sampler
from metanas.api.documents import facts_of, source_of
from metanas.api.handed import Metric
from metanas.api.host import threads
from metanas.api.identity import SCHEMA, surroundings, told_differences
from metanas.api.jobs import View, begin, go_on
from metanas.api.recorder import Recorder
from metanas.api.telling import Formats, Writing
from metanas.api.tuning_parts import TuneHanded, TuneParts, built, spoil
from metanas.api.tuning_session import TuneSession
from metanas.bilevel import Estimator
from metanas.data import Data
from metanas.errors import ExportError, RecipeError, RunError
from metanas.exporters import (
    RUN_FORMATS,
    Source,
    Written,
    load_weights,
    read_learned,
    read_tensors,
    write,
    write_learned,
    write_tensors,
)
from metanas.loop import named
from metanas.modes import Losses, Part
from metanas.network import Network, derived
from metanas.recipe import TuneRecipe, override, read_toml, read_tuning
from metanas.recipe.shipped import find_recipe
from metanas.recipe.tables import make_data, make_device
from metanas.run import RunFolder, dump_json, parse_json
from metanas.space import space_from_json, space_to_json

OWN_WEIGHTS = "network.safetensors"


@dataclass(frozen=True, eq=False)
class TuneResult:
    """The outcome of a tuning.

    learned:      the outer variables by name, as they were learned: {"decay.log": tensor, ...}
    shown:        the same in natural units, a few numbers; `shown_at_start` before it began
    chosen:       what Optuna chose, by path of the recipe
    tune_seconds: of the trials and the tuning; train_seconds: of the trainings from scratch
    test_score:   of a network that was trained with what was learned; `start_score`: with the values at the start
    network:      that network, in evaluation mode; None where a module was handed over and was not handed over again
    wrong_labels: how well wrong labels were found, where the recipe put some in
    """

    learned: Mapping[str, Tensor]
    shown: Mapping[str, float]
    shown_at_start: Mapping[str, float]
    chosen: Mapping[str, Any]
    test_score: float
    start_score: float
    metric: str
    network: nn.Module | None
    source: Source | None
    wrong_labels: Mapping[str, Any] | None
    run: Path
    tune_seconds: float
    train_seconds: float

    def __str__(self) -> str:
        beside = f"test {self.metric} {self.score(self.test_score)}, {self.score(self.start_score)} before"
        return f"{', '.join(f'{name} {value:.3g}' for name, value in self.shown.items())}: {beside}"

    def score(self, score: float) -> str:
        """A score as it is printed: an accuracy in per cent."""
        return f"{score:.2%}" if self.metric == "accuracy" else f"{score:.4f}"


@dataclass(frozen=True)
class TuneJob:
    """A tuning, from its parts to its result (`work.Job`)."""

    parts: TuneParts

    @property
    def recipe(self) -> TuneRecipe:
        return self.parts.recipe

    @property
    def data(self) -> Data:
        return self.parts.data

    def document(self) -> dict[str, Any]:
        document = {
            "schema": SCHEMA,
            "kind": "tune",
            "metanas": __version__,
            "versions": surroundings(self.data),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": self.recipe.to_json(),
            "data": facts_of(self.data),
            "handed": self.parts.handed.described(),
            "metric": self.parts.task.metric_name,
        }
        dump_json(document)
        return document

    def space_document(self) -> dict[str, Any] | None:
        return None if self.parts.space is None else space_to_json(self.parts.space)

    def identity(self) -> dict[str, Any]:
        identity: dict[str, Any] = parse_json(dump_json(self.parts.identity()))
        return identity

    def work(self, folder: RunFolder, recorder: Recorder, state: dict[str, Any] | None) -> dict[str, Any]:
        session = TuneSession(self.parts, folder, recorder)
        data = session.run(state)
        facts = {name: data[name] for name in ("shown", "shown_at_start", "chosen", "wrong_labels")}
        write_learned(folder.path, named(session.learned), {"schema": SCHEMA, **facts})
        assert session.weights is not None  # it was trained
        parts = session.parts
        network = parts.filled(session.weights)
        if isinstance(network, Network) and parts.space is not None:
            source = source_of(data, parts.space, folder.read_recipe())
            write(network, source, folder=folder.path, formats=RUN_FORMATS, force=True)
        else:
            write_tensors(folder.file(OWN_WEIGHTS), network.state_dict())
        return data

    def result(self, folder: RunFolder, data: dict[str, Any]) -> TuneResult:
        return tune_result_of(folder, data, self.parts.handed.network)


def tune(
    recipe: TuneRecipe | str | Path | None = None,
    data: Any = None,
    *,
    target: str | None = None,
    network: nn.Module | None = None,
    learn: Sequence[str | Part] | None = None,
    estimator: str | Estimator | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    losses: Losses | None = None,
    metric: Metric | None = None,
    run: str | Path | None = None,
    view: View | None = None,
) -> TuneResult:
    """Learns what shapes a training by hypergradients, trains with it from scratch, and writes a run folder.

    Args:
        recipe: where to start from, a TuneRecipe, the name of a shipped one or the path of its TOML file; the other
            arguments override it. Default: `TuneRecipe()`.
        data: as of `metanas.search`; nothing of the recipe's `data` section holds for it.
        target: of a .csv, the column to be predicted.
        network: a module of your own, from inputs to outputs, without norms that keep statistics; every training begins
            at its weights. Default: the recipe's.
        learn: what is learned, in place of the recipe's: names ("example_weights", "decay", "rate", "label_smoothing",
            "augmentation", "loss"), and parts of your own (`metanas.modes.Part`).
        estimator: a name of the recipe's table ("unrolled", "conjugate_gradient", ...), or one of your own.
        steps, seed, device: of the recipe's `outer.steps`, `seed`, `device`.
        settings: anything else of the recipe by dotted path: `{"inner.lr": 0.05, "outer.clip": 1.0}`.
        losses: (outputs, targets) -> (batch,), the loss of each example; default: cross entropy, or the squared error.
        metric: as of `metanas.search`.
        run, view: as of `metanas.search`.

    Returns:
        What was learned, the test score of a network trained with it beside one trained with the values at the start,
        and that network.

    Raises:
        RecipeError, SpaceError, DataError, BilevelError, RunError: before any training, in one line. Of the outer
            variables of your own parts, those that the estimator cannot see are refused at the first step.
        InterruptedSearchError: Ctrl-C or SIGTERM; a checkpoint was written, `resume` goes on.
        DivergedError: too many hypergradients were not finite, or every trial of Optuna's failed.

    >>> import tempfile
    >>> import metanas
    >>> quick = {"evaluation.steps": 20, "network.options": {"kind": "linear"}, "inner.steps": 2}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = metanas.tune(learn=["decay"], steps=2, settings=quick, run=Path(folder, "first"))
    >>> sorted(result.learned)
    ['decay.log.head.0.bias', 'decay.log.head.0.weight']
    """
    base = _base(recipe)
    start = base.to_json()
    if data is not None:
        # Splits, targets and wrong labels of a recipe are those of its own data.
        start["data"] = {"source": str(data) if isinstance(data, str | Path) else None}
    if network is not None:
        start["network"] = {"name": None}
    changes: dict[str, Any] = {"data.target": target, "outer.steps": steps, "seed": seed, "device": device}
    changes["outer.estimator"] = estimator if isinstance(estimator, str) else None
    changes = {path: value for path, value in changes.items() if value is not None}
    own = tuple(part for part in learn or () if isinstance(part, Part))
    if learn is not None:
        start["learn"] = {name: start["learn"].get(name) or {} for name in learn if isinstance(name, str)}
    whole = read_tuning(override(start, {**(settings or {}), **changes}), more=tuple(part.name for part in own))
    handed = TuneHanded(network, own, None if isinstance(estimator, str) else estimator, losses, metric)
    with threads(whole.threads):
        parts = prepare_tuning(whole, None if isinstance(data, str | Path) else data, handed)
        stem = f"tune-{parts.data.name}"
        folder = partial(RunFolder.create_numbered, stem) if run is None else partial(RunFolder.create, run)
        return begin(TuneJob(parts), folder, view)


def _base(recipe: TuneRecipe | str | Path | None) -> TuneRecipe:
    if recipe is None or isinstance(recipe, TuneRecipe):
        return recipe or TuneRecipe()
    return read_tuning(read_toml(find_recipe("tuning", recipe)))


def prepare_tuning(recipe: TuneRecipe, data: Any, handed: TuneHanded) -> TuneParts:
    """The parts of a new run; everything that can be wrong with a recipe is found here, before a folder is made.

    Raises:
        RecipeError, SpaceError, DataError, BilevelError: as `metanas.tune` says.
    """
    check_sampler(recipe.choose)
    space = built(recipe) if handed.network is None else None
    found, right = spoil(make_data(recipe, data).to(make_device(recipe.device)), recipe.data.wrong_labels, recipe.seed)
    parts = TuneParts(recipe, space, found, right, handed)
    parts.check()
    return parts


def resume_tuning(
    folder: RunFolder,
    document: Mapping[str, Any],
    *,
    data: Any = None,
    handed: TuneHanded,
    device: str | None = None,
    view: View | None = None,
) -> TuneResult:
    """Goes on with a tuning that is not finished; see `metanas.resume`."""
    try:
        changes = {} if device is None else {"device": device}
        named = document["handed"].get("parts")  # whether they were handed over again is seen below
        recipe = read_tuning(override(document["recipe"], changes), more=() if named is None else named.split(", "))
    except RecipeError as error:
        raise RecipeError([f"{folder.file('recipe.json')}: {problem}" for problem in error.problems]) from None
    missing = [name for name in document["handed"] if name not in handed.described()]
    missing += ["data"] if recipe.data.source is None and data is None else []
    if missing:
        raise RunError(f"{folder.path} was started with your own {', '.join(missing)}; hand it over again to resume()")
    with threads(recipe.threads):
        parts = prepare_tuning(recipe, data, handed)
        if parts.data.fingerprint != document["data"].get("fingerprint"):
            shown = told_differences(document["data"], facts_of(parts.data))
            raise RunError(f"the data are not those of {folder.path}: {shown}; give the same data")
        return go_on(TuneJob(parts), folder, view)


def tune_result_of(
    folder: RunFolder, data: Mapping[str, Any] | None = None, network: nn.Module | None = None
) -> TuneResult:
    """The result of a tuning. RunError where there is none yet, or its files are damaged."""
    data = folder.read_result() if data is None else data
    if data is None:
        raise RunError(f"{folder.path} has no result yet; resume it: {folder.resumed_by}")
    document = folder.read_recipe()
    source = None
    try:
        if network is None and document["recipe"]["network"]["name"] is not None:
            space, facts = space_from_json(folder.read_space()), document["data"]
            source = source_of(data, space, document)
            network = derived(space, source.architecture, tuple(facts["shape"]), len(facts["classes"]) or 1)
            load_weights(network, folder.file(OWN_WEIGHTS))
        elif network is not None:
            network = copy.deepcopy(network)
            network.load_state_dict(read_tensors(folder.file(OWN_WEIGHTS)))
        return TuneResult(
            learned=read_learned(folder.path),
            shown=data["shown"],
            shown_at_start=data["shown_at_start"],
            chosen=data["chosen"],
            test_score=_number(data["test_score"]),
            start_score=_number(data["start"]["test_score"]),
            metric=data["metric"],
            network=None if network is None else network.eval(),
            source=source,
            wrong_labels=data["wrong_labels"],
            run=folder.path.absolute(),
            tune_seconds=data["tune_seconds"],
            train_seconds=data["train_seconds"],
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder.file('result.json')} is damaged: {error!r}") from error


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def export_learned(result: TuneResult, folder: Path, formats: Formats, how: Writing) -> Written:
    """What was learned, and the network trained with it, as files; see `metanas.export`.

    Raises:
        ExportError: as `metanas.export` says; a module of the user's own is written as its tensors alone.
    """
    targets = [folder / name for name in ("learned.safetensors", "learned.json")]
    own = result.source is None and result.network is not None
    targets += [folder / OWN_WEIGHTS] if own else []
    there = [str(path) for path in targets if path.exists()]
    if there and not how.force:
        raise ExportError(f"already there: {', '.join(there)}; choose another folder, or give force=True (--force)")
    network = Written()
    if result.source is not None and isinstance(result.network, Network):
        network = how.write(result.network, result.source, result.run, folder, formats)
    folder.mkdir(parents=True, exist_ok=True)
    if own and result.network is not None:
        write_tensors(folder / OWN_WEIGHTS, result.network.state_dict())
        network = Written((folder / OWN_WEIGHTS,))
    facts = {
        "schema": SCHEMA,
        "shown": dict(result.shown),
        "shown_at_start": dict(result.shown_at_start),
        "chosen": dict(result.chosen),
        "wrong_labels": result.wrong_labels,
    }
    return Written((*network, *write_learned(folder, result.learned, facts)), network.losses)
