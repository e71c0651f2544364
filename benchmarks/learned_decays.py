"""Does it help to learn a decay for each feature, and a learning rate for each layer and step?

    python benchmarks/learned_decays.py --only diabetes friedman rates --seeds 0 1 2 3 4

Few of many columns matter in two tables: diabetes (442 rows, 10 columns) beside 90 columns of noise, a linear model;
and Friedman's first function (y depends on 5 of 50 columns, 300 rows, noise 1), a network of 32 hidden units. All
settings are chosen by 5-fold cross-validation, all trainings are 100 full-batch steps of Adam; then the model is
trained on all five folds and tested once. The hypergradient is the mean over the folds, `Tasks(Unrolled)`, through the
whole training, each on folds drawn anew: on the same folds over and over, decays of single features fit these folds.
Seconds are those of the processor, of one thread.

    no decay; one decay from a grid; one learned; random decays for each feature (for as long as learning took);
    a decay for each feature, learned; the columns that matter alone, one decay from the grid (a bound, not a method)

rates: a network of 32 hidden units on digits (8x8) has 20 steps of 100 images, from a start that no rate has seen.
Rates are learned over many starts, each outer step another one (inner images to train on, outer images to judge by);
tested are 20 fresh starts.

    one rate from a grid; a rate, one of three momenta and one of three schedules from a grid (both chosen by the outer
    loss over 4 starts); random rates for each layer, schedule and momentum (for as long as learning took); learned
    with momentum 0.9: one rate, one per step, one per layer, one per layer and step
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from machine import machine
from sklearn.datasets import load_diabetes, load_digits, make_friedman1
from sklearn.linear_model import ARDRegression, LassoCV
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import SGD, Adam, Bilevel, Tasks, Unrolled, restart, solve, torch_step
from metanas.bilevel.gradients import held_slope
from metanas.bilevel.problem import descend
from metanas.modes import Part, assemble, decay, rate

FOLDS, TRAINED = 5, 100
RATES = 10 ** np.arange(-2, 0.61, 0.1)
GRID = [10.0**k for k in np.arange(-4, 1.01, 0.5)]
Rows = tuple[Tensor, Tensor]


def square(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


def table(name: str, seed: int) -> tuple[Rows, Rows, list[int]]:
    """(training rows, test rows, the columns that matter), standardised by the training rows."""
    draw = np.random.default_rng(seed)
    if name == "friedman":
        x, y = make_friedman1(2300, 50, noise=1.0, random_state=seed)
        rows, real = 300, list(range(5))
    else:
        x, y = load_diabetes(return_X_y=True)
        order = draw.permutation(len(x))
        x, y = np.hstack([x[order] / x.std(0), draw.standard_normal((len(x), 90))]), y[order]
        rows, real = 350, list(range(10))
    x = (x - x[:rows].mean(0)) / x[:rows].std(0)
    y = (y - y[:rows].mean()) / y[:rows].std()
    x, y = torch.from_numpy(x).float(), torch.from_numpy(y).float()
    return (x[:rows], y[:rows]), (x[rows:], y[rows:]), real


def folds(rows: Rows) -> tuple[Rows, Rows]:
    """The rows without fold k, and fold k: (FOLDS, rows, ...)."""
    parts = [x.unflatten(0, (FOLDS, -1)) for x in rows]
    inner = tuple(torch.stack([torch.cat([*p[:k], *p[k + 1 :]]) for k in range(FOLDS)]) for p in parts)
    return inner, tuple(parts)  # type: ignore[return-value]


def model(name: str, columns: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    if name == "friedman":
        return nn.Sequential(nn.Linear(columns, 32), nn.Tanh(), nn.Linear(32, 1))
    linear = nn.Linear(columns, 1)
    nn.init.zeros_(linear.weight)
    return linear


class Table:
    """A model and its five folds: what a decay is worth, and what it is worth on the test rows."""

    def __init__(self, name: str, seed: int, rows: Rows, test: Rows) -> None:
        self.name, self.rows, self.test = name, rows, test
        self.inner, self.outer = folds(rows)
        self.network = model(name, rows[0].shape[1], seed)
        self.theta = {name: p.detach() for name, p in self.network.named_parameters()}
        self.rule = Adam(lr=0.02 if name == "friedman" else 0.05)

    def problem(self, part: Part) -> Bilevel:
        return assemble(self.network, [part], losses=square, rule=self.rule)

    @torch.no_grad()
    def valued(self, problem: Bilevel, outer: Any) -> float:
        """The mean loss on the folds left out."""

        def one(inner: Rows, left: Rows) -> Tensor:
            end, _, _ = descend(problem, self.theta, outer, inner, None, TRAINED, held_slope)
            return problem.outer_loss(end, outer, left)

        return float(vmap(one)(self.inner, self.outer).mean())

    @torch.no_grad()
    def tested(self, part: Part, own: Any) -> float:
        """R2 on the test rows, trained on all others."""
        problem, outer = self.problem(part), {part.name: own}
        end, _, _ = descend(problem, self.theta, outer, self.rows, None, TRAINED, held_slope)
        return 1 - float(problem.outer_loss(end, outer, self.test)) / float(self.test[1].var(correction=0))

    def grid(self) -> float:
        """The decay of the grid with the least loss on the folds left out."""
        parts = [decay(self.theta, start=d) for d in GRID]
        losses = [self.valued(self.problem(part), {part.name: part.start}) for part in parts]
        return GRID[losses.index(min(losses))]

    def learned(self, part: Part, steps: int, lr: float, seed: int) -> Any:
        """The part's outer variables after `steps` hypergradients, each on other folds and from another start."""
        own = tree_map(lambda x: x.clone().requires_grad_(), part.start)
        optimizer = torch.optim.Adam(tree_leaves(own), lr)
        step = torch_step(optimizer, {part.name: own})
        theta, draw = tree_map(torch.clone, self.theta), torch.Generator().manual_seed(seed)

        def batches() -> Iterator[Any]:
            for k in range(steps):
                order = torch.randperm(len(self.rows[0]), generator=draw)
                fresh = model(self.name, self.rows[0].shape[1], seed + 1000 + k)
                for name, p in fresh.named_parameters():
                    theta[name].copy_(p.detach())
                yield None, *folds((self.rows[0][order], self.rows[1][order]))

        solving = solve(
            self.problem(part), Tasks(Unrolled(TRAINED)), theta, {part.name: own}, batches(),
            outer_step=step, advance=restart,
        )  # fmt: skip
        for k, _ in enumerate(solving):
            optimizer.param_groups[0]["lr"] = lr * (1 - (k + 1) / steps)
        return tree_map(torch.detach, own)

    def drawn(self, seconds: float, seed: int) -> tuple[Part, Any]:
        """The best of random decays for each feature."""
        draw, until = torch.Generator().manual_seed(seed), time.process_time() + seconds
        part = decay(self.theta, per="feature")
        problem, best = self.problem(part), (float("inf"), part.start)
        low, high = np.log(GRID[0]), np.log(GRID[-1])
        while time.process_time() < until:
            own = tree_map(lambda x: low + (high - low) * torch.rand(x.shape, generator=draw), part.start)
            best = min(best, (self.valued(problem, {part.name: own}), own), key=lambda pair: pair[0])
        return part, best[1]


