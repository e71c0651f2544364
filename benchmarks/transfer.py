"""Transfer: a network found and trained on Omniglot's characters, carried to MNIST with few labels.

    METANAS_DATA=folder python benchmarks/transfer.py

    source    964 characters, 20 drawings each, 28x28: DrNAS over NAS-Bench-201's cells, three stages of one cell (12,
              24, 48 channels) after a stem with stride 2; then the found network is trained
    target    MNIST, 100, 1,000 or 10,000 labels, as many of each digit, drawn anew each time; tested on its 10,000
    frozen    a new head on features that stay as they are
    finetune  a new head, and all else from the source's weights at a share of its learning rate
    search    a new search on 1,000 labels whose supernet starts from the source's weights
    scratch   the same architecture from random weights

All have the same labels, augmentation, batches and epochs (`EPOCHS`, by number of labels). The learning rate of each,
and its share of what is carried, are chosen for each number of labels among a few, on draws of their own and 2,000
other training images; so is whether scratch and fine-tuning take three times the epochs (`longer`).

Printed: accuracies of every draw; their means, and the mean paired difference to scratch with its 95 % interval
(Student's t over the draws).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from scipy.stats import t

import metanas
from metanas.api import Result
from metanas.api.handed import Handed
from metanas.api.transferring import Asked, prepare, recipe_of
from metanas.evaluation import score
from metanas.recipe.spaces import load_space
from metanas.space import NEEDED, Space, chain, op

EPOCHS = {100: 60, 1000: 10, 10000: 2}
DRAWS = {100: 10, 1000: 5, 10000: 3}
TUNING = {100: 2, 1000: 1, 10000: 1}
"""Draws on which settings are chosen; their seeds are from 1000 on."""
CHOICES: dict[str, list[dict[str, float]]] = {
    "scratch": [{"lr": lr, "longer": longer} for lr in (0.03, 0.1, 0.3) for longer in (1, 3)],
    "frozen": [{"lr": lr} for lr in (0.1, 0.3, 1.0)],
    "finetune": [{"lr": 0.1, "share": share, "longer": longer} for share in (0.1, 0.3, 1.0) for longer in (1, 3)],
}
KEPT = 2000  # images of MNIST's training set that only choose settings


def space() -> Space:
    """NAS-Bench-201's cells behind a stem with stride 2, which makes a step four times as fast."""
    cells = load_space("nasbench201", channels=12, cells=1)
    parts = {node.name: node.edges[0].content for node in cells.graph.nodes}
    parts["stem"] = op("conv", width=12, kernel=3, stride=2, norm="batch", activation="relu")
    assert parts["head"] == op("classifier", width=NEEDED, norm="batch", activation="relu")
    return Space(chain(*parts.items()), "cells")


@lru_cache
def mnist() -> dict[str, torch.Tensor]:
    with np.load(Path(os.environ["METANAS_DATA"], "mnist.npz")) as file:
        return {name: torch.from_numpy(file[name]) for name in ("x_train", "y_train", "x_test", "y_test")}


def omniglot() -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(Path(os.environ["METANAS_DATA"], "omniglot28.npz")) as file:
        images = torch.from_numpy(file["background"])
    return images.flatten(0, 1), torch.arange(len(images)).repeat_interleave(images.shape[1])


def source(folder: Path, threads: int) -> Result:
    """The network that is carried, from its run where there is one."""
    run = folder / "source"
    if (run / "result.json").exists():
        found = metanas.load_run(run).result()
        assert isinstance(found, Result)
        return found
    settings = {
        "data.inner": 0.45, "data.outer": 0.45, "data.test": 0.1,
        "search.epochs": 4, "search.batch_size": 96, "search.warmup": 1,
        "evaluation.epochs": 12, "evaluation.random": 0, "threads": threads, "device": "cpu",
    }  # fmt: skip
    return metanas.search(space(), omniglot(), settings=settings, run=run)


