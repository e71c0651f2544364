"""Short trainings of a refinement: one after the other, with two threads inside each operation, and two at a time.

    METANAS_DATA=... python benchmarks/workers.py [--rounds 2] [--candidates 6]

The networks of `nasbench201_quality.py` (NAS-Bench-201 cells of C 8, N 1; CIFAR-10 halved to 16x16, 10,000 images,
batches of 64), each trained for an epoch from the weights of one supernet. The ways take turns in one process; medians.
What is found is printed: one thread an operation gives the same numbers with any number of workers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

import torch
from machine import machine
from nasbench201_quality import prepared

from metanas.api.parts import Parts
from metanas.loop import Refinement, Round
from metanas.network import supernet

WAYS = {"1 worker, 1 thread": (1, 1), "1 worker, 2 threads": (1, 2), "2 workers, 1 thread each": (2, 1)}
START = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def refined(parts: Parts, weights: dict[str, Any], candidates: int, workers: int) -> tuple[float, list[float]]:
    """Seconds, and the values in their order."""
    start, brief = parts.space.parse(START), parts.brief(weights, lr=0.05)
    search = Refinement(parts.within, start, brief, [Round(candidates, 1)], seed=0, workers=workers)
    begun = time.perf_counter()
    values = [evaluation.value for evaluation in search.steps()]
    return time.perf_counter() - begun, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--cache", default="runs/cifar16.npz", help="where the halved images are kept")
    options = parser.parse_args()
    os.environ |= {"METANAS_CACHE": options.cache, "METANAS_EXECUTOR": "fused"}
    os.environ |= {"METANAS_WORKERS": "1", "METANAS_THREADS": "1"}
    parts = prepared(0)
    network = supernet(parts.space, parts.data.shape, parts.data.outputs)
    weights = {name: p.detach() for name, p in network.named_parameters()}
    print(machine())
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for k in range(options.rounds):
        for way, (workers, threads) in WAYS.items():
            torch.set_num_threads(threads)
            spent, values = refined(parts, weights, options.candidates, workers)
            seconds[way].append(spent)
            print(f"round {k}  {way:<26}{spent:7.1f} s  {[round(value, 4) for value in values]}", flush=True)
    base = statistics.median(seconds["1 worker, 1 thread"])
    for way, rows in seconds.items():
        print(f"{way:<26}{statistics.median(rows):7.1f} s  {base / statistics.median(rows):.2f} times as fast")


if __name__ == "__main__":
    main()
