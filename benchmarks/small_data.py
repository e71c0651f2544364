"""Small data: a base learner that many small tables have taught to learn, on new tables of 100 rows and 10 columns.

    python benchmarks/small_data.py --held piecewise --seeds 0 1 2

Tables are drawn from four families (linear, additive, piecewise constant, two-layer), with columns that are correlated,
skewed, binary or bounded, 2 to 10 of which matter, and noise that leaves a share of 0.2 to 0.95 of the variance to
explain. One family is held out: neither the meta-learner nor the choice of the baselines' settings knows it.

    base learner    10 -> 32 -> 32 -> 1 (SiLU) beside a linear path, fitted to the 100 standardised rows with momentum
    meta            where that training starts is a function of the table, learned through ten steps of the training
                    (`Tasks(Unrolled)`) along with a rate for each coordinate, one for each step, and decays. A small
                    network reads the rows, in whatever order rows and columns stand (exchangeable layers: Hartford et
                    al. 2018, arXiv:1803.02879), and says how the learned first layers are scaled and shifted for each
                    column, how far each column and each hidden unit is trusted, and how fast to train. The outputs
                    then start at ridge regression with those penalties (closed-form solvers in a meta-learner:
                    Bertinetto et al. 2019, arXiv:1805.08136)
    scratch         the same network from its usual random start. Optimiser, loss, rate, decay, scale of the start and
                    steps (the best fixed number; or early stopping on 20 of the 100 rows, then a training on all of
                    them) are the best of random settings on tables of the seen families
    ... after ridge the same with the linear path started at ridge regression, its penalty chosen likewise
    ridge           scikit-learn's RidgeCV

Printed: R2 on 500 fresh rows of 20 new tables of the seen families and of 20 of the held-out family, and of 20 draws of
100 rows of scikit-learn's diabetes on its other 342; means and the paired difference of the meta-learner to the others
by table, averaged over the seeds, with 95 % intervals over the tables (Student's t). The draws of diabetes share rows,
so that its interval speaks of draws of that table alone.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from scipy.stats import t
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import SGD, Bilevel, FirstOrder, Tasks, Tree, Unrolled, per_step, restart, solve, torch_step

ROWS, COLUMNS, HIDDEN, STEPS = 100, 10, 32, 10
WIDTH, LAYERS, ABOUT = 24, 2, 32
"""Of the network that reads a table: its cells' features and layers, and the features of a column or a table."""
EACH = 5
"""Tables of each seen family in one outer step; twice as many linear ones, since few real tables are far from it."""
STOPS = (3, 5, 7, 10, 14, 20, 28, 40, 56, 80, 113, 160, 226, 320, 452)  # steps of a training from scratch
LATE = (100_000, 240_000, 340_000)  # seeds: tables of tuning, tables of the report, draws of diabetes

Rows = tuple[Tensor, Tensor]  # inputs (tables, rows, COLUMNS) and targets (tables, rows), or those of one table


def columns(tables: int, rows: int, draw: torch.Generator) -> Tensor:
    """Inputs (tables, rows, COLUMNS): up to 95 % of their variance from 3 common factors; some of other kinds."""
    share, strength = 0.95 * torch.rand(tables, 1, 1, generator=draw), torch.rand(tables, 3, 1, generator=draw)
    load = F.normalize(strength.square() * torch.randn(tables, 3, COLUMNS, generator=draw), dim=1)
    common = torch.randn(tables, rows, 3, generator=draw) @ load
    x = share.sqrt() * common + (1 - share).sqrt() * torch.randn(tables, rows, COLUMNS, generator=draw)
    kind = torch.rand(tables, 1, COLUMNS, generator=draw)
    sign = 2.0 * torch.randint(0, 2, (tables, 1, COLUMNS), generator=draw) - 1
    cut = 0.5 * torch.randn(tables, 1, COLUMNS, generator=draw)
    x = torch.where(kind < 0.15, torch.exp(0.6 * x), x)
    x = torch.where((kind >= 0.15) & (kind < 0.25), (x > cut).float(), x)
    x = torch.where((kind >= 0.25) & (kind < 0.4), torch.erf(x / 2**0.5), x)
    return scaled(sign * x)


