"""The journal of Optuna that a run folder holds: `study.journal`, one writer, opened by any tool that knows Optuna.

optuna-dashboard runs/first/study.journal
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.journal"


def open_journal(path: Path) -> optuna.storages.BaseStorage:
    """The storage, which is made where it is not there; for the process that holds the run's lock.

    A last line that was not written whole is cut off, or the next one would go on with it; a lock on the journal is
    that of a writer who was killed, since the run itself is locked.
    """
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

    Path(f"{path}.lock").unlink(missing_ok=True)
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
