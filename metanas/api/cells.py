"""Work that several processes share: a study of Optuna's as a queue, each trial one piece of work with a name.

    fill    every piece that the study does not know becomes a waiting trial
    claim   one that waits; else one that a process of this host left when it died
    done, failed

Optuna's storages hand a waiting trial to one process only. No piece is lost: who finds nothing waiting takes over what
is marked as running by a process of the same host that is no more; a run that was begun goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from metanas.api.journal import open_database, open_shared_journal, storage_trouble
from metanas.errors import RecipeError, RunError
from metanas.run import Holder, is_alive
from metanas.run.lock import this_process

if TYPE_CHECKING:
    import optuna

T = TypeVar("T")
CELL, HOLDER, REASON = "cell", "holder", "reason"
PATIENCE = (0.2, 0.5, 1.0, 2.0)
"""Seconds between attempts to open what another process is making."""


class Cells:
    """A queue in a study; `names` are the pieces of work.

    Args:
        storage: a URL as Optuna takes it; None: a journal file in `folder`, for processes of one host.
        study: its name there.

    Raises:
        RecipeError: a storage that cannot be opened.
    """

    def __init__(self, names: Sequence[str], folder: Path, storage: str | None, study: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.names, self.where = tuple(names), storage or str(folder / "study.journal")
        try:
            self.database = None if storage is None else _patiently(lambda: open_database(storage))
            opened = self.database or open_shared_journal(Path(self.where))
            self.study = _patiently(
                lambda: optuna.create_study(storage=opened, study_name=study, direction="maximize", load_if_exists=True)
            )
        except Exception as error:  # whatever a database's driver raises
            line = str(error).partition("\n")[0]
            raise RecipeError([f"storage: {self.where} cannot be opened ({line}); give a URL as Optuna does"]) from None

    def close(self) -> None:
        """Lets go of the database."""
        if self.database is not None:
            self.database.remove_session()
            self.database.engine.dispose()

    def fill(self) -> None:
        """Every piece that is not there yet waits, and so does one that failed before."""
        from optuna.trial import TrialState

        known = {_cell(trial) for trial in self._trials() if trial.state != TrialState.FAIL}
        for name in self.names:
            if name not in known:
                self.study.enqueue_trial({CELL: name}, user_attrs={CELL: name})

    def claim(self) -> tuple[optuna.Trial, str] | None:
        """A piece of work that is this process's now; None: there is none that waits or was left."""
        from optuna.trial import Trial, TrialState

        while any(trial.state == TrialState.WAITING for trial in self._trials()):
            trial = self.study.ask()
            name = trial.user_attrs.get(CELL)
            if name is None:  # another process was quicker, and Optuna made a new one
                self.study.tell(trial, state=TrialState.FAIL)
            elif self._twins(trial.number, name):  # two processes filled the queue at once
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                trial.set_user_attr(HOLDER, asdict(this_process()))
                return trial, name
        for left in self._trials():
            if left.state == TrialState.RUNNING and _cell(left) is not None and _left(left):
                trial = Trial(self.study, left._trial_id)
                trial.set_user_attr(HOLDER, asdict(this_process()))
                return trial, str(_cell(left))
        return None

    def done(self, trial: optuna.Trial, value: float, facts: Mapping[str, Any]) -> None:
        """It has a value, which is finite, and facts."""
        for name, fact in facts.items():
            trial.set_user_attr(name, fact)
        self.study.tell(trial, value)

    def failed(self, trial: optuna.Trial, reason: str) -> None:
        """It has none, and why."""
        from optuna.trial import TrialState

        trial.set_user_attr(REASON, reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def results(self) -> dict[str, tuple[float, dict[str, Any]]]:
        """Name -> (value, facts) of what is done."""
        from optuna.trial import TrialState

        rows: dict[str, tuple[float, dict[str, Any]]] = {}
        for trial in self._trials():
            name = _cell(trial)
            if name in self.names and trial.state == TrialState.COMPLETE and trial.value is not None:
                rows.setdefault(name, (trial.value, dict(trial.user_attrs)))
        return rows

    def reasons(self) -> Counter[str]:
        """Why pieces failed for which there is no value, and how many of them."""
        last = {_cell(trial): str(trial.user_attrs[REASON]) for trial in self._trials() if REASON in trial.user_attrs}
        done = self.results()
        return Counter(reason for cell, reason in last.items() if cell not in done)

    def at_work(self) -> int:
        """How many pieces other processes have in hand."""
        from optuna.trial import TrialState

        return sum(trial.state == TrialState.RUNNING and _cell(trial) is not None for trial in self._trials())

    @contextlib.contextmanager
    def trouble(self) -> Iterator[None]:
        """Whatever the storage raises while it is used, in one line."""
        try:
            yield
        except Exception as error:
            line = storage_trouble(error)
            if line is None:
                raise
            raise RunError(
                f"storage: {self.where} does not answer ({line}); see that it is there and that no other process holds "
                "it, then give the same command again"
            ) from error

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _twins(self, number: int, name: str) -> bool:
        """Whether the piece has an older trial, which counts."""
        from optuna.trial import TrialState

        older = [trial for trial in self._trials() if trial.number < number and _cell(trial) == name]
        return any(trial.state != TrialState.FAIL for trial in older)


def _patiently(make: Callable[[], T]) -> T:
    """What `make` gives; once more where another process was just making the same tables or the same study."""
    for seconds in PATIENCE:
        try:
            return make()
        except Exception as error:
            if not any(word in str(error).lower() for word in ("already exists", "duplicate", "integrityerror")):
                raise
            time.sleep(seconds)
    return make()


def _cell(trial: optuna.trial.FrozenTrial) -> str | None:
    found = trial.user_attrs.get(CELL)
    return found if isinstance(found, str) else None


def _left(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether the process that had it is known to be no more; of another host that cannot be known."""
    said = trial.user_attrs.get(HOLDER)
    if not isinstance(said, Mapping):
        return False  # just claimed
    return is_alive(Holder(str(said.get("host")), int(said.get("pid", 0)), str(said.get("start", "")))) is False
