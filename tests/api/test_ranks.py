"""Several processes, started as torchrun does: one run, the same structure, stop and resume, and a rank that dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import metanas
from metanas.api.handed import Handed
from metanas.api.ranks import Ranks, joined, started
from metanas.api.recorder import Recorder
from metanas.api.work import prepare
from metanas.errors import RankError, RecipeError
from metanas.recipe import Recipe, override, read
from metanas.run import EventWriter, RunFolder, ask, read_events

SETTINGS = {
    "space.options.channels": 2,
    "search.epochs": 3,
    "search.warmup": 0,
    "search.monitor": 32,
    "evaluation.epochs": 1,
    "evaluation.random": 0,
    "threads": 1,
    "checkpoint_seconds": 1,
}
LIMIT = 120


def start(
    count: int, *words: str, environment: dict[str, str] | None = None, code: str | None = None
) -> list[subprocess.Popen[str]]:
    """`metanas WORDS`, or a script, in `count` processes that are to work together."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *(["-m", "metanas", *words] if code is None else ["-c", code])],
            env={**os.environ, **meeting, **(environment or {}), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """(status, output, errors) of each."""
    found = []
    for process in processes:
        out, err = process.communicate(timeout=LIMIT)
        found.append((process.returncode, out, err))
    return found


def search(run: str, **changes: Any) -> list[str]:
    settings = SETTINGS | changes
    return ["search", "--plain", "--run", run, *(w for k, v in settings.items() for w in ("--set", f"{k}={v}"))]


def when(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def steps_of(run: Path) -> int:
    log = run / "events.jsonl"
    return sum(event["kind"] == "step" for event in read_events(log).events) if log.exists() else 0


@pytest.mark.long
def test_a_search_by_two_is_stopped_and_gone_on_with(runs: Path) -> None:
    run = runs / "shared"
    pair = start(2, *search("shared", **{"search.epochs": 8}))
    when(lambda: steps_of(run) > 0)
    ask(run, "stop")
    first, second = ended(pair)
    assert first[0] == 0 and "stopped with a checkpoint" in first[2]
    assert second[:2] == (0, "") and list(runs.iterdir()) == [run]  # the second left nothing, and said nothing
    assert metanas.load_run(run).folder.read_recipe()["versions"]["ranks"] == 2
    first, second = ended(start(2, "resume", "shared", "--plain"))
    assert (first[0], second[0]) == (0, 0) and "shared: finished" in first[1] and second[1] == ""
    result = metanas.load_run(run).result()
    assert result.test_accuracy > 0.2 and steps_of(run) >= 8 * (719 // 64)


@pytest.mark.long
def test_a_rank_that_dies_ends_all_and_the_rest_can_go_on_alone(runs: Path) -> None:
    run = runs / "lost"
    words = search("lost", **{"search.epochs": 8, "checkpoint_seconds": 0.1})
    pair = start(2, *words, environment={"METANAS_TIMEOUT": "20"})
    when(lambda: any((run / "checkpoints").glob("*.json")))
    pair[1].send_signal(signal.SIGKILL)
    begun = time.monotonic()
    (status, _, errors), (killed, _, _) = ended(pair)
    assert time.monotonic() - begun < 40 and killed == -signal.SIGKILL
    assert status == 1 and errors.startswith("error: another rank is gone or late (") and errors.count("\n") == 1
    assert read_events(run / "events.jsonl").events[-1]["status"] == "failed"
    ((status, output, _),) = ended(start(1, "resume", "lost", "--plain"))
    assert status == 0 and "lost: finished" in output
    told = [e["message"] for e in read_events(run / "events.jsonl").events if e["kind"] == "log"]
    assert "ranks was 2, is 1: the result need not be bit-exact" in told


TWO = """
import metanas
settings = {settings!r}
for name in ("one", "two"):
    result = metanas.search(run=name, settings=settings)
    print(name, len(result.architecture), flush=True)
"""


@pytest.mark.long
def test_a_second_search_of_a_script_runs_in_the_first_process_and_says_so(runs: Path) -> None:
    """The other rank ended with the first one; waiting for it would take minutes and end in an error."""
    code = TWO.format(settings=SETTINGS | {"search.epochs": 1, "evaluation.epochs": 1})
    first, second = ended(start(2, code=code, environment={"METANAS_TIMEOUT": "30"}))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert [line.split()[0] for line in first[1].splitlines()] == ["one", "two"] and second[1] == ""
    ranks = [RunFolder.open(runs / name).read_recipe()["versions"]["ranks"] for name in ("one", "two")]
    assert ranks == [2, 1] and "ended with an earlier search of this script" not in told(runs / "one")
    assert "torchrun started 2 processes, and the others ended with an earlier search of this script" in told(
        runs / "two"
    )


def told(run: Path) -> str:
    return "\n".join(e["message"] for e in read_events(run / "events.jsonl").events if e["kind"] == "log")


def test_ranks_part_once_the_search_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metanas.api.ranks._parted", [])
    torchrun = {"WORLD_SIZE": "4", "RANK": "0"}
    with pytest.raises(SystemExit) as end:
        Ranks(1, 4).part()
    assert end.value.code == 0 and started(torchrun) == 4
    Ranks().part()
    assert started(torchrun) == 4  # one alone parts from nobody
    Ranks(0, 4).part()
    assert started(torchrun) == 1
    with joined() as ranks:
        assert (ranks.count, ranks.parted) == (1, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search.controller": "random"}, r"a search by values \(RandomSearch\) runs in one process"),
        (
            {"search.batch_size": 9},
            r"search\.batch_size: batches of 9 \(inner split\) cannot be shared evenly by 2 ranks",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(settings: dict[str, Any], message: str) -> None:
    recipe = read(override(Recipe().to_json(), SETTINGS | settings))
    with pytest.raises((RankError, RecipeError), match=message):
        prepare(recipe, None, None, Handed(), Ranks(0, 2))


def test_what_is_no_search_is_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RankError, match="this runs in one process, and torchrun started 2; start it without torchrun"):
        metanas.tune("rates", steps=1)
    assert not runs.exists()


def test_alone_there_is_nothing_to_agree_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ranks().leads and Ranks().share == (0, 1) and Ranks().most(2) == 2
    assert started({"WORLD_SIZE": "2"}) == 1  # a scheduler's own variable, without torchrun's rank


def test_an_error_of_the_group_is_one_line() -> None:
    assert str(RankError.of(RuntimeError("peer closed\nmore"))) == (
        "another rank is gone or late (peer closed); start all again: a run goes on from its last checkpoint"
    )


def test_a_rank_that_does_not_lead_copies_no_state_for_a_checkpoint(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = RunFolder.create("along"), []
    monkeypatch.setattr(Ranks, "most", lambda self, number: number)
    with folder.lock() as lock, EventWriter(folder.events) as log:
        for rank in (0, 1):
            stop: Any = SimpleNamespace(signal=None)
            recorder = Recorder(folder, lock, log, stop, 0.0, {}, Ranks(rank, 2))
            recorder.pause_point(1, lambda rank=rank: asked.append(rank) or {})
    assert asked == [0] and len(list(folder.checkpoints.glob("*.json"))) == 1
