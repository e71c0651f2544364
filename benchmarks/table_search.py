"""Searches by values on NAS-Bench-201's table, by the papers' protocol: choose on the validation accuracy after 12
epochs, pay for those epochs, stop at 12,000 seconds, report the test accuracy of the choice.

    METANAS_DATA=folder python benchmarks/table_search.py [--seeds 300] [--controllers random evolution]

The folder holds `nasbench201.csv.gz` (Dong and Yang, ICLR 2020; NATS-Bench, TPAMI 2021). Settings of the controllers
were chosen by the columns of ImageNet16-120 (`--data imagenet16`), never by those that are reported.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from machine import machine

from metanas import load_space
from metanas.controllers import ValueController
from metanas.evaluation.tables import ArchitectureTable
from metanas.loop import ValueSearch
from metanas.recipe import parse_setting
from metanas.recipe.tables import make_controller

SECONDS = 12_000.0
TESTS = ("cifar10_test", "cifar100_test", "imagenet16_test")
PUBLISHED = {"random": (93.76, 0.31), "evolution": (93.99, 0.33)}
"""Measured by an independent script, 300 seeds: mean and standard deviation."""


def charged(row: Mapping[str, float]) -> float:
    return row["cifar10_valid_train_seconds"] * 12 / 200 + row["cifar10_valid_eval_seconds"]


def searches(name: str, options: dict[str, Any], seeds: range, data: str) -> tuple[list[float], int, float]:
    """Test accuracies of the choices; evaluations of all searches; seconds to the first one's end."""
    begun = time.perf_counter()
    path = Path(os.environ["METANAS_DATA"]) / "nasbench201.csv.gz"
    table = ArchitectureTable.read(path, key="arch", test=TESTS)
    space = load_space("nasbench201", channels=16, cells=5)
    controller = make_controller(name, options)
    assert isinstance(controller, ValueController)
    found, evaluations, first = [], 0, 0.0
    for seed in seeds:
        objective = table.objective(f"{data}_valid_12_epochs", seconds=charged)
        search = ValueSearch(space, objective, controller, budget=10**6, seed=seed, seconds=SECONDS)
        for _ in search.steps():
            evaluations += 1
        found.append(table.test(search.derive(), f"{data}_test"))
        first = first or time.perf_counter() - begun
    return found, evaluations, first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--controllers", nargs="+", default=["random", "evolution", "local_search", "predictor"])
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="an option of the controllers: noise=0.1")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if "METANAS_DATA" not in os.environ:
        print("set METANAS_DATA to the folder with nasbench201.csv.gz", file=sys.stderr)
        return 2
    options = dict(map(parse_setting, arguments.settings))
    print(machine())
    share = -(-arguments.seeds // arguments.processes)
    parts = [range(k, min(k + share, arguments.seeds)) for k in range(0, arguments.seeds, share)]
    with ProcessPoolExecutor(arguments.processes) as pool:
        for name in arguments.controllers:
            begun = time.perf_counter()
            rows = list(
                pool.map(searches, *zip(*((name, options, part, arguments.data) for part in parts), strict=True))
            )
            scores = [score for found, _, _ in rows for score in found]
            error = statistics.stdev(scores) / len(scores) ** 0.5
            line = (
                f"{name:<13} {statistics.mean(scores):.2f} +- {statistics.stdev(scores):.2f} (standard error "
                f"{error:.3f}), {sum(n for _, n, _ in rows) / len(scores):.0f} evaluations each; {len(scores)} "
                f"searches in {time.perf_counter() - begun:.1f} s, the first {rows[0][2]:.2f} s with the table"
            )
            if name in PUBLISHED and arguments.data == "cifar10" and not options:
                mean, deviation = PUBLISHED[name]
                both = (error**2 + deviation**2 / 300) ** 0.5
                line += f"; {abs(statistics.mean(scores) - mean) / both:.1f} standard errors from {mean} +- {deviation}"
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
