"""The event log under every kind of damage (FAULTS rows 3, 4, 5, 36, 37, 39)."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metanas.errors import RunError
from metanas.run import EventTail, EventWriter, last_events, latest, parse_events, read_events


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


@pytest.fixture
def small_log(path):
    with EventWriter(path) as log:
        log.write("begin", step=0, host="h\u00e4", resumed=False)
        log.write("step", step=1, inner_loss=0.5)
        log.write("kind of a later version", weights={"edge": [0.1, float("nan")]})
        log.write("log", level="info", message="\x1b[31m\u202e[/b]\nend")
    return path.read_bytes()


def test_the_log_cut_at_every_byte(path, small_log):
    whole = parse_events(small_log).events
    assert len(whole) == 4
    for size in range(len(small_log) + 1):
        cut = small_log[:size]
        lines = cut.count(b"\n")
        torn = size > 0 and not cut.endswith(b"\n")
        path.write_bytes(cut)
        for log in (read_events(path), parse_events(cut)):
            assert log.events == whole[:lines] and len(log.warnings) == torn
        assert EventTail(path).read() == list(whole[:lines]) == list(last_events(path))
        with EventWriter(path) as writer:
            assert (writer.warning is not None) == torn
            assert writer.flush() == len(small_log[:size].rpartition(b"\n")[0]) + (lines > 0)
            writer.write("log", message="resumed")
        after = read_events(path)
        assert after.events[:-1] == whole[:lines] and after.events[-1]["message"] == "resumed" and not after.warnings


def test_every_byte_of_the_log_changed(path, small_log):
    for position in range(len(small_log)):
        damaged = bytearray(small_log)
        damaged[position] ^= 0xFF
        assert 2 <= len(parse_events(bytes(damaged)).events) <= 4


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_garbage_never_raises(data):
    latest(parse_events(data).events)


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b"[]",
        b'"kind"',
        b"{}",
        b'{"kind": 3}',
        b'{"kind": "a", "x": NaN}',
        b"[" * 100_000,
        b"\xff",
        b"",
        b"9" * 5000,
    ],
    ids=lambda line: str(line[:12]),
)
def test_a_line_that_is_no_event_is_skipped_with_one_warning(line):
    log = parse_events(b'{"kind": "a"}\n' + line + b"\n" + line + b'\n{"kind": "b"}\n')
    assert [event["kind"] for event in log.events] == ["a", "b"]
    assert log.warnings == ("skipped 2 unreadable lines, the first is line 2",)


def test_latest_survives_fields_of_any_type():
    odd = [{"kind": "step", "step": value} for value in ([1], {"a": 1}, None, 1, "1", [1])] + [{"kind": "step"}]
    assert len(latest(odd)) == 5


def test_latest_keeps_the_last_of_each_at_the_place_of_the_first():
    events = [
        {"kind": "step", "step": 1, "epoch": 1, "try": 1},
        {"kind": "step", "step": 2, "epoch": 1, "try": 1},
        {"kind": "epoch", "epoch": 1, "step": 2, "try": 1},
        {"kind": "log", "message": "same"},
        {"kind": "begin", "step": 1},
        {"kind": "log", "message": "same"},
        {"kind": "step", "step": 2, "epoch": 1, "try": 2},
        {"kind": "epoch", "epoch": 1, "step": 2, "try": 2},
        {"kind": "derivation", "done": 1, "total": 2, "try": 1},
        {"kind": "derivation", "done": 1, "total": 2, "try": 2},
        {"kind": "train", "network": "derived", "epoch": 1, "try": 1},
        {"kind": "train", "network": "random 1", "epoch": 1, "try": 1},
        {"kind": "train", "network": "derived", "epoch": 1, "try": 2},
        {"kind": "network", "network": "derived", "try": 1},
        {"kind": "network", "network": "derived", "try": 2},
        {"kind": "value", "step": 2, "try": 1},
    ]
    kinds = [(event["kind"], event.get("try")) for event in latest(events)]
    assert kinds == [
        ("step", 1),
        ("step", 2),
        ("epoch", 2),
        ("log", None),
        ("begin", None),
        ("log", None),
        ("derivation", 2),
        ("train", 2),
        ("train", 1),
        ("network", 2),
        ("value", 1),
    ]


def test_numbers_that_are_not_finite_are_null_with_their_kind(path):
    with EventWriter(path) as log:
        log.write("epoch", outer_loss=float("nan"), gap=float("-inf"), lr=0.1)
    (event,) = read_events(path).events
    assert (event["outer_loss"], event["outer_loss_is"], event["gap_is"], event["lr"]) == (None, "nan", "-inf", 0.1)
    assert b"NaN" not in path.read_bytes() and b"Infinity" not in path.read_bytes()


def test_steps_are_gathered_and_other_kinds_written_at_once(path):
    now = [0.0]
    with EventWriter(path, clock=lambda: now[0]) as log:
        log.write("step", step=1)
        assert path.stat().st_size == 0
        now[0] += 0.3
        log.write("step", step=2)
        assert len(read_events(path).events) == 2
        log.write("step", step=3)
        log.write("epoch", epoch=1)
        assert [event["kind"] for event in read_events(path).events] == ["step", "step", "step", "epoch"]
        log.write("step", step=4)
        assert log.flush() == path.stat().st_size
    assert len(read_events(path).events) == 5


def test_elapsed_accumulates_over_resumes_and_ignores_the_wall_clock(path):
    with EventWriter(path, clock=iter_clock(100.0, 3.0), wall_clock=lambda: 5000.0) as log:
        log.write("begin", step=0)
        log.write("log", message="a")
        before = log.elapsed
    with EventWriter(path, clock=iter_clock(7.0, 2.0), wall_clock=lambda: 1000.0) as log:  # rebooted, clock set back
        log.write("begin", step=0)
        log.write("log", message="b")
    elapsed = [event["elapsed"] for event in read_events(path).events]
    assert elapsed == sorted(elapsed) and elapsed[0] > 0 and before - 6.0 <= elapsed[2] <= before + 6.0
    assert [event["at"] for event in read_events(path).events] == [5000.0, 5000.0, 1000.0, 1000.0]


def iter_clock(start, by):
    """A clock that goes on by the same amount at each look."""
    now = [start]

    def look():
        now[0] += by
        return now[0]

    return look


@pytest.mark.parametrize("elapsed", ["9" * 400, '"x"', "true", "1e999", "null"])
def test_a_damaged_elapsed_does_not_stop_a_resume(path, elapsed):
    path.write_text(f'{{"kind": "log", "elapsed": {elapsed}}}\n')
    with EventWriter(path) as log:
        assert 0 <= log.elapsed < 60


def test_a_full_disk_leaves_whole_events_and_writing_goes_on_later(path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with EventWriter(path) as log:
        log.write("log", message="first")
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, old[1]))
        try:
            with pytest.raises(RunError, match="disk full"):
                log.write("log", message="second")
            assert path.stat().st_size == size and not read_events(path).warnings
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        log.write("log", message="third")
    assert [event["message"] for event in read_events(path).events] == ["first", "second", "third"]


def test_a_run_folder_removed_or_moved_stops_the_writer(tmp_path):
    for damage in (shutil.rmtree, lambda folder: folder.rename(tmp_path / "moved")):
        folder = tmp_path / "run"
        folder.mkdir()
        log = EventWriter(folder / "events.jsonl")
        log.write("begin", step=0)
        damage(folder)
        with pytest.raises(RunError, match="may have been removed or moved"):
            log.write("log", message="lost")
        with pytest.raises(RunError):
            log.close()
        assert not folder.exists()


def test_a_log_replaced_by_another_stops_the_writer(path):
    with EventWriter(path) as log:
        path.rename(path.with_name("old"))
        path.touch()
        with pytest.raises(RunError, match="was replaced"):
            log.write("log", message="lost")
        path.with_name("old").replace(path)


def test_a_read_only_log_is_refused(path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(RunError, match="Read-only file system; check the permissions"):
        EventWriter(path)


def test_what_json_cannot_hold_is_refused_and_the_log_stays_whole(path):
    with EventWriter(path) as log:
        with pytest.raises(RunError, match="cannot be written as JSON"):
            log.write("log", message=object())
        log.write("log", message="next")
    assert [event["message"] for event in read_events(path).events] == ["next"]


def test_tail_follows_a_log_from_before_it_exists(path, small_log):
    path.unlink()
    tail = EventTail(path)
    assert tail.read() == []
    seen = []
    for size in range(len(small_log)):
        with open(path, "ab") as file:
            file.write(small_log[size : size + 1])
        seen += tail.read()
    assert seen == list(parse_events(small_log).events) and tail.restarts == tail.skipped == 0
    assert tail.read() == []


def test_tail_begins_again_when_the_log_is_cut_or_replaced(path, small_log):
    tail = EventTail(path)
    assert len(tail.read()) == 4
    path.write_bytes(small_log[: small_log.index(b"\n") + 1])
    assert [event["kind"] for event in tail.read()] == ["begin"] and tail.restarts == 1
    path.with_name("new").write_bytes(b'garbage\n{"kind": "a"}\n' * 100)
    os.replace(path.with_name("new"), path)
    assert len(tail.read()) == 100 and tail.restarts == 2 and tail.skipped == 100
    path.unlink()
    assert tail.read() == []
    path.mkdir()
    assert tail.read() == [] == list(read_events(path).events)


def test_tail_is_not_disturbed_by_a_resume_that_cuts_a_torn_line(path, small_log):
    tail = EventTail(path)
    path.write_bytes(small_log[:-5])
    assert len(tail.read()) == 3
    with EventWriter(path) as log:
        log.write("begin", step=1)
    assert [event["kind"] for event in tail.read()] == ["begin"] and tail.restarts == 0


def test_last_events_of_a_long_log(path):
    lines = [json.dumps({"kind": "step", "step": step}) for step in range(10_000)]
    path.write_text("\n".join(lines) + "\n")
    events = last_events(path)
    assert events[-1]["step"] == 9999 and 1000 < len(events) < 3000
    assert [event["step"] for event in events] == list(range(10_000 - len(events), 10_000))


def test_a_torn_line_longer_than_the_block_is_cut(path):
    path.write_bytes(b'{"kind": "a"}\n' + b"x" * 200_000)
    with EventWriter(path) as log:
        assert log.warning == "events.jsonl: dropped a torn last line (200000 bytes)"
    assert path.read_bytes() == b'{"kind": "a"}\n'


WRITER = """
import sys
from pathlib import Path
from metanas.run import EventWriter
with EventWriter(Path(sys.argv[1])) as log:
    print(log.warning, flush=True)
    step = 0
    while True:
        step += 1
        log.write("step", step=step, inner_loss=0.5, filler="x" * (step % 997))
        if step % 7 == 0:
            log.write("log", message="y" * 5000)
"""


def test_killed_at_random_moments(path):
    kept = 0
    for delay in (0.001, 0.004, 0.009, 0.017):
        process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        log = read_events(path)
        assert len(log.events) >= kept and all("torn" in warning for warning in log.warnings)
        kept = len(log.events)
    assert kept > 0
    with EventWriter(path):
        pass
    assert len(read_events(path).events) == kept and not read_events(path).warnings
