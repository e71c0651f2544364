"""Faults of the disk, of the numbers and of the installation, as the user of `metanas.search` meets them."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch

import metanas
from metanas.api.requirements import INSTALL, OLDEST, require_torch
from metanas.controllers import Darts
from metanas.errors import (
    CheckpointError,
    DataError,
    DivergedError,
    InterruptedSearchError,
    MissingDependencyError,
    RunError,
    SpaceError,
)
from metanas.run import EventWriter, ask
from metanas.run.checkpoints import load
from metanas.space import Architecture, Edge, Graph, Node, Space, chain, from_networkx, one_of, op
from metanas.ui import read
from metanas.ui.plain import lines
from metanas.ui.units import duration

Quick = Callable[..., Any]


@contextlib.contextmanager
def stopping(folder: Path) -> Iterator[None]:
    """A view that asks the run to stop as soon as it has begun."""
    ask(folder, "stop")
    yield


def stopped(quick: Quick, **arguments: Any) -> metanas.api.Run:
    with pytest.raises(InterruptedSearchError):
        quick(run="first", view=stopping, **arguments)
    return metanas.load_run("first")


# Disk


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the system says EFBIG, as it says ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_leaves_the_old_checkpoint(quick: Quick, images: Any) -> None:
    run = stopped(quick)
    before = load(run.folder.checkpoints)
    size = min(path.stat().st_size for path in run.folder.checkpoints.iterdir()) - 1
    with full_disk(size), pytest.raises(RunError, match=r"disk full: cannot write .*free some space, then resume"):
        run.resume(data=images)
    after = load(run.folder.checkpoints)
    assert after.step >= before.step and not after.warnings
    result = run.resume(data=images)
    assert result.found == quick(run="straight").found


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, who may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_place_is_refused_before_training(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(run="warm", epochs=1)  # what is loaded when it is first used, nobody may not be able to read
    monkeypatch.setenv("METANAS_RUNS", "/usr/metanas-runs")
    with as_nobody(), pytest.raises(RunError, match=r"cannot create .*/usr/metanas-runs.*; check the permissions"):
        quick(view=lambda _: pytest.fail("training began"))
    assert not Path("/usr/metanas-runs").exists()


def test_a_folder_removed_during_the_run_stops_it(quick: Quick) -> None:
    @contextlib.contextmanager
    def removing(folder: Path) -> Iterator[None]:
        shutil.rmtree(folder)
        yield

    with pytest.raises(RunError, match="may have been removed or moved"):
        quick(run="first", view=removing)
    assert not Path("runs/first").exists()


# Numbers


def test_a_loss_that_is_not_finite_is_masked_and_then_named(quick: Quick) -> None:
    calls = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.nn.functional.cross_entropy(outputs, targets) * (torch.nan if len(calls) > 3 else 1.0)

    with pytest.raises(DivergedError, match=r"step \d+: .*not finite.*lower lr"):
        quick(run="first", loss=loss, epochs=20, settings={"checkpoint_seconds": 0})
    run = metanas.load_run("first")
    assert run.status == "failed" and run.events()[-1]["message"].startswith("step ")
    steps = [e for e in run.events() if e["kind"] == "step"]
    assert steps[-1]["skipped"] > 0 and steps[-1]["inner_loss_is"] == "nan"
    state = load(run.folder.checkpoints).tree["state"]["search"]
    for part in ("theta", "omega"):
        assert all(bool(x.isfinite().all()) for x in state[part].values())


@dataclass(frozen=True, kw_only=True)
class Nothing(Darts):
    """Derives the cell that has no path."""

    def derive(self, space: Space, omega: Any, *, evaluate: Any, generator: torch.Generator) -> Architecture:
        return Architecture({name: "none" for name in omega})


def test_a_cell_without_a_path_trains_and_is_said(quick: Quick) -> None:
    result = quick("nasbench201", controller=Nothing(), settings={"space.options.channels": 2})
    assert set(result.architecture.values()) == {("none",)} and result.test_accuracy >= 0
    said = [e for e in metanas.load_run(result.run).events() if e["kind"] == "log"]
    assert [e["level"] for e in said] == ["warning"] and "has no path from its input to its output" in said[0][
        "message"
    ]


# Clock


def test_a_clock_that_jumps_back(quick: Quick, images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every look the wall clock is an hour earlier: durations are those of a clock that does not know it."""
    looks, began = [time.time()], time.monotonic()

    def earlier() -> float:
        looks.append(looks[-1] - 3600)
        return looks[-1]

    monkeypatch.setattr(time, "time", earlier)
    defaults = dict(EventWriter.__init__.__kwdefaults__ or {})  # bound before time.time was replaced
    monkeypatch.setattr(EventWriter.__init__, "__kwdefaults__", defaults | {"wall_clock": earlier})
    run = stopped(quick)
    result = run.resume(data=images)
    spent = time.monotonic() - began
    assert 0 < result.search_seconds < spent and 0 < result.train_seconds < spent
    events = run.events()
    elapsed = [event["elapsed"] for event in events]
    assert elapsed == sorted(elapsed) and 0 <= elapsed[0] and elapsed[-1] < spent
    assert len(looks) > 10 and events[-1]["at"] < events[0]["at"] - 9 * 3600, "the clock did jump"
    state = read(run.path)
    assert state.status == "finished" and state.elapsed == elapsed[-1]
    assert lines(events[-1], state)[0].startswith(f"first: finished after {duration(elapsed[-1])}")


