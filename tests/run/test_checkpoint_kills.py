"""SIGKILL while checkpoints are written (FAULTS row 2): a whole one loads, never an older than was reported.

One process imports torch and forks a writer for each kill; it looks at what every killed writer left behind.
"""

import json
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
