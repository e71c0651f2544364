"""Transfer between halves of CIFAR-10: a network found and trained on five classes, carried to the other five.

    METANAS_DATA=folder python benchmarks/transfer_cifar.py

Images halved to 16x16. Source: airplane, bird, cat, horse, truck, 15,000 images; DrNAS for a few epochs over
NAS-Bench-201's cells (C 8, N 1), then a training of 15 epochs. Target: automobile, deer, dog, frog, ship; 100 labels
(20 a class, drawn anew for each of six draws), 1,000 and 10,000 (three draws), tested on the 5,000 test images.
`Result.transfer` gives both scores of a draw: fine-tuned (or frozen features and a new head, or a new search whose
supernet starts from the weights), and the same architecture from scratch on the same labels, epochs and augmentation.
The settings were fixed beforehand: rate 0.1, a third of it for what is carried.

Printed: accuracies, and the mean paired difference with its 95 % interval (Student's t over the draws).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar import cifar16
from machine import machine
from scipy.stats import t

import metanas
from metanas.api import Result

SOURCE, TARGET = (0, 2, 3, 7, 9), (1, 4, 5, 6, 8)  # by CIFAR-10's own numbers
EPOCHS = {100: 150, 1000: 40, 10_000: 15}
DRAWS = {100: 6, 1000: 3, 10_000: 3}
HOWS = ("finetune", "frozen", "search")
Arrays = tuple[np.ndarray, np.ndarray]


def half(images: np.ndarray, labels: np.ndarray, classes: tuple[int, ...]) -> Arrays:
    """The images of these classes, and their labels from 0."""
    there = np.isin(labels, classes)
    return images[there], np.searchsorted(classes, labels[there])


def source(images: Arrays, folder: Path) -> Result:
    settings = {
        "data.inner": 7000, "data.outer": 7000, "data.test": 1000,
        "search.epochs": 4, "search.warmup": 1, "evaluation.epochs": 15, "evaluation.random": 0, "threads": 1,
    }  # fmt: skip
    return metanas.search("nasbench201", images, settings=settings, run=folder / "source")


def drawn(train: Arrays, test: Arrays, labels: int, seed: int) -> dict[str, Any]:
    """As many of each class, halved between inner and outer split."""
    rng, (x, y) = np.random.default_rng([seed, labels]), train
    rows = [rng.permutation(np.flatnonzero(y == k))[: labels // len(TARGET)] for k in range(len(TARGET))]
    inner, outer = (np.concatenate([row[k::2] for row in rows]) for k in (0, 1))
    return {"inner": (x[inner], y[inner]), "outer": (x[outer], y[outer]), "test": test}


def interval(values: list[float]) -> str:
    half_width = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{100 * statistics.mean(values):.2f} +- {100 * half_width:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, nargs="+", choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument("--how", nargs="+", choices=HOWS, default=["finetune", "frozen"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    arrays = cifar16(os.environ["METANAS_DATA"], train=50_000, test=10_000)
    parts = {name: (arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in ("train", "test")}
    train, test = (half(*parts[name], TARGET) for name in ("train", "test"))
    x, y = half(*parts["train"], SOURCE)
    with tempfile.TemporaryDirectory() as folder:
        found = source((x[:15_000], y[:15_000]), Path(folder))
        print(f"source: {found}, {found.search_seconds:.0f} s and {found.train_seconds:.0f} s", flush=True)
        for labels in asked.labels:
            for how in asked.how:
                settings = {"evaluation.epochs": EPOCHS[labels], "evaluation.batch_size": 32, "evaluation.lr": 0.1}
                rate = {} if how == "frozen" else {"lr": 0.03}
                scores = []
                for seed in range(DRAWS[labels]):
                    run = Path(folder, f"{how}-{labels}-{seed}")
                    data = drawn(train, test, labels, seed)
                    moved = found.transfer(data, how=how, seed=seed, settings=settings, run=run, **rate)
                    scores.append((moved.test_score, moved.scratch_score))
                carried, scratch = (list(column) for column in zip(*scores, strict=True))
                gained = interval([a - b for a, b in scores])
                print(
                    f"{labels} labels, {how}: {interval(carried)}, scratch {interval(scratch)}, gained {gained}",
                    flush=True,
                )
                print("   ", ", ".join(f"{a:.2%} {b:.2%}" for a, b in scores), flush=True)


if __name__ == "__main__":
    main()