def features(name: str, seed: int, steps: int, lr: float) -> Iterator[tuple[str, float, float]]:
    """(method, R2 on the test rows, seconds)."""
    rows, test, real = table(name, seed)
    at = Table(name, seed, rows, test)
    none = decay(at.theta, start=1e-12)
    yield "no decay", at.tested(none, none.start), 0.0
    started = time.process_time()
    tuned = at.grid()
    one, gridded = decay(at.theta, start=tuned), time.process_time() - started
    yield "one decay, from a grid", at.tested(one, one.start), gridded
    started = time.process_time()
    start = decay(at.theta, start=0.1)
    own = at.learned(start, steps, lr, seed)
    yield "one decay, learned", at.tested(start, own), time.process_time() - started
    started = time.process_time()
    each = decay(at.theta, per="feature", start=0.1)
    own = at.learned(each, steps, lr, seed)
    seconds = time.process_time() - started
    part, drawn = at.drawn(seconds, seed)
    yield "a decay for each feature, random", at.tested(part, drawn), seconds
    yield "a decay for each feature, learned", at.tested(each, own), seconds
    if name == "diabetes":
        x, y = (a.numpy() for a in rows)
        for title, fitted in (("lasso, cross-validated", LassoCV(cv=FOLDS)), ("ARD regression", ARDRegression())):
            started = time.process_time()
            fitted.fit(x, y)
            score, seconds = fitted.score(*(a.numpy() for a in test)), time.process_time() - started
            yield title, score, seconds
    bound = Table(name, seed, (rows[0][:, real], rows[1]), (test[0][:, real], test[1]))
    tuned = bound.grid()
    one = decay(bound.theta, start=tuned)
    yield "the columns that matter alone", bound.tested(one, one.start), 0.0


