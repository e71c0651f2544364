"""The union (omega, theta0): a structure learned beside the start of the tasks, and a fixed Conv4 of its size.

    python benchmarks/few_shot_structure.py --data omniglot28.npz --runs DIR --seeds 0 1 2

A prototypical network on Omniglot (background characters and their rotations; 20-way episodes of 4 images a class)
whose blocks are choices (`conv4`, search=True, 162,000 architectures): omega and the weights are learned together by
hypergradients for 150 steps, the strongest operations are derived, and the derived network goes on from the supernet's
weights. Beside it a Conv4 whose width gives it as many parameters as the derived network or a few more, trained for as
long as structure and network together took (60 of its steps are timed first). Nothing is selected on the test
characters. Printed: accuracies of both over 1,000 episodes, seconds and parameters.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from machine import machine
from omniglot import SHARED, compare

import metanas

WIDTH, STRUCTURE_STEPS, STEPS = 24, 150, 700
COMMON: dict[str, Any] = {
    **SHARED,
    "learner": {"name": "prototypical", "options": {"loss": "turns"}},
    "episodes": {"ways": 20, "shots": 1, "queries": 3, "tasks": 1, "affine": 0.5},
    "evaluation.episodes": 40,
}


def conv4_parameters(width: int) -> int:
    """Of the network with its embedding of 64."""
    return 9 * width + 3 * 9 * width**2 + 4 * 2 * width + 64 * width + 64


def one(path: str, runs: Path, seed: int) -> tuple[float, float]:
    """20-way accuracy of the learned structure and of the fixed one, of one seed."""
    settings = {
        **COMMON,
        "network.options": {"width": WIDTH, "search": True},
        "structure": {"mode": "shared", "steps": STRUCTURE_STEPS, "gain": 10.0},
        "outer": {"lr": 3e-3, "steps": STEPS},
    }
    found = metanas.fewshot(None, path, seed=seed, settings=settings, run=runs / f"structure-{seed}")
    size = sum(p.numel() for p in found.learner.outer["weights"].values())
    spent = found.structure_seconds + found.learn_seconds
    width = next(w for w in range(4, 1000) if conv4_parameters(w) >= size)
    fixed = {**COMMON, "network.options": {"width": width}, "structure": {"mode": "fixed"}}
    brief = metanas.fewshot(
        None, path, seed=seed, settings={**fixed, "outer": {"lr": 3e-3, "steps": 60}},
        run=runs / f"timing-{seed}",
    )  # fmt: skip
    steps = max(round(60 * spent / brief.learn_seconds), 1)
    beside = metanas.fewshot(
        None, path, seed=seed, settings={**fixed, "outer": {"lr": 3e-3, "steps": steps}}, run=runs / f"fixed-{seed}"
    )
    scores = [compare(result.learner, path, seed) for result in (found, beside)]
    ours, theirs = (score["20-way 1-shot"].accuracy for score in scores)
    print(
        f"seed {seed}: learned structure {size:,} parameters, {spent:.0f} s, 20-way "
        f"{ours:.2%}; Conv4-{width} {conv4_parameters(width):,} parameters, {steps} steps, {beside.learn_seconds:.0f} "
        f"s, 20-way {theirs:.2%}\n  {found.architecture}",
        flush=True,
    )
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    rows = [one(asked.data, asked.runs, seed) for seed in asked.seeds]
    for name, column in zip(("learned structure", "fixed Conv4"), zip(*rows, strict=True), strict=True):
        spread = statistics.stdev(column) if len(column) > 1 else 0.0
        print(f"{name:<18} 20-way {statistics.mean(column):.2%}, deviation {spread:.2%}")


if __name__ == "__main__":
    main()
