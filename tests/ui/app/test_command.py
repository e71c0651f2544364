"""The command: what it opens, and what it says where it cannot."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from metanas.cli import interactive
from metanas.cli.interactive import places
from metanas.errors import RunError
from metanas.ui import app as application

NEEDS = "error: metanas ui needs a terminal that it can draw on; elsewhere use"


@pytest.fixture(autouse=True)
def here(three_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is that in which `runs` is."""
    monkeypatch.chdir(three_runs.parent)
    monkeypatch.delenv("METANAS_RUNS", raising=False)


def told(*arguments: str) -> tuple[int, str]:
    command = typer.Typer()
    command.command()(interactive.ui)
    done = CliRunner().invoke(command, arguments)
    return done.exit_code, done.output


def test_what_an_argument_opens(three_runs: Path, tmp_path: Path) -> None:
    assert places(None) == (Path("runs"), None)
    for name in ("first", "runs/first", "runs/first/"):
        assert places(name) == (Path("runs"), Path("runs/first"))
    assert places("runs") == (Path("runs"), None)
    three_runs.rename(tmp_path / "copied")
    assert places("copied") == (Path("copied"), None)
    assert places("copied/first") == (tmp_path / "copied", Path("copied/first"))
    with pytest.raises(RunError, match=r"^there is no run and no folder 'runs'; metanas runs lists the runs$"):
        places("runs")


def test_without_a_terminal_it_says_what_to_use() -> None:
    assert told("first") == (1, f"{NEEDS} metanas show first\n")
    assert told("runs") == (1, f"{NEEDS} metanas runs, or metanas show RUN\n")
    assert told() == (1, f"{NEEDS} metanas runs, or metanas show RUN\n")


def test_a_name_that_is_none_is_shown_inert() -> None:
    assert told("no\x1b[31m") == (
        1,
        "error: there is no run and no folder 'no\\x1b[31m'; metanas runs lists the runs\n",
    )


class Terminal(io.StringIO):
    encoding = "cp1252"

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_starts_in_letters_that_the_terminal_has(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(application, "start", lambda *where, **how: started.append((where, how)))
    monkeypatch.setenv("TERM", "xterm")
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, Terminal())
    interactive.ui("first")
    assert started == [((Path("runs"), Path("runs/first")), {"ascii_only": True})]
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(typer.Exit):
        interactive.ui("first")
    assert sys.stderr.getvalue() == f"{NEEDS} metanas show first\n"


def test_the_help_of_the_command_needs_no_textual() -> None:
    import subprocess

    code = "import sys, metanas.cli.interactive, metanas.ui; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