def drawn(labels: int, seed: int, *, choose: bool) -> dict[str, Any]:
    """As many labels of each digit in inner and outer split; the test set, or the images kept to choose by."""
    whole = mnist()
    draw = np.random.default_rng([seed, labels])
    x, y = whole["x_train"][KEPT:], whole["y_train"][KEPT:]
    each = labels // 20
    rows = [draw.choice(np.flatnonzero(y.numpy() == digit), 2 * each, replace=False) for digit in range(10)]
    inner, outer = (torch.from_numpy(np.concatenate([r[half] for r in rows])) for half in (np.s_[:each], np.s_[each:]))
    kept = (whole["x_train"][:KEPT], whole["y_train"][:KEPT])
    test = kept if choose else (whole["x_test"], whole["y_test"])
    return {"inner": (x[inner], y[inner]), "outer": (x[outer], y[outer]), "test": test}


def tried(found: Result, how: str, labels: int, seed: int, choice: dict[str, float], *, choose: bool) -> float:
    """Test accuracy, in per cent, of one training of `Result.transfer`'s."""
    epochs = EPOCHS[labels] * int(choice.get("longer", 1))
    settings = {"evaluation.epochs": epochs, "evaluation.lr": choice["lr"], "evaluation.batch_size": 32}
    asked = Asked(
        "finetune" if how == "scratch" else how,
        choice["lr"] * choice["share"] if "share" in choice else None,
        None,
        seed,
        "cpu",
        settings,
    )
    data = drawn(labels, seed, choose=choose)
    parts = prepare(found, recipe_of(found, data, asked), data, asked, Handed())
    name = "scratch" if how == "scratch" else "derived"
    network = parts.network(found.architecture, name=name)
    for _ in parts.training(network, name=name).epochs():
        pass
    return 100 * score(network, parts.data.test).score


def chosen(found: Result, how: str, labels: int) -> dict[str, float]:
    """The best of the choices on the tuning draws."""
    seeds = range(1000, 1000 + TUNING[labels])
    means = [
        statistics.mean(tried(found, how, labels, seed, choice, choose=True) for seed in seeds)
        for choice in CHOICES[how]
    ]
    tells = ", ".join(f"{choice} {mean:.2f}" for choice, mean in zip(CHOICES[how], means, strict=True))
    print(f"    {how} chooses among {tells}", flush=True)
    return CHOICES[how][means.index(max(means))]


def searched(found: Result, labels: int, seed: int, folder: Path, lr: float) -> float:
    """Test accuracy of a new search that starts from the source's weights."""
    settings = {
        "search.epochs": 10, "search.batch_size": 32, "search.lr": 0.05, "search.warmup": 2,
        "evaluation.epochs": EPOCHS[labels] * 3, "evaluation.lr": lr, "evaluation.batch_size": 32,
    }  # fmt: skip
    result = found.transfer(
        drawn(labels, seed, choose=False), how="search", seed=seed, settings=settings, run=folder / f"search-{seed}"
    )
    print(f"    search, draw {seed}: {result}, {result.seconds:.0f} s", flush=True)
    return 100 * result.test_accuracy


def interval(values: list[float]) -> str:
    """Mean and half of the 95 % interval of a mean."""
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):6.2f} +- {half:.2f}"


def report(found: Result, labels: int, folder: Path) -> None:
    started = time.perf_counter()
    print(f"{labels} labels, {EPOCHS[labels]} epochs", flush=True)
    best = {how: chosen(found, how, labels) for how in CHOICES}
    seeds = range(DRAWS[labels])
    every: dict[str, list[float]] = {}
    for how in (*CHOICES, *(["search"] if labels == 1000 else [])):
        if how == "search":
            values = [searched(found, labels, seed, folder, best["finetune"]["lr"]) for seed in seeds]
        else:
            values = [tried(found, how, labels, seed, best[how], choose=False) for seed in seeds]
        every[how] = values
        shown = " ".join(f"{value:.2f}" for value in values)
        difference = [value - other for value, other in zip(values, every["scratch"], strict=True)]
        beside = "" if how == "scratch" else f"   minus scratch {interval(difference)}"
        print(f"    {how:<9} {interval(values)}{beside}   {best.get(how, '')}   ({shown})", flush=True)
    print(f"    {time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, nargs="+", choices=list(EPOCHS), default=list(EPOCHS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the source's run is kept, to be used again")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        found = source(options.folder or Path(temporary), options.threads)
        print(f"source: {found}, {found.search_seconds:.0f} s of search, {found.train_seconds:.0f} s of training")
        for labels in options.labels:
            report(found, labels, Path(temporary))


if __name__ == "__main__":
    main()
