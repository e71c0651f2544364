"""Every controller for the same time on one core: cells found on CIFAR-10 halved to 16x16, looked up in a table.

    METANAS_DATA=... python benchmarks/nasbench201_controllers.py --seeds 3003 --seconds 150 --results rows.jsonl

The rows of docs/results.md are in benchmarks/rows/nasbench201_controllers.jsonl.

Protocol: data, supernet and recipe of `nasbench201_quality.py`, without its refinement but in the row of that name,
which has a shorter one: it fits into 150 s. Controllers have the options that they have by default. A search by
gradients gets as many epochs as `compare-controllers` would give it (`epochs_within`), with a process of one thread on
each core; one by values trains each architecture for 3 epochs and ends with the training that is under way when its
time is over. What is found is looked up in NAS-Bench-201's table (CIFAR-10, test, 200 epochs). Rows that are there are
not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from nasbench201_quality import RANDOM_EPOCHS, by_search, prepared, table
from scipy import stats

REFINED = "darts_pt, refined"
SHORTER = {"search.epochs": 3, "search.refine": [{"candidates": 7, "epochs": 1}, {"candidates": 2, "epochs": 3}]}
"""Of the recipe, for 150 s: 53 s for the supernet and its derivation, 13 epochs of short trainings."""
BY_VALUE: dict[str, dict[str, Any]] = {
    "random": {"controller": "random"},
    "random, screened by synflow": {"controller": "random", "screen.score": "synflow"},
    "evolution": {"controller": "evolution"},
    "local_search": {"controller": "local_search"},
    "predictor": {"controller": "predictor"},
    "optuna's TPE": {"controller": "optuna"},
    "hyperband": {"controller": "random", "eta": 3, "value_epochs": 9},
}
BY_GRADIENT: dict[str, dict[str, Any]] = {
    "darts": {"controller": "darts"},
    "darts, second order": {"controller": "darts", "estimator": "unrolled"},
    "darts, beta 50": {"controller": "darts", "options": {"beta": 50.0}},
    "darts, perturbed": {"controller": "darts", "perturb": 0.03},
    "darts, aligned": {"controller": "darts", "align": 0.125},
    "drnas": {"controller": "drnas"},
    "gdas": {"controller": "gdas"},
    "gumbel": {"controller": "gumbel"},
    "fair_darts": {"controller": "fair_darts"},
    "pc_darts": {"controller": "pc_darts"},
    "darts_pt": {"controller": "darts_pt"},
    "spos": {"controller": "spos"},
    "rsps": {"controller": "rsps"},
    "reinforce": {"controller": "reinforce"},
}
MANY = 10**6


def found_by(row: str, seed: int, seconds: float) -> dict[str, Any]:
    """What a controller finds in so many seconds: architecture, seconds, and how much it did."""
    if row == REFINED:
        return {"effort": "3 epochs, 9 trainings", **by_search(seed, SHORTER)}
    changes = (BY_VALUE | BY_GRADIENT)[row]
    settings = {"refine": [], "value_epochs": RANDOM_EPOCHS, "budget": MANY, **changes}
    recipe = {f"search.{key}": value for key, value in settings.items()}
    return (by_value if row in BY_VALUE else by_gradient)(seed, seconds, recipe)


def by_value(seed: int, seconds: float, recipe: dict[str, Any]) -> dict[str, Any]:
    search, count = prepared(seed, recipe).search(), 0
    started = time.perf_counter()
    for _ in search.steps():
        count += 1
        if time.perf_counter() - started >= seconds:
            break
    return {"key": str(search.derive()), "effort": f"{count} trainings", "seconds": time.perf_counter() - started}


def by_gradient(seed: int, seconds: float, recipe: dict[str, Any]) -> dict[str, Any]:
    from metanas.api.pacing import epochs_within

    epochs = epochs_within(prepared(seed, recipe), seconds)
    search = prepared(seed, recipe | {"search.epochs": epochs}).search()
    started = time.perf_counter()
    for _ in search.steps():
        pass
    trained = time.perf_counter() - started
    key, effort = str(search.derive()), f"{epochs} epochs"
    return {"key": key, "effort": effort, "steps_seconds": trained, "seconds": time.perf_counter() - started}


def told(rows: list[dict[str, Any]]) -> None:
    """A line for each controller, the best first; what it gains on random search, with a 95 % interval over the seeds
    that both have (Student's t)."""
    by_row: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_row.setdefault(row["row"], {})[row["seed"]] = row

    def values(name: str, key: str = "accuracy") -> dict[int, float]:
        return {seed: row[key] for seed, row in sorted(by_row[name].items())}

    chance = values("random") if "random" in by_row else {}
    for name in sorted(by_row, key=lambda name: -statistics.mean(values(name).values())):
        found = values(name)
        each = " ".join(f"{value:.2f}" for value in found.values())
        gains = [value - chance[seed] for seed, value in found.items() if seed in chance]
        seconds = statistics.mean(values(name, "seconds").values())
        efforts = ", ".join(dict.fromkeys(row["effort"] for row in by_row[name].values()))
        print(f"{name:<28} {spread(list(found.values()))}  ({each})  {gained(gains)}  {seconds:.0f} s  {efforts}")


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.2f}" + (f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def gained(values: list[float]) -> str:
    """Mean and its interval."""
    if len(values) < 2:
        return " ".join(f"{value:+.2f}" for value in values)
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):+.2f} +- {half:.2f}"


def main() -> None:
    rows_known = [REFINED, *BY_VALUE, *BY_GRADIENT]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="JSON lines; told, where there is nothing to run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=150.0, help="of each search")
    parser.add_argument("--rows", nargs="+", choices=rows_known, default=rows_known, metavar="ROW")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--cache", default="runs/cifar16.npz", help="where the halved images are kept")
    parser.add_argument("--column", default="cifar10_test")
    options = parser.parse_args()
    os.environ |= {"METANAS_CACHE": options.cache, "METANAS_WORKERS": "1", "METANAS_THREADS": "1"}
    os.environ["METANAS_EXECUTOR"] = "fused"
    from machine import machine

    print(machine(), f"({options.jobs} processes)", flush=True)
    text = options.results.read_text("ascii") if options.results.is_file() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    there = {(row["row"], row["seed"]) for row in rows}
    due = [(row, seed) for seed in options.seeds for row in options.rows if (row, seed) not in there]
    accuracy = table(options.column)
    with ProcessPoolExecutor(options.jobs, max_tasks_per_child=1) as pool:
        if due:
            prepared(due[0][1])  # writes the cache
        jobs = {pool.submit(found_by, row, seed, options.seconds): (row, seed) for row, seed in due}
        for job in as_completed(jobs):
            name, seed = jobs[job]
            rows.append({"row": name, "seed": seed, **job.result()})
            rows[-1]["accuracy"] = accuracy[rows[-1]["key"]]
            print(json.dumps(rows[-1]), flush=True)
            with options.results.open("a", encoding="ascii") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    told(rows)


if __name__ == "__main__":
    main()
