"""The public functions: search, resume, export, load_space, load_data, load_run, load_recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from metanas import __version__
from metanas.api.parts import Handed, Loss, Parts
from metanas.api.recorder import Recorder
from metanas.api.result import Result, Run, final_space, make_result
from metanas.api.session import SCHEMA, Session, versions
from metanas.api.signals import graceful
from metanas.bilevel import Estimator
from metanas.controllers import Controller
from metanas.data import Data
from metanas.errors import RecipeError, RunError
from metanas.exporters import Source, write
from metanas.network import Maker
from metanas.recipe import Recipe, override, read, read_toml
from metanas.recipe.spaces import load_space
from metanas.recipe.tables import controller_name, make_controller, make_data, make_device, make_estimator
from metanas.run import EventWriter, RunFolder, summarise
from metanas.run.checkpoints import Checkpoint, load
from metanas.space import Architecture, Space, space_from_json, space_to_json

View = Callable[[Path], AbstractContextManager[Any]]
"""From a run folder to a context in which the run is shown."""

RUN_FORMATS = ("json", "safetensors", "python")
OWN_FORMATS = ("json", "safetensors")


def load_recipe(path: str | Path) -> Recipe:
    """The recipe in a TOML file. Raises RecipeError with every mistake at once."""
    return read(read_toml(Path(path)))


def load_run(run: str | Path) -> Run:
    """A run by name or path. Raises RunError, with the nearest name, where there is none."""
    return Run(RunFolder.open(run))


def search(
    space: str | Path | Space | None = None,
    data: Any = None,
    *,
    recipe: Recipe | None = None,
    controller: str | Controller | None = None,
    estimator: str | Estimator | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    ops: Mapping[str, Maker] | None = None,
    loss: Loss | None = None,
    run: str | Path | None = None,
    view: View | None = None,
) -> Result:
    """Searches an architecture, trains it and random ones from scratch, and writes a run folder.

    Args:
        space: a name, a path to a space file, or a Space. Default: NAS-Bench-201's cells at C 8, N 1.
        data: `"digits"`, a path to an .npz, arrays, a torch Dataset, or Data. Default: digits.
        recipe: where to start from; the other arguments override it.
        controller: `"darts"`, `"drnas"`, `"random"`, or one of your own.
        estimator: `"first_order"`, `"finite_difference"`, `"unrolled"`, or one of your own.
        epochs, seed, device: of the recipe's `search.epochs`, `seed`, `device`.
        settings: anything else of the recipe by dotted path: `{"search.lr": 0.05, "evaluation.random": 5}`.
        ops: kinds of operation to makers: `{**metanas.network.OPS, "mine": make}`.
        loss: (outputs, targets) -> scalar; default: cross entropy.
        run: name or path of the run folder, which must be new; default: a numbered one in `runs/`.
        view: shows the run while it works; default: silence.

    Returns:
        The architecture found, its accuracy beside random ones, and the network.

    Raises:
        RecipeError, SpaceError, DataError, RunError: before any training, in one line.
        InterruptedSearchError: Ctrl-C or SIGTERM; a checkpoint was written, `resume` goes on.
        DivergedError: too many updates were not finite.
    """
    changes: dict[str, Any] = dict(settings or {})
    if space is not None:
        changes["space.name"] = None if isinstance(space, Space) else str(space)
        changes.setdefault("space.options", {} if isinstance(space, Space) else _options_for(space, recipe))
    if data is not None:
        named = isinstance(data, str | Path)
        changes["data.source"] = str(data) if named else None
    given: dict[str, Any] = {"search.epochs": epochs, "seed": seed, "device": device}
    if isinstance(controller, Controller):
        known = controller_name(controller)
        name, options = known or (type(controller).__name__, {})
        given |= {"search.controller": name, "search.options": options}
    else:
        known = None
        given["search.controller"] = controller
    given["search.estimator"] = estimator if isinstance(estimator, str) else None
    changes |= {path: value for path, value in given.items() if value is not None}
    whole = read(override((recipe or Recipe()).to_json(), changes))
    handed = Handed(
        controller=controller if isinstance(controller, Controller) and known is None else None,
        estimator=estimator if isinstance(estimator, Estimator) else None,
        ops=ops,
        loss=loss,
    )
    parts = _prepare(whole, space, data, handed)
    stem = f"{parts.space.name}-{parts.data.name}"
    folder = RunFolder.create_numbered(stem) if run is None else RunFolder.create(run)
    return _work(folder, parts, view, fresh=True)


def resume(
    run: str | Path,
    *,
    data: Any = None,
    controller: Controller | None = None,
    estimator: Estimator | None = None,
    ops: Mapping[str, Maker] | None = None,
    loss: Loss | None = None,
    device: str | None = None,
    view: View | None = None,
) -> Result:
    """Goes on with a run from its last checkpoint; a finished run is returned as it is.

    On the CPU, with the same versions and threads, the result is that of the uninterrupted run bit for bit.

    Args:
        run: name or path.
        data, controller, estimator, ops, loss: what the run was started with, where that were objects and not names.
        device: another device; then the result is not bit-exact.

    Raises:
        RunError: no such run, in use, or what is handed over is not what the run was started with.
        CheckpointError: no checkpoint can be used.
    """
    folder = RunFolder.open(run)
    document = folder.read_recipe()
    if summarise(folder.path).status == "finished":
        return Run(folder).result(**({} if ops is None else {"ops": ops}))
    recipe = read(override(document["recipe"], {} if device is None else {"device": device}))
    handed = Handed(controller, estimator, ops, loss)
    missing = [name for name in document["handed"] if name not in handed.names() and (name != "data" or data is None)]
    if missing:
        raise RunError(f"{folder.path} was started with your own {', '.join(missing)}; hand it over again to resume()")
    _prepare_torch(recipe)
    found = make_data(recipe, data).to(make_device(recipe.device))
    if found.fingerprint != document["data"]["fingerprint"]:
        raise RunError(
            f"the data are not those of {folder.path}: there {_describe(document['data'])}, "
            f"now {_describe(_facts(found))}; give the same data"
        )
    parts = Parts(recipe, space_from_json(folder.read_space()), final_space(folder, document), found, handed)
    return _work(folder, parts, view, fresh=False)


def export(
    result: Result | str | Path,
    folder: str | Path,
    formats: Sequence[str] = RUN_FORMATS,
    *,
    force: bool = False,
) -> tuple[Path, ...]:
    """Writes the network found to files that need metanas no more; each is read back and compared before this returns.

    Args:
        result: a Result, or the name or path of a finished run.
        folder: where to; made if it is not there.
        formats: of "json", "safetensors", "python".
        force: write over what is there.

    Raises:
        ExportError: an unknown format, a target that exists, or an export that does not compute what the network does.
    """
    if not isinstance(result, Result):
        result = load_run(result).result()
    facts = {name: getattr(result, name) for name in ("classes", "mean", "std", "pixels")}
    source = _source(result.architecture, result.space, facts)
    return write(result.network, source, folder=folder, formats=tuple(formats), force=force)


def _source(architecture: Architecture, space: Space, facts: Mapping[str, Any]) -> Source:
    return Source(
        architecture,
        space.name,
        tuple(facts["classes"]),
        tuple(facts["mean"]),
        tuple(facts["std"]),
        tuple(facts["pixels"]),
    )


def _options_for(space: str | Path, recipe: Recipe | None) -> dict[str, Any]:
    """The recipe's options where it names the same space, else none: another space has other options."""
    named = (recipe or Recipe()).space
    return dict(named.options) if named.name == str(space) else {}


