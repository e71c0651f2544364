"""What watching costs: `python benchmarks/view.py`.

    attach    100,000 events to the first drawn screen, in a process of its own          under 1 s
    follow    CPU time of a live view while a run writes 20 events a second               under 5 % of a core
    write     time that a search spends in writing its events                            under 1 % of its time

The first two are processes of their own, as `metanas watch` is. The view draws on a pseudo-terminal of 80x24 that is
read as fast as it writes; its start is not counted in what following costs. On a machine that does other work as well,
wall times grow with its load, CPU times less so: the load is printed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

from machine import machine

import metanas
from metanas.recipe.spaces import load_space
from metanas.run import EventWriter, Lock, RunFolder
from metanas.space import space_to_json

GOALS = {"attach": 1.0, "follow": 0.05, "write": 0.01}  # seconds; shares of a core and of the time
STEPS = 99  # of an epoch
DRAW = (
    "import sys, time; from rich.console import Console;"
    "from metanas.ui import read; from metanas.ui.screen import Sheet;"
    "console = Console(width=80, height=24, force_terminal=True);"
    "console.print(Sheet(read(sys.argv[1]), now=time.time(), height=24))"
)
WATCH = "import sys; from metanas.ui import watch; watch(sys.argv[1])"


class Made:
    """A run that goes on: `epochs` of 99 steps, with the weights of a NAS-Bench-201 search."""

    def __init__(self, root: Path, name: str, epochs: int) -> None:
        self.run = RunFolder.create(name, root=root)
        space = space_to_json(load_space("nasbench201"))
        self.run.write_recipe({"schema": 1, "recipe": {"search": {"epochs": 2000}}, "data": {"name": "digits"}})
        self.run.write_space(space)
        choices = {choice["name"]: choice["candidates"] for choice in space["choices"]}
        self.weights = {name: [1 / len(labels) + 1e-9] * len(labels) for name, labels in choices.items()}
        self.labels = {name: labels[1] for name, labels in choices.items()}
        self.lock = Lock.acquire(self.run.path)  # it counts as alive
        self.log, self.step = EventWriter(self.run.events), 0
        self.log.write("begin", host="here", pid=os.getpid(), resumed=False, step=0)
        for _ in range(epochs * (STEPS + 1)):
            self.write()
        self.log.flush()

    def write(self) -> None:
        """The next event: a step, or after 99 of them an epoch."""
        epoch, place = divmod(self.step, STEPS + 1)
        self.step += 1
        losses: dict[str, Any] = {
            "inner_loss": 1 / (1 + epoch) + 0.123456789,
            "outer_loss": 1 / (1 + epoch) + 0.223456789,
        }
        if place < STEPS:
            facts = {"gradient_norm": 1.2345678, "outer_gradient_norm": 0.012345678, "skipped": 0}
            self.log.write("step", step=epoch * STEPS + place + 1, epoch=epoch + 1, **losses, **facts)
        else:
            scores = {"outer_score": 1 - 1 / (2 + epoch), "derived_score": 0.5, "gap": 0.25, "entropy": 0.75, "lr": 0.1}
            found = {"weights": self.weights, "architecture": self.labels, "key": None, "host_memory": 512_000_000}
            self.log.write("epoch", epoch=epoch + 1, epochs=2000, step=(epoch + 1) * STEPS, **losses, **scores, **found)


def attach(folder: Path, rounds: int) -> list[float]:
    """Seconds from the start of a process until it has drawn the run."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", DRAW, str(folder)], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return seconds


def follow(made: Made, seconds: float, rate: int) -> float:
    """The share of a core that a live view takes while `rate` events a second are written."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", WATCH, str(made.run.path)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        _drain(ours, 3.0)  # it has drawn
        before, began = _cpu(process.pid), time.monotonic()
        while time.monotonic() - began < seconds:
            made.write()
            _drain(ours, 1 / rate)
        return (_cpu(process.pid) - before) / (time.monotonic() - began)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _drain(terminal: int, seconds: float) -> None:
    """Takes what arrives on the terminal for so long."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            os.read(terminal, 1 << 16)


def _cpu(pid: int) -> float:
    """CPU seconds of a process so far, of the system's work for it too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write(folder: Path, epochs: int) -> tuple[float, float, int]:
    """Seconds in `EventWriter.write` and of the whole of a short search, and how many events it wrote."""
    spent, calls, plain = 0.0, 0, EventWriter.write

    def timed(self: EventWriter, kind: str, **fields: Any) -> dict[str, Any]:
        nonlocal spent, calls
        started = time.perf_counter()
        event = plain(self, kind, **fields)
        spent += time.perf_counter() - started
        calls += 1
        return event

    setattr(EventWriter, "write", timed)  # noqa: B010  (mypy knows methods as constants)
    started = time.perf_counter()
    settings = {"evaluation.epochs": 1, "evaluation.random": 1, "threads": 1}
    metanas.search("nasbench201", "digits", epochs=epochs, run=folder, settings=settings, seed=0)
    whole = time.perf_counter() - started
    setattr(EventWriter, "write", plain)  # noqa: B010
    return spent, whole, calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        made = Made(root, "long", arguments.events // (STEPS + 1))
        drawn = attach(made.run.path, arguments.rounds)
        shares = {"short": follow(Made(root, "short", 10), arguments.seconds, arguments.rate)}
        shares["long"] = follow(made, arguments.seconds, arguments.rate)
        spent, whole, calls = write(root / "search", 2)
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{machine()}; load {load}\n")
    print(f"{'what':<48}{'median, share':>14}{'aim':>8}")
    row = f"attach to {arguments.events:,} events, to the first screen"
    print(f"{row:<48}{statistics.median(drawn):>12.2f} s{GOALS['attach']:>6.0f} s")
    for length, share in shares.items():
        row = f"follow {arguments.rate} events a second of a {length} run"
        print(f"{row:<48}{share:>14.1%}{GOALS['follow']:>8.0%}")
    row = f"write {calls} events, {1e6 * spent / calls:.0f} us each"
    print(f"{row:<48}{spent / whole:>14.2%}{GOALS['write']:>8.0%}")


if __name__ == "__main__":
    main()
