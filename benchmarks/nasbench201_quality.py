"""Search quality on a CPU: cells found on CIFAR-10 halved to 16x16, looked up in NAS-Bench-201's table.

    METANAS_DATA=... python benchmarks/nasbench201_quality.py --seeds 1000 1001 1002 1003 1004 --column cifar10_test

Protocol: 2x2 means, crop with padding 2 and flip, batch 64, 10,000 inner and 10,000 outer images, supernet of C 8, N 1.
Per seed a search by the recipe below, and a random search of the same wall time: random architectures, each trained
from scratch for 3 epochs on the inner split, the one with the least loss on the outer split kept. Two processes of
one thread each work side by side, so each has one of two cores; with --threads 2 one at a time has both, for its
operations, and with --workers 2 besides for two trainings of its refinement at once. Settings are chosen
on the column `cifar10_valid` and on seeds below 1000; the seeds of a report are used once.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import os
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

RECIPE = """
[space]
name = "nasbench201"
options = {channels = 8, cells = 1}

[search]
controller = "darts_pt"
epochs = 5
lr = 0.1
lr_end = 0.01
monitor = 1024
refine = [{candidates = 25, epochs = 1}, {candidates = 5, epochs = 3}]
"""
RANDOM_EPOCHS = 3


def prepared(seed: int, changes: Mapping[str, Any] | None = None) -> Any:
    """The parts of a search with one seed, made anew in this process; `changes` of the recipe."""
    import tomllib

    import torch
    from cifar import cifar16

    from metanas.api.parts import Parts
    from metanas.data import Crop, Flip, load_data
    from metanas.recipe import override, read
    from metanas.recipe.spaces import load_space

    workers, threads = int(os.environ["METANAS_WORKERS"]), int(os.environ["METANAS_THREADS"])
    torch.set_num_threads(threads)
    raw = cifar16(os.environ["METANAS_DATA"], cache=os.environ["METANAS_CACHE"])
    data = load_data(
        (raw["x_train"], raw["y_train"]),
        inner=10_000,
        outer=10_000,
        test=1_000,  # never looked at
        seed=seed,
        augment=(Crop(2), Flip()),
        name="cifar16",
    )
    settings = {"seed": seed, "data.source": None, "threads": threads, "workers": workers}
    settings |= {"search.executor": os.environ["METANAS_EXECUTOR"], **(changes or {})}
    recipe = read(override(tomllib.loads(RECIPE), settings))
    space = load_space("nasbench201", channels=8, cells=1)
    return Parts(recipe, space, space, data)


def by_search(seed: int, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The recipe's search: architecture and seconds; `changes` of the recipe."""
    from metanas.api.host import threads

    parts = prepared(seed, changes)
    started = time.perf_counter()
    search = parts.search()
    for _ in search.steps():
        pass
    start = search.derive()
    supernet_seconds = time.perf_counter() - started
    refinement = parts.refinement(start, {name: p.detach() for name, p in search.theta.items()})
    with threads(int(os.environ["METANAS_THREADS"]) // int(os.environ["METANAS_WORKERS"])):
        for _ in refinement.steps():
            pass
    return {
        "key": str(refinement.derive()),
        "start": str(start),
        "supernet_seconds": supernet_seconds,
        "seconds": time.perf_counter() - started,
    }


def by_chance(seed: int, seconds: float) -> dict[str, Any]:
    """Random search for as long."""
    import numpy as np

    from metanas.loop import measured

    parts = prepared(seed)
    brief, rng = parts.brief(), np.random.default_rng([seed, 2])
    started, rows = time.perf_counter(), []
    while time.perf_counter() - started < seconds:
        architecture = parts.space.sample(rng)
        values, _ = measured(brief, architecture, RANDOM_EPOCHS)
        rows.append((values[0] if values else -math.inf, str(architecture)))
    return {"key": max(rows)[1], "trained": len(rows), "seconds": time.perf_counter() - started}


def table(column: str) -> dict[str, float]:
    """Architecture string -> accuracy."""
    with gzip.open(Path(os.environ["METANAS_DATA"]) / "nasbench201.csv.gz", "rt") as file:
        return {row["arch"]: float(row[column]) for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--column", default="cifar10_valid")
    parser.add_argument("--cache", default="runs/cifar16.npz", help="where the halved images are kept")
    parser.add_argument("--no-random", action="store_true")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1, help="of one search; 1: two at once")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1, help="trainings at once; 2 needs 2 threads")
    parser.add_argument("--executor", choices=("fused", "plain"), default="fused")
    options = parser.parse_args()
    if options.workers > options.threads:
        parser.error("--workers 2 needs --threads 2")
    os.environ |= {"METANAS_CACHE": options.cache, "METANAS_WORKERS": str(options.workers)}
    os.environ["METANAS_THREADS"] = str(options.threads)
    os.environ["METANAS_EXECUTOR"] = options.executor
    from machine import machine

    print(f"{machine()} ({options.threads} threads a search, {3 - options.threads} searches at once)")
    accuracy = table(options.column)
    found: dict[str, list[float]] = {"search": [], "random": []}
    seconds = []
    with ProcessPoolExecutor(3 - options.threads, max_tasks_per_child=1) as pool:
        prepared(options.seeds[0])  # writes the cache
        searches = {seed: pool.submit(by_search, seed) for seed in options.seeds}
        chances: dict[int, Any] = {}
        for seed, job in searches.items():
            row = job.result()
            found["search"].append(accuracy[row["key"]])
            seconds.append(row["seconds"])
            before = accuracy[row["start"]]
            print(
                json.dumps({"seed": seed, "accuracy": found["search"][-1], "start_accuracy": before, **row}), flush=True
            )
            if not options.no_random:
                chances[seed] = pool.submit(by_chance, seed, row["seconds"])
        for seed, job in chances.items():
            row = job.result()
            found["random"].append(accuracy[row["key"]])
            print(json.dumps({"seed": seed, "random": found["random"][-1], **row}), flush=True)
    for name, values in found.items():
        if values:
            spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            print(f"{name:<7} {options.column}  mean {statistics.mean(values):.2f}{spread}  min {min(values):.2f}")
    print(f"seconds a seed  mean {statistics.mean(seconds):.0f}  max {max(seconds):.0f}")


if __name__ == "__main__":
    main()
