"""Classes known by a description alone: a prototype network from descriptions beside ESZSL on the same features.

    METANAS_DATA=folder-with-mnist.npz-and-cifar10_train.npz python benchmarks/zero_shot.py compositions cifar

compositions   150 classes made from MNIST: digit x ink x background x rotation x size; in each of five draws 100 are
               trained on, 20 choose gamma, lambda and the calibration, 30 are unseen. Descriptions are attributes
               (one-hot), or sentences (`data.Words`): five wordings in training, three others held out. The images of
               the training classes are made of MNIST's training images, all others of its test images.
cifar          CIFAR-10 halved to 16x16, eight classes trained on, two unseen, for five pairs that hold out every class
               once; attributes and sentences written for this. Chance is 50 %.

All columns use the embedding f that the prototype network has learned. "learned" interpolates the prototypes between
the mean embeddings of the training classes (`modes.interpolated`), "as trained" has those of the describer that f was
trained with; ESZSL gets f as features, centred on the training images and of length 1. Intervals: 95 %, Student's t.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from PIL import Image
from scipy import stats
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from metanas.bilevel import Tasks, restart, solve, torch_step
from metanas.data import Compositions, Descriptions, compositions
from metanas.data.compositions import HELD_OUT_WORDINGS, WORDINGS
from metanas.data.seeds import seeded
from metanas.modes import (
    Described,
    FewShot,
    Queries,
    answer,
    describer,
    eszsl,
    generalised,
    interpolated,
    one_hot,
    stacking,
    zero_shot,
)
from metanas.network import Statistics, pooled

WIDTH = 64
QUERIES = 128
KINDS = ("attributes", "sentences")
MODELS = ("learned", "as trained", "ESZSL")
GRID = [10.0**power for power in range(-3, 4)]
"""gamma and lambda, as in the paper."""


def network(side: int, channels: Sequence[int]) -> nn.Module:
    """Convolutions, each of which halves the image, and a linear map to the embedding."""
    first, *rest = channels
    layers: list[nn.Module] = [nn.Conv2d(3, first, 4, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU()]
    for came, width in zip(channels, rest, strict=False):
        layers += [nn.Conv2d(came, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * (side >> len(channels)) ** 2, WIDTH))


@dataclass
class Trained:
    """A learner after its training; `statistics` are those of the training classes."""

    network: nn.Module
    learner: FewShot
    outer: dict
    statistics: Statistics
    seconds: float

    def scores(self, vectors: Tensor, images: Tensor) -> Tensor:
        """(images, classes); each image is answered for itself."""
        given = Described(vectors, self.statistics)
        with torch.no_grad():
            return torch.cat([answer(self.learner, self.outer, given, part) for part in images.split(1000)])

    def features(self, images: Tensor) -> Tensor:
        """f at the images, of length 1, (images, width)."""
        embed = self.learner.embed
        assert embed is not None  # it reads descriptions
        with torch.no_grad():
            return torch.cat([embed(self.outer, part, self.statistics) for part in images.split(1000)])

    def interpolated(self, images: Tensor, described: Descriptions) -> Trained:
        """The same with prototypes between the mean embeddings of the training classes, (classes, each, ...)."""
        means = torch.stack([self.features(normalised(rows)).mean(0) for rows in images])
        counts = torch.tensor([len(rows) for rows in described.rows])
        told = interpolated(torch.cat(described.rows), means.repeat_interleave(counts, 0))
        learner = zero_shot(self.network, told)
        return replace(self, learner=learner, outer={**self.outer, "describer": learner.outer["describer"]})


def episodes(
    images: Tensor, described: Descriptions, seed: int, steps: int
) -> Iterator[tuple[None, Described, Queries]]:
    """One task a step: all training classes, one description each, and queries among their images.

    images: (classes, each, 3, height, width), uint8
    """
    classes, each = images.shape[:2]
    for step in range(steps):
        draw = seeded("zero-shot", seed, step)
        of = torch.randint(classes, (1, QUERIES), generator=draw)
        rows = normalised(images[of, torch.randint(each, (1, QUERIES), generator=draw)])
        yield None, Described(described.draw(generator=draw)[None]), Queries(rows, one_hot(of, classes), rows)


def normalised(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def train(images: Tensor, described: Descriptions, seed: int, *, steps: int, hidden: int, **more) -> Trained:
    began = time.perf_counter()
    torch.manual_seed(seed)
    embedding = network(images.shape[-1], (24, 48, 64))
    learner = zero_shot(embedding, describer(described.width, WIDTH, hidden=hidden), **more)
    outer = {part: {name: p.requires_grad_() for name, p in tree.items()} for part, tree in learner.outer.items()}
    leaves = [p for tree in outer.values() for p in tree.values()]
    optimizer = torch.optim.AdamW(leaves, 3e-3, weight_decay=1e-2, fused=True)
    falls = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1, pct_start=0.1)
    step = torch_step(optimizer, outer)
    batches = episodes(images, described, seed, steps)
    estimator = Tasks(learner.estimator)
    for _ in solve(learner.problem, estimator, {}, outer, batches, outer_step=step, advance=restart):
        falls.step()
    outer = {part: {name: p.detach() for name, p in tree.items()} for part, tree in outer.items()}
    rows = images.flatten(0, 1)
    picked = torch.randperm(len(rows), generator=seeded("statistics", seed))[:4000]
    with torch.no_grad():
        found = pooled(learner.statistics({}, outer, normalised(part)) for part in rows[picked].split(500))
    return Trained(embedding, learner, outer, found, time.perf_counter() - began)


@dataclass
class Closed:
    """ESZSL on the features of a trained learner."""

    trained: Trained
    mean: Tensor
    w: Tensor

    def scores(self, vectors: Tensor, images: Tensor) -> Tensor:
        return self.prepared(images) @ self.w @ vectors.double().T

    def prepared(self, images: Tensor) -> Tensor:
        return F.normalize(self.trained.features(images).double() - self.mean, dim=-1)


def closed(trained: Trained, images: Tensor, vectors: Tensor, valid: Sequence[Tensor]) -> Closed:
    """With the gamma, lambda and target of the wrong classes that are the best on the validation classes: their images,
    labels, vectors."""
    rows = normalised(images.flatten(0, 1))
    labels = torch.arange(len(images)).repeat_interleave(images.shape[1])
    found = Closed(trained, trained.features(rows).double().mean(0), torch.empty(0))
    x, asked = found.prepared(rows), found.prepared(valid[0])
    best = -1.0
    for negative, gamma, lam in product((-1.0, 0.0), GRID, GRID):
        w = eszsl(x, labels, vectors, gamma, lam, negative=negative)
        score = accuracy(asked @ w @ valid[2].double().T, valid[1])
        if score > best:
            best, found.w = score, w
    return found


def accuracy(scores: Tensor, labels: Tensor) -> float:
    return 100 * float((scores.argmax(1) == labels).double().mean())


def mean(values: Sequence[float], digits: int = 1) -> str:
    """Mean and 95 % interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{np.mean(values):.{digits}f} +- {half:.{digits}f}"


