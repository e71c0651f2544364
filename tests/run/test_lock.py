"""One writer a run (FAULTS rows 5 and 6)."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from metanas.errors import RunError
from metanas.run import Holder, Lock, is_alive, read_holder
from metanas.run.lock import this_process

HOLD = """
import sys, time
from pathlib import Path
from metanas.run import Lock
with Lock.acquire(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def write_lock(folder, **fields):
    (folder / "lock").write_text(json.dumps({"host": os.uname().nodename, "pid": 1, "start": ""} | fields))


@pytest.fixture
def other_holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_trainer_is_refused_by_name_until_the_first_is_killed(tmp_path, other_holder):
    with pytest.raises(RunError, match=f"is in use by pid {other_holder.pid} on {os.uname().nodename}; wait for it"):
        Lock.acquire(tmp_path)
    assert read_holder(tmp_path).pid == other_holder.pid
    other_holder.kill()
    other_holder.wait()
    with Lock.acquire(tmp_path) as lock:
        assert lock.notes == (
            f"took over the lock of pid {other_holder.pid} on {os.uname().nodename}: that process is gone",
        )
        lock.check()
    assert read_holder(tmp_path) is None


def test_a_zombie_holds_nothing(tmp_path, other_holder):
    other_holder.kill()
    os.waitid(os.P_PID, other_holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet waited for
    Lock.acquire(tmp_path).release()


def test_free_again_after_release_and_not_twice_in_one_process(tmp_path):
    with Lock.acquire(tmp_path) as lock:
        assert lock.notes == () and read_holder(tmp_path) == this_process()
        with pytest.raises(RunError, match=f"pid {os.getpid()}"):
            Lock.acquire(tmp_path)
    with Lock.acquire(tmp_path) as again:
        assert again.notes == ()


def test_a_reused_pid_is_taken_over(tmp_path):
    write_lock(tmp_path, pid=os.getpid(), start="another-boot/1")
    with Lock.acquire(tmp_path) as lock:
        assert "that process is gone" in lock.notes[0]


def test_a_dead_pid_is_taken_over(tmp_path, dead_pid):
    write_lock(tmp_path, pid=dead_pid, start="x")
    with Lock.acquire(tmp_path) as lock:
        assert f"pid {dead_pid}" in lock.notes[0]


def test_another_host_is_never_taken_over(tmp_path, dead_pid):
    write_lock(tmp_path, host="far\x1baway", pid=dead_pid)
    with pytest.raises(RunError, match=rf"pid {dead_pid} on far.x1baway; if that process is gone, delete .*lock"):
        Lock.acquire(tmp_path)
    assert is_alive(read_holder(tmp_path)) is None


@pytest.mark.parametrize(
    "content", ["{", "null", "[]", '{"host": 1, "pid": "x", "start": []}', "{}", "\0" * 99, "[" * 9999]
)
def test_a_damaged_lock_is_taken_over_and_said(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    assert read_holder(tmp_path) is None
    with Lock.acquire(tmp_path) as lock:
        assert lock.notes == ("took over a damaged lock",)


@pytest.mark.parametrize("pid", [0, -1, 2**40])
def test_a_pid_that_cannot_be_is_dead(pid):
    assert is_alive(Holder(os.uname().nodename, pid, "")) is False


def test_check_notices_a_removed_folder_and_a_lost_lock(tmp_path, dead_pid):
    run = tmp_path / "run"
    run.mkdir()
    lock = Lock.acquire(run)
    write_lock(run, pid=dead_pid)
    with pytest.raises(RunError, match=f"was taken over by pid {dead_pid}"):
        lock.check()
    lock.release()
    assert read_holder(run).pid == dead_pid
    shutil.rmtree(run)
    with pytest.raises(RunError, match="the run folder was removed"):
        lock.check()
    lock.release()
    assert not run.exists()


def test_a_forked_child_does_not_give_the_lock_away(tmp_path, monkeypatch):
    with Lock.acquire(tmp_path) as lock:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            lock.release()
        lock.check()


def test_only_one_of_many_that_find_a_stale_lock_takes_it(tmp_path, dead_pid):
    write_lock(tmp_path, pid=dead_pid, start="x")
    script = HOLD.replace("time.sleep(60)", "sys.stdin.read()")
    run = [sys.executable, "-c", script, tmp_path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen(run, **pipes) for _ in range(4)]
    first = [racer.stdout.readline() for racer in racers]
    for racer in racers:
        racer.communicate("")
    assert sorted(first) == ["", "", "", "held\n"]


def test_taking_the_lock_waits_for_whoever_is_taking_it(tmp_path):
    refused = []

    def take():
        try:
            Lock.acquire(tmp_path)
        except RunError as error:
            refused.append(str(error))

    with open(tmp_path / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        write_lock(tmp_path, pid=os.getppid())
    thread.join()
    assert len(refused) == 1 and f"in use by pid {os.getppid()} " in refused[0]


def test_a_read_only_folder_is_refused(open_folder, as_nobody):
    open_folder.chmod(0o555)
    with pytest.raises(RunError, match="Permission denied; check the permissions"):
        as_nobody(lambda: Lock.acquire(open_folder))
