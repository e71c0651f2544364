"""Omniglot from one example of each character: every learner, inductive, on characters of alphabets never seen.

    python benchmarks/omniglot.py --data omniglot28.npz --learner prototypical --seed 0 --runs DIR
    python benchmarks/omniglot.py --data omniglot28.npz --runs DIR --hold 170 --set episodes.stroke=0.5 --steps 4000

The 964 background characters and their rotations by 90, 180 and 270 degrees are the training classes, the 659 of the
evaluation alphabets, rotated likewise, those of the test; 28x28 images, Conv4-64, one thread. Steps are fixed before a
training and its last state is tested; nothing is selected on the test characters. Settings are chosen with `--hold`:
background alphabets of so many characters, which the seed draws, take the place of the evaluation alphabets.

Printed: accuracy and its 95 % interval over 1,000 episodes of 5-way and 20-way 1-shot with 15 queries a class, each
query answered for itself (inductive), and 5-way transductive; for learners that compare, the error of 20-way 1-shot
within an evaluation alphabet (unrotated, one drawer writes the examples and another the queries, 1,000 such tasks).
A learner that adapts has as many outputs as it has ways, so each of its trainings is for one number of ways. CPU
seconds are those of the process from the first step to the end of the run's own test (`time.process_time`).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch.func import vmap
from torch.utils._pytree import tree_map

import metanas
from metanas.api.few_shot_parts import FewShotParts, batches_of
from metanas.data import ClassData, Episode, Episodes, load_classes
from metanas.data.warps import views
from metanas.evaluation import EpisodicScore, episodic_score
from metanas.modes.prototypes import nearness, prototypes
from metanas.network import called_norms, episodic, settled
from metanas.recipe import override, parse_setting, read_few_shot

EPISODES = 1000
VIEWS = 9
SHARED: dict[str, Any] = {
    "evaluation.episodes": EPISODES,
    "evaluation.every": 10**6,
    "threads": 1,
}
COMPARES: dict[str, Any] = {
    "learner": {"name": "prototypical", "options": {"loss": "turns"}},
    "network.options": {"width": 64, "flat": True},
    "network.embedding": 128,
    "episodes": {"ways": 40, "shots": 1, "queries": 3, "tasks": 1, "affine": 0.5},
    "outer": {"lr": 3e-3, "steps": 4000},
}
LONG: dict[str, Any] = {
    **COMPARES,
    "network.options": {"width": 16, "grow": 2, "flat": True},
    "episodes": {**COMPARES["episodes"], "within": 0.5, "affine": 0.7, "elastic": 0.25, "stroke": 0.25},
    "outer": {"lr": 3e-3, "steps": 30000},
}
PLAIN: dict[str, Any] = {
    "learner": {"name": "prototypical", "options": {"loss": "prototypes"}},
    "episodes": {"ways": 60, "shots": 1, "queries": 5, "tasks": 1},
    "outer": {"lr": 1e-3, "steps": 1200},
}


def adapting(name: str, tasks: int, outer_steps: int, outer_lr: float, **options: Any) -> dict[str, Any]:
    """Settings of a learner that adapts, tested with the ways that it is trained with."""
    episodes = {"ways": 5, "shots": 1, "queries": 1, "tasks": tasks}
    outer = {"lr": outer_lr, "steps": outer_steps}
    return {"learner": {"name": name, "options": options}, "episodes": episodes, "outer": outer}


LEARNERS: dict[str, dict[str, Any]] = {
    "prototypical": COMPARES,
    "prototypical, long": LONG,
    "prototypical, as published": PLAIN,
    "maml": adapting("maml", 16, 600, 2e-3, steps=3, lr=0.4),
    "fomaml": adapting("fomaml", 16, 900, 2e-3, steps=3, lr=0.4),
    "anil": adapting("anil", 16, 1500, 2e-3, steps=3, lr=0.4),
    "meta_sgd": adapting("meta_sgd", 16, 900, 2e-3, steps=1, lr=0.2),
    "reptile": {
        **adapting("reptile", 5, 2000, 1.0, steps=5, lr=1e-3),
        "episodes": {"ways": 5, "shots": 10, "queries": 1, "tasks": 5},
        "outer": {"lr": 1.0, "steps": 2000, "optimizer": "sgd", "clip": 1e6},
    },
    "imaml": adapting("imaml", 16, 400, 2e-3, steps=12, lr=0.2, hold=1.0, solves=4),
}


def read(path: str, seed: int, hold: int, device: str) -> ClassData:
    """Background and evaluation characters; or background characters alone, some alphabets of them as the test."""
    data = load_classes(path, rotations=True, validation=hold, seed=seed, device=device)
    if not hold:
        return data
    print("held out:", ", ".join(data.validation.by_group), flush=True)
    return replace(data, test=data.validation, validation=data.validation.subset([]))


def seconds_a_step(settings: dict[str, Any], data: ClassData) -> float:
    """The mean of 8 steps after one to warm up."""
    recipe = read_few_shot(override({}, settings))
    parts = FewShotParts(recipe, metanas.load_space("conv4", **recipe.network.options), data)
    learner = parts.learner(parts.network())
    steps = parts.tuning(learner, learner.outer).steps()
    next(steps)
    begun = time.perf_counter()
    for _ in range(8):
        next(steps)
    return (time.perf_counter() - begun) / 8


def moved(learner: metanas.api.Learner, device: torch.device) -> metanas.api.Learner:
    """The learner on a device."""
    outer, statistics = tree_map(lambda x: x.to(device), (learner.outer, learner.statistics))
    return replace(learner, outer=outer, statistics=statistics, network=learner.network.to(device))


def embedded(learner: metanas.api.Learner, data: ClassData, looks: int) -> ClassData:
    """The same classes with the embeddings of their images as inputs: an inductive answer embeds each image for itself,
    so that once is enough for all episodes. The mean embedding of `looks` views gives the mean of their scores."""
    learner = moved(learner, data.device)
    module = episodic(learner.network)
    names = called_norms(module, torch.zeros(2, *data.shape, device=data.device))
    network = settled(module, learner.outer["weights"], learner.statistics or [], names)
    outside = data.normalised(torch.zeros(data.shape, device=data.device))
    parts = {}
    for part in ("train", "test"):
        classes = getattr(data, part) if part == "test" else data.train.subset(range(2))  # only the test is asked for
        counts = torch.tensor(classes.counts)
        owners = torch.arange(len(classes)).repeat_interleave(counts)
        numbers = torch.cat([torch.arange(count) for count in classes.counts])
        pairs = zip(owners.split(200), numbers.split(200), strict=True)
        with torch.no_grad():
            rows = torch.cat([
                torch.stack([network(view) for view in views(data.normalised(classes.gather(o, n)), looks, outside)])
                .mean(0) for o, n in pairs
            ])  # fmt: skip
        first = tuple((counts.cumsum(0) - counts).tolist())
        parts[part] = replace(classes, inputs=rows, turns=(0,) * len(classes), first=first)
    width = rows.shape[1]
    return replace(data, mean=(0.0,) * width, std=(1.0,) * width, **parts)


def compared(episode: Episode) -> torch.Tensor:
    """The scores of embedded queries."""
    support, queries = batches_of(episode)
    scores: torch.Tensor = vmap(lambda s, t, q: nearness(q, prototypes(s, t)))(
        support.images, support.targets, queries.images
    )
    return scores


def compare(learner: metanas.api.Learner, data: ClassData, seed: int, looks: int) -> dict[str, EpisodicScore]:
    """All that is asked of a learner that compares, with so many looks at each image."""
    data = embedded(learner, data, looks)
    upright = [i for i, name in enumerate(data.test.names) if "@" not in name]
    plain = replace(data, test=data.test.subset(upright))
    found = {}
    for what, episodes in (
        ("5-way 1-shot", Episodes(data, "test", 5, 1, 15, tasks=20, seed=seed)),
        ("20-way 1-shot", Episodes(data, "test", 20, 1, 15, tasks=20, seed=seed)),
        ("20-way within an alphabet", Episodes(plain, "test", 20, 1, 1, 20, seed, within=True, paired=True)),
    ):
        found[what] = score = episodic_score(compared, episodes, EPISODES)
        print(f"  {looks} looks, {what}: {score}, error {1 - score.accuracy:.2%}", flush=True)
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--learner", choices=LEARNERS, default="prototypical")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float, help="of training, in place of steps: 8 of them are timed before")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="of the run's own 5-way test")
    parser.add_argument("--hold", type=int, default=0, help="background characters that are the test, by alphabets")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="anything of the recipe")
    parser.add_argument("--looks", type=int, nargs="+", default=[1, VIEWS], help="at each image, in the last tests")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--runs", type=Path, required=True, help="a run that is there is gone on with, or tested again")
    return parser.parse_args()


def settings_of(asked: argparse.Namespace, data: ClassData) -> dict[str, Any]:
    """Of a learner, with what was asked for in place of its own."""
    base = {**SHARED, **LEARNERS[asked.learner], "evaluation.episodes": asked.episodes, "device": asked.device}
    changes = dict(parse_setting(text) for text in asked.set)
    changes |= {} if asked.steps is None else {"outer.steps": asked.steps}
    settings = {"seed": asked.seed, **override(override({}, base), changes)}
    if asked.minutes is not None:
        steps = round(60 * asked.minutes / seconds_a_step(settings, data))
        settings = override(settings, {"outer.steps": steps})
        print(f"{asked.learner}: {steps} steps", flush=True)
    return settings


def main() -> None:
    asked = arguments()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    data = read(asked.data, asked.seed, asked.hold, asked.device)
    run = asked.runs / f"{asked.learner.replace(', ', '-').replace(' ', '-')}-{asked.seed}"
    begun, used = time.perf_counter(), time.process_time()
    if run.exists():
        found = metanas.load_run(run)
        done = found.folder.read_result() is not None
        result = found.result() if done else found.resume(data=data)  # CPU seconds are then those of the rest
    else:
        settings = settings_of(asked, data)
        print({key: settings.get(key) for key in ("network", "learner", "episodes", "outer")}, flush=True)
        result = metanas.fewshot(read_few_shot(settings), data, run=run)
    print(
        f"{asked.learner}, seed {asked.seed}: {result.learn_seconds / 60:.1f} min of training, "
        f"{time.process_time() - used:.0f} CPU seconds with its test, 5-way 1-shot "
        f"{result.accuracy:.2%} +- {result.interval:.2%}, transductive {result.transductive_accuracy:.2%}, untrained "
        f"{result.start_accuracy:.2%}",
        flush=True,
    )
    if result.learner.ways is None:
        for looks in asked.looks:
            compare(result.learner, data, asked.seed, looks)
    print(f"  {(time.perf_counter() - begun) / 60:.1f} min in all", flush=True)


if __name__ == "__main__":
    main()
