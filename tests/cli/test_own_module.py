"""A file that makes a module with choices marked in it, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from metanas.cli.app import app

FILE = """
import metanas
from torch import nn

RECIPE = {"search.epochs": 1, "search.batch_size": 360, "evaluation.epochs": 1, "evaluation.random": 0}


def space(width=8):
    chosen = metanas.choose.size("width", (width // 2, width))
    act = metanas.choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})
    return nn.Sequential(nn.Flatten(), nn.Linear(64, chosen), act, nn.Linear(chosen, 10))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("METANAS_RUNS", raising=False)
    (tmp_path / "net.py").write_text(FILE, encoding="utf-8")
    return tmp_path


def said(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done.output


def test_search_read_and_export(folder: Path) -> None:
    assert said("spaces", "net.py").startswith("net: 4 architectures, 2 choices")
    options = ("--set", "space.options.width=4", "--set", "device=cpu", "--set", "threads=1")
    assert "accuracy" in said("search", "net.py", *options, "--run", "a", "--plain")
    assert (folder / "runs" / "a" / "module.safetensors").is_file()
    assert "width" in said("show", "a")
    out = ("--to", "out", "--format", "json", "--format", "safetensors")
    assert "hand it over again" in said("export", "a", *out, code=1)
    assert "network.safetensors" in said("export", "a", *out, "--module", "net.py")
    assert "already finished" in said("resume", "a", "--module", "net.py")


@pytest.mark.long
def test_the_seed_decides_the_weights(folder: Path) -> None:
    quick = ("--set", "device=cpu", "--set", "threads=1", "--plain")
    for run, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        said(
            "search",
            "net.py",
            "--controller",
            "random",
            "--set",
            "search.budget=1",
            *quick,
            "--seed",
            seed,
            "--run",
            run,
        )
    one, same, other = ((folder / "runs" / run / "module.safetensors").read_bytes() for run in "abc")
    assert one == same != other


def test_what_is_no_module_is_refused(folder: Path) -> None:
    (folder / "three.py").write_text("def space(): return 3", encoding="utf-8")
    assert "space() must return a Space or a module, got int" in said("search", "three.py", code=1)


def test_a_step_is_timed_without_the_fused_executor(folder: Path) -> None:
    words = ("bench", "net.py", "--image", "1x8x8", "--batch-size", "4", "--repeats", "1", "--device", "cpu")
    lines = said(*words, "--threads", "1", "--set", "width=4").splitlines()
    assert lines[0].startswith("net, 1x8x8, batches of 4; CPU") and [line.split()[0] for line in lines[2:]] == [
        "per",
        "plain",
    ]
    assert "the module gives (10,) for inputs (1, 8, 8); to be timed it gives (3,)" in said(
        *words, "--classes", "3", code=1
    )


def test_what_goes_on_with_a_run_names_the_file(folder: Path) -> None:
    words = ("--set", "device=cpu", "--set", "threads=1", "--plain", "--run", "a")
    said("search", "net.py", *words)
    assert "exists; resume it (metanas resume a --module net.py)" in said("search", "net.py", *words, code=1)
