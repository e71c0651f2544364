"""Data cleaning as Franceschi et al. 2017 (arXiv:1703.01785, section 5.1): which of 5,000 MNIST labels are wrong?

    METANAS_DATA=folder-with-mnist.npz python benchmarks/data_cleaning.py --seeds 0 1 2

5,000 training images, of which 2,500 have a wrong label, 5,000 validation and 10,000 test images. One weight for each
training image is learned (`modes.meta_parameter`): the inner problem trains a network on the weighted images, the outer
loss is that on the validation images. Images whose weight ends below one half are called wrong. Then the network is
trained anew on what was kept and the validation images, and tested once.

    keep all    trained on everything          oracle    trained on the right half, and the validation images

Each training from scratch is the same: 100 steps of full-batch gradient descent with momentum (rate 0.5, 0.9), from
zero weights (linear) or a seeded start (MLP). Printed by estimator: F1 of finding the wrong half, test accuracy, the
share of the way from keep all to oracle, seconds, and by how much the peak of resident memory grew.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor, nn

from metanas.bilevel import (
    SGD,
    T1T2,
    ConjugateGradient,
    Estimator,
    EvolutionStrategies,
    FiniteDifference,
    Neumann,
    Nystrom,
    Unrolled,
    adopt,
    solve,
    torch_step,
)
from metanas.modes import meta_parameter

ESTIMATORS: dict[str, tuple[Estimator, int]] = {
    "unrolled, 20 steps": (Unrolled(20), 60),
    "unrolled, 20 steps, checkpointed by 5": (Unrolled(20, checkpoint=5), 60),
    "unrolled, 20 steps, 5 differentiated": (Unrolled(20, truncate=5), 60),
    "unrolled, 1 step": (Unrolled(1), 600),
    "finite difference, 1 step": (FiniteDifference(), 600),
    "T1-T2, 20 inner steps": (T1T2(lr=0.5, inner_steps=20), 60),
    "Neumann, 10 terms, 20 inner steps": (Neumann(10, 0.5, inner_steps=20), 60),
    "conjugate gradients, 5 steps, warm": (ConjugateGradient(5, 0.01, inner_steps=20), 60),
    "Nystrom, rank 10": (Nystrom(10, 0.05, inner_steps=20), 60),
    "evolution, 16 pairs, 5 inner steps": (EvolutionStrategies(5, 16, 0.3, chunk=8), 60),
}
"""Name -> estimator, outer steps. Forward mode needs a tangent for each of the 5,000 weights, first order sees none of
them, and Reptile has no start to move: they do not apply."""
TRAINED = 100
RATE, MOMENTUM = 0.5, 0.9


def mnist(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """(images, labels) of train, with wrong labels in the first half, val and test; "right" has the true labels."""
    file = np.load(Path(os.environ["METANAS_DATA"], "mnist.npz"))
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(file["x_train"]))

    def images(x: np.ndarray) -> Tensor:
        return torch.from_numpy(x.reshape(len(x), -1)).float() / 255

    def part(start: int, end: int) -> tuple[Tensor, Tensor]:
        rows = order[start:end]
        return images(file["x_train"][rows]), torch.from_numpy(file["y_train"][rows].astype(np.int64))

    x, right = part(0, 5000)
    turned = (right[:2500] + torch.from_numpy(draw.integers(1, 10, 2500))) % 10  # never the true one
    test = images(file["x_test"]), torch.from_numpy(file["y_test"].astype(np.int64))
    return {"train": (x, torch.cat([turned, right[2500:]])), "val": part(5000, 10000), "test": test}


def network(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(784, 100), nn.Tanh(), nn.Linear(100, 10))
    linear = nn.Linear(784, 10)
    for p in linear.parameters():
        nn.init.zeros_(p)
    return linear


def tested(kind: str, seed: int, x: Tensor, y: Tensor, test: tuple[Tensor, Tensor]) -> float:
    """Test accuracy, in per cent, after a training from scratch."""
    model = network(kind, seed)
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    for _ in range(TRAINED):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        return 100 * float((model(test[0]).argmax(1) == test[1]).float().mean())


def clean(kind: str, seed: int, data: dict[str, tuple[Tensor, Tensor]], estimator: Estimator, steps: int) -> Tensor:
    """Which training images are kept (5000,)."""
    model = network(kind, seed)
    problem = meta_parameter(
        model,
        weights=lambda outer, batch: outer["weight"][batch[2]].sigmoid(),
        penalty=lambda theta, outer: 1e-3 * sum((p**2).sum() for p in theta.values()),
        rule=SGD(RATE, MOMENTUM),
    )
    theta = {name: p.detach().clone() for name, p in model.named_parameters()}
    outer = {"weight": torch.zeros(5000, requires_grad=True)}
    step = torch_step(torch.optim.Adam(outer.values(), 0.3 if steps < 100 else 0.1), outer)
    batches = [(None, (*data["train"], torch.arange(5000)), data["val"])] * steps
    advance = adopt(theta, rule=problem.rule)
    draw = torch.Generator().manual_seed(seed)
    for _ in solve(
        problem,
        estimator,
        theta,
        outer,
        batches,
        outer_step=step,
        advance=advance,
        memory=advance.memory,
        generator=draw,
    ):
        pass
    return outer["weight"].detach() > 0


def measured(kind: str, seed: int, estimator: Estimator, steps: int) -> tuple[Tensor, float, float]:
    """What is kept, seconds, and MiB by which the peak of resident memory grew."""
    torch.set_num_threads(1)
    data = mnist(seed)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = resident("VmRSS"), time.perf_counter()
    keep = clean(kind, seed, data, estimator, steps)
    seconds = time.perf_counter() - started
    return keep, seconds, resident("VmHWM") - before


def resident(what: str) -> float:
    """MiB of resident memory, now (VmRSS) or at its peak (VmHWM); Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", choices=["linear", "mlp"], default="linear")
    parser.add_argument("--only", nargs="*", default=list(ESTIMATORS), help="names of estimators")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    bounds: dict[int, tuple[float, float]] = {}
    for seed in options.seeds:
        data = mnist(seed)
        (x, y), (xv, yv) = data["train"], data["val"]
        every = tested(options.model, seed, torch.cat([x, xv]), torch.cat([y, yv]), data["test"])
        oracle = tested(options.model, seed, torch.cat([x[2500:], xv]), torch.cat([y[2500:], yv]), data["test"])
        bounds[seed] = every, oracle
        print(f"{options.model}, seed {seed}: keep all {every:.2f}, oracle {oracle:.2f}", flush=True)
    for name in options.only:
        estimator, steps = ESTIMATORS[name]
        rows = []
        for seed in options.seeds:
            data = mnist(seed)
            (x, y), (xv, yv) = data["train"], data["val"]
            with ProcessPoolExecutor(1, get_context("spawn")) as fresh:  # whose peak of memory is its own
                keep, seconds, grown = fresh.submit(measured, options.model, seed, estimator, steps).result()
            caught = int((~keep[:2500]).sum())
            f1 = 2 * caught / (int((~keep).sum()) + 2500)
            score = tested(options.model, seed, torch.cat([x[keep], xv]), torch.cat([y[keep], yv]), data["test"])
            every, oracle = bounds[seed]
            rows.append((f1, score, (score - every) / (oracle - every), seconds, grown))
        f1, score, share, seconds, _ = (statistics.mean(column) for column in zip(*rows, strict=True))
        spread = statistics.stdev(row[0] for row in rows) if len(rows) > 1 else 0.0
        print(
            f"{name:<38} F1 {f1:.3f} +- {spread:.3f}   accuracy {score:.2f}   {share:.0%} of the way   {seconds:.0f} s"
            f"   peak grew by {max(row[4] for row in rows):.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
