"""Does it help to learn the magnitudes of an augmentation, how sure labels are, the shape of a loss?

    METANAS_DATA=folder-with-mnist.npz python benchmarks/learned_augmentation.py --seeds 0 1 2 3 4

A small network of two convolutions on few images of MNIST, halved to 14x14, tested on its 10,000 test images.

    augmentation   500 inner and 500 outer images; shift, rotation, scale and shear
    noisy          2,000 inner images, 40 % of them with a wrong label; 200 outer images, all right
    long-tailed    inner images of class c: 400 * 0.01 ** (c / 9), 400 down to 4; 10 outer images of each class

Learned: the outer loss falls, seen through a few steps of the inner problem (SETTINGS); theta goes on with them, and
begins anew after about 500. Then every method trains for 1,000 steps from scratch and is tested once: augmented on
inner and outer images; else on the inner images in its own way, and on the outer ones as they are, since their labels
are right. A grid and a random search train on the inner images alone, 1,000 steps for each setting, and keep what has
the least outer loss; a random search takes as long as learning. Seconds are those of the processor, of one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import SGD, Unrolled, adopt, solve, torch_step, train
from metanas.modes import Part, assemble, augmentation, cross_entropies, label_smoothing, learned_loss, meta_parameter
from metanas.modes.part import NOISE

RULE = SGD(lr=0.05, momentum=0.9)
BATCH = 100
SETTINGS = {"augmentation": (1, 480, 960, 0.03), "noisy": (20, 25, 50, 0.2), "long-tailed": (20, 25, 50, 0.2)}
"""Inner steps of a hypergradient; outer steps after which theta begins anew; outer steps in all; the rate of Adam on
the outer variables: set after a few trials on seeds 100 and 101 alone."""
NAMES = ("shift", "rotation", "scale", "shear")
TRAINED = 1000
"""Steps of a training from scratch."""
Images = tuple[Tensor, Tensor]
Settings = tuple[int, int, int, float]
Draws = Callable[[np.random.Generator], Any]
Method = Iterator[tuple[str, Part | None, Any, float]]
"""(name, part, its outer variables, seconds that it took to find them)."""


def mnist(what: str, seed: int) -> dict[str, Images]:
    """{"inner", "outer", "test"}: (images (count, 1, 14, 14) in 0 .. 1, labels (count,))."""
    file = np.load(Path(os.environ["METANAS_DATA"], "mnist.npz"))
    draw = np.random.default_rng(seed)
    order, labels = draw.permutation(len(file["y_train"])), file["y_train"].astype(np.int64)

    def images(x: np.ndarray) -> Tensor:
        return F.avg_pool2d(torch.from_numpy(x).float()[:, None] / 255, 2)

    def rows(at: np.ndarray) -> Images:
        return images(file["x_train"][at]), torch.from_numpy(labels[at])

    of = [order[labels[order] == c] for c in range(10)]
    if what == "augmentation":
        inner, outer = rows(order[:500]), rows(order[500:1000])
    elif what == "noisy":
        inner, outer = rows(order[:2000]), rows(order[2000:2200])
        inner[1][:800] = (inner[1][:800] + torch.from_numpy(draw.integers(1, 10, 800))) % 10
    else:
        counts = [round(400 * 0.01 ** (c / 9)) for c in range(10)]
        inner = rows(np.concatenate([of[c][: counts[c]] for c in range(10)]))
        outer = rows(np.concatenate([of[c][400:410] for c in range(10)]))
    test = images(file["x_test"]), torch.from_numpy(file["y_test"].astype(np.int64))
    return {"inner": inner, "outer": outer, "test": test}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 16, 10),
    )  # fmt: skip


def start(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: p.detach().clone() for name, p in network().named_parameters()}


def batch_of(images: Images, draw: torch.Generator, count: int = BATCH) -> tuple[Tensor, ...]:
    """(images, labels, positions, noise)."""
    at = torch.randint(len(images[0]), (count,), generator=draw)
    return images[0][at], images[1][at], at, 2 * torch.rand(count, NOISE, generator=draw) - 1


def learned(data: dict[str, Images], part: Part, seed: int, settings: Settings) -> Any:
    """The part's outer variables after so many hypergradients."""
    unroll, anew, steps, lr = settings
    draw = torch.Generator().manual_seed(seed)
    problem = replace(assemble(network(), [part], rule=RULE), batch_at=lambda batch, k: batch[k])
    own = tree_map(lambda x: x.clone().requires_grad_(), part.start)
    optimizer = torch.optim.Adam(tree_leaves(own), lr)
    outer = {part.name: own}
    step = torch_step(optimizer, outer, clip=1.0)
    for k in range(0, steps, anew):
        theta = start(seed + k)
        advance = adopt(theta, rule=RULE)
        batches = (
            (None, [batch_of(data["inner"], draw) for _ in range(unroll)], batch_of(data["outer"], draw, 200))
            for _ in range(anew)
        )
        solving = solve(problem, Unrolled(unroll), theta, outer, batches, outer_step=step, advance=advance,
                        memory=advance.memory)  # fmt: skip
        for j, _ in enumerate(solving, k + 1):
            optimizer.param_groups[0]["lr"] = lr * max(1 - j / steps, 0.0)
    return tree_map(torch.detach, own)


