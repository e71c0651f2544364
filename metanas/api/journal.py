"""Where studies of Optuna's are kept: `study.journal` in a run folder, opened by any tool that knows Optuna, or a
database.

    optuna-dashboard runs/first/study.journal
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.journal"
BUSY_SECONDS = 30.0
"""How long SQLite tries again, ever more rarely, where another process holds the database."""


def open_journal(path: Path) -> optuna.storages.BaseStorage:
    """The storage, which is made where it is not there; for the process that holds the run's lock.

    A last line that was not written whole is cut off, or the next one would go on with it; a lock on the journal is
    that of a writer who was killed, since the run itself is locked.
    """
    Path(f"{path}.lock").unlink(missing_ok=True)
    return open_shared_journal(path)


def open_shared_journal(path: Path) -> optuna.storages.BaseStorage:
    """The storage for several processes, which write in turns; a torn last line is cut off while none of them does."""
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

    lock = JournalFileOpenLock(str(path))
    lock.acquire()
    try:
        if path.exists():
            data = path.read_bytes()
            if not data.endswith(b"\n"):
                os.truncate(path, data.rfind(b"\n") + 1)
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock))


def open_database(url: str) -> optuna.storages.RDBStorage:
    """A database by its URL; an SQLite file waits `BUSY_SECONDS` for who holds it."""
    import optuna

    if not url.startswith("sqlite"):
        return optuna.storages.RDBStorage(url)
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})


def storage_trouble(error: Exception) -> str | None:
    """What a storage has to say of an error that came out of its use, in one line; None: the error is not its own."""
    import optuna

    own = isinstance(error, optuna.exceptions.StorageInternalError)
    if not own and not type(error).__module__.startswith("sqlalchemy."):  # it lets some of its driver's through
        return None
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", None) or cause).partition("\n")[0]
