"""A run at work: what can be wrong is found before a folder is made; then lock, log, view, session, files, end.

What is worked on is a `Job`; nothing here imports torch, so a job that needs none starts at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from metanas.api.identity import Placed, refuse_difference, surroundings, versions
from metanas.api.mirrors import check_mirrors, mirrored
from metanas.api.ranks import Ranks, refuse_more, scratch_folder
from metanas.api.recorder import Recorder
from metanas.api.signals import graceful
from metanas.errors import InterruptedSearchError, RunError
from metanas.run import EventWriter, Lock, RunFolder
from metanas.run.checkpoints import Checkpoint, load

if TYPE_CHECKING:
    from metanas.recipe import FewShotRecipe, Recipe, TuneRecipe, ValueRecipe

View = Callable[[Path], AbstractContextManager[Any]]
"""From a run folder to a context in which the run is shown."""

PARTED = "ended with an earlier search of this script: this one runs in one process; give it a torchrun of its own"

Outcome = TypeVar("Outcome", covariant=True)


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
            warnings = [log.warning] if log.warning else []
            if ranks.parted > 1:
                warnings.append(f"torchrun started {ranks.parted} processes, and the others {PARTED}")
            for note in (*lock.notes, *warnings, *_notes(folder, job.data, checkpoint)):
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
