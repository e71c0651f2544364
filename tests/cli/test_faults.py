"""Faults as the user of the command meets them: real processes, real signals, real files; one line and a status."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from metanas.run import read_events
from metanas.run.checkpoints import _digest, load, save

SMALL = [
    "--threads=1", "--device=cpu", "--epochs=4", "--plain", "--set=space.options.channels=2", "--set=data.inner=64",
    "--set=data.outer=64", "--set=data.test=40", "--set=search.batch_size=32", "--set=search.monitor=32",
    "--set=search.warmup=0", "--set=evaluation.epochs=1", "--set=evaluation.random=0", "--set=checkpoint_seconds=0",
]  # fmt: skip
MEASURED = ("seconds", "search_seconds", "train_seconds")


def outcome(run: Path) -> dict[str, Any]:
    result = json.loads((run / "result.json").read_text())
    return {key: value for key, value in result.items() if key not in MEASURED}


@pytest.fixture(scope="module")
def whole(commands: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    job = commands.run(["search", *SMALL, "--run=first"], folder)
    assert job.code == 0, job.errors
    return folder / "runs/first"


@pytest.fixture(scope="module")
def cut(commands: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, stopped by SIGTERM in its search; not to be changed."""
    folder = tmp_path_factory.mktemp("cut")
    job = commands.start(["search", *SMALL, "--run=first"], folder)
    job.until(lambda: len(list((folder / "runs/first/checkpoints").glob("*.json"))) == 2)
    job.kill(signal.SIGTERM)
    assert job.wait() == 143
    return folder / "runs/first"


