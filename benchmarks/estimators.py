"""Time, peak memory and error of every hypergradient estimator, after 10, 100 and 1,000 inner steps.

    python benchmarks/estimators.py --numbers numbers.json     measures, prints the table
    python benchmarks/estimators.py --draw numbers.json docs/estimators.svg

The problem is smooth and not quadratic: a tanh perceptron (8-32-1) on 128 rows, in float64; learned are the logarithms
of four decays, one for each of its tensors. K inner steps of SGD with momentum, all from the same start. The implicit
estimators take the K steps with held gradients, then 20 products (T1-T2 none); a finite difference looks one step
ahead of K - 1 steps. First order and Reptile see no decay, so they learn the start, for their time and memory.

time    medians of one process, the estimators in turn, as a ratio to first order with as many steps
memory  by how much the peak of resident memory grew in one call, each in a fresh process, after small calls that load
        what torch loads (Linux: VmHWM - VmRSS, freed memory handed back before)
error   relative, of the hypergradient of the solved inner problem: 20,000 steps and conjugate gradients to 1e-10, which
        3,000 unrolled steps from there confirm; mean of three problems. Rates and dampings were chosen on another.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import Tensor

from metanas.bilevel import (
    SGD,
    T1T2,
    Bilevel,
    ConjugateGradient,
    Estimator,
    EvolutionStrategies,
    FiniteDifference,
    FirstOrder,
    ForwardMode,
    Hypergradient,
    Neumann,
    Nystrom,
    Reptile,
    Unrolled,
    descend,
)
from metanas.bilevel.gradients import held_slope

STEPS = (10, 100, 1000)
RATE, MOMENTUM = 0.1, 0.9
SOLVER_STEPS, NEUMANN_RATE, IDENTITY_RATE, DAMPING = 20, 0.3, 3.0, 0.2
SIGMA, PAIRS = 0.1, 20
TUNING_SEED, SEEDS = 0, (1, 2, 3)
LOOSE: dict[str, Any] = {"tolerance": 1.0, "stationary": 1e9}
ROUNDS = {10: 15, 100: 7, 1000: 5}

ESTIMATORS: dict[str, Callable[[int], Estimator]] = {
    "first order": lambda k: FirstOrder(k),
    "Reptile": lambda k: Reptile(k),
    "finite difference": lambda k: FiniteDifference(),
    "T1-T2": lambda k: T1T2(lr=IDENTITY_RATE, inner_steps=k, **LOOSE),
    "Neumann": lambda k: Neumann(terms=SOLVER_STEPS, lr=NEUMANN_RATE, inner_steps=k, **LOOSE),
    "conjugate gradients": lambda k: ConjugateGradient(steps=SOLVER_STEPS, inner_steps=k, **LOOSE),
    "Nystrom": lambda k: Nystrom(rank=SOLVER_STEPS, damping=DAMPING, inner_steps=k, **LOOSE),
    "unrolled, last 20": lambda k: Unrolled(k, truncate=20),
    "unrolled, checkpoints": lambda k: Unrolled(k, checkpoint=10),
    "unrolled": lambda k: Unrolled(k),
    "forward mode": lambda k: ForwardMode(k),
    "evolution strategies": lambda k: EvolutionStrategies(k, PAIRS, SIGMA),
}
"""Name -> estimator of so many inner steps."""
LEARN_THE_START = ("first order", "Reptile")


def make(seed: int) -> tuple[Bilevel, dict[str, Tensor], dict[str, Tensor], Any, Any]:
    """(problem, theta, outer, inner batch, outer batch)."""
    draw = torch.Generator().manual_seed(seed)

    def rows(n: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, 8, generator=draw, dtype=torch.float64)
        noise = 0.3 * torch.randn(n, generator=draw, dtype=torch.float64)
        return x, torch.sin(x[:, 0]) * x[:, 1] + 0.5 * x[:, 2] + noise

    sizes = {"a": (8, 32), "b": (32,), "c": (32,), "d": ()}
    theta = {k: 0.3 * torch.randn(size, generator=draw, dtype=torch.float64) for k, size in sizes.items()}
    outer = {"log_decay": torch.full((4,), -3.0, dtype=torch.float64)}

    def fit(t: Any, o: Any, batch: Any) -> Tensor:
        return (torch.tanh(batch[0] @ t["a"] + t["b"]) @ t["c"] + t["d"] - batch[1]).square().mean()

    def inner(t: Any, o: Any, batch: Any) -> Tensor:
        decays = zip(o["log_decay"].exp().unbind(), t.values(), strict=True)
        return fit(t, o, batch) + sum(decay * p.square().sum() for decay, p in decays) / 2

    return Bilevel(inner, fit, rule=SGD(RATE, MOMENTUM)), theta, outer, rows(128), rows(128)


def call(name: str, k: int, seed: int, estimator: Estimator | None = None) -> Hypergradient:
    problem, theta, outer, train, valid = make(seed)
    memory = None
    if name in LEARN_THE_START:
        decays, inner = outer, problem.inner_loss
        assert inner is not None
        problem = Bilevel(
            lambda t, o, b: inner(t, decays, b), problem.outer_loss, lambda t, o, b: o["theta0"], rule=problem.rule
        )
        outer = {"theta0": theta}
    if name == "finite difference":
        with torch.no_grad():
            theta, memory, _ = descend(problem, theta, outer, train, None, k - 1, held_slope)
    draw = torch.Generator().manual_seed(seed)
    estimator = estimator or ESTIMATORS[name](k)
    return estimator(problem, theta, outer, train, valid, memory=memory or None, generator=draw)


def reference(seed: int) -> Tensor:
    """The hypergradient of the solved inner problem (4,)."""
    problem, theta, outer, train, valid = make(seed)
    exact = ConjugateGradient(steps=600, inner_steps=20_000, tolerance=1e-10, stationary=1e-10)
    h = exact(problem, theta, outer, train, valid, strict=True)
    unrolled = Unrolled(3000, checkpoint=100)(problem, h.theta, outer, train, valid).gradient["log_decay"]
    off = float((unrolled - h.gradient["log_decay"]).norm() / unrolled.norm())
    print(f"seed {seed}: 3,000 unrolled steps from the solution differ by {off:.1e}", flush=True)
    return h.gradient["log_decay"]


def off(name: str, k: int, seed: int, exact: Tensor, estimator: Estimator | None = None) -> float:
    return float((call(name, k, seed, estimator).gradient["log_decay"] - exact).norm() / exact.norm())


def resident(what: str) -> float:
    """MiB of resident memory, now (VmRSS) or at its peak (VmHWM); Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def grown(name: str, k: int) -> float:
    """MiB by which the peak of resident memory grows in one call."""
    torch.set_num_threads(1)
    call(name, 22, TUNING_SEED)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    call(name, k, TUNING_SEED)
    return resident("VmHWM") - before


