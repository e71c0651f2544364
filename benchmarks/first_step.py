"""From the start of a process to the first step of a search: `python benchmarks/first_step.py`.

The supernets of the papers, NAS-Bench-201 (C 16, N 5) and DARTS (C 16, 8 layers), on random images of 3x32x32, batches
of 64, with the recipe's defaults: everything that `metanas search` does before, and then the step itself (DrNAS, first
order: one of the weights, one of omega). Each is a process of its own; the seconds count from its first line.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any

SPACES: dict[str, dict[str, Any]] = {
    "nasbench201": {"channels": 16, "cells": 5},
    "darts": {"channels": 16, "layers": 8},
}
PHASES = ("imports", "ready", "first step done", "second step done")


def told(space: str, threads: int) -> None:
    """A line of wall seconds at the end of each phase."""
    begun = time.perf_counter()
    import torch

    torch.set_num_threads(threads)
    from metanas.api.handed import Handed
    from metanas.api.work import prepare
    from metanas.data import Data, Split
    from metanas.recipe import Recipe

    ends = [time.perf_counter()]
    names = tuple(map(str, range(10)))
    split = Split(torch.randn(128, 3, 32, 32), torch.arange(128) % 10)
    data = Data("random", split, split, split, names, (), "", (0.0,), (1.0,), (0.0, 1.0))
    asked = {"space": {"name": space, "options": SPACES[space]}, "data": {"source": None}, "threads": threads}
    steps = prepare(Recipe.model_validate(asked), None, data, Handed()).search().steps()
    ends.append(time.perf_counter())
    for _ in range(2):
        float(next(steps).inner_loss)
        ends.append(time.perf_counter())
    print(*(end - begun for end in ends))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--told", choices=SPACES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.told:
        told(options.told, options.threads)
        return
    from machine import machine

    print(machine(), f"({options.threads} threads)")
    command = (sys.executable, __file__, "--threads", str(options.threads), "--told")
    found: dict[str, list[list[float]]] = {space: [] for space in SPACES}
    for _ in range(options.rounds):
        for space, rows in found.items():
            out = subprocess.run((*command, space), check=True, capture_output=True, text=True).stdout
            rows.append([float(word) for word in out.split()])
    for space, rows in found.items():
        medians = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{space:<12}", "   ".join(f"{p} {m:.1f} s" for p, m in zip(PHASES, medians, strict=True)))


if __name__ == "__main__":
    main()