def fitted(images: Images, part: Part | None, own: Any, seed: int, trusted: Images | None = None) -> dict[str, Tensor]:
    """theta after a training from scratch on images that the part is in force for, and others that it is not."""
    draw = torch.Generator().manual_seed(seed)
    theta = {name: p.requires_grad_() for name, p in start(seed).items()}
    inner = meta_parameter(network()) if part is None else assemble(network(), [part], rule=RULE)
    share = 1.0 if trusted is None else len(images[0]) / (len(images[0]) + len(trusted[0]))

    def loss(theta: Any, outer: Any, batch: Any) -> Tensor:
        assert inner.inner_loss is not None
        found = share * inner.inner_loss(theta, outer, batch_of(images, draw, round(BATCH * share)))
        if trusted is None:
            return found
        return found + (1 - share) * inner.outer_loss(theta, outer, batch_of(trusted, draw, round(BATCH * (1 - share))))

    optimizer = torch.optim.SGD(theta.values(), RULE.lr, RULE.momentum, fused=True)
    advance = train(replace(inner, inner_loss=loss), theta, {} if part is None else {part.name: own}, optimizer)
    for k in range(TRAINED):
        optimizer.param_groups[0]["lr"] = RULE.lr * (1 + np.cos(np.pi * k / TRAINED)) / 2
        advance(None, [None])
    return theta


def scored(theta: dict[str, Tensor], images: Images) -> tuple[float, float]:
    """(loss, accuracy in per cent)."""
    with torch.no_grad():
        outputs = torch.func.functional_call(network(), theta, (images[0],))
    accuracy = 100 * float((outputs.argmax(1) == images[1]).float().mean())
    return float(cross_entropies(outputs, images[1]).mean()), accuracy


def valued(data: dict[str, Images], part: Part, own: Any, seed: int) -> float:
    """The loss of the outer images after a training on the inner images alone."""
    return scored(fitted(data["inner"], part, own, seed), data["outer"])[0]


def searched(data: dict[str, Images], part: Part, draws: Draws, seed: int, seconds: float) -> tuple[Any, int]:
    """The best of random settings, and how many there were."""
    draw, until, best, count = np.random.default_rng(seed), time.process_time() + seconds, (float("inf"), part.start), 0
    while time.process_time() < until:
        own = draws(draw)
        best = min(best, (valued(data, part, own, seed), own), key=lambda pair: pair[0])
        count += 1
    return best[1], count