def tune() -> None:
    """Prints the error of every setting that might be chosen, after 1,000 steps, on the problem of the tuning seed."""
    exact = reference(TUNING_SEED)
    choices: dict[str, list[Estimator]] = {
        "T1-T2": [T1T2(lr=lr, inner_steps=1000, **LOOSE) for lr in (0.1, 0.3, 1.0, 3.0, 10.0)],
        "Neumann": [Neumann(terms=20, lr=lr, inner_steps=1000, **LOOSE) for lr in (0.1, 0.2, 0.3, 0.4)],
        "Nystrom": [Nystrom(rank=20, damping=d, inner_steps=1000, **LOOSE) for d in (0.01, 0.03, 0.1, 0.2, 0.3, 0.6)],
        "evolution strategies": [EvolutionStrategies(1000, PAIRS, s) for s in (0.01, 0.1, 0.3, 1.0)],
    }
    for name, estimators in choices.items():
        for estimator in estimators:
            print(f"{off(name, 1000, TUNING_SEED, exact, estimator):9.2e}  {estimator}", flush=True)


def timed(k: int) -> dict[str, float]:
    """Name -> seconds of a call, the median; the estimators in turn, the first round left out."""
    times: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for round in range(ROUNDS[k] + 1):
        for name in ESTIMATORS:
            begun = time.perf_counter()
            call(name, k, TUNING_SEED)
            if round:
                times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(rows) for name, rows in times.items()}


