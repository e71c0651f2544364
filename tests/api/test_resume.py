"""Killed, interrupted, stopped: a run goes on from its checkpoint and ends with the same numbers, bit for bit.

The commands run in forked processes with one thread; a checkpoint is written at every step, so that every kind of
moment is met: in a step, while an event or a checkpoint is written, between the two.
"""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from metanas.run import latest, read_events

SMALL = {
    "space.options.channels": 2,
    "data.inner": 96,
    "data.outer": 96,
    "data.test": 40,
    "search.epochs": 8,
    "search.warmup": 2,
    "search.batch_size": 32,
    "search.monitor": 32,
    "search.refine": "[{candidates=4,epochs=1},{candidates=2,epochs=2}]",
    "evaluation.epochs": 5,
    "evaluation.batch_size": 32,
    "evaluation.random": 2,
    "checkpoint_seconds": 0,
    "threads": 1,
    "device": "cpu",
}
STEPS, VALUES, TRAINED = 8 * 3, 4 + 2, 3 * 5  # outer steps; short trainings; epochs of training from scratch
UNEQUAL = ("begin", "log", "end", "pace", "need")  # kinds that tell of a session, or of the clock
MEASURED = ("at", "elapsed", "seconds", "memory", "host_memory")


def search(name: str, **changes: Any) -> list[str]:
    settings = {**SMALL, **changes}
    return ["search", "--run", name, *(f"--set={path}={value}" for path, value in settings.items())]


def curve(run: Path) -> list[dict[str, Any]]:
    """Every step, epoch, training epoch and network as it counts in the end, without what a clock measured."""
    events = [e for e in latest(read_events(run / "events.jsonl").events) if e["kind"] not in UNEQUAL]
    return [{k: v for k, v in event.items() if k not in MEASURED} for event in events]


def outcome(run: Path) -> dict[str, Any]:
    result = json.loads((run / "result.json").read_text())
    for row in (result, *result["random"]):
        del row["seconds"]
    return {k: v for k, v in result.items() if not k.endswith("_seconds")}


def progress(run: Path) -> int:
    """How many steps, short trainings and epochs of training are done, repeated ones counted once."""
    return sum(
        event["kind"] in ("step", "value", "train") for event in latest(read_events(run / "events.jsonl").events)
    )