# The compositions


@dataclass
class Draw:
    """Which classes are held out, and the images of every part."""

    classes: Compositions
    train: Tensor
    test: dict[str, tuple[Tensor, Tensor]]


def drawn(seed: int, each: int = 100, tested: int = 50) -> Draw:
    file = np.load(Path(os.environ["METANAS_DATA"], "mnist.npz"))
    x, y = ([torch.from_numpy(file[f"{k}_{part}"]) for part in ("train", "test")] for k in "xy")
    found = compositions(classes=150, validation=20, test=30, seed=seed)
    images = found.images(x[0], y[0].long(), found.train, each, seed=seed)
    test = {}
    for part in ("train", "validation", "test"):
        of = found.images(x[1], y[1].long(), getattr(found, part), tested, seed=seed)
        test[part] = normalised(of.flatten(0, 1)), torch.arange(len(of)).repeat_interleave(tested)
    return Draw(found, images, test)


def judged(draw: Draw, model: Trained | Closed, vectors: dict[str, Tensor]) -> dict[str, float]:
    """Unseen classes among themselves; seen and unseen together, as they are and calibrated on validation classes; and
    the unseen classes in each of the further wordings, whose vectors are (wordings, classes, d)."""
    sizes = {part: len(v) for part, v in vectors.items() if v.dim() == 2}
    begins = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    every = torch.cat([v.flatten(0, -2) for v in vectors.values()])
    table = {part: model.scores(every, images) for part, (images, _) in draw.test.items()}  # columns: as `every`

    def columns(part: str, scores: Tensor) -> Tensor:
        return scores[:, begins[part] : begins[part] + sizes[part]]

    def together(part: str) -> tuple[Tensor, Tensor, Tensor]:
        rows = [torch.cat([columns(of, table[images]) for of in ("train", part)], 1) for images in ("train", part)]
        labels = torch.cat([draw.test["train"][1], draw.test[part][1] + sizes["train"]])
        return torch.cat(rows), labels, torch.arange(rows[0].shape[1]) < sizes["train"]

    labels = draw.test["test"][1]
    found = {"unseen": accuracy(columns("test", table["test"]), labels)}
    for name, off in (("plain", 0.0), ("calibrated", stacking(*together("validation")))):
        result = generalised(*together("test"), off=off)
        found |= {f"{name} {key}": 100 * number for key, number in result._asdict().items()}
    at = sum(sizes.values())
    for name, more in vectors.items():
        if more.dim() == 3:
            parts = table["test"][:, at : at + more.shape[0] * more.shape[1]].split(more.shape[1], 1)
            found[name] = float(np.mean([accuracy(part, labels) for part in parts]))
            at += more.shape[0] * more.shape[1]
    return found