def _prepare_torch(recipe: Recipe) -> None:
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)


def _prepare(recipe: Recipe, space: Any, data: Any, handed: Handed) -> Parts:
    """Everything that can be wrong with a recipe is found here, before a folder is made."""
    _prepare_torch(recipe)
    built = space if isinstance(space, Space) else load_space(recipe.space.name or "", **recipe.space.options)
    last = built
    if recipe.evaluation.space:
        if recipe.space.name is None:
            raise RecipeError(["evaluation.space: needs a space by name, and a Space was handed over"])
        last = load_space(recipe.space.name, **(recipe.space.options | recipe.evaluation.space))
    if handed.controller is None:
        make_controller(recipe.search.controller, recipe.search.options)
    if handed.estimator is None:
        make_estimator(recipe.search.estimator)
    found = make_data(recipe, None if isinstance(data, str | Path) else data).to(make_device(recipe.device))
    return Parts(recipe, built, last, found, handed)


def _work(folder: RunFolder, parts: Parts, view: View | None, *, fresh: bool) -> Result:
    with folder.lock() as lock, EventWriter(folder.events) as log:
        checkpoint = None if fresh else load(folder.checkpoints)
        if fresh:
            folder.write_space(space_to_json(parts.space))
            folder.write_recipe(_document(parts))
        with view(folder.path) if view else nullcontext(), graceful() as stop:
            recorder = Recorder(folder, lock, log, stop, parts.recipe.checkpoint_seconds)
            for note in (*lock.notes, *([log.warning] if log.warning else ()), *_notes(folder, parts, checkpoint)):
                recorder.say(note, "warning")
            data, network = Session(parts, recorder).run(checkpoint)
            folder.write_result(data)
            document = folder.read_recipe()
            source = _source(Architecture.from_json(data["architecture"], data["key"]), parts.space, document["data"])
            # A module of the user's own has no text that could stand alone.
            formats = RUN_FORMATS if parts.handed.ops is None else OWN_FORMATS
            write(network, source, folder=folder.path, formats=formats, force=True)
            log.write("end", status="finished", message="")
        return make_result(folder, data, document, **({} if parts.handed.ops is None else {"ops": parts.handed.ops}))


def _notes(folder: RunFolder, parts: Parts, checkpoint: Checkpoint | None) -> list[str]:
    """What a resumed run should know: damage that was passed over, and why it may not be bit-exact."""
    if checkpoint is None:
        return []
    notes = list(checkpoint.warnings)
    before = folder.read_recipe()
    now = {**versions(), "threads": torch.get_num_threads(), "device": str(parts.data.device)}
    for name, value in before["versions"].items():
        if now.get(name) != value:
            notes.append(f"{name} was {value}, is {now.get(name)}: the result need not be bit-exact")
    return notes


def _document(parts: Parts) -> dict[str, Any]:
    same = parts.final_space is parts.space
    handed = parts.handed.names() + (["data"] if parts.recipe.data.source is None else [])
    return {
        "schema": SCHEMA,
        "metanas": __version__,
        "versions": {**versions(), "threads": torch.get_num_threads(), "device": str(parts.data.device)},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": parts.recipe.to_json(),
        "data": _facts(parts.data),
        "handed": handed,
        "final_space": None if same else space_to_json(parts.final_space),
    }


def _facts(data: Data) -> dict[str, Any]:
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
    }


def _describe(facts: Mapping[str, Any]) -> str:
    sizes = "/".join(str(n) for n in facts["sizes"].values())
    return f"{facts['name']} {sizes} of {tuple(facts['shape'])} ({facts['fingerprint'][:8]})"
