"""How long what should answer at once takes: `python benchmarks/startup.py`.

    command                          median    quickest
    python -c pass                   0.02 s      0.02 s
    metanas --help                   0.20 s      0.19 s

The commands are run in turn, so that whatever else the machine does falls on all of them alike. The bare interpreter is
the part that no command can avoid. Goal: each under 0.5 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

from metanas.recipe.spaces import load_space
from metanas.run import EventWriter, RunFolder
from metanas.space import space_to_json

GOAL = 0.5  # seconds
EPOCHS, STEPS = 50, 20
METANAS = (sys.executable, "-m", "metanas")
COMMANDS = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "import metanas": (sys.executable, "-c", "import metanas"),
    "metanas --help": (*METANAS, "--help"),
    "metanas runs": (*METANAS, "runs"),
    "metanas show": (*METANAS, "show", "run-0"),
    "metanas spaces": (*METANAS, "spaces"),
    "metanas spaces NAME": (*METANAS, "spaces", "nasbench201"),
    "metanas search --print-recipe": (*METANAS, "search", "--print-recipe"),
}


def make_runs(root: Path, count: int = 20) -> None:
    """Runs of 50 epochs and 1,000 steps, as `runs` and `show` read them."""
    root.mkdir()
    space = space_to_json(load_space("nasbench201"))
    weights = {choice["name"]: [0.2] * len(choice["candidates"]) for choice in space["choices"]}
    for k in range(count):
        run = RunFolder.create(f"run-{k}", root=root)
        run.write_recipe({"schema": 1, "recipe": {"search": {"epochs": EPOCHS}}, "data": {"name": "digits"}})
        run.write_space(space)
        with EventWriter(run.events) as log:
            log.write("begin", step=0)
            for epoch in range(1, EPOCHS + 1):
                for step in range((epoch - 1) * STEPS + 1, epoch * STEPS + 1):
                    log.write(
                        "step", step=step, epoch=epoch, inner_loss=1.0, outer_loss=1.0, gradient_norm=1.0, skipped=0
                    )
                log.write(
                    "epoch", epoch=epoch, epochs=EPOCHS, step=step, inner_loss=1.0, outer_loss=1.0, weights=weights
                )
            log.write("end", status="finished", message="")


def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of every command, `rounds` times each, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder, "runs"))
        seconds = measure(arguments.rounds, Path(folder))
    print(machine())
    width = max(map(len, COMMANDS))
    print(f"{'command':<{width}}    median    quickest")
    for name, values in seconds.items():
        median = statistics.median(values)
        late = "" if median < GOAL else f"   over the goal of {GOAL} s"
        print(f"{name:<{width}}   {median:5.2f} s     {min(values):5.2f} s{late}")


if __name__ == "__main__":
    main()