# Files from elsewhere


class Bomb:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("name", ["checkpoints", "network.safetensors"])
def test_a_pickle_is_never_executed(quick: Quick, images: Any, name: str) -> None:
    run = stopped(quick)
    if name == "checkpoints":
        for path in run.folder.checkpoints.iterdir():
            path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CheckpointError, match="no usable checkpoint"):
            run.resume(data=images)
    else:
        run.resume(data=images)
        run.folder.file(name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CheckpointError, match="a pickle can run code"):
            run.result()
    assert not Path("exploded").exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert Path("exploded").exists(), "the bomb works"


# Spaces and data


def test_an_unknown_operation(quick: Quick, runs: Path) -> None:
    with pytest.raises(SpaceError, match=r"body\.a: unknown operation 'spearable'; did you mean \"separable\"\?"):
        quick(Space(chain(("body", one_of("body", {"a": op("spearable"), "b": op("skip")})))))
    assert not runs.exists()


def test_graphs_that_cannot_be() -> None:
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "b")])
    with pytest.raises(SpaceError, match=r"b.*c|c.*b"):
        from_networkx(graph)
    with pytest.raises(SpaceError, match="the graph is empty"):
        from_networkx(nx.DiGraph())
    edges = (Edge("x", op("skip")),)
    with pytest.raises(SpaceError, match="names used twice in one graph: y"):
        Space(Graph(("x",), (Node("y", edges), Node("y", edges)), "y"))


def test_data_that_cannot_be(quick: Quick, images: Any, runs: Path) -> None:
    x, y = images
    for source, said in [
        ((x[:0], y[:0]), "train is empty (0 images)"),
        ((x, y * 0), "all 160 labels are 0: at least 2 classes are needed"),
        ((x, y - 1), "80 of 160 train labels are out of range"),
        ((x.clone().index_fill_(0, torch.tensor([3]), torch.nan), y), "36 NaN and 0 infinite pixels in 1 of 160"),
        ((x[:, 0, 0, 0], y), "got (160,)"),
        ({"inner": (x[:80], y[:80]), "outer": (x[40:120], y[40:120]), "test": (x[120:], y[120:])}, "40"),
    ]:
        with pytest.raises(DataError) as caught:
            quick(data=source)
        assert said in str(caught.value)
    assert not runs.exists()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a\0b", "a" * 256, "", ".", "a b", "\x1b[31m", "a/../b"])
def test_run_names_that_cannot_be(quick: Quick, runs: Path, name: str) -> None:
    with pytest.raises(RunError, match="is not allowed"):
        quick(run=name)
    with pytest.raises(RunError, match="is not allowed"):
        metanas.load_run(name)
    assert not runs.exists()


# Installation


def test_an_old_or_missing_torch_says_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    require_torch()
    monkeypatch.setattr(torch, "__version__", "2.10.0+cpu")
    with pytest.raises(MissingDependencyError) as caught:
        require_torch()
    assert str(caught.value) == 'metanas needs torch >= 2.11, found 2.10.0+cpu: pip install "torch>=2.11,<2.14"'
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"metanas needs torch .*: pip install"):
        require_torch()
    with pytest.raises(MissingDependencyError, match=r"metanas needs torch .*: pip install"):
        _ = metanas.search
    assert metanas.search_by_value, "which needs none"


def test_the_command_is_the_packages_own_requirement() -> None:
    project = tomllib.loads((Path(metanas.__file__).parent.parent / "pyproject.toml").read_text())["project"]
    (needed,) = (line for line in project["dependencies"] if line.startswith("torch"))
    assert INSTALL == f'pip install "{needed}"' and f">={'.'.join(map(str, OLDEST))}" in needed
    assert metadata.version("metanas") == project["version"] == metanas.__version__


def test_a_missing_extra_says_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scikit-learn>=1\.5,<2"'):
        metanas.search(data="digits")


def test_the_norm_of_every_hypergradient_is_in_the_log(quick: Quick) -> None:
    result = quick(settings={"search.warmup": 1, "search.outer_clip": 0.01})
    rows = [e for e in metanas.load_run(result.run).events() if e["kind"] == "step"]
    norms = [row["outer_gradient_norm"] for row in rows]
    assert norms[0] is None and all(norm > 0 for norm in norms[len(rows) // 2 :])