def scaled(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True).clamp(min=1e-3)


def additive(x: Tensor, weight: Tensor, draw: torch.Generator) -> Tensor:
    """Sines and kinks of single columns."""
    shape = (len(x), 1, COLUMNS)
    speed, phase = 0.5 + 2 * torch.rand(shape, generator=draw), 2 * math.pi * torch.rand(shape, generator=draw)
    kink, knot = torch.rand(shape, generator=draw) < 0.5, torch.randn(shape, generator=draw)
    return (torch.where(kink, (x - knot).abs(), 1.4 * torch.sin(speed * x + phase)) * weight[:, None]).sum(2)


def piecewise(x: Tensor, weight: Tensor, draw: torch.Generator) -> Tensor:
    """The sum of 1 to 4 trees with 3 cuts and 8 leaves."""
    trees, out = torch.randint(1, 5, (len(x), 1), generator=draw), torch.zeros(x.shape[:2])
    for tree in range(4):
        leaf = torch.zeros(x.shape[:2], dtype=torch.long)
        for _ in range(3):
            column = (torch.rand(weight.shape, generator=draw) * (weight != 0)).argmax(1)
            value = x.gather(2, column[:, None, None].expand(*x.shape[:2], 1))[:, :, 0]
            leaf = 2 * leaf + (value > 0.7 * torch.randn(len(x), 1, generator=draw)).long()
        out = out + (tree < trees) * torch.randn(len(x), 8, generator=draw).gather(1, leaf)
    return out


def two_layer(x: Tensor, weight: Tensor, draw: torch.Generator) -> Tensor:
    """Six hidden units (tanh) that each read every column that matters."""
    direction = F.normalize(torch.randn(len(x), COLUMNS, 6, generator=draw) * (weight != 0)[:, :, None], dim=1)
    slope, shift, out = (torch.randn(len(x), 1, 6, generator=draw) for _ in range(3))
    slope = 0.5 + 2 * torch.special.ndtr(slope)  # uniform in 0.5 .. 2.5
    return (torch.tanh(x @ (direction * slope) + shift) * out).sum(2)


FAMILIES: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "linear": lambda x, weight, draw: (x * weight[:, None]).sum(2),
    "additive": additive,
    "piecewise": piecewise,
    "two-layer": two_layer,
}
"""Name -> (inputs, weights of the columns (tables, COLUMNS), 0 where a column does not matter) -> signal."""


def mix(held: str) -> list[str]:
    """The names of the seen families, linear twice: what is learned on, and what the baseline is chosen by."""
    return [name for name in ("linear", *FAMILIES) if name != held]


def tables(families: list[str], draw: torch.Generator, test: int) -> tuple[Rows, Rows]:
    """One new table for each name: 100 rows to learn from, and `test` others."""
    parts = {name: drawn(name, families.count(name), draw, test) for name in dict.fromkeys(families)}
    return standard(*(torch.cat(part) for part in zip(*parts.values(), strict=True)))


def drawn(family: str, count: int, draw: torch.Generator, test: int) -> Rows:
    x = columns(count, ROWS + test, draw)
    used = torch.randint(2, COLUMNS + 1, (count, 1), generator=draw)
    rank = torch.rand(count, COLUMNS, generator=draw).argsort(1).argsort(1)
    weight = (rank < used) * torch.randn(count, COLUMNS, generator=draw)
    signal = scaled(FAMILIES[family](x, weight, draw))
    explained = 0.2 + 0.75 * torch.rand(count, 1, generator=draw)
    return x, explained.sqrt() * signal + (1 - explained).sqrt() * torch.randn(signal.shape, generator=draw)


