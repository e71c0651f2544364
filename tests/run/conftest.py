"""A small finished-looking run, and a process that is certainly dead."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from metanas.run import EventWriter, RunFolder

RECIPE = {
    "schema": 1,
    "metanas": "0.1.0",
    "created": "2026-01-02T03:04:05+00:00",
    "recipe": {
        "space": {"name": "nasbench201", "options": {}},
        "search": {"controller": "drnas", "epochs": 50},
    },
    "data": {"name": "digits"},
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty folder of runs, also the one that METANAS_RUNS names."""
    monkeypatch.setenv("METANAS_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def make_run(root):
    """(name, end=..., result=...) -> RunFolder with a recipe, a space, three steps and one epoch."""

    def make(name="first", *, end="finished", result=True):
        run = RunFolder.create(name, root=root)
        run.write_recipe(RECIPE)
        run.write_space({"schema": 1, "name": "nasbench201"})
        with EventWriter(run.events) as log:
            log.write("begin", step=0, resumed=False)
            for step in (1, 2, 3):
                log.write("step", step=step, epoch=1, inner_loss=1.0 / step)
            log.write("epoch", epoch=1, epochs=50, step=3, key="|nor_conv_3x3~0|")
            if end is not None:
                log.write("end", status=end, message="")
        if result:
            run.write_result({"schema": 1, "key": "|none~0|", "test_score": 0.99, "epochs": 50, "steps": 900})
        return run

    return make


@pytest.fixture
def dead_pid():
    """The pid of a process that has ended and was waited for."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def as_nobody():
    """Runs (function, folder) without root's rights: root writes into read-only folders too."""

    def call(function):
        if os.geteuid() != 0:
            return function()
        os.seteuid(65534)
        try:
            return function()
        finally:
            os.seteuid(0)

    return call


@pytest.fixture
def open_folder():
    """A folder that every user may reach and write (pytest's own are private to one user)."""
    folder = Path(tempfile.mkdtemp(prefix="metanas-"))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)