@pytest.fixture
def run(cut: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run, to be damaged."""
    return Path(shutil.copytree(cut, tmp_path / "runs/first"))


def begun(run: Path, pid: int) -> bool:
    """Whether that process has the run and goes on with it: it is past the instant in which it takes the lock."""
    return f'"pid":{pid},'.encode() in (run / "events.jsonl").read_bytes()


def refusal(commands: Any, arguments: list[str], folder: Path, env: dict[str, str] | None = None) -> str:
    job = commands.run(arguments, folder, env)
    assert job.code == 1 and job.errors.startswith("error: ") and job.errors.count("\n") == 1, job.errors
    return str(job.errors)


def signed(manifest: Path, **changes: Any) -> None:
    """Changes a checkpoint's JSON, with a hash that holds."""
    body = {key: value for key, value in json.loads(manifest.read_text()).items() if key != "sha256"} | changes
    manifest.write_text(json.dumps({**body, "sha256": _digest(body)}))


# Row 4: a full disk


def test_a_disk_that_fills_up_in_the_search(commands: Any, tmp_path: Path, whole: Path) -> None:
    """From some moment on, no file of the process may grow beyond what a checkpoint needs."""
    run = tmp_path / "runs/first"
    job = commands.start(["search", *SMALL, "--run=first"], tmp_path)
    job.until(lambda: len(list((run / "checkpoints").glob("*.json"))) == 2)
    size = min(path.stat().st_size for path in (run / "checkpoints").iterdir()) - 1
    resource.prlimit(job.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    assert job.wait() == 1
    assert job.errors.startswith("error: disk full: cannot write ") and job.errors.count("\n") == 1
    assert job.errors.endswith("; what was there before is intact; free some space, then resume\n")
    assert load(run / "checkpoints").warnings == () and not list(run.rglob(".*.tmp"))
    again = commands.run(["resume", "first", "--plain"], tmp_path)
    assert again.code == 0, again.errors
    assert outcome(run) == outcome(whole)


# Row 6: two trainers


def test_a_second_trainer_is_refused_and_the_first_goes_on(commands: Any, run: Path, whole: Path) -> None:
    folder = run.parent.parent
    first = commands.start(["resume", "first", "--plain"], folder)
    first.until(lambda: begun(run, first.pid))
    first.kill(signal.SIGSTOP)  # it holds the run for as long as the others need
    try:
        said = refusal(commands, ["resume", "first", "--plain"], folder)
        assert f"is in use by pid {first.pid} on {os.uname().nodename}; wait for it or stop it" in said
        assert "runs/first exists" in refusal(commands, ["search", *SMALL, "--run=first"], folder)
    finally:
        first.kill(signal.SIGCONT)
    assert first.wait() == 0, first.errors
    assert outcome(run) == outcome(whole)


@pytest.mark.parametrize("holder", ["dead", "reused"])
def test_a_stale_lock_is_taken_over_and_logged(commands: Any, run: Path, whole: Path, holder: str) -> None:
    """The pid of nobody, and the pid of a stranger who began at another time."""
    if holder == "dead":
        process = subprocess.Popen(["true"])
        process.wait()
        pid = process.pid
    else:
        pid = os.getpid()
    (run / "lock").write_text(json.dumps({"host": os.uname().nodename, "pid": pid, "start": "another-boot/1"}))
    job = commands.run(["resume", "first", "--plain"], run.parent.parent)
    assert job.code == 0, job.errors
    note = f"took over the lock of pid {pid} on {os.uname().nodename}: that process is gone"
    assert f"warning: {note}" in job.output
    assert note in [event.get("message") for event in read_events(run / "events.jsonl").events]
    assert outcome(run) == outcome(whole)


# Row 8: other versions


def test_a_checkpoint_of_a_newer_version(commands: Any, run: Path) -> None:
    for manifest in (run / "checkpoints").glob("*.json"):
        signed(manifest, schema=2, needs="0.9.1")
    assert "needs metanas >= 0.9.1" in refusal(commands, ["resume", "first"], run.parent.parent)


@pytest.mark.parametrize("name", ["recipe.json", "space.json"])
def test_a_run_of_a_newer_version_is_refused_but_still_shown(commands: Any, run: Path, name: str) -> None:
    document = json.loads((run / name).read_text())
    (run / name).write_text(json.dumps(document | {"schema": 7, "metanas": "0.9.1", "needs": "0.9.1"}))
    folder = run.parent.parent
    assert f"{name} needs metanas >= 0.9.1" in refusal(commands, ["resume", "first"], folder)
    for command in (["show", "first"], ["runs"]):
        job = commands.run(command, folder)
        assert job.code == 0 and "first" in job.output, job.errors


def test_a_run_that_did_not_know_a_setting_yet_goes_on_with_its_default(commands: Any, run: Path, whole: Path) -> None:
    document = json.loads((run / "recipe.json").read_text())
    del document["recipe"]["precision"], document["recipe"]["search"]["clip"]
    (run / "recipe.json").write_text(json.dumps(document))
    found = load(run / "checkpoints")
    del found.tree["identity"]["precision"], found.tree["identity"]["search"]["clip"]
    save(run / "checkpoints", found.step, found.tree, found.event_offset)
    job = commands.run(["resume", "first", "--plain"], run.parent.parent)
    assert job.code == 0, job.errors
    assert outcome(run) == outcome(whole)


def test_a_checkpoint_that_lacks_what_this_version_needs(commands: Any, run: Path) -> None:
    found = load(run / "checkpoints")
    for tree in ({"phase": "refine", "steps": 1, "start": {}}, {"phase": "dreaming"}):
        save(run / "checkpoints", found.step, {**found.tree, "state": tree}, found.event_offset)
        said = refusal(commands, ["resume", "first"], run.parent.parent)
        assert "the checkpoint does not hold " in said and "resume it with that version, or start a new run" in said
        assert ("refinement, supernet" in said) == (tree["phase"] == "refine")


# Row 10: another device


def test_another_device_is_allowed_and_said_to_be_not_bit_exact(commands: Any, run: Path, whole: Path) -> None:
    document = json.loads((run / "recipe.json").read_text())
    document["versions"]["device"] = document["recipe"]["device"] = "mps"
    (run / "recipe.json").write_text(json.dumps(document))
    job = commands.run(["resume", "first", "--device=cpu", "--plain"], run.parent.parent)
    assert job.code == 0, job.errors
    assert "warning: device was mps, is cpu: the result need not be bit-exact" in job.output
    assert (run / "result.json").exists()


# Row 20: weights that do not fit


def test_every_weight_that_does_not_fit_is_listed(commands: Any, whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "runs/first")
    tensors = safetensors.torch.load((run / "network.safetensors").read_bytes())
    matrix, gone, *_ = (name for name, tensor in tensors.items() if tensor.dim() > 1)
    tensors[matrix], tensors["more"] = torch.ones(1, 2), torch.ones(3)
    del tensors[gone]
    (run / "network.safetensors").write_bytes(safetensors.torch.save(tensors))
    said = refusal(commands, ["export", "first", "--to=out"], tmp_path)
    assert f"missing {gone} (" in said and "unexpected more (3,)" in said and f"{matrix} is (1, 2) in the file" in said
    assert not (tmp_path / "out").exists()


def test_every_weight_of_a_checkpoint_that_does_not_fit_is_listed(commands: Any, run: Path) -> None:
    found = load(run / "checkpoints")
    theta = found.tree["state"]["search"]["theta"]
    matrix, gone, *_ = (name for name, tensor in theta.items() if tensor.dim() > 1)
    theta[matrix], theta["more"] = torch.ones(1, 2), torch.ones(3)
    del theta[gone]
    save(run / "checkpoints", found.step, found.tree, found.event_offset)
    said = refusal(commands, ["resume", "first"], run.parent.parent)
    assert f"missing {gone}" in said and "unexpected more" in said and f"{matrix} is (1, 2), needed (" in said


# Row 26: links out of the folder of runs


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """What belongs to somebody else; it must be there in the end, as it was."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("step-000000001.json", "step-000000001-0123456789ab.safetensors", ".precious.tmp", "notes"):
        (folder / name).write_text("precious")
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        name: "precious"
        for name in ("step-000000001.json", "step-000000001-0123456789ab.safetensors", ".precious.tmp", "notes")
    }


@pytest.mark.parametrize("name", ["checkpoints", "events.jsonl", "lock"])
def test_a_resume_does_not_delete_or_write_through_a_link(commands: Any, run: Path, outside: Path, name: str) -> None:
    if (run / name).is_dir():
        shutil.rmtree(run / name)
        (run / name).symlink_to(outside)
    else:
        (run / name).unlink()
        (run / name).symlink_to(outside / "notes")
    said = refusal(commands, ["resume", "first"], run.parent.parent)
    assert f"runs/first/{name} is a symbolic link, which is not followed" in said


@pytest.mark.parametrize("link", ["run", "network.safetensors", "result.json"])
def test_an_export_does_not_read_through_a_link(commands: Any, whole: Path, tmp_path: Path, link: str) -> None:
    elsewhere = shutil.copytree(whole, tmp_path / "elsewhere")
    run = tmp_path / "runs/first"
    run.parent.mkdir()
    if link == "run":
        run.symlink_to(elsewhere)
    else:
        shutil.copytree(whole, run)
        (run / link).unlink()
        (run / link).symlink_to(elsewhere / link)
    said = refusal(commands, ["export", "first", "--to=out"], tmp_path)
    assert "is a symbolic link, which is not followed" in said and not (tmp_path / "out").exists()
    assert commands.run(["show", "first"], tmp_path).code == 0


@pytest.mark.long
def test_a_forced_export_replaces_a_link_and_not_what_it_points_to(
    commands: Any, whole: Path, tmp_path: Path, outside: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "network.py").symlink_to(outside / "notes")
    export = ["export", "first", f"--to={out}", "--format=python"]
    assert "already there" in refusal(commands, export, whole.parent.parent)
    assert commands.run([*export, "--force"], whole.parent.parent).code == 0
    assert not (out / "network.py").is_symlink() and "class Network" in (out / "network.py").read_text()


# Row 29: leakage


def test_splits_that_share_images(commands: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((120, 6, 6), dtype=np.float32)
    y = np.arange(120) % 2
    parts = {"inner": slice(0, 60), "outer": slice(50, 90), "test": slice(85, 120)}
    arrays = {f"{k}_{name}": values[part] for name, part in parts.items() for k, values in (("x", x), ("y", y))}
    np.savez(tmp_path / "own.npz", **arrays)
    said = refusal(commands, ["search", "--data=own.npz"], tmp_path)
    assert "10 of 40 outer images are also in inner" in said and "5 of 35 test images are also in outer" in said
    assert not (tmp_path / "runs").exists()


# Row 33: what is not installed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("raise ImportError('nowhere')", "metanas needs torch (nowhere)"),
        ("__version__ = '2.9.1+cu128'", "metanas needs torch >= 2.11, found 2.9.1+cu128"),
    ],
    ids=["missing", "old"],
)
def test_torch_missing_or_too_old(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "torch.py").write_text(content)
    command = [sys.executable, "-c", "from metanas.cli.app import main; main()"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for arguments in (["search"], ["resume", "first"], ["export", "first", "--to=out"]):
        (tmp_path / "runs/first").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs/first/recipe.json").write_text("{}")
        job = subprocess.run([*command, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert (job.returncode, job.stdout) == (1, "")
        assert job.stderr == f'error: {said}: pip install "torch>=2.11,<2.14"\n'


# Row 35: a viewer that is killed


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
    ids=["KILL", "TERM", "HUP", "INT"],
)
def test_a_killed_viewer_does_not_reach_the_search(
    commands: Any, run: Path, whole: Path, number: signal.Signals, code: int
) -> None:
    folder = run.parent.parent
    trainer = commands.start(["resume", "first", "--plain"], folder)
    trainer.until(lambda: begun(run, trainer.pid))
    trainer.kill(signal.SIGSTOP)  # so that the viewer has something to view when it dies
    viewer = commands.start(["watch", "first"], folder)
    viewer.until(lambda: "first" in viewer.output)
    viewer.kill(number)
    ended = viewer.wait()
    trainer.kill(signal.SIGCONT)
    assert ended == code
    assert trainer.wait() == 0, trainer.errors
    assert outcome(run) == outcome(whole)


# Row 36: whatever the log holds


STRANGE = [
    b'{"kind": "dream", "at": 1, "elapsed": 2, "depth": [1, {"a": null}]}\n',
    b'{"kind": "epoch"}\n{"kind": "step", "step": "x"}\n{"kind": "network", "network": 7}\n{"kind": "end"}\n',
    b'{"kind": "epoch", "epoch": -1, "epochs": 1e400, "weights": {"a": ["x"]}, "architecture": 3}\n',
    b'{"kind": "log", "message": {"a": 1}, "at": "yesterday", "elapsed": -5}\n',
    b"\x00\xff\xfe" * 50 + b"\n" + b"[" * 5000 + b"\n",
]


@pytest.mark.parametrize("strange", STRANGE, ids=["kind", "fields", "numbers", "types", "bytes"])
def test_no_event_stops_a_view(commands: Any, whole: Path, tmp_path: Path, strange: bytes) -> None:
    run = shutil.copytree(whole, tmp_path / "runs/first")
    log = run / "events.jsonl"
    first, *rest = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + strange + b"".join(rest))
    for command in (["show", "first"], ["watch", "first"], ["runs"]):
        job = commands.run(command, tmp_path)
        assert (job.code, job.errors) == (0, "") and "finished" in job.output, command


def test_a_log_cut_anywhere_is_shown(commands: Any, run: Path) -> None:
    log = run / "events.jsonl"
    data = log.read_bytes()
    for size in [*range(0, len(data), len(data) // 7), len(data) - 1]:
        log.write_bytes(data[:size])
        for command in (["show", "first"], ["runs"]):
            job = commands.run(command, run.parent.parent)
            assert (job.code, job.errors) == (0, "") and "first" in job.output, (size, command)