def standard(x: Tensor, y: Tensor) -> tuple[Rows, Rows]:
    """Both parts in units of the first 100 rows."""
    seen, target = x[:, :ROWS], y[:, :ROWS]
    x = (x - seen.mean(1, keepdim=True)) / seen.std(1, keepdim=True).clamp(min=1e-3)
    y = (y - target.mean(1, keepdim=True)) / target.std(1, keepdim=True)
    return (x[:, :ROWS], y[:, :ROWS]), (x[:, ROWS:].clamp(-5, 5), y[:, ROWS:])


def diabetes(seed: int, count: int = 20) -> tuple[Rows, Rows]:
    table, draw = load_diabetes(scaled=False), np.random.default_rng(seed)
    order = np.stack([draw.permutation(len(table.data)) for _ in range(count)])
    x, y = (torch.from_numpy(part[order].astype(np.float32)) for part in (table.data, table.target))
    return standard(x, y)


def network(theta: Tree, x: Tensor) -> Tensor:
    """The base learner's outputs (rows,) for inputs (rows, COLUMNS)."""
    h = F.silu(x @ theta["w1"].T + theta["b1"])
    h = F.silu(h @ theta["w2"].T + theta["b2"])
    return x @ theta["skip"] + h @ theta["w3"] + theta["b3"]


def random_start(draw: torch.Generator, gain: float, count: int | None = None) -> Tree:
    """Uniform weights of variance 1 / width in the hidden layers, times `gain` in the last; no linear path."""
    shapes = {"w1": (HIDDEN, COLUMNS), "w2": (HIDDEN, HIDDEN), "w3": (HIDDEN,)}
    lead = () if count is None else (count,)
    theta = {name: (2 * torch.rand(lead + s, generator=draw) - 1) * (3 / s[-1]) ** 0.5 for name, s in shapes.items()}
    zeros = {"skip": (COLUMNS,), "b1": (HIDDEN,), "b2": (HIDDEN,), "b3": ()}
    return {**theta, "w3": gain * theta["w3"]} | {name: torch.zeros(lead + s) for name, s in zeros.items()}


def r2(theta: Tree, rows: Rows) -> Tensor:
    """R2 (tables,) of one theta for each table."""
    return 1 - (vmap(network)(theta, rows[0]) - rows[1]).square().mean(1) / rows[1].var(1, correction=0)


def mean_square(theta: Tree, outer: Tree, batch: Rows) -> Tensor:
    return (network(theta, batch[0]) - batch[1]).square().mean()


def inner_loss(theta: Tree, outer: Tree, batch: Rows) -> Tensor:
    """The logarithm hardly bends below 1; far above it holds a training that diverges, whose gradient would be nan."""
    return theta["pace"].exp() * mean_square(theta, outer, batch).log1p()


def ridge(rows: Rows, penalty: Tensor | float) -> Tensor:
    """Weights (..., features) of ridge regression: of the mean square plus `penalty`, one or one each, times theirs."""
    x, y = rows
    each = torch.as_tensor(penalty).expand(x.shape[-1])
    return torch.linalg.solve(x.mT @ x / x.shape[-2] + torch.diag(each), (x.mT @ y[..., None])[..., 0] / x.shape[-2])


def affine(weights: Tree, x: Tensor) -> Tensor:
    return x @ weights["w"].T + weights["b"]


def bounded(x: Tensor, most: float) -> Tensor:
    """x where it is small, between -most and most everywhere: no table may start a training that diverges."""
    return most * torch.tanh(x / most)


