"""How a command ends: errors as lines on standard error and an exit status; the traceback only with --debug.

0     done
1     an error of the library, of the data, of the disk
2     wrong arguments
130   Ctrl-C (143: SIGTERM), with a checkpoint
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from metanas.errors import InterruptedSearchError, MetanasError, RecipeError
from metanas.ui import inert


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with errors as lines. `METANAS_DEBUG=1` or `metanas --debug` lets the traceback through."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except InterruptedSearchError as stop:
            say(str(stop))
            raise typer.Exit(0 if stop.signal is None else 128 + stop.signal) from None
        except MetanasError as error:
            if os.environ.get("METANAS_DEBUG"):
                raise
            for line in error.problems if isinstance(error, RecipeError) else [str(error)]:
                say(f"error: {line}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            say("stopped at once; what was not in a checkpoint is lost")
            raise typer.Exit(130) from None

    return run


def say(line: str) -> None:
    """One line on standard error, with nothing in it that a terminal would obey."""
    plain = (getattr(sys.stderr, "encoding", None) or "ascii").lower() not in ("utf-8", "utf8")
    print(inert(line, ascii_only=plain), file=sys.stderr)
