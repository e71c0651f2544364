"""A run at work: what can be wrong is found before a folder is made; then lock, log, view, session, files, end."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import torch

from metanas.api.documents import Placed, document_of, identity_of, refuse_difference, source_of, surroundings, versions
from metanas.api.mirrors import check_mirrors, mirrored
from metanas.api.own_module import made_by
from metanas.api.parts import Handed, Parts
from metanas.api.ranks import Ranks, refuse_more, scratch_folder
from metanas.api.recorder import Recorder
from metanas.api.session import Session
from metanas.api.signals import graceful
from metanas.api.vocabulary import with_vocabulary
from metanas.data import Data
from metanas.errors import InterruptedSearchError, RecipeError, RunError
from metanas.exporters import usual_formats, write
from metanas.recipe import FewShotRecipe, Recipe, TuneRecipe, ValueRecipe
from metanas.recipe.spaces import load_space
from metanas.recipe.tables import check_names, make_data, make_device
from metanas.run import EventWriter, Lock, RunFolder
from metanas.run.checkpoints import Checkpoint, load
from metanas.space import Space, space_to_json

View = Callable[[Path], AbstractContextManager[Any]]
"""From a run folder to a context in which the run is shown."""

Outcome = TypeVar("Outcome", covariant=True)


def prepare(
    recipe: Recipe,
    space: Space | None,
    data: Any,
    handed: Handed,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> Parts:
    """The parts of a new run. Everything that can be wrong with a recipe is found here, before a folder is made.

    Args:
        space: None where the recipe names it.
        data: None where the recipe names it.
        ranks: the processes that search together.

    Raises:
        RecipeError, SpaceError, DataError: as `metanas.search` says.
    """
    check_names(recipe, **{name: getattr(handed, name) is None for name in ("controller", "estimator", "objective")})
    if space is not None and recipe.space.options:
        raise RecipeError(["space.options: needs a space by name, and a Space was handed over; build it with them"])
    built = load_space(recipe.space.name or "", **recipe.space.options) if space is None else space
    if space is None and (module := made_by(recipe)) is not None:
        handed = replace(handed, module=module)
    found = make_data(recipe, data).to(make_device(recipe.device))
    options = with_vocabulary(recipe.space.name, recipe.space.options, found) if space is None else {}
    if options != recipe.space.options and recipe.space.name is not None:
        built = load_space(recipe.space.name, **options)
    last = built
    if recipe.evaluation.space:
        if recipe.space.name is None:
            raise RecipeError(["evaluation.space: needs a space by name, and a Space was handed over"])
        last = load_space(recipe.space.name, **(options | recipe.evaluation.space))
    parts = Parts(recipe, built, last, found, handed, ranks=ranks)
    parts.check()
    return parts


@contextlib.contextmanager
def threads(number: int | None) -> Iterator[None]:
    """torch's CPU threads inside the block; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Job(Protocol[Outcome]):
    """A kind of run: what it is made of, and its work. `Outcome` is what its caller gets in the end."""

    @property
    def recipe(self) -> Recipe | TuneRecipe | FewShotRecipe | ValueRecipe: ...

    @property
    def data(self) -> Placed: ...

    def document(self) -> dict[str, Any]:
        """The content of recipe.json."""

    def space_document(self) -> dict[str, Any] | None:
        """The content of space.json, where there is one."""

    def identity(self) -> dict[str, Any]:
        """Everything that decides the run's numbers, as plain data for its checkpoints."""

    def work(self, folder: RunFolder, recorder: Recorder, state: dict[str, Any] | None) -> dict[str, Any]:
        """From the beginning, or from what a checkpoint held, to the end: writes the run's files, all but result.json,
        whose content it returns."""

    def result(self, folder: RunFolder, data: dict[str, Any]) -> Outcome:
        """What the caller gets, from the content of result.json and the run's files."""


@dataclass(frozen=True)
class SearchJob:
    """A search, or a transfer, from its parts to its files; `result.result_of` reads them."""

    parts: Parts

    @property
    def recipe(self) -> Recipe:
        return self.parts.recipe

    @property
    def data(self) -> Data:
        return self.parts.data

    def document(self) -> dict[str, Any]:
        return document_of(self.parts)

    def space_document(self) -> dict[str, Any] | None:
        return space_to_json(self.parts.space)

    def identity(self) -> dict[str, Any]:
        return identity_of(self.parts)

    def work(self, folder: RunFolder, recorder: Recorder, state: dict[str, Any] | None) -> dict[str, Any]:
        data, network = Session(self.parts, recorder).run(state)
        source = source_of(data, self.parts.final_space, folder.read_recipe())
        write(network, source, folder=folder.path, formats=usual_formats(network), force=True)
        return data

    def result(self, folder: RunFolder, data: dict[str, Any]) -> RunFolder:
        return folder


