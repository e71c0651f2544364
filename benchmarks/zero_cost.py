"""Zero-cost scores on NAS-Bench-201: do they order networks as training orders them?

    METANAS_DATA=folder python benchmarks/zero_cost.py results.jsonl [--count 1000] [--seconds 600] [--part 0/2]

Random architectures of the space as it was trained (C 16, N 5), one batch of 64 images of CIFAR-10, fresh weights, one
seed an architecture. Spearman's correlation with the test accuracy after 200 epochs (`nasbench201.csv.gz`, column
cifar10_test), ties sharing a rank; a score that is not finite ranks lowest. Each network is a line of the results file:
a run that was cut off goes on where it stopped, and with --count 0 what is there is printed.

Published: Abdelfattah et al., Zero-cost proxies for lightweight NAS, ICLR 2021, arXiv:2101.08134, on all 15,625.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from cifar import _decode
from machine import machine
from torch import Tensor

from metanas import load_space
from metanas.evaluation.proxies import SCORES, zero_cost
from metanas.evaluation.tables import ArchitectureTable
from metanas.network import derived
from metanas.run import finite

SHAPE, CLASSES, BATCH = (3, 32, 32), 10, 64
MEASURED_ON = 2_000
"""Images that say mean and deviation of the channels."""

PUBLISHED = {"grad_norm": 0.58, "snip": 0.58, "grasp": 0.48, "fisher": 0.36, "synflow": 0.74, "jacob_cov": 0.73}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="JSON lines, one a network; made if it is not there")
    parser.add_argument("--count", type=int, default=1_000, help="networks in all")
    parser.add_argument("--seconds", type=float, default=math.inf, help="no network begins later")
    parser.add_argument("--seed", type=int, default=0, help="of the architectures and the batch")
    parser.add_argument("--part", default="0/1", help="K/N: of what is left every Nth, from the Kth on (0 to N - 1)")
    options = parser.parse_args()
    if "METANAS_DATA" not in os.environ:
        print("set METANAS_DATA to the folder with nasbench201.csv.gz and cifar10_train.npz", file=sys.stderr)
        return 2
    folder = Path(os.environ["METANAS_DATA"])
    table = ArchitectureTable.read(folder / "nasbench201.csv.gz", key="arch", test=("cifar10_test",))
    measure(table, folder, options)
    report(table, rows_of(options.results))
    return 0


def measure(table: ArchitectureTable, folder: Path, options: argparse.Namespace) -> None:
    """Adds lines to the results file, until there are as many networks as were asked for."""
    done = {row["arch"] for row in rows_of(options.results)}
    order = np.random.default_rng(options.seed).permutation(len(table))[: options.count]
    names = list(table.places)
    part, parts = map(int, options.part.split("/"))
    left = [k for k in order.tolist() if names[k] not in done][part::parts]
    if not left:
        return
    space = load_space("nasbench201", channels=16, cells=5)
    inputs, targets = batch(folder, options.seed)
    begun = time.perf_counter()
    for k in left:
        if time.perf_counter() - begun > options.seconds:
            return
        started = time.perf_counter()
        network = derived(space, space.parse(names[k]), SHAPE, CLASSES, seed=k)
        scores = zero_cost(network, inputs, targets)
        row = finite({"arch": names[k], **scores, "seconds": time.perf_counter() - started})
        with options.results.open("a", encoding="ascii") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")


def batch(folder: Path, seed: int) -> tuple[Tensor, Tensor]:
    """64 training images, their channels normalised, and their classes."""
    with np.load(folder / "cifar10_train.npz", allow_pickle=False) as file:
        jpeg, offset, label = file["jpeg"], file["offset"], file["label"]
    chosen = np.random.default_rng([seed, 1]).choice(len(label), MEASURED_ON, replace=False)
    images = np.stack([_decode(jpeg[offset[i] : offset[i + 1]].tobytes()) for i in chosen])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True)
    return ((pixels - mean) / std)[:BATCH], torch.from_numpy(label[chosen[:BATCH]].astype(np.int64))


def rows_of(path: Path) -> list[dict[str, float]]:
    """The lines of the results file; a last one that was cut off is left out."""
    lines = path.read_text(encoding="ascii").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def report(table: ArchitectureTable, rows: list[dict[str, float]]) -> None:
    """Prints a line for each score."""
    accuracy = np.array([table.columns["cifar10_test"][table.places[str(row["arch"])]] for row in rows])
    print(f"{machine()}\n\n{len(rows):,} networks, {np.median([row['seconds'] for row in rows]):.1f} s each (median)\n")
    print(f"{'score':<14}{'Spearman':>10}{'top tenth':>12}{'published':>12}")
    best = accuracy >= np.quantile(accuracy, 0.9)
    for name in SCORES:
        values = np.array([-math.inf if row[name] is None else row[name] for row in rows])
        top = f"{spearman(values[best], accuracy[best]):.2f}"
        print(f"{name:<14}{spearman(values, accuracy):>10.3f}{top:>12}{PUBLISHED.get(name, ''):>12}")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of the ranks; equal values share one."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def ranks(values: np.ndarray) -> np.ndarray:
    order = np.sort(values)
    return (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")) / 2


if __name__ == "__main__":
    sys.exit(main())
