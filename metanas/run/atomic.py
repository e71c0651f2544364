"""Files that are there whole or not at all: temporary name in the same folder, fsync, rename, fsync of the folder.

A reader never sees half a file, a kill at any moment leaves the old one, and so does a full disk.  JSON is strict:
`NaN` is no JSON, so a number that is not finite is written as null with its kind beside it (`finite`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from metanas.errors import RunError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}


@contextlib.contextmanager
def explained(path: Path, doing: str = "write") -> Iterator[None]:
    """Turns an OSError of the body into one RunError that names `path`, the cause and the way out.

    >>> with explained(Path("/nonexistent/a.json")):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    ...
    metanas.errors.RunError: disk full: cannot write /nonexistent/a.json; what was there before is intact; \
free some space, then resume
    """
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        if error.errno in _FULL:
            message = f"disk full: cannot {doing} {path}; what was there before is intact; free some space, then resume"
        elif error.errno in _READ_ONLY:
            message = (
                f"cannot {doing} {path}: {cause}; check the permissions of {path.parent}, or choose another folder"
            )
        elif error.errno in _GONE:
            message = f"cannot {doing} {path}: {cause}; {path.parent} may have been removed or moved"
        else:
            message = f"cannot {doing} {path}: {cause}"
        raise RunError(message) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` so that the file holds either its old content or all of the new one.

    Raises RunError when the disk is full or the folder is read-only or gone; `path` is then as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_bytes(Path(folder, "a"), b"all of it")
    ...     Path(folder, "a").read_bytes(), os.listdir(folder)
    (b'all of it', ['a'])
    """
    temporary = path.with_name(f".{path.name[:200]}.{os.urandom(4).hex()}.tmp")
    with explained(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # gone after the rename; if the folder is gone, that error counts
                os.unlink(temporary)
        sync_folder(path.parent)


def write_all(descriptor: int, data: bytes) -> None:
    """`os.write` until everything is written: one call may write less, and does so on a nearly full disk."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` survive a power failure; without it only the file's content would."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> tuple[str, ...]:
    """Removes the temporary files and folders that a killed writer left in `folder`; returns their names.

    Only for the one writer of a run: another writer's temporary file is indistinguishable from a leftover.
    """
    if not folder.is_dir():
        return ()
    with explained(folder):
        names = sorted(name for name in os.listdir(folder) if name.startswith(".") and name.endswith(".tmp"))
        for name in names:
            if os.path.isdir(folder / name) and not os.path.islink(folder / name):
                shutil.rmtree(folder / name)
            else:
                os.unlink(folder / name)
    return tuple(names)


def dump_json(value: object, *, indent: int | None = None) -> str:
    """Strict ASCII JSON.  RunError for what JSON has no word for: NaN, infinity, a tensor, a set.

    ASCII keeps the file inert in a terminal: an escape sequence or a bidirectional mark is written as its code.

    >>> dump_json({"loss": 0.5})
    '{"loss":0.5}'
    """
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(value, allow_nan=False, indent=indent, separators=separators)
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(f"cannot be written as JSON: {error}; metanas.run.finite replaces NaN and infinity") from error


def parse_json(text: str | bytes) -> Any:
    """The value of strict JSON (bytes: UTF-8); ValueError for anything else, `NaN` and bottomless nesting included.

    >>> parse_json('[1, 2.5]')
    [1, 2.5]
    """
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


# made once: json.loads makes one a call, which is three quarters of the time of reading a log of 100,000 lines
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes one JSON object as `write_bytes` does; raises RunError as `dump_json` and `write_bytes` do."""
    write_bytes(path, (dump_json(value, indent=1) + "\n").encode("ascii"))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.  RunError where it is missing, unreadable, damaged or not an object."""
    with explained(path, "read"):
        data = path.read_bytes()
    try:
        value = parse_json(data)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: a JSON object is expected, got {type(value).__name__}")
    return value


def finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` with null for every number that is not finite, and "<field>_is" that says what it was.

    A number inside a list or mapping is replaced too; the note stands beside the outermost field and names the first.

    >>> finite({"loss": float("-inf"), "step": 3})
    {'loss': None, 'loss_is': '-inf', 'step': 3}
    >>> finite({"weights": {"edge": [0.5, float("nan")]}})
    {'weights': {'edge': [0.5, None]}, 'weights_is': 'nan'}
    """
    result: dict[str, Any] = {}
    for name, value in fields.items():
        lost: list[str] = []
        result[name] = _without_lost(value, lost)
        if lost:
            result[f"{name}_is"] = lost[0]
    return result


def _without_lost(value: Any, lost: list[str]) -> Any:
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        lost.append("nan" if math.isnan(value) else "inf" if value > 0 else "-inf")
        return None
    if isinstance(value, Mapping):
        return {key: _without_lost(item, lost) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_lost(item, lost) for item in value]
    return value