def both(title: str, data: dict[str, Images], part: Part, draws: Draws | None, seed: int, settings: Settings) -> Method:
    """The part as it is learned, and as it is found at random in the same time, where `draws` says how to draw it."""
    began = time.process_time()
    own = learned(data, part, seed, settings)
    seconds = time.process_time() - began
    print(f"    {title}, learned: {', '.join(f'{k} {v:.3f}' for k, v in part.shown(own).items())}", flush=True)
    yield f"{title}, learned", part, own, seconds
    if draws is None:
        return
    own, count = searched(data, part, draws, seed, seconds)
    print(f"    {title}, random ({count}): {', '.join(f'{k} {v:.3f}' for k, v in part.shown(own).items())}", flush=True)
    yield f"{title}, random search", part, own, seconds


def augmented(data: dict[str, Images], seed: int, settings: Settings) -> Method:
    part = augmentation(NAMES, (1, 14, 14))
    yield "none", None, None, 0.0

    def draws(draw: np.random.Generator) -> Any:
        return {name: torch.tensor(draw.uniform(np.log(0.01), np.log(0.6)), dtype=torch.float32) for name in NAMES}

    began = time.process_time()
    grid = [{name: torch.tensor(float(m)).log() for name in NAMES} for m in (0.025, 0.05, 0.1, 0.15, 0.2, 0.3)]
    best = min(grid, key=lambda own: valued(data, part, own, seed))
    print(f"    one magnitude: {float(best['shift'].exp()):.3f}", flush=True)
    yield "one magnitude for all, from a grid", part, best, time.process_time() - began
    yield from both("magnitudes", data, part, draws, seed, settings)


def judged(data: dict[str, Images], seed: int, settings: Settings) -> Method:
    yield "cross entropy", None, None, 0.0
    counts = data["inner"][1].bincount(minlength=10)
    loss, smoothing = learned_loss(10), label_smoothing(10)
    prior = {**loss.start, "offset": (counts / counts.sum()).log()}
    yield "logit adjustment by the counts", loss, prior, 0.0
    began = time.process_time()
    grid = [{"logit": torch.tensor(share).logit()} for share in (0.01, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75)]
    best = min(grid, key=lambda own: valued(data, smoothing, own, seed))
    seconds = time.process_time() - began
    print(f"    smoothing from a grid: {smoothing.shown(best)['smoothed share']:.2f}", flush=True)
    yield "label smoothing, from a grid", smoothing, best, seconds

    def shape(draw: np.random.Generator) -> Any:
        return {
            "log_scale": torch.tensor(draw.uniform(-3, 1), dtype=torch.float32),
            "poly": torch.from_numpy(draw.uniform(-1, 4, 2)).float(),
            "offset": float(draw.choice([0, 1])) * float(draw.uniform(0, 1.5)) * prior["offset"],
        }

    yield from both("label smoothing", data, smoothing, None, seed, settings)
    yield from both("a loss", data, loss, shape, seed, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", choices=["augmentation", "noisy", "long-tailed"], nargs="+",
                        default=["augmentation", "noisy", "long-tailed"])  # fmt: skip
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for what in options.only:
        rows: dict[str, list[tuple[float, ...]]] = {}
        for seed in options.seeds:
            data = mnist(what, seed)
            ways = augmented if what == "augmentation" else judged
            for name, part, own, seconds in ways(data, seed, SETTINGS[what]):
                if what == "augmentation":
                    images, trusted = (
                        tuple(torch.cat(pair) for pair in zip(data["inner"], data["outer"], strict=True)),
                        None,
                    )
                else:
                    images, trusted = data["inner"], data["outer"]
                theta = fitted(images, part, own, seed, trusted)
                accuracy = scored(theta, data["test"])[1]
                rows.setdefault(name, []).append((accuracy, seconds))
                print(f"  {what} {seed}  {name:<34} {accuracy:.2f}   {seconds:.0f} s", flush=True)
        for name, each in rows.items():
            scores, seconds = [row[0] for row in each], statistics.mean(row[1] for row in each)
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            print(f"{what:<14} {name:<34} {statistics.mean(scores):.2f} +- {spread:.2f}   {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
