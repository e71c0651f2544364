"""One writer a run: a file that names the process that holds it, by host, pid and the moment that process began.

    acquire:  open lock; flock; read the holder; alive or on another host -> refuse; write myself; unflock
    release:  open lock; flock; still mine -> empty the file; unflock

The holder is what the file says; `flock` only keeps two acquirers apart for that instant.  Holding the flock itself for
the whole run would clean up by itself after a kill, but forked children (data workers) inherit it and keep a dead run
locked, it tells a refused user no name, and some network file systems ignore it.  Making the file with O_EXCL instead
leaves a race when two processes find the same stale file.  The start time tells a living holder from a stranger who got
the same pid later.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import final

from metanas.errors import RunError
from metanas.run.atomic import dump_json, explained, parse_json, write_all

LOCK = "lock"


@dataclass(frozen=True)
class Holder:
    """The process that holds a run: its host, its pid, and when it began ("" where the system does not tell)."""

    host: str
    pid: int
    start: str

    def __str__(self) -> str:
        return f"pid {self.pid} on {ascii(self.host)[1:-1]}"


def this_process() -> Holder:
    """This process as a holder.

    >>> is_alive(this_process())
    True
    """
    return Holder(os.uname().nodename, os.getpid(), _start_of(os.getpid()) or "")


def is_alive(holder: Holder) -> bool | None:
    """Whether that process still runs; None where it cannot be known, because it is on another host.

    >>> is_alive(Holder("another-host", 1, ""))
    """
    if holder.host != os.uname().nodename:
        return None
    if os.path.exists("/proc/self/stat"):
        start = _start_of(holder.pid)
        return start is not None and holder.start in ("", start)
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to somebody else
        return True
    return True


def _start_of(pid: int) -> str | None:
    """Boot and clock tick at which a process began (proc(5), stat, field 22); None where it is gone or a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()  # the command's name before ')' may itself hold spaces
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def read_holder(folder: Path) -> Holder | None:
    """Who holds the run in `folder`, dead or alive; None where it is free or the file cannot be read.

    >>> read_holder(Path("/nonexistent"))
    """
    try:
        return _parse_holder((folder / LOCK).read_bytes())
    except OSError:
        return None


def _parse_holder(data: bytes) -> Holder | None:
    try:
        value = parse_json(data)
        holder = Holder(value["host"], value["pid"], value["start"])
    except (ValueError, TypeError, KeyError):
        return None
    well_formed = isinstance(holder.host, str) and type(holder.pid) is int and isinstance(holder.start, str)
    return holder if well_formed else None


@final
@dataclass(frozen=True)
class Lock:
    """The right to write to a run, from `acquire` to `release`; a context manager too.  `notes` belong into the log."""

    folder: Path
    holder: Holder
    notes: tuple[str, ...] = ()

    @classmethod
    def acquire(cls, folder: Path) -> Lock:
        """Takes the lock of `folder`, over from a dead process if need be (`notes` then says so).

        Raises RunError naming host and pid where a living process, or one on another host, holds it; and where the
        folder is read-only or gone.
        """
        mine = this_process()
        with _opened(folder) as descriptor:
            data = os.pread(descriptor, 4096, 0)
            held = _parse_holder(data)
            if held is not None and is_alive(held) is not False:
                raise RunError(_refusal(folder, held))
            os.ftruncate(descriptor, 0)
            write_all(descriptor, dump_json(asdict(mine)).encode("ascii"))
            os.fsync(descriptor)
        if held is not None:
            return cls(folder, mine, (f"took over the lock of {held}: that process is gone",))
        return cls(folder, mine, ("took over a damaged lock",) if data else ())

    def check(self) -> None:
        """RunError if this lock is no longer held: the folder was removed, or somebody else took the run."""
        held = read_holder(self.folder)
        if held is None:
            raise RunError(f"the lock of {self.folder} is gone: the run folder was removed, or its lock was deleted")
        if held != self.holder:
            raise RunError(f"the run in {self.folder} was taken over by {held}")

    def release(self) -> None:
        """Gives the run back.  Does nothing in a forked child, when the folder is gone, or when the lock was lost."""
        if os.getpid() != self.holder.pid or read_holder(self.folder) != self.holder:
            return
        with _opened(self.folder) as descriptor:
            if _parse_holder(os.pread(descriptor, 4096, 0)) == self.holder:
                os.ftruncate(descriptor, 0)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _refusal(folder: Path, held: Holder) -> str:
    if is_alive(held):
        return f"{folder} is in use by {held}; wait for it or stop it"
    return f"{folder} is in use by {held}; if that process is gone, delete {folder / LOCK}"


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """The open lock file, alone for as long as the body runs; closing it gives the flock back."""
    with explained(folder / LOCK):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # a file system without flock leaves only a race of milliseconds between two starts: no reason to refuse
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)