STEPS, BATCH = 20, 100
TUNING, FRESH = 1_000_000, 2_000_000
"""Seeds of starts: to choose on, and to test on; learning draws from its own seed upwards."""


class Digits:
    """A network with 20 steps: what rates are worth from a start, on the outer images or on the test images."""

    def __init__(self, seed: int) -> None:
        x, y = load_digits(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(x))
        x, y = torch.from_numpy(x[order]).float() / 16, torch.from_numpy(y[order])
        self.inner, self.outer, self.test = ((x[a:b], y[a:b]) for a, b in ((0, 800), (800, 1200), (1200, 1797)))
        self.network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def start(self, seed: int) -> tuple[dict[str, Tensor], Rows]:
        """(theta, the images and labels of each step): (STEPS, BATCH, ...)."""
        torch.manual_seed(seed)
        for layer in (self.network[0], self.network[2]):
            layer.reset_parameters()
        theta = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        at = torch.stack([torch.randperm(len(self.inner[0]))[:BATCH] for _ in range(STEPS)])
        return theta, (self.inner[0][at], self.inner[1][at])

    def problem(self, parts: list[Part], rule: SGD) -> Bilevel:
        made = assemble(self.network, parts, rule=rule)
        return replace(made, batch_at=lambda batch, k: tuple(x[k] for x in batch))

    @torch.no_grad()
    def ended(self, problem: Bilevel, outer: Any, seed: int) -> dict[str, Tensor]:
        theta, batches = self.start(seed)
        return descend(problem, theta, outer, batches, None, STEPS, held_slope)[0]

    def valued(self, problem: Bilevel, outer: Any, starts: int = 4) -> float:
        """The outer loss, mean over starts to choose on."""
        ends = [self.ended(problem, outer, TUNING + k) for k in range(starts)]
        value = statistics.mean(float(problem.outer_loss(end, outer, self.outer)) for end in ends)
        return value if np.isfinite(value) else float("inf")

    @torch.no_grad()
    def tested(self, problem: Bilevel, outer: Any) -> tuple[float, float]:
        """(accuracy in per cent, loss) on the test images, mean over 20 fresh starts."""
        hits, losses = [], []
        for k in range(20):
            end = self.ended(problem, outer, FRESH + k)
            outputs = torch.func.functional_call(self.network, end, (self.test[0],))
            hits.append(100 * float((outputs.argmax(1) == self.test[1]).float().mean()))
            losses.append(float(problem.outer_loss(end, outer, self.test)))
        return statistics.mean(hits), statistics.mean(losses)


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1 - t,
    "cosine": lambda t: 0.5 + 0.5 * float(np.cos(np.pi * t)),
}
MOMENTA = (0.0, 0.5, 0.9)


def scheduled(at: Digits, base: float, factors: list[float], schedule: str) -> tuple[Part, Any]:
    """Rates written down: base * factor of the layer * schedule of the step."""
    theta, _ = at.start(0)
    part = rate(theta, per="layer and step", steps=STEPS)
    shape = torch.tensor([max(SCHEDULES[schedule](k / STEPS), 1e-6) for k in range(STEPS)])
    return part, {"log": {n: (base * f * shape).log() for n, f in zip(theta, factors, strict=True)}}