def begin(
    job: Job[Outcome],
    make_folder: Callable[[], RunFolder],
    view: View | None,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> Outcome:
    """A new run, from its folder to its result; of several ranks, the first makes it and the others step along."""
    refuse_more(ranks)
    if not ranks.leads:
        return work_along(job, None, ranks)
    document, space = job.document(), job.space_document()
    check_mirrors(job.recipe.logs)
    folder = make_folder()
    with folder.lock() as lock, EventWriter(folder.events) as log:
        if space is not None:
            folder.write_space(space)
        folder.write_recipe(document)
        return _work(folder, job, view, lock, log, None, ranks)


def work_along(job: Job[Outcome], followed: RunFolder | None, ranks: Ranks) -> NoReturn:
    """What a rank does that does not lead: the same steps, in a folder that is thrown away; then the process ends.

    Args:
        followed: the run that is gone on with; None: a new one.
    """
    checkpoint = None if followed is None else load(followed.checkpoints)
    space = job.space_document()
    with scratch_folder() as place:
        folder = RunFolder.create(place)
        with folder.lock() as lock, EventWriter(folder.events) as log:
            if space is not None:
                folder.write_space(space)
            folder.write_recipe(job.document())
            _work(folder, job, None, lock, log, checkpoint, ranks)
    raise SystemExit(0)


def go_on(
    job: Job[Outcome],
    folder: RunFolder,
    view: View | None,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> Outcome:
    """A run from its last checkpoint to its result; of several ranks, the first holds it and the others step along.

    Raises:
        RunError: it is in use, or not what it was when the checkpoint was written.
    """
    refuse_more(ranks)
    if not ranks.leads:
        return work_along(job, folder, ranks)
    with folder.lock() as lock, EventWriter(folder.events) as log:
        checkpoint = load(folder.checkpoints)
        if checkpoint is not None:
            defaults = type(job.recipe)().to_json()
            refuse_difference(folder, checkpoint.tree["identity"], job.identity(), defaults)
        return _work(folder, job, view, lock, log, checkpoint, ranks)


def _work(
    folder: RunFolder,
    job: Job[Outcome],
    view: View | None,
    lock: Lock,
    log: EventWriter,
    checkpoint: Checkpoint | None,
    ranks: Ranks,
) -> Outcome:
    logs = job.recipe.logs if ranks.leads else ()
    with view(folder.path) if view else nullcontext(), graceful() as stop:
        recorder = Recorder(folder, lock, log, stop, job.recipe.checkpoint_seconds, job.identity(), ranks)
        begun = log.write(
            "begin",
            host=socket.gethostname(),
            pid=os.getpid(),
            resumed=checkpoint is not None,
            step=0 if checkpoint is None else checkpoint.step,
            versions=versions(),
        )
        with mirrored(log, folder.path, logs, job.space_document(), begun), _ending(log):
            for note in (*lock.notes, *([log.warning] if log.warning else ()), *_notes(folder, job.data, checkpoint)):
                recorder.say(note, "warning")
            for note in job.data.notes if checkpoint is None else ():
                recorder.say(note)
            data = job.work(folder, recorder, None if checkpoint is None else checkpoint.tree["state"])
            folder.write_result(data)  # last: where there is a result, its files are there
    return job.result(folder, data)


@contextlib.contextmanager
def _ending(log: EventWriter) -> Iterator[None]:
    """Writes how the run ended into its log; an error stays the one that is raised, also where that fails."""
    try:
        yield
    except BaseException as error:
        asked = isinstance(error, InterruptedSearchError | KeyboardInterrupt | SystemExit)
        message = str(error) if isinstance(error, Exception) else "stopped at once"
        with contextlib.suppress(RunError):
            log.write("end", status="interrupted" if asked else "failed", message=message)
        raise
    log.write("end", status="finished", message="")


def _notes(folder: RunFolder, data: Placed, checkpoint: Checkpoint | None) -> list[str]:
    """What a resumed run should know: damage that was passed over, and why it may not be bit-exact."""
    if checkpoint is None:
        return []
    before, now = folder.read_recipe()["versions"], surroundings(data)
    return [
        *checkpoint.warnings,
        *(
            f"{name} was {value}, is {now.get(name)}: the result need not be bit-exact"
            for name, value in before.items()
            if now.get(name) != value
        ),
    ]
