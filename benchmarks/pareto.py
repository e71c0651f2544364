"""Several objectives on NAS-Bench-201's table: validation accuracy after 12 epochs against the latency of one device.

    METANAS_DATA=folder python benchmarks/pareto.py [--seeds 20] [--budget 300] [--device titan_rtx_256]

The folder holds `nasbench201.csv.gz` (Dong and Yang, ICLR 2020; NATS-Bench, TPAMI 2021) and
`nasbench201_latency_ms.csv.gz` (HELP, NeurIPS 2021). What is reported is the hypervolume that a search's front covers,
as a share of what the true front of all 15,625 architectures covers, above the worst accuracy and the largest latency,
each scaled to its range. A few latencies are outliers of the measurement: those beyond the 0.1st and the 99.9th
percentile are pulled in to them, or they would be the front. Settings of the controllers were chosen on another device
(`pixel3`).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from numpy.typing import NDArray

from metanas import load_space
from metanas.controllers import (
    Nsga2,
    ParetoController,
    Predictor,
    RandomSearch,
    RegularisedEvolution,
    ValueController,
    hypervolume,
)
from metanas.controllers.front import ranks
from metanas.loop import ValueSearch
from metanas.samplers import OptunaSearch
from metanas.space import Architecture

CONTROLLERS: dict[str, ValueController | ParetoController] = {
    "random": RandomSearch(),
    "nsga2": Nsga2(),
    "scalarised evolution": RegularisedEvolution(),
    "scalarised predictor": Predictor(),
    "scalarised optuna": OptunaSearch(),
}


def table(device: str) -> dict[str, tuple[float, float]]:
    """Architecture -> (accuracy in per cent, latency in ms)."""
    folder = Path(os.environ["METANAS_DATA"])
    with gzip.open(folder / "nasbench201.csv.gz", "rt") as file:
        accuracies = {int(row["index"]): (row["arch"], float(row[COLUMN])) for row in csv.DictReader(file)}
    with gzip.open(folder / "nasbench201_latency_ms.csv.gz", "rt") as file:
        latencies = {int(row["index"]): float(row[device]) for row in csv.DictReader(file)}
    low, high = np.percentile(list(latencies.values()), [0.1, 99.9])
    return {
        arch: (accuracy, float(np.clip(latencies[index], low, high))) for index, (arch, accuracy) in accuracies.items()
    }


COLUMN = "cifar10_valid_12_epochs"


class Scale:
    """Accuracy and latency as gains between 0 and 1."""

    def __init__(self, rows: dict[str, tuple[float, float]]) -> None:
        points = np.array(list(rows.values())) * [1.0, -1.0]
        self.low, self.across = points.min(0), np.ptp(points, 0)
        scaled = self(points)
        accurate = scaled[np.argsort(-scaled[:, 0])]
        latest = np.maximum.accumulate(np.append(-1.0, accurate[:-1, 1]))
        self.front = accurate[accurate[:, 1] > latest]  # as accurate as any that is as fast
        self.front = self.front[ranks(self.front) == 0]
        self.whole = hypervolume(self.front, (0.0, 0.0))

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return (points - self.low) / self.across


def covered(
    controller: ValueController | ParetoController,
    rows: dict[str, tuple[float, float]],
    scale: Scale,
    args: Any,
    seed: int,
) -> tuple[float, int]:
    """The share of the true front's hypervolume that one search covers, and how many architectures it keeps."""

    def objective(architecture: Architecture) -> tuple[float, float]:
        return rows[str(architecture)]

    space = load_space("nasbench201", channels=16, cells=5)
    search = ValueSearch(space, objective, controller, budget=args.budget, seed=seed, names=("accuracy", "-latency"))
    for _ in search.steps():
        pass
    front = np.array([list(values.values()) for _, values in search.front()]) * [1.0, -1.0]
    return hypervolume(scale(front), (0.0, 0.0)) / scale.whole, len(front)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--device", default="titan_rtx_256")
    parser.add_argument("--controllers", nargs="+", choices=CONTROLLERS, default=list(CONTROLLERS))
    args = parser.parse_args()
    if "METANAS_DATA" not in os.environ:
        print("set METANAS_DATA to the folder with nasbench201.csv.gz", file=sys.stderr)
        return 2
    rows = table(args.device)
    scale = Scale(rows)
    print(machine())
    print(f"{args.device}: {len(scale.front)} architectures on the true front, {args.budget} evaluations a search")
    for name in args.controllers:
        begun = time.perf_counter()
        found = [covered(CONTROLLERS[name], rows, scale, args, seed) for seed in range(args.seeds)]
        shares = [share for share, _ in found]
        print(
            f"{name:<22} {statistics.mean(shares):.4f} +- {statistics.stdev(shares):.4f} of the hypervolume, "
            f"{statistics.mean(n for _, n in found):.0f} on the front; "
            f"{(time.perf_counter() - begun) / len(found):.1f} s a search",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
