"""SIGKILL while checkpoints are written (FAULTS row 2): a whole one loads, never an older than was reported.

One process imports torch and forks a writer for each kill; it looks at what every killed writer left behind.
"""

import json
import signal
import subprocess
import sys

SCRIPT = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from metanas.run import RunFolder
from metanas.run.checkpoints import load, save

torch.set_num_threads(1)
run = RunFolder.create("first", root=Path(sys.argv[1]))
generator, found = random.Random(0), []
for kill in range(10):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        lock = run.lock()
        checkpoint = load(run.checkpoints)
        step = checkpoint.step if checkpoint else 0
        while True:
            step += 1
            save(run.checkpoints, step, {"omega": torch.full((50_000,), float(step)), "step": step}, step)
            os.write(writer, b"%d " % step)
    os.close(writer)
    os.read(reader, 1)
    time.sleep(generator.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        reported = file.read().split()
    checkpoint = load(run.checkpoints)
    step, tree = checkpoint.step, checkpoint.tree
    found.append({
        "step": step,
        "reported": int(reported[-1]) if len(reported) > 1 else 0,
        "whole": bool((tree["omega"] == step).all()) and tree["step"] == checkpoint.event_offset == step,
        "warnings": checkpoint.warnings,
    })
with run.lock() as lock:
    save(run.checkpoints, 10**6, {}, 0)
print(json.dumps({"found": found, "files": sorted(os.listdir(run.checkpoints)), "notes": lock.notes}))
"""


def test_killed_at_random_moments(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    before = 0
    for kill in report["found"]:
        assert kill["whole"] and kill["warnings"] == [] and kill["step"] >= max(kill["reported"], before), kill
        before = kill["step"]
    assert len(report["found"]) == 10
    assert "took over the lock of pid" in report["notes"][0]
    assert len(report["files"]) == 4 and not any(name.endswith(".tmp") for name in report["files"])


AT_EVERY_OPERATION = """
import json, os, signal, sys
from pathlib import Path
import torch
from metanas.run import RunFolder
from metanas.run.checkpoints import load, save

OPERATIONS = ("open", "write", "fsync", "close", "replace", "unlink", "mkdir", "listdir")

def tree(step):
    return {"omega": torch.full((64,), float(step)), "step": step}

def dies_at(last):
    left = [last]
    def guard(original, name):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                if name == "write":  # in the middle of it: half of the bytes are in the file
                    original(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)
        return call
    for name in OPERATIONS:
        setattr(os, name, guard(getattr(os, name), name))

torch.set_num_threads(1)
run = RunFolder.create("first", root=Path(sys.argv[1]))
found = []
for last in range(200):
    for path in run.checkpoints.glob("*"):
        path.unlink()
    for step in (1, 2):
        run.checkpoints.mkdir(exist_ok=True)
        save(run.checkpoints, step, tree(step), 10 * step)
    child = os.fork()
    if child == 0:
        lock = run.lock()
        dies_at(last)
        save(run.checkpoints, 3, tree(3), 30)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    checkpoint = load(run.checkpoints)
    with run.lock() as lock:
        left_behind = [note for note in lock.notes if "unfinished" in note]
        hidden = [name for name in os.listdir(run.checkpoints) if name.startswith(".")]
    whole = repr(checkpoint.tree) == repr(tree(checkpoint.step)) and checkpoint.event_offset == 10 * checkpoint.step
    found.append({
        "status": status, "step": checkpoint.step, "whole": whole, "warnings": checkpoint.warnings,
        "removed": left_behind, "hidden": hidden,
    })
    if status == 0:
        break
print(json.dumps(found))
"""


def test_killed_at_every_file_operation(tmp_path):
    """The n-th operation of a save is its last, for every n; a write ends half-way."""
    script = [sys.executable, "-c", AT_EVERY_OPERATION, tmp_path]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *kills, last = json.loads(done.stdout)
    assert len(kills) > 15 and all(kill["status"] == signal.SIGKILL for kill in kills)
    assert (last["status"], last["step"]) == (0, 3)
    steps = [kill["step"] for kill in kills]
    assert steps == sorted(steps) and set(steps) == {2, 3}, "the commit is one moment"
    for kill in [*kills, last]:
        assert kill["whole"] and kill["warnings"] == [] and kill["hidden"] == [], kill
    assert sum(bool(kill["removed"]) for kill in kills) >= 4, "the next writer removes what was half written"
