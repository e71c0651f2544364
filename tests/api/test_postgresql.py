"""A comparison whose runs are shared on PostgreSQL: a real server, started for the test."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

import metanas
from metanas.api.cells import Cells
from metanas.errors import RecipeError
from metanas.recipe import ValueRecipe


def compared(recipe: Any, *controllers: str, **changes: Any) -> metanas.api.Comparison:
    return metanas.compare_controllers(recipe, controllers, **{"budget": 80, "run": "mine", "seeds": 3, **changes})


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database of a server that runs while the tests do."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not found or shutil.which("runuser") is None or os.getuid() != 0:
        pytest.skip("needs PostgreSQL, and root to start it as its own user")
    pytest.importorskip("pg8000", reason="needs metanas[postgresql]")
    binaries, folder = Path(found[-1]).parent, Path("/tmp/metanas-postgres")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o777)
    shutil.chown(folder, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ["runuser", "-u", "postgres", "--"]
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*server, binaries / "initdb", "-D", folder / "data", "-A", "trust", "-U", "metanas"], **quiet)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    control = [*server, binaries / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
    subprocess.run([*control, "-o", options, "start"], **quiet)
    yield f"postgresql+pg8000://metanas@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(folder, ignore_errors=True)


def test_two_processes_share_a_comparison_on_postgresql(
    runs: Path, recipe: ValueRecipe, postgres: str, tmp_path: Path
) -> None:
    alone = compared(recipe, "evolution", run="alone", seeds=4)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    words = ["compare-controllers", "--recipe=recipe.toml", "--controllers=evolution", "--budget=80", "--seeds=4"]
    command = [sys.executable, "-m", "metanas", *words, "--run=shared", f"--storage={postgres}"]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=240) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    lines = [line for out, _ in outputs for line in out.splitlines() if "searched for" in line]
    assert sorted(line.partition(":")[0] for line in lines) == sorted(
        f"{c} {s}" for c in ("evolution", "random") for s in range(4)
    )
    found = compared(recipe, "evolution", run="shared", seeds=4, storage=postgres)
    assert found.rows == alone.rows and found.scores == alone.scores and found.missing == 0
    with contextlib.closing(Cells((), tmp_path, postgres, "shared")) as queue:
        assert sum(t.state == TrialState.COMPLETE for t in queue.study.trials) == 8


def test_a_server_that_is_not_there_is_one_line(runs: Path, recipe: ValueRecipe) -> None:
    pytest.importorskip("pg8000", reason="needs metanas[postgresql]")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RecipeError, match=r"storage: postgresql\+pg8000.* cannot be opened") as error:
        compared(recipe, storage=f"postgresql+pg8000://metanas@127.0.0.1:{port}/nothing")
    assert "\n" not in str(error.value)