def composed(kind: str, seed: int, *, training: int, steps: int, each: int, hidden: int = 512, **more) -> dict:
    draw = drawn(seed, each)
    told = draw.classes.described if kind == "attributes" else draw.classes.wordings
    described = Descriptions.fit(told(draw.classes.train))
    parts = {part: getattr(draw.classes, part) for part in ("train", "validation", "test")}
    vectors = {part: described.encode(told(names)) for part, names in parts.items()}
    trained = train(draw.train, described, seed + 1000 * training, steps=steps, hidden=hidden, **more)
    valid = (*draw.test["validation"], vectors["validation"])
    baseline = closed(trained, draw.train, vectors["train"], valid)
    if kind == "sentences":
        for name, templates in (("known wordings", WORDINGS), ("held-out wordings", HELD_OUT_WORDINGS)):
            said = [draw.classes.wordings(parts["test"], [text]) for text in templates]
            vectors[name] = torch.stack([described.encode(one) for one in said])
    models = {"learned": trained.interpolated(draw.train, described), "as trained": trained, "ESZSL": baseline}
    return {name: judged(draw, model, vectors) for name, model in models.items()} | {"seconds": trained.seconds}


def run_compositions(seeds: Sequence[int], trainings: int, steps: int, each: int, kinds: Sequence[str]) -> None:
    for kind in kinds:
        rows = []
        for seed in seeds:
            found = []
            for k in range(trainings):
                found.append(composed(kind, seed, training=k, steps=steps, each=each))
                print(f"{kind}, draw {seed}, training {k}: {found[-1]}", flush=True)
            rows.append(tree_map(lambda *values: sum(values) / len(values), *found))
        for key in rows[0]["ESZSL"]:
            values = {name: [row[name][key] for row in rows] for name in MODELS}
            line = "   ".join(f"{name} {mean(found)}" for name, found in values.items())
            line += "".join(
                f"   learned minus {name} {mean(np.subtract(values['learned'], values[name]))}" for name in MODELS[1:]
            )
            print(f"{kind}, {key:<20} {line}")
        if kind == "sentences":
            for name in MODELS:
                lost = [row[name]["known wordings"] - row[name]["held-out wordings"] for row in rows]
                print(f"sentences, held-out wordings lose, {name}: {mean(lost)}")
        seconds = [row["seconds"] for row in rows]
        print(f"{kind}, seconds of a training: {np.mean(seconds):.0f}, at most {max(seconds):.0f}", flush=True)


# CIFAR-10

TABLE = """
           animal legs wheels wings fur feathers metal flies swims road hooves claws windows load size rider
airplane        0    0      3     2   0        0     1     1     0    0      0     0       1    1    5     1
automobile      0    0      4     0   0        0     1     0     0    1      0     0       1    0    3     1
bird            1    2      0     2   0        1     0     1     0    0      0     1       0    0    1     0
cat             1    4      0     0   1        0     0     0     0    0      0     1       0    0    1     0
deer            1    4      0     0   1        0     0     0     0    0      1     0       0    0    3     0
dog             1    4      0     0   1        0     0     0     1    0      0     1       0    0    2     0
frog            1    4      0     0   0        0     0     0     1    0      0     0       0    0    1     0
horse           1    4      0     0   1        0     0     0     0    0      1     0       0    1    4     1
ship            0    0      0     0   0        0     1     0     1    0      0     0       1    1    5     1
truck           0    0      6     0   0        0     1     0     0    1      0     0       1    1    4     1
"""
SENTENCES = {
    "airplane": "a large metal vehicle with wings that flies in the sky",
    "automobile": "a metal vehicle with four wheels that drives on the road",
    "bird": "a small animal with wings and feathers that flies in the sky",
    "cat": "a small animal with four legs, soft fur and claws that lives in the house",
    "deer": "a wild animal with four long legs, brown fur and hooves in the forest",
    "dog": "an animal with four legs, fur and claws that lives in the house and runs outside",
    "frog": "a small green animal with wet skin that swims in the water",
    "horse": "a large animal with four long legs, brown fur and hooves that people ride",
    "ship": "a large metal vehicle that swims in the water",
    "truck": "a large metal vehicle with many wheels that carries loads on the road",
}
PAIRS = (("cat", "dog"), ("automobile", "truck"), ("bird", "airplane"), ("deer", "ship"), ("frog", "horse"))


