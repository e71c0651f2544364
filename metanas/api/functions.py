"""The public functions: search, resume, export, load_recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from metanas.api.by_value import KIND as BY_VALUE
from metanas.api.by_value import ValueResult, resume_values, value_result_of
from metanas.api.documents import facts_of, read_document, read_latencies, read_settings, read_spaces
from metanas.api.few_shot import FewShotResult, export_learner, few_shot_result_of, resume_few_shot
from metanas.api.few_shot_parts import FewShotHanded
from metanas.api.handed import Handed, Loss, Metric
from metanas.api.host import threads
from metanas.api.identity import told_differences
from metanas.api.jobs import View, begin, go_on
from metanas.api.origin import read_origin
from metanas.api.own_module import given, started, taken_up
from metanas.api.parts import Parts
from metanas.api.ranks import joined
from metanas.api.result import Result, result_of, write_network
from metanas.api.telling import Writing
from metanas.api.tuning import TuneResult, export_learned, resume_tuning, tune_result_of
from metanas.api.tuning_parts import TuneHanded
from metanas.api.work import SearchJob, prepare
from metanas.bilevel import Estimator
from metanas.controllers import Controller
from metanas.data import Data
from metanas.errors import ExportError, RunError
from metanas.exporters import Written
from metanas.loop import Objective
from metanas.network import Maker, space_of
from metanas.recipe import Recipe, override, read, read_toml
from metanas.recipe.spaces import usual_settings
from metanas.recipe.tables import controller_name, make_data, make_device
from metanas.run import RunFolder, summarise
from metanas.space import Space


def load_recipe(path: str | Path) -> Recipe:
    """The recipe in a TOML file. Raises RecipeError with every mistake at once."""
    return read(read_toml(Path(path)))


def search(
    space: str | Path | Space | nn.Module | None = None,
    data: Any = None,
    *,
    target: str | None = None,
    recipe: Recipe | str | Path | None = None,
    controller: str | Controller | None = None,
    estimator: str | Estimator | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    ops: Mapping[str, Maker] | None = None,
    loss: Loss | None = None,
    metric: Metric | None = None,
    objective: Objective | None = None,
    run: str | Path | None = None,
    view: View | None = None,
) -> Result:
    """Searches an architecture, trains it and random ones from scratch, and writes a run folder.

    Started by `torchrun` on several processes, all search together, each on its part of every batch; the first goes on
    with the rest and returns, the others end with the search (SystemExit). A further search of the same script is then
    of one process, which its log says; start it by a `torchrun` of its own.

    Args:
        space: a name, a path to a space file, a Space, or a module of your own with choices marked in it
            (`metanas.choose`), whose weights every network begins at. Default: NAS-Bench-201's cells at C 8, N 1.
        data: `"digits"`, a path (an .npz, a .csv, a folder or .zip of images by class), arrays, a Dataset, loaders, or
            Data. Default: digits.
        target: of a .csv, the column to be predicted.
        recipe: where to start from, a Recipe or the path of its TOML file; the other arguments override it. Default:
            `Recipe()`, and what the file of the space says (`recipe.spaces`).
        controller: `"darts"`, `"drnas"`, `"fair_darts"`, `"gdas"`, `"gumbel"`, `"pc_darts"`, `"darts_pt"`,
            `"reinforce"`, `"spos"`, `"rsps"`; by values `"random"`, `"evolution"`, `"local_search"`, `"predictor"`,
            `"optuna"` (`metanas.samplers.OptunaSearch`: TPE, GP); by several values `"nsga2"`; or one
            of your own.
        estimator: `"first_order"`, `"finite_difference"`, `"unrolled"`, or one of your own.
        epochs, seed, device: of the recipe's `search.epochs`, `seed`, `device`.
        settings: anything else of the recipe by dotted path: `{"search.lr": 0.05, "evaluation.random": 5}`.
        ops: kinds of operation to makers: `{**OPS, "mine": make}`, with OPS of `metanas.network`.
        loss: of the search, the training from scratch and the test, (outputs, targets) -> scalar, a mean over the
            batch; default: the data's task's (cross entropy, or the squared error of a regression).
        metric: what networks are judged by, (outputs, targets) -> scalar, larger is better; given a whole split at once
            in a test, and batches in a training (nan where it is not defined). Named by its `__name__`. Default: the
            data's task's (accuracy, or R2).
        objective: of a controller by values, in place of short trainings: architecture -> a number, larger is better;
            or one number for each name of `search.objectives`, in its own units (`["speed", "-latency"]`).
        run: the run folder, which must be new: a name in `runs/`, or a Path anywhere; default: a numbered name.
        view: shows the run while it works, as `metanas.ui.view_for` does; default: silence.

    Returns:
        The architecture found, its test score beside random ones, and the network.

    Raises:
        RecipeError, SpaceError, DataError, RunError: before any training, in one line.
        InterruptedSearchError: Ctrl-C or SIGTERM; a checkpoint was written, `resume` goes on.
        DivergedError: too many updates were not finite.

    >>> import tempfile
    >>> import metanas
    >>> quick = {"search.batch_size": 256, "evaluation.epochs": 1, "evaluation.random": 0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = metanas.search("nasbench201", "digits", epochs=1, settings=quick, run=Path(folder, "first"))
    >>> sorted(result.architecture)
    ['1<-0', '2<-0', '2<-1', '3<-0', '3<-1', '3<-2']
    """
    named = controller_name(controller) if isinstance(controller, Controller) else None
    handed = Handed(
        controller=controller if isinstance(controller, Controller) and named is None else None,
        estimator=None if isinstance(estimator, str) else estimator,
        ops=ops,
        loss=loss,
        metric=metric,
        module=space if isinstance(space, nn.Module) else None,
        objective=objective,
    )
    if isinstance(space, nn.Module):
        space = space_of(space)
    changes: dict[str, Any] = {
        "data.target": target,
        "search.epochs": epochs,
        "seed": seed,
        "device": device,
    }
    changes["search.controller"], changes["search.options"] = _words_for(controller, named)
    changes["search.estimator"] = type(estimator).__name__ if handed.estimator else estimator
    changes = {path: value for path, value in changes.items() if value is not None}
    base = load_recipe(recipe) if isinstance(recipe, str | Path) else recipe or Recipe()
    usual = usual_settings(space) if recipe is None and isinstance(space, str | Path) else {}
    if isinstance(data, Data):  # it is taken as it is
        usual = {path: value for path, value in usual.items() if not path.startswith("data.")}
    whole = _recipe(base, space, data, {**usual, **(settings or {})}, changes)
    with joined() as ranks, threads(whole.threads):
        own_data = None if isinstance(data, str | Path) else data
        parts = prepare(whole, space if isinstance(space, Space) else None, own_data, handed, ranks)
        stem = f"{parts.space.name}-{parts.data.name}"
        folder = partial(RunFolder.create_numbered, stem) if run is None else partial(RunFolder.create, run)
        own = parts.handed.module
        folder = folder if own is None else partial(started, folder, own)
        return result_of(begin(SearchJob(parts), folder, view, ranks), ops, own)


def resume(
    run: str | Path,
    *,
    data: Any = None,
    controller: Controller | None = None,
    estimator: Estimator | None = None,
    ops: Mapping[str, Maker] | None = None,
    loss: Loss | None = None,
    metric: Metric | None = None,
    module: nn.Module | str | Path | None = None,
    objective: Objective | None = None,
    device: str | None = None,
    view: View | None = None,
    **tuning: Any,
) -> Result | TuneResult | FewShotResult | ValueResult:
    """Goes on with a run from its last checkpoint; a finished run is returned as it is.

    On the CPU, with the same versions and threads, the result is that of the uninterrupted run bit for bit.

    Args:
        run: a name in `runs/`, or a Path.
        data, controller, estimator, ops, loss, metric, objective: what the run was started with, where those were
            objects and not names.
        module: the one that was searched in place of a space, or the file that makes it; built alike, its weights are
            those of the run.
        device: another device; then the result is not bit-exact.
        tuning: of a run of `metanas.tune`: the network, parts and losses that it was started with; of one of
            `metanas.fewshot`: the network, descriptions and encoder.

    Raises:
        RunError: no such run, in use, or what is handed over is not what the run was started with.
        CheckpointError: no checkpoint can be used.
    """
    folder = RunFolder.open(run)
    document = read_document(folder)
    finished = summarise(folder.path).status == "finished"
    if module is not None and "module" not in document.get("handed", {}):
        raise RunError(f"{folder.path} is no search of a module of your own; leave module out")
    if document.get("kind") == "tune":
        own = TuneHanded(estimator=estimator, metric=metric, **_tuning_only(tuning))
        if finished:
            return tune_result_of(folder, network=own.network)
        return resume_tuning(folder, document, data=data, handed=own, device=device, view=view)
    if document.get("kind") == "fewshot":
        own_parts = FewShotHanded(**_few_shot_only(folder, tuning))
        if finished:
            return few_shot_result_of(folder, handed=own_parts)
        return resume_few_shot(folder, document, data=data, handed=own_parts, device=device, view=view)
    if document.get("kind") == BY_VALUE:
        if finished:
            return value_result_of(folder)
        if tuning:
            raise RunError(f"{folder.path} is a search by values, which takes no {', '.join(tuning)}; leave it out")
        return resume_values(folder, document, objective=objective, controller=controller, view=view)
    if tuning:
        raise RunError(f"{folder.path} is a search, which takes no {', '.join(tuning)}; leave it out")
    if finished:
        return result_of(folder, ops, module)
    spaces = read_spaces(folder, document)
    own_module = given(module, document) if "module" in document["handed"] else None
    held = None if own_module is None else taken_up(own_module, folder, spaces[0])
    handed = Handed(controller, estimator, ops, loss, metric, held, objective)
    recipe = read_settings(folder, document, {} if device is None else {"device": device})
    missing = [name for name in document["handed"] if name not in handed.described()]
    missing += ["data"] if recipe.data.source is None and data is None else []
    if missing:
        file = ", or --module FILE" if "module" in missing else ""
        what = ", ".join(missing)
        raise RunError(f"{folder.path} was started with your own {what}; hand it over again to resume(){file}")
    with joined() as ranks, threads(recipe.threads):
        found = make_data(recipe, data).to(make_device(recipe.device))
        if found.fingerprint != document["data"].get("fingerprint"):
            shown = told_differences(document["data"], facts_of(found))
            raise RunError(f"the data are not those of {folder.path}: {shown}; give the same data")
        origin, latencies = read_origin(folder, document), read_latencies(document)
        parts = Parts(recipe, *spaces, found, handed, origin, ranks, latencies)
        return result_of(go_on(SearchJob(parts), folder, view, ranks), ops, held)


def _tuning_only(given: Mapping[str, Any]) -> dict[str, Any]:
    """What only a tuning is handed; TypeError for anything else, as for any function."""
    unknown = [name for name in given if name not in ("network", "parts", "losses")]
    if unknown:
        raise TypeError(f"resume() got an unexpected keyword argument {unknown[0]!r}")
    return {name: tuple(value) if name == "parts" else value for name, value in given.items()}


def _few_shot_only(folder: RunFolder, given: Mapping[str, Any]) -> dict[str, Any]:
    """What only a few-shot run is handed. RunError where there is more."""
    more = [name for name in given if name not in ("network", "descriptions", "encoder")]
    if more:
        raise RunError(f"{folder.path} is a few-shot run, which takes no {', '.join(more)}; leave it out")
    return dict(given)


def export(
    result: Result | TuneResult | FewShotResult | str | Path,
    folder: str | Path,
    formats: str | Sequence[str] | None = None,
    *,
    force: bool = False,
    precision: str = "float32",
    verify: str = "process",
    data: Any = None,
    module: nn.Module | str | Path | None = None,
) -> Written:
    """Writes the network found to files that need metanas no more; each is read back and compared before this returns.

    Of a tuning, learned.safetensors and learned.json are written too. Of a few-shot run they are what is written: the
    learner (`metanas.load_learner`); a classifier that it makes is exported by itself (`Classifier.export`).

    Args:
        result: a Result, or a finished run: its name in `runs/`, or its Path.
        folder: where to; made if it is not there.
        formats: of "json", "safetensors", "python", "pt2" (torch.export), "onnx", "card" (a model card), and the
            pictures "svg", "dot" and "mermaid"; pt2 and onnx take any batch size. "all" is all that have the precision;
            None: json, safetensors and, where no operation is one of your own, python.
        force: write over what is there.
        precision: of the weights: "float32"; "float16" or "bfloat16" (stored so, computed in float32); "int8", for
            "onnx" alone. What that loses is measured and stands in architecture.json and in the model card.
        verify: "process": each file is also loaded in a new process without metanas; "here": only in this one.
        data: of a lower precision, the data of the run, where its recipe does not name them: the loss is measured on
            their test split as well.
        module: of a run that is named, the module that it searched in place of a space, or the file that makes it.

    Returns:
        The paths, in the order of the formats: a tuple, whose `losses` say what a lower precision loses.

    Raises:
        ExportError: an unknown format, a target that exists, or an export that does not compute what the network does
            (outputs within 1e-5 of the largest); also where one of the formats cannot express the network: the others
            are written then.
        MissingDependencyError: "onnx" without its packages.
        RunError: no such run, or it is not finished; data that are not the run's.
    """
    how = Writing(force, precision, verify, data)
    if isinstance(result, str | Path):
        run = RunFolder.open(result)
        run.refuse_links()
        kind = read_document(run).get("kind")
        if kind == "fewshot":
            how.of_a_learner()
            return export_learner(run.path, Path(folder), formats, force=force)
        if kind == BY_VALUE:
            raise ExportError(f"{run.path} has no network, it only looked values up; metanas.build makes the network")
        result = tune_result_of(run) if kind == "tune" else result_of(run, module=module)
    if isinstance(result, FewShotResult):
        how.of_a_learner()
        return export_learner(result.run, Path(folder), formats, force=force)
    if isinstance(result, TuneResult):
        return export_learned(result, Path(folder), formats, how)
    if isinstance(result, Result):
        return write_network(result, folder, formats, how)
    raise TypeError(f"export takes a result, the name of a run or its Path, got {type(result).__name__}")


def _words_for(
    controller: str | Controller | None, named: tuple[str, dict[str, Any]] | None
) -> tuple[str | None, dict[str, Any] | None]:
    """What a recipe says of a controller: its name and options; for one of the user's own, its class."""
    if isinstance(controller, Controller):
        return named or (type(controller).__name__, {})
    return controller, None


def _recipe(
    base: Recipe, space: str | Path | Space | None, data: Any, settings: Mapping[str, Any], changes: Mapping[str, Any]
) -> Recipe:
    """The recipe with the arguments of `search` in it; where space and data are objects, it names none."""
    start = base.to_json()
    if isinstance(space, Space):
        start["space"] = {"name": None}
    elif space is not None and str(space) != base.space.name:
        start["space"] = {"name": str(space)}  # another space has other options
    if data is not None:
        start["data"]["source"] = str(data) if isinstance(data, str | Path) else None
    return read(override(start, {**settings, **changes}))
