"""What looks at a run folder: it finds what is there, says what changed, and never holds anything up."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metanas.errors import RunError
from metanas.run import ask, withdraw
from metanas.ui import read
from metanas.ui.app import reader
from metanas.ui.app.reader import CHUNK, Reader, RunLook, aside, busy, look_at_runs

MakeRun = Callable[..., Path]


def test_the_first_look_shows_the_run_and_further_ones_load_its_log(make_run: MakeRun) -> None:
    folder = make_run()
    look = RunLook(folder)
    first = look()
    assert (first.state, len(first.replay), first.loaded, busy(first)) == (read(folder), 0, 0.0, True)
    second = look()
    assert (len(second.replay), round(second.loaded, 3), busy(second)) == (CHUNK, round(CHUNK / 1068, 3), True)
    third = look()
    assert (len(third.replay), third.loaded, busy(third), third.fresh) == (1068, 1.0, False, True)
    assert not look().fresh
    assert third.replay.at(1068).networks == third.state.networks
    assert third.replay.at(0).space == "nasbench201"


def test_what_is_appended_is_followed(make_run: MakeRun, events: list[dict[str, Any]]) -> None:
    folder = make_run(events[:5])
    look = RunLook(folder)
    look(), look()
    with open(folder / "events.jsonl", "a") as file:
        file.write(json.dumps(events[5]) + "\n")
    told = look()
    assert (told.fresh, len(told.replay), told.state.step) == (True, 6, 4)


def test_documents_that_come_later_are_of_the_whole_replay(make_run: MakeRun, events: list[dict[str, Any]]) -> None:
    folder = make_run(events[:5])
    (folder / "recipe.json").rename(folder / "later")
    look = RunLook(folder)
    look()
    assert look().replay.at(3).controller is None
    (folder / "later").rename(folder / "recipe.json")
    told = look()
    assert (told.replay.at(3).controller, len(told.replay)) == ("drnas", 5)


def test_a_log_that_was_replaced_is_replayed_afresh(make_run: MakeRun, events: list[dict[str, Any]]) -> None:
    folder = make_run(events[:50])
    look = RunLook(folder)
    look(), look()
    make_run(events[:9])
    told = look()
    assert (len(told.replay), told.state.step) == (9, 7)


def test_a_folder_that_vanishes_is_told_and_the_run_is_kept(make_run: MakeRun) -> None:
    folder = make_run()
    look = RunLook(folder)
    look(), look(), look()
    shutil.rmtree(folder)
    told = look()
    assert (told.gone, told.fresh, told.state.status, len(told.replay), busy(told)) == (
        True,
        True,
        "finished",
        1068,
        False,
    )


def test_a_folder_that_never_was() -> None:
    told = RunLook(Path("/nonexistent/first"))()
    assert (told.gone, told.state.status, told.state.name) == (True, "waiting", "first")


def test_a_pause_is_asked_until_it_was_quiet_for_a_while(
    make_run: MakeRun, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(reader.time, "monotonic", lambda: now[0])
    folder = make_run(events[:5])
    look = RunLook(folder)
    look(), look()
    assert look().held is None
    ask(folder, "pause")
    assert look().held == 0.0
    now[0] += 1.5
    with open(folder / "events.jsonl", "a") as file:
        file.write(json.dumps(events[5]) + "\n")
    assert look().held == 0.0, "it still steps"
    now[0] += 5.0
    told = look()
    assert (told.held, told.fresh, told.requests) == (5.0, True, {"pause"})
    withdraw(folder, "pause")
    assert look().held is None


def test_it_leaves_no_trace(make_run: MakeRun) -> None:
    folder = make_run()
    before = {path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}
    look = RunLook(folder)
    for _ in range(4):
        look()
    look_at_runs(folder.parent)
    assert {path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]} == before


def test_a_reader_tells_again_and_again_and_goes_on_after_an_error() -> None:
    found: list[object] = []
    enough = threading.Event()

    def look() -> int:
        if len(found) == 1:
            raise RunError("the folder [/b] cannot be read")
        return len(found)

    def tell(one: object) -> None:
        found.append(one)
        if len(found) == 3:
            enough.set()

    one = Reader(look, tell, busy=lambda found: True)
    one.start()
    assert enough.wait(10)
    one.stop()
    assert (found[0], str(found[1]), found[2]) == (0, "the folder [/b] cannot be read", 2)


def test_a_reader_that_was_stopped_tells_nothing_more() -> None:
    found: list[object] = []
    began, go = threading.Event(), threading.Event()

    def look() -> int:
        began.set()
        go.wait(10)
        return 1

    one = Reader(look, found.append)
    one.start()
    assert began.wait(10)
    one.stop()
    go.set()
    one._thread.join(10)
    assert found == []


def test_work_aside_tells_what_came_of_it() -> None:
    found: list[object] = []
    done = threading.Event()

    def fail() -> str:
        raise RunError("no")

    aside(fail, lambda one: (found.append(str(one)), done.set()))
    assert done.wait(10)
    assert found == ["no"]