def read(weights: Tree, x: Tensor, y: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
    """What there is to say of each column (COLUMNS, ABOUT) and of the table (ABOUT,)."""
    rest = y - x @ linear
    seen = torch.stack(
        [x, *(v[:, None].expand_as(x) for v in (y, rest)), x * linear, x * y[:, None], x * rest[:, None]], 2
    )
    cells = F.silu(affine(weights["cells"], seen.clamp(-4, 4)))  # (rows, COLUMNS, WIDTH)
    for layer in weights["layers"]:
        around = affine(layer["column"], cells.mean(0)) + affine(layer["row"], cells.mean(1))[:, None]
        cells = cells + F.silu(affine(layer["cell"], cells) + around)
    spread = (cells.var(0) + 1e-6).sqrt()
    columns = F.silu(affine(weights["pool"], torch.cat([cells.mean(0), spread, linear[:, None]], 1)))
    alike = x.T @ x / len(x) @ columns / 3
    around = torch.cat([columns, columns.mean(0).expand_as(columns), alike], 1)
    columns = columns + F.silu(affine(weights["among"], around))
    return columns, F.silu(affine(weights["table"], torch.cat([columns.mean(0), columns.amax(0)])))


def start(theta: Tree, outer: Tree, batch: Rows) -> Tree:
    """Hidden layers for this table, and ridge regression on them and on the columns, each with its own penalty."""
    x, y = batch
    linear = ridge(batch, 0.1)
    sign = torch.where(linear < 0, -1.0, 1.0)  # a column that is mirrored or moved elsewhere gets the same answers
    x, linear = x * sign, linear.abs()
    rank = (linear > linear[:, None]).sum(1)
    columns, table = read(outer["read"], x, y, linear)
    first, say = outer["theta0"], outer["say"]
    w1 = first["w1"] @ (rank == torch.arange(COLUMNS)[:, None]).float()  # its columns are those of the ranks
    w1 = w1 * bounded(affine(say["scale"], columns), 2).exp().T + bounded(0.3 * affine(say["shift"], columns), 1).T
    b1, b2 = first["b1"] + affine(say["b1"], table), first["b2"] + affine(say["b2"], table)
    trust = torch.cat([2 * affine(say["column"], columns)[:, 0], affine(say["unit"], table)])
    h = F.silu(F.silu(x @ w1.T + b1) @ first["w2"].T + b2)
    features = torch.cat([x, h], 1)  # (rows, COLUMNS + HIDDEN)
    mean = features.mean(0)
    w = ridge((features - mean, y), bounded(outer["penalty"] - trust, 4).exp())
    return {
        **{"w1": w1 * sign, "w2": first["w2"], "w3": w[COLUMNS:], "skip": w[:COLUMNS] * sign},
        **{"b1": b1, "b2": b2, "b3": -mean @ w, "pace": bounded(affine(say["pace"], table)[0], 1.5)},
    }


def rates(outer: Tree) -> Callable[[Tensor], Tree]:
    """Of each step, for each coordinate; the table's own pace travels in theta, and no step moves it."""
    along = per_step(outer["along"])
    return lambda step: {**tree_map(lambda r: (r + along(step)).exp(), outer["rate"]), "pace": torch.zeros(())}


def decays(outer: Tree) -> Tree:
    return {**tree_map(torch.exp, outer["decay"]), "pace": torch.zeros(())}


PROBLEM = Bilevel(inner_loss, mean_square, start, rule=SGD(rates, momentum=0.9, weight_decay=decays))


def first_outer(draw: torch.Generator) -> Tree:
    """The outer variables before meta-training."""

    def layer(inputs: int, outputs: int, gain: float = 1.0) -> Tree:
        return {"w": gain * torch.randn(outputs, inputs, generator=draw) / inputs**0.5, "b": torch.zeros(outputs)}

    theta = random_start(draw, 0.3)
    mixing = [{name: layer(WIDTH, WIDTH) for name in ("cell", "column", "row")} for _ in range(LAYERS)]
    said = {"scale": HIDDEN, "shift": HIDDEN, "column": 1, "b1": HIDDEN, "b2": HIDDEN, "unit": HIDDEN, "pace": 1}
    outer = {
        "read": {
            "cells": layer(6, WIDTH),
            "layers": mixing,
            "pool": layer(2 * WIDTH + 1, ABOUT),
            "among": layer(3 * ABOUT, ABOUT),
            "table": layer(2 * ABOUT, ABOUT),
        },
        "say": {name: layer(ABOUT, size, 0.1) for name, size in said.items()},
        "theta0": {**theta, "b1": 0.5 * torch.randn(HIDDEN, generator=draw)},
        "penalty": torch.cat([torch.full((COLUMNS,), -2.0), torch.full((HIDDEN,), -1.0)]),
        "rate": tree_map(torch.zeros_like, theta),
        "along": torch.linspace(math.log(0.01), math.log(0.003), STEPS),
        "decay": tree_map(lambda _: torch.tensor(math.log(0.1)), theta),
    }
    return tree_map(lambda p: p.clone().requires_grad_(), outer)


def meta_train(seen: list[str], seed: int, iterations: int, lr: float = 3e-3) -> tuple[Tree, float]:
    """The outer variables, and the seconds that it took."""
    draw, began = torch.Generator().manual_seed(seed), time.perf_counter()
    outer = first_outer(draw)
    optimizer = torch.optim.Adam(tree_leaves(outer), lr, fused=True)

    def batches() -> Iterator[tuple[None, Rows, Rows]]:
        for i in range(iterations):
            optimizer.param_groups[0]["lr"] = lr * min(1.0, (i + 1) / 30, 1.4 * (1 - i / iterations))
            inner, outside = tables(seen * EACH, draw, 200)
            yield None, inner, outside

    step = torch_step(optimizer, outer, clip=1.0)
    for _ in solve(PROBLEM, Tasks(Unrolled(STEPS)), {}, outer, batches(), outer_step=step, advance=restart):
        pass
    return tree_map(torch.detach, outer), time.perf_counter() - began


@dataclass(frozen=True)
class Settings:
    """Of a training from scratch. stop: steps, or None: early stopping; ridge: penalty of the linear path's start."""

    optimizer: str  # adam or momentum
    loss: str
    lr: float
    decay: float
    gain: float
    ridge: float | None
    stop: int | None = None


def settings(draw: np.random.Generator) -> Settings:
    adam = draw.random() < 0.5
    loss, gain = str(draw.choice(["mean square", "its logarithm"])), float(draw.choice([0.1, 0.3, 1.0]))
    lr, decay = 10 ** draw.uniform(-3.5, -1.5), 10 ** draw.uniform(-3, 1)
    penalty = 10 ** draw.uniform(-2, 0) if draw.random() < 0.4 else None
    if adam:
        return Settings("adam", loss, lr, decay, gain, penalty)
    return Settings("momentum", loss, 3 * lr, decay / 10, gain, penalty)


def path(s: Settings, rows: Rows, seed: int) -> Iterator[Tree]:
    """One training for each table, side by side; theta (tables, ...) at every one of STOPS."""
    theta = random_start(torch.Generator().manual_seed(seed), s.gain, len(rows[0]))
    if s.ridge is not None:
        theta["skip"] = ridge(rows, s.ridge)
    make = torch.optim.AdamW if s.optimizer == "adam" else partial(torch.optim.SGD, momentum=0.9)
    optimizer = make([p.requires_grad_() for p in tree_leaves(theta)], s.lr, weight_decay=s.decay)
    for step in range(1, STOPS[-1] + 1):
        losses = (vmap(network)(theta, rows[0]) - rows[1]).square().mean(1)
        optimizer.zero_grad()
        (losses if s.loss == "mean square" else (losses + 1e-3).log()).sum().backward()
        optimizer.step()
        if step in STOPS:
            yield tree_map(lambda p: p.detach().clone(), theta)


def scratch_scores(s: Settings, rows: Rows, test: Rows, seed: int) -> dict[int | None, Tensor]:
    """R2 (tables,) for every fixed number of steps, and under None with early stopping."""
    scores = torch.stack([r2(theta, test) for theta in path(s, rows, seed)]).nan_to_num(-1).clamp(min=-1)
    fewer, kept = (rows[0][:, :80], rows[1][:, :80]), (rows[0][:, 80:], rows[1][:, 80:])
    watched = torch.stack([r2(theta, kept) for theta in path(s, fewer, seed)]).nan_to_num(-torch.inf)
    early = scores.gather(0, watched.argmax(0)[None])[0]  # on all rows, for the steps that were best on the 20
    return {**dict(zip(STOPS, scores, strict=True)), None: early}


def trials(count: int, seed: int = LATE[0], each: int = 20) -> list[tuple[Settings, dict[str, float]]]:
    """Random settings, each with all its ways to stop, and their R2 by family on `each` tables of it."""
    rows, test = tables([name for name in FAMILIES for _ in range(each)], torch.Generator().manual_seed(seed), 500)
    draw, found = np.random.default_rng(seed), []
    for s in [settings(draw) for _ in range(count)]:
        for stop, scores in scratch_scores(s, rows, test, seed).items():
            by_family = zip(FAMILIES, scores.view(-1, each).mean(1).tolist(), strict=True)
            found.append((replace(s, stop=stop), dict(by_family)))
    return found


def ridge_scores(rows: Rows, test: Rows) -> Tensor:
    each, penalties = zip(*(part.numpy() for part in (*rows, *test)), strict=True), np.logspace(-2, 4, 30)
    return torch.tensor([RidgeCV(penalties).fit(x, y).score(u, v) for x, y, u, v in each])


def interval(values: Tensor) -> str:
    """Mean and half of the 95 % interval of a mean."""
    half = t.ppf(0.975, len(values) - 1) * float(values.std()) / len(values) ** 0.5
    return f"{float(values.mean()):7.3f} +- {half:.3f}"


def report(held: str, chosen: dict[str, Settings], seeds: list[int], iterations: int, draws: tuple[int, int]) -> None:
    seen, draw = mix(held), torch.Generator().manual_seed(LATE[1])
    suites = {
        "seen families": tables((list(dict.fromkeys(seen)) * 7)[:20], draw, 500),
        held: tables([held] * 20, draw, 500),
        "diabetes": diabetes(*draws),
    }
    named = ["its start alone", *chosen]
    every: dict[str, list[Tensor]] = {name: [] for name in suites}
    for seed in seeds:
        outer, seconds = meta_train(seen, seed, iterations)
        print(f"seed {seed}: meta-trained in {seconds:.0f} s")
        for name, (rows, test) in suites.items():
            began, fitted = (Tasks(FirstOrder(k))(PROBLEM, {}, outer, rows, rows).theta for k in (0, STEPS))
            others = [scratch_scores(s, rows, test, seed)[s.stop] for s in chosen.values()]
            every[name].append(torch.stack([r2(fitted, test), r2(began, test), *others]))
            shown = every[name][-1].mean(1).tolist()
            print(f"    {name:<14} {', '.join(['meta', *named])}: {', '.join(f'{v:.3f}' for v in shown)}", flush=True)
    for name, (rows, test) in suites.items():
        meta, *others = torch.stack(every[name]).mean(0)  # by table
        print(f"{name}: meta {interval(meta)}")
        for other, scores in zip([*named, "ridge"], [*others, ridge_scores(rows, test)], strict=True):
            won = f"better on {int((meta > scores).sum())} of {len(meta)}"
            print(f"    {other:<20}{interval(scores)}   meta minus it{interval(meta - scores)}, {won}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", choices=list(FAMILIES), nargs="+", default=["piecewise"], help="one after the other")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of meta-training")
    parser.add_argument("--iterations", type=int, default=1200, help="of meta-training")
    parser.add_argument("--trials", type=int, default=36, help="random settings of the trainings from scratch")
    parser.add_argument("--draws", type=int, default=20, help="of 100 rows of diabetes")
    parser.add_argument("--draw", type=int, default=LATE[2], help="seed of these draws")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    found = trials(options.trials)
    for held in options.held:
        chosen = {}
        for name, kind in (("scratch", False), ("scratch after ridge", True)):
            some = [trial for trial in found if (trial[0].ridge is not None) == kind]
            best, scores = max(some, key=lambda trial: sum(trial[1][name] for name in mix(held)))
            print(f"held out {held}, {name}: {best}, R2 {', '.join(f'{v:.3f}' for v in scores.values())}", flush=True)
            chosen[name] = best
        report(held, chosen, options.seeds, options.iterations, (options.draw, options.draws))


if __name__ == "__main__":
    main()
