"""A run that another terminal has only just started is waited for, a little."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metanas.cli import waiting
from metanas.cli.app import app
from metanas.cli.waiting import PATIENCE, PERIOD, wait_for

MISSING = "error: there is no run and no folder 'first'; metanas runs lists the runs\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; nothing is waited for longer than 0.3 s."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("METANAS_RUNS", raising=False)
    monkeypatch.setattr(waiting, "PATIENCE", 0.3)
    monkeypatch.setattr(waiting, "PERIOD", 0.01)
    return tmp_path / "runs"


def took(run: str) -> float:
    began = time.monotonic()
    wait_for(run)
    return time.monotonic() - began


def test_about_two_seconds_in_few_looks() -> None:
    assert PATIENCE == 2.0 and PATIENCE / PERIOD <= 20


def test_what_is_there_or_cannot_come_is_not_waited_for(root: Path) -> None:
    (root / "first").mkdir(parents=True)
    (root / "first" / "recipe.json").touch()
    assert max(took(name) for name in ("first", "runs/first", "../x", "no\x1b[31m", "elsewhere/first")) < 0.2
    assert took("frist") >= 0.3


@pytest.mark.parametrize("command", ["watch", "ui"])
def test_a_run_that_comes_a_moment_later_is_found(root: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 30.0)

    def begin() -> None:
        (root / "first").mkdir(parents=True)
        time.sleep(0.05)  # the folder is there before what is in it
        (root / "first" / "recipe.json").write_text("{}")
        (root / "first" / "events.jsonl").write_text('{"kind":"end","status":"finished"}\n')

    later = threading.Timer(0.1, begin)
    later.start()
    done = CliRunner().invoke(app, [command, "first"])
    later.join()
    if command == "watch":
        assert (done.exit_code, done.stderr) == (0, "") and "first: finished" in done.stdout
    else:
        assert (
            done.stderr == "error: metanas ui needs a terminal that it can draw on; elsewhere use metanas show first\n"
        )


def test_one_that_does_not_come_is_missing_as_before(root: Path) -> None:
    assert CliRunner().invoke(app, ["ui", "first"]).stderr == MISSING
    done = CliRunner().invoke(app, ["watch", "first"])
    assert (done.exit_code, done.stderr) == (1, "error: there is no run at runs/first; metanas search makes one\n")
