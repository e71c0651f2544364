"""How a command ends: errors as lines on standard error and an exit status; the traceback only with --debug.

0     done
1     an error of the library, of the data, of the disk
2     wrong arguments
130   Ctrl-C (143: SIGTERM), with a checkpoint
141   nobody reads standard output any more (`metanas runs | head -1`)
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import typer

from metanas.errors import InterruptedSearchError, MetanasError, RecipeError
from metanas.ui import inert


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with errors as lines. `METANAS_DEBUG=1` or `metanas --debug` lets the traceback through."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with warnings.catch_warnings():  # puts back what is set here
                warnings.showwarning = _warn
                command(*args, **kwargs)
            sys.stdout.flush()  # here, so that a closed pipe is noticed while it can be handled
        except InterruptedSearchError as stop:
            say(str(stop))
            raise typer.Exit(0 if stop.signal is None else 128 + stop.signal) from None
        except KeyboardInterrupt:
            say("stopped at once; a search goes on from its last checkpoint: metanas resume")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
            raise typer.Exit(141) from None
        except Exception as error:
            # typer's own ways to end a command (Exit, wrong arguments) carry an exit code
            if os.environ.get("METANAS_DEBUG") or hasattr(error, "exit_code"):
                raise
            for line in _lines(error):
                say(f"error: {line}")
            raise typer.Exit(1) from None

    return run


def _lines(error: Exception) -> list[str]:
    if isinstance(error, RecipeError):
        return list(error.problems)
    if isinstance(error, MetanasError):
        return [str(error)]
    first = (str(error).splitlines() or ["no reason given"])[0]
    return [f"{type(error).__name__}: {first}; metanas --debug ... shows where"]


def _warn(message: Warning | str, *where: Any, **more: Any) -> None:
    say(f"warning: {message}")


def say(line: str) -> None:
    """One line on standard error, with nothing in it that a terminal would obey."""
    _write(line, sys.stderr)


def put(line: str) -> None:
    """One line on standard output, the same way."""
    _write(line, sys.stdout)


def shown(path: Path) -> str:
    """A path as one would type it here.

    >>> shown(Path.cwd() / "runs" / "first"), shown(Path("/nowhere/first"))
    ('runs/first', '/nowhere/first')
    """
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _write(line: str, stream: TextIO) -> None:
    utf8 = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "") == "utf8"
    print(inert(line, ascii_only=not utf8), file=stream)