@pytest.fixture(scope="module")
def whole(commands: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    job = commands.run(search("whole"), folder)
    assert job.code == 0, job.errors
    return folder / "runs/whole"


def assert_same(run: Path, whole: Path) -> None:
    assert curve(run) == curve(whole)
    assert outcome(run) == outcome(whole)
    for name in ("network.safetensors", "network.py", "architecture.json", "space.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_uninterrupted_run_is_whole(whole: Path) -> None:
    rows = curve(whole)
    assert [e["step"] for e in rows if e["kind"] == "step"] == list(range(1, STEPS + 1))
    assert [e["step"] for e in rows if e["kind"] == "value"] == list(range(1, VALUES + 1))
    assert len([e for e in rows if e["kind"] == "train"]) == TRAINED
    assert len([e for e in rows if e["kind"] == "network"]) == 3
    weights = [e["weights"] for e in rows if e["kind"] == "epoch"]
    assert weights[1] != weights[2] != weights[-1], "the structure must be learned, or its equality says nothing"


def test_killed_ten_times_equals_the_uninterrupted_run(commands: Any, tmp_path: Path, whole: Path) -> None:
    draw = random.Random(0)
    run, arguments, phases = tmp_path / "runs/killed", search("killed"), []
    trained = STEPS + VALUES
    places = draw.sample(range(1, STEPS), 4) + draw.sample(range(STEPS, trained - 1), 3)
    places += draw.sample(range(trained + 1, trained + TRAINED - 3), 3)
    for place in sorted(places):
        job = commands.start(arguments, tmp_path)
        job.until(lambda job=job, place=place: begun(run, job.pid) and progress(run) >= place)
        time.sleep(draw.uniform(0, 0.06))
        job.kill(signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
        done = progress(run)
        phases.append("training" if done > trained else "refinement" if done > STEPS else "search")
        arguments = ["resume", "killed"]
    job = commands.run(arguments, tmp_path)
    assert job.code == 0, job.errors
    assert all(phases.count(phase) >= 2 for phase in ("search", "refinement", "training")), phases
    begins = [e["resumed"] for e in read_events(run / "events.jsonl").events if e["kind"] == "begin"]
    assert begins == [False] + [True] * 10
    assert_same(run, whole)


def begun(run: Path, pid: int) -> bool:
    """Whether that process has begun its work: its checkpoint is loaded, its events will follow."""
    path = run / "events.jsonl"
    return path.exists() and f'"pid":{pid}'.encode() in path.read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_with_a_checkpoint(
    commands: Any, tmp_path: Path, whole: Path, number: signal.Signals, code: int
) -> None:
    run = tmp_path / "runs/stopped"
    job = commands.start(search("stopped", checkpoint_seconds=1000), tmp_path)
    job.until(lambda: progress(run) >= 4)
    job.kill(number)
    assert job.wait() == code
    assert job.errors == "stopped with a checkpoint; go on with: metanas resume stopped\n"
    assert "stopped: interrupted after" in job.output
    assert len(list((run / "checkpoints").glob("*.json"))) == 1
    assert read_events(run / "events.jsonl").events[-1]["status"] == "interrupted"
    again = commands.run(["resume", "stopped"], tmp_path)
    assert again.code == 0, again.errors
    assert_same(run, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_stops_at_once(commands: Any, tmp_path: Path, number: signal.Signals, code: int) -> None:
    """A step of a minute lets the first signal wait; the second does not."""
    run = tmp_path / "runs/twice"
    job = commands.start(search("twice", **{"search.warmup": 0}), tmp_path, endless=True)
    job.until(lambda: begun(run, job.pid))
    time.sleep(0.2)
    job.kill(number)
    time.sleep(0.1)
    assert not job.over()
    job.kill(number)
    assert job.wait() == code
    assert "Traceback" not in job.errors
    assert not (run / "checkpoints").exists()
    assert read_events(run / "events.jsonl").events[-1]["kind"] == "end"


def test_asked_to_stop(commands: Any, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "runs/asked"
    job = commands.start(search("asked"), tmp_path)
    job.until(lambda: progress(run) >= 3)
    asked = commands.run(["stop", "asked"], tmp_path)
    assert (asked.code, asked.output) == (0, "asked asked to stop; it will write a checkpoint first\n")
    assert job.wait() == 0
    again = commands.run(["stop", "asked"], tmp_path)
    assert (again.code, again.errors) == (1, "asked is not running (interrupted); nothing to stop\n")
    commands.run(["resume", "asked"], tmp_path)
    assert_same(run, whole)


@pytest.mark.long
def test_killed_before_the_first_checkpoint(commands: Any, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "runs/early"
    job = commands.start(search("early", checkpoint_seconds=1000), tmp_path)
    job.until(lambda: progress(run) >= 2)
    job.kill(signal.SIGKILL)
    job.wait()
    assert not (run / "checkpoints").exists()
    again = commands.run(["resume", "early"], tmp_path)
    assert again.code == 0, again.errors
    assert_same(run, whole)


@pytest.mark.long
def test_a_damaged_checkpoint_and_a_torn_log_are_passed_over(commands: Any, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "runs/damaged"
    job = commands.start(search("damaged"), tmp_path)
    job.until(lambda: progress(run) >= 6)
    job.kill(signal.SIGKILL)
    job.wait()
    newest = max((run / "checkpoints").glob("*.json"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    (run / "checkpoints/.step-000000009.json.0123abcd.tmp").write_bytes(b"half")
    with (run / "events.jsonl").open("ab") as log:
        log.write(b'{"kind": "step", "st')
    again = commands.run(["resume", "damaged"], tmp_path)
    assert again.code == 0, again.errors
    assert "warning: took over the lock of pid" in again.output
    assert "warning: removed the unfinished file .step-000000009.json.0123abcd.tmp" in again.output
    assert "warning: events.jsonl: dropped a torn last line (20 bytes)" in again.output
    assert f"warning: {newest.name} was refused: " in again.output
    assert "warning: went back to the checkpoint of step" in again.output
    assert_same(run, whole)


def test_a_finished_run_is_not_touched(commands: Any, tmp_path: Path, whole: Path) -> None:
    def content() -> dict[Path, tuple[bytes, int]]:
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in whole.rglob("*") if p.is_file()}

    before = content()
    job = commands.run(["resume", "whole"], whole.parent.parent)
    assert (job.code, job.errors) == (0, "whole is already finished; nothing was changed\n")
    assert job.output.startswith(f"found     {outcome(whole)['key']}\naccuracy  ")
    assert content() == before