def best_of(at: Digits, candidates: Iterator[tuple[Part, Any, float]], seconds: float) -> tuple[Bilevel, Any, float]:
    """(problem, outer, momentum) of the least outer loss; stops after so many seconds."""
    until, best = time.process_time() + seconds, (float("inf"), None)
    for part, own, momentum in candidates:
        problem, outer = at.problem([part], SGD(lr=0.1, momentum=momentum)), {part.name: own}
        best = min(best, (at.valued(problem, outer), (problem, outer, momentum)), key=lambda pair: pair[0])
        if time.process_time() > until:
            break
    assert best[1] is not None
    return best[1]


def gridded(at: Digits) -> Iterator[tuple[Part, Any, float]]:
    for momentum in MOMENTA:
        for schedule in SCHEDULES:
            for base in 10 ** np.arange(-2, 0.61, 0.25):
                yield *scheduled(at, float(base), [1.0] * 4, schedule), momentum


def randomly(at: Digits, seed: int) -> Iterator[tuple[Part, Any, float]]:
    draw = np.random.default_rng(seed)
    while True:
        factors = (10 ** draw.uniform(-1, 1, 4)).tolist()
        yield *scheduled(at, 10 ** draw.uniform(-2, 0.6), factors, draw.choice(list(SCHEDULES))), draw.choice(MOMENTA)


def rates(seed: int, steps: int, lr: float) -> Iterator[tuple[str, float, float, float]]:
    """(method, test accuracy, test loss, seconds)."""
    at = Digits(seed)
    started = time.process_time()
    constant = ((*found, 0.9) for found in (scheduled(at, float(b), [1.0] * 4, "constant") for b in RATES))
    problem, outer, _ = best_of(at, constant, float("inf"))
    yield "one rate from a grid, momentum 0.9", *at.tested(problem, outer), time.process_time() - started
    started = time.process_time()
    problem, outer, _ = best_of(at, gridded(at), float("inf"))
    yield "a rate, momentum and schedule from a grid", *at.tested(problem, outer), time.process_time() - started
    for per in ("all", "step", "layer", "layer and step"):
        started = time.process_time()
        theta, _ = at.start(0)
        part = rate(theta, per=per, steps=STEPS if "step" in per else None, start=0.1)
        own = tree_map(lambda x: x.clone().requires_grad_(), part.start)
        problem, outer = at.problem([part], SGD(lr=0.1, momentum=0.9)), {part.name: own}
        optimizer = torch.optim.Adam(tree_leaves(own), lr)
        step = torch_step(optimizer, outer, clip=1.0)

        def advance(h: Any, batch: Any, theta: Any = theta, optimizer: Any = optimizer) -> None:
            for name, p in at.start(batch)[0].items():
                theta[name].copy_(p)

        batches = ((k + 1, at.start(k)[1], at.outer) for k in range(steps))
        for k, _ in enumerate(solve(problem, Unrolled(STEPS), theta, outer, batches, outer_step=step, advance=advance)):
            optimizer.param_groups[0]["lr"] = lr * (1 - (k + 1) / steps)
        outer = tree_map(torch.detach, outer)
        seconds = time.process_time() - started
        yield f"learned, per {per}", *at.tested(problem, outer), seconds
    problem, outer, _ = best_of(at, randomly(at, seed), seconds)
    yield "random rates for each layer, schedule, momentum", *at.tested(problem, outer), seconds


STEPS_LR = {"diabetes": (30, 0.4), "friedman": (30, 0.4), "rates": (250, 0.1)}
"""Outer steps, and the rate of Adam on the outer variables: set after a few trials on seeds 100 and 101 alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", choices=list(STEPS_LR), nargs="+", default=list(STEPS_LR))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for what in options.only:
        rows: dict[str, list[tuple[float, ...]]] = {}
        for seed in options.seeds:
            steps, lr = STEPS_LR[what]
            for name, *numbers in rates(seed, steps, lr) if what == "rates" else features(what, seed, steps, lr):
                rows.setdefault(name, []).append(tuple(numbers))
                print(f"  {what} {seed}  {name:<48}", *(f"{x:.4f}" for x in numbers), flush=True)
        for name, each in rows.items():
            told = [
                f"{statistics.mean(column):.4f} +- {statistics.stdev(column) if len(column) > 1 else 0.0:.4f}"
                for column in zip(*each, strict=True)
            ]
            print(f"{what} {name:<48}", *told, flush=True)


if __name__ == "__main__":
    main()
