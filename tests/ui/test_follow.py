"""A run folder as it grows, is cut, is damaged, is copied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from metanas.run import EventTail, EventWriter, Lock
from metanas.run.events import Event
from metanas.ui.follow import Follower, read
from metanas.ui.paper import Paper
from metanas.ui.screen import sheet
from metanas.ui.state import RECENT, RunState, fold

MakeRun = Callable[..., Path]


def test_a_log_cut_at_every_byte_is_read_up_to_its_last_whole_line(
    make_run: MakeRun, events: list[dict[str, Any]]
) -> None:
    kept = [*events[:4], next(event for event in events if event["kind"] == "epoch")]
    folder = make_run(kept)
    log = (folder / "events.jsonl").read_bytes()
    for cut in range(len(log) + 1):
        (folder / "events.jsonl").write_bytes(log[:cut])
        state = read(folder)
        assert state.at == (None if b"\n" not in log[:cut] else kept[log[:cut].count(b"\n") - 1]["at"])
        if log[:cut].endswith(b"\n"):
            assert sheet(state, Paper(height=24))


def test_documents_cut_anywhere_are_absent(make_run: MakeRun) -> None:
    folder = make_run()
    for name in ("recipe.json", "space.json"):
        whole = (folder / name).read_bytes()
        for cut in range(0, len(whole), 50):
            (folder / name).write_bytes(whole[:cut])
            assert read(folder).status == "finished"
        (folder / name).write_bytes(whole)
    assert read(folder).data == "digits"


def test_a_follower_reads_what_was_added(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "late")
    assert list(follower.poll()) == [] and follower.state.status == "waiting"
    (tmp_path / "late").mkdir()
    with open(tmp_path / "late" / "events.jsonl", "w") as log:
        log.write('{"kind": "begin"}\n{"kind": "log", "mess')
        log.flush()
        assert [event["kind"] for event, _ in follower.poll()] == ["begin"]
        log.write('age": "hello"}\n')
        log.flush()
        assert [state.log[-1].message for _, state in follower.poll()] == ["hello"]
    assert list(follower.poll()) == []


def test_a_log_that_became_shorter_is_read_afresh(make_run: MakeRun, events: list[dict[str, Any]]) -> None:
    folder = make_run()
    follower = Follower(folder)
    assert follower.advance() and follower.state.status == "finished"
    (folder / "events.jsonl").write_text(json.dumps(events[0]) + "\n")
    assert follower.advance()
    assert (follower.state.status, follower.state.history, follower.state.data) == ("running", (), "digits")


def test_steps_that_leave_no_trace_are_passed_over(make_run: MakeRun, events: list[dict[str, Any]]) -> None:
    state = RunState("first")
    folder = make_run(events)
    follower = Follower(folder)
    for _ in follower.poll():
        pass
    assert read(folder) == follower.state
    for event in events:
        state = fold(state, event)
    assert len(state.steps) == RECENT and state.steps == read(folder).steps


def test_steps_repeated_after_a_resume_are_not_passed_over(make_run: MakeRun) -> None:
    numbers = [*range(1, 900), *range(700, 760)]
    folder = make_run([{"kind": "step", "at": 1.0, "elapsed": 1.0, "step": n} for n in numbers])
    follower = Follower(folder)
    list(follower.poll())
    assert read(folder) == follower.state
    assert follower.state.step == 759


def written(path: Path, numbers: Iterable[int], **more: Any) -> Path:
    """A log as a search writes it, an epoch after every hundred steps."""
    path.mkdir()
    with EventWriter(path / "events.jsonl") as log:
        log.write("begin", pid=7)
        for place, number in enumerate(numbers):
            log.write("step", step=number, outer_loss=1 / (1 + number), skipped=place // 500, **more)
            if place % 100 == 99:
                log.write("epoch", epoch=place // 100, step=number, outer_loss=0.5)
    return path


@pytest.mark.parametrize(
    ("numbers", "more"),
    [
        (range(1, 1001), {}),
        ([*range(1, 900), *range(700, 760)], {}),
        ([*range(1, 900), *range(100, 760)], {}),
        ([5] * 1000, {}),
        (range(1, 1001), {"learned": {"decay": 0.1}}),
        (range(1, RECENT + 1), {}),
    ],
    ids=["rising", "resumed late", "resumed early", "always the same", "tuning", "few"],
)
def test_steps_that_are_passed_over_unread_would_have_left_no_trace(
    tmp_path: Path, numbers: Iterable[int], more: dict[str, Any]
) -> None:
    follower = Follower(written(tmp_path / "first", numbers, **more))
    list(follower.poll())
    assert read(tmp_path / "first") == follower.state


def test_a_long_log_is_not_read_step_by_step(tmp_path: Path) -> None:
    log = written(tmp_path / "first", range(1, 1001)) / "events.jsonl"
    kinds = [event["kind"] for event in EventTail(log).read(steps=3)]
    assert [kinds.count(kind) for kind in ("begin", "step", "epoch")] == [1, 3, 10]
    asked: list[list[Event]] = []

    def no(steps: list[Event]) -> bool:
        asked.append(steps)
        return False

    every = EventTail(log).read(steps=3, enough=no)
    assert len(every) == 1011 and [[event["step"] for event in steps] for steps in asked] == [[998, 999, 1000]]
    damaged = log.read_bytes().replace(b'"step":999,', b'"step":999')
    log.write_bytes(damaged)
    assert len(EventTail(log).read(steps=3)) == 1010, "a step that is damaged: all others are read"
    with open(log, "ab") as file:
        file.write(b'{"kind":"step","step":1001}\n' * 9)
    tail = EventTail(log)
    assert tail.read(steps=3)[-1]["step"] == 1001 and tail.read(steps=3) == []


def test_a_copy_that_has_only_its_result(tmp_path: Path) -> None:
    result = {"schema": 1, "test_accuracy": 0.9, "key": "|a~0|", "random": [{"test_accuracy": 0.8}]}
    (tmp_path / "result.json").write_text(json.dumps(result))
    state = read(tmp_path)
    assert state.status == "finished"
    assert [(net.network, net.test_score) for net in state.networks] == [("derived", 0.9), ("random 1", 0.8)]


def test_the_lock_tells_whether_the_writer_lives(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run()
    assert read(folder).writer == "none"
    with Lock.acquire(folder):
        assert read(folder).writer == "alive"
        monkeypatch.setattr("metanas.ui.follow.is_alive", lambda holder: False)
        assert read(folder).writer == "dead"
        monkeypatch.setattr("metanas.ui.follow.is_alive", lambda holder: None)
        assert read(folder).writer == "elsewhere"


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert read(tmp_path / "missing").status == read(tmp_path / "file").status == "waiting"