def measure() -> dict[str, Any]:
    exact = {seed: reference(seed) for seed in SEEDS}
    found: dict[str, Any] = {"machine": machine(), "time": {}, "memory": {}, "error": {}, "seconds": {}}
    for k in STEPS:
        medians = timed(k)
        found["seconds"][k] = medians["first order"]
        for name, median in medians.items():
            found["time"].setdefault(name, []).append(median / medians["first order"])
            with ProcessPoolExecutor(1, get_context("spawn")) as fresh:  # whose peak of memory is its own
                found["memory"].setdefault(name, []).append(fresh.submit(grown, name, k).result())
            if name not in LEARN_THE_START:
                errors = [off(name, k, seed, exact[seed]) for seed in SEEDS]
                spread = statistics.mean(errors), statistics.stdev(errors)
                found["error"].setdefault(name, []).append(spread)
    return found


def report(found: dict[str, Any]) -> None:
    print(found["machine"])
    seconds = ", ".join(f"{1e3 * s:.1f} ms" for s in found["seconds"].values())
    print(f"first order takes {seconds} for {', '.join(map(str, STEPS))} steps")
    print(f"{'':<22} {'time, ratio':>24} {'peak grew by, MiB':>24}   error")
    for name in ESTIMATORS:
        times = "".join(f"{x:8.2f}" for x in found["time"][name])
        memory = "".join(f"{x:8.1f}" for x in found["memory"][name])
        errors = "  ".join(f"{mean:.1e} +- {spread:.0e}" for mean, spread in found["error"].get(name, []))
        print(f"{name:<22} {times} {memory}   {errors}")


def draw(found: dict[str, Any], path: Path) -> None:
    """Three panels, one row for each estimator, a dot for each number of inner steps."""
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot

    plain = {"svg.fonttype": "none", "svg.hashsalt": "metanas", "font.family": "sans-serif", "font.size": 9}
    with pyplot.rc_context(plain):
        names = list(ESTIMATORS)
        figure, panels = pyplot.subplots(1, 3, figsize=(8.33, 4.3), sharey=True, facecolor="white")
        errors = {name: [mean for mean, _ in rows] for name, rows in found["error"].items()}
        shown = {
            "time, ratio to first order": found["time"],
            "memory, peak grew by MiB": found["memory"],
            "relative error": errors,
        }
        colours = ("#7fb3d5", "#2471a3", "#14304a")
        for panel, (title, rows) in zip(panels, shown.items(), strict=True):
            panel.set_title(title, fontsize=9, loc="left")
            panel.set_xscale("log")
            panel.minorticks_off()
            for y, name in enumerate(names):
                values = [max(x, 0.1) if "MiB" in title else x for x in rows.get(name, [])]
                if not values:
                    panel.text(0.5, y, "not of the decays", ha="center", va="center", color="#888888", fontsize=8,
                               transform=panel.get_yaxis_transform())  # fmt: skip
                    continue
                panel.plot(values, [y] * len(values), color="#c8d3dc", linewidth=2, zorder=1)
                panel.scatter(values, [y] * len(values), c=colours, s=30, zorder=2)
            panel.grid(axis="x", color="#e6e6e6")
            panel.set_axisbelow(True)
            panel.tick_params(length=0)
            for side in ("top", "right", "left"):
                panel.spines[side].set_visible(False)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        for place, (k, colour) in enumerate(zip(STEPS, colours, strict=True)):
            x = 0.30 + 0.17 * place
            figure.text(x, 0.965, "\u25cf", color=colour, fontsize=10, ha="right", va="center")
            figure.text(x + 0.008, 0.965, f"{k:,} inner steps", fontsize=9, va="center")
        figure.tight_layout(rect=(0, 0, 1, 0.95))
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true", help="print what the settings were chosen by")
    parser.add_argument("--numbers", type=Path, help="where the numbers go, JSON")
    parser.add_argument("--draw", type=Path, nargs=2, metavar=("JSON", "SVG"), help="draw such numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.tune:
        tune()
    elif options.draw:
        draw(json.loads(options.draw[0].read_text()), options.draw[1])
    else:
        found = measure()
        report(found)
        if options.numbers:
            options.numbers.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