def cifar(each: int = 5000) -> dict[str, Tensor]:
    """Images of every class, (each, 3, 16, 16), uint8."""
    file = np.load(Path(os.environ["METANAS_DATA"], "cifar10_train.npz"))
    data, offset, label = (file[key] for key in ("jpeg", "offset", "label"))
    found = {}
    for k, name in enumerate(file["classes"].tolist()):
        rows = np.flatnonzero(label == k)[:each]
        decoded = [np.asarray(Image.open(BytesIO(data[offset[i] : offset[i + 1]].tobytes()))) for i in rows]
        whole = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)
        found[name] = F.avg_pool2d(whole.float(), 2).round().to(torch.uint8)
    return found


def chosen(trained: Trained, images: Tensor, vectors: Tensor) -> Closed:
    """ESZSL whose gamma, lambda and target were the best where two of the training classes are left out in turn."""
    found = Closed(trained, torch.zeros(WIDTH, dtype=torch.float64), torch.empty(0))
    rows = trained.features(normalised(images.flatten(0, 1))).double()
    found.mean = rows.mean(0)
    x = F.normalize(rows - found.mean, dim=-1).unflatten(0, images.shape[:2])  # (classes, each, width)

    def fitted(of: Tensor, gamma: float, lam: float, negative: float) -> Tensor:
        labels = torch.arange(len(of)).repeat_interleave(x.shape[1])
        return eszsl(x[of].flatten(0, 1), labels, vectors[of], gamma, lam, negative=negative)

    def score(*settings: float) -> float:
        scores = []
        for i, j in ((0, 4), (1, 5), (2, 6), (3, 7)):
            w = fitted(torch.tensor([k for k in range(8) if k not in (i, j)]), *settings)
            table = x[[i, j]].flatten(0, 1) @ w @ vectors[[i, j]].double().T
            scores.append(accuracy(table, torch.arange(2).repeat_interleave(x.shape[1])))
        return sum(scores)

    best = max(((g, lam, n) for g in GRID for lam in GRID for n in (-1.0, 0.0)), key=lambda s: score(*s))
    found.w = fitted(torch.arange(8), *best)
    return found


def run_cifar(seeds: Sequence[int]) -> None:
    images = cifar()
    keys, *lines = [line.split() for line in TABLE.strip().splitlines()]
    described = {
        "attributes": {name: dict(zip(keys, map(float, row), strict=True)) for name, *row in lines},
        "sentences": SENTENCES,
    }
    for kind, every in described.items():
        rows = []
        for pair in PAIRS:
            known = [name for name in images if name not in pair]
            told = Descriptions.fit({name: every[name] for name in known})
            vectors = told.encode({name: every[name] for name in pair})
            x, labels = normalised(torch.cat([images[name][:1000] for name in pair])), torch.arange(2000) // 1000
            seen = torch.stack([images[name] for name in known])
            trained = train(seen, told, seeds[0], steps=500, hidden=0)
            baseline = chosen(trained, seen[:, :500], told.vectors)
            models = (trained.interpolated(seen, told), trained, baseline)
            rows.append([accuracy(model.scores(vectors, x), labels) for model in models])
            each = ", ".join(f"{name} {value:.1f}" for name, value in zip(MODELS, rows[-1], strict=True))
            print(f"{kind}, {' and '.join(pair)}: {each} ({trained.seconds:.0f} s)", flush=True)
        values = dict(zip(MODELS, zip(*rows, strict=True), strict=True))
        each = "   ".join(f"{name} {mean(found)}" for name, found in values.items())
        more = mean(np.subtract(values["learned"], values["ESZSL"]))
        print(f"{kind}, five pairs: {each}   learned minus ESZSL {more}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["compositions", "cifar"], default=["compositions", "cifar"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the draws; two or more")
    parser.add_argument("--steps", type=int, default=700, help="of a training on compositions")
    parser.add_argument("--trainings", type=int, default=1, help="of each draw; their mean counts as one value")
    parser.add_argument("--each", type=int, default=100, help="images of each training class")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of descriptions of compositions")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for what in options.what:
        if what == "compositions":
            run_compositions(options.seeds, options.trainings, options.steps, options.each, options.kinds)
        else:
            run_cifar(options.seeds)


if __name__ == "__main__":
    main()
