"""A learned update rule beside tuned SGD and Adam, on tasks of its family that it never saw, and on two other families.

    python benchmarks/learned_rule.py --seeds 0 1 2

A task is a short training: a start, minibatches of 16 rows, and 160 other rows on which the loss is measured.

    digits         5 of the 10 classes of scikit-learn's digits, randomly projected to 24 features; MLP 24-16-5 (tanh)
    images         5 of the 10 classes as pictures; a convolution 3x3 to 8 channels (ReLU), a linear layer
    breast cancer  15 of its 30 features, any of its rows; MLP 15-24-24-2 (ReLU)

The rule (`bilevel.learned.LearnedRule`) is trained on digits alone: outer
loss is that on the other rows after 50 steps, hypergradient by `Tasks(Unrolled(50))` over 8 fresh tasks, 300 steps of
Adam. Its tasks come from one half of the rows and 200 of the 252 subsets of classes; all that is reported on digits
and images comes from the other half and the other 52.

SGD (rate, momentum) and Adam (rate, both betas), each with a constant rate and with one that falls to 0 as a cosine,
are tuned on a grid for the same objective, on 128 tasks of the rule's own kind; on other families once with those
settings, as the rule is, and once tuned anew on 40 tasks of that family. The cosine is told how many steps there will
be; at other lengths it is stretched. The learned rule and the constant rates are not told.

Printed: means over the held-out tasks at 1, 2 and 4 times 50 steps, and the learned rule's paired differences with 95 %
intervals (Student's t over tasks, of which each is the mean over the rule's seeds).
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor, nn
from torch.func import grad, vmap

from metanas.bilevel import SGD, Adam, Bilevel, Rule, Tasks, Tree, Unrolled, per_step, restart, solve, torch_step
from metanas.bilevel.learned import LearnedRule
from metanas.modes import Stateless

STEPS, BATCH, MEASURED = 50, 16, 160
EVERY = 5
"""Steps between two measurements along a training."""
RATES = [10 ** (k / 4) for k in range(-12, 3)]
TUNING, HELD_OUT = 5_000, 20_000
"""First seeds of the tasks that settings are chosen on, and of those that are reported."""


@dataclass(frozen=True)
class Family:
    """Tasks that share a network."""

    network: Callable[[], nn.Module]
    rows: Callable[[np.random.Generator, bool], tuple[np.ndarray, np.ndarray]]
    """(the task's randomness, held out) -> inputs (rows, ...) and labels (rows,) of one task, in random order."""


load_digits, load_breast_cancer = functools.cache(load_digits), functools.cache(load_breast_cancer)


def digits_rows(draw: np.random.Generator, held: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (rows, 64) of five classes, standardised as a whole, labels 0 to 4 in random order of the classes."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    order = order[900:] if held else order[:900]
    subsets = np.random.default_rng(1).permutation(list(itertools.combinations(range(10), 5)))
    subsets = subsets[200:] if held else subsets[:200]
    classes = draw.permutation(subsets[draw.integers(len(subsets))])
    label = np.full(10, -1)
    label[classes] = np.arange(5)
    order = draw.permutation(order[label[data.target[order]] >= 0])
    return (data.data[order] - 4.88) / 6.02, label[data.target[order]]


def projected(draw: np.random.Generator, held: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = digits_rows(draw, held)
    return x @ draw.normal(size=(64, 24)) / 8, y


def table(draw: np.random.Generator, held: bool) -> tuple[np.ndarray, np.ndarray]:
    data = load_breast_cancer()
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    order = draw.permutation(len(x))
    return x[order][:, draw.permutation(30)[:15]], data.target[order]


def mlp(*widths: int, act: type[nn.Module]) -> nn.Module:
    layers = [part for n, m in itertools.pairwise(widths) for part in (nn.Linear(n, m), act())]
    return nn.Sequential(*layers[:-1])


class Patches(nn.Module):
    """Pictures (..., 64) -> their 36 patches of 3x3 (..., 36, 9): a linear layer on them is a convolution.

    A convolution whose weights `vmap` batches too would be slow.
    """

    def __init__(self) -> None:
        super().__init__()
        corners, inside = (
            torch.cartesian_prod(torch.arange(n), torch.arange(n)) @ torch.tensor([8, 1]) for n in (6, 3)
        )
        self.places = corners[:, None] + inside

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.places]


def convolution() -> nn.Module:
    return nn.Sequential(Patches(), nn.Linear(9, 8), nn.ReLU(), nn.Flatten(-2), nn.Linear(288, 5))


FAMILIES = {
    "digits": Family(lambda: mlp(24, 16, 5, act=nn.Tanh), projected),
    "images": Family(convolution, digits_rows),
    "breast cancer": Family(lambda: mlp(15, 24, 24, 2, act=nn.ReLU), table),
}


def tasks(family: Family, seeds: Sequence[int], steps: int, held: bool = False) -> tuple[Any, Any]:
    """(starts, minibatches (tasks, steps, BATCH, ...), labels), (rows measured (tasks, MEASURED, ...), labels)."""
    drawn: list[tuple[Tensor, ...]] = []
    starts: list[dict[str, Tensor]] = []
    for seed in seeds:
        draw = np.random.default_rng([seed, int(held)])
        x, y = family.rows(draw, held)
        x, y = torch.from_numpy(x).float(), torch.from_numpy(y).long()
        picked = torch.from_numpy(draw.integers(MEASURED, len(x), (steps, BATCH)))
        drawn.append((x[picked], y[picked], x[:MEASURED], y[:MEASURED]))
        torch.manual_seed(seed)
        starts.append({name: p.detach() for name, p in family.network().named_parameters()})
    start = {name: torch.stack([one[name] for one in starts]) for name in starts[0]}
    x, y, u, v = (torch.stack(column) for column in zip(*drawn, strict=True))
    return (start, x, y), (u, v)


def problem_of(family: Family, rule: Rule) -> Bilevel:
    call = Stateless(family.network())

    def loss(theta: Tree, outer: Tree, batch: Any) -> Tensor:
        return F.cross_entropy(call(theta, batch[0]), batch[1])

    return Bilevel(
        loss,
        loss,
        start=lambda theta, outer, batch: batch[0],
        rule=rule,
        batch_at=lambda batch, step: (batch[1][step], batch[2][step]),
    )


def trained(seed: int, outer_steps: int, count: int, clip: float) -> tuple[LearnedRule, Tree]:
    """The rule and its outer variables."""
    family, rule = FAMILIES["digits"], LearnedRule()
    problem = problem_of(family, rule)
    weights = rule.first(lr=0.03, generator=torch.Generator().manual_seed(seed))
    outer = {"rule": {name: w.requires_grad_() for name, w in weights.items()}}
    optimizer = torch.optim.Adam(outer["rule"].values(), 3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, outer_steps)
    first = 100_000 * (seed + 1)
    batches = (
        (None, *tasks(family, range(first + k * count, first + (k + 1) * count), STEPS)) for k in range(outer_steps)
    )
    step = torch_step(optimizer, outer, clip=clip)
    begun, losses = time.perf_counter(), []
    for h in solve(problem, Tasks(Unrolled(STEPS)), {}, outer, batches, outer_step=step, advance=restart):
        schedule.step()
        losses.append(float(h.outer_loss))
        if len(losses) % 50 == 0:
            print(
                f"  seed {seed}, outer step {len(losses)}: loss {np.mean(losses[-50:]):.4f}, "
                f"norm {float(step.report.gradient_norm):.2f}, {time.perf_counter() - begun:.0f} s",
                flush=True,
            )
    return rule, {"rule": {name: w.detach() for name, w in outer["rule"].items()}}


@torch.no_grad()
def trainings(family: Family, rule: Rule, outer: Tree, drawn: tuple[Any, Any], steps: int) -> tuple[Tensor, Tensor]:
    """Losses and accuracies on the rows measured on (tasks, steps / EVERY), after every EVERY steps of all tasks."""
    problem = problem_of(family, rule)
    (theta, x, y), measured = drawn
    call = Stateless(family.network())
    slopes = vmap(grad(problem.inner_loss), in_dims=(0, None, 0))
    move = vmap(rule, in_dims=(0, 0, 0, None))
    memory = vmap(rule.init)(theta)
    found = []

    def score(theta: Tree, inputs: Tensor, labels: Tensor) -> Tensor:
        outputs = call(theta, inputs)
        return torch.stack([F.cross_entropy(outputs, labels), (outputs.argmax(-1) == labels).float().mean()])

    for k in range(steps):
        theta, memory = move(theta, memory, slopes(theta, outer, (x[:, k], y[:, k])), outer)
        if (k + 1) % EVERY == 0:
            found.append(vmap(score)(theta, *measured))
    losses, accuracies = torch.stack(found, 1).unbind(-1)
    return losses.nan_to_num(1e3, 1e3).clamp(max=1e3), 100 * accuracies


def cosine(lr: float, steps: int) -> Any:
    rates = torch.tensor([lr * (1 + math.cos(math.pi * k / steps)) / 2 for k in range(steps)])
    return lambda outer: lambda step: per_step(rates)(step.long())  # Adam counts in float32, as torch does


def sgd(lr: float, momentum: float, falls: int = 0) -> Rule:
    return SGD(cosine(lr, falls) if falls else lr, momentum)


def adam(lr: float, beta1: float, beta2: float, falls: int = 0) -> Rule:
    return Adam(cosine(lr, falls) if falls else lr, (beta1, beta2))


GRIDS: dict[str, tuple[Callable[..., Rule], list[tuple[float, ...]], bool]] = {}
"""Name -> rule of the numbers, numbers to try, whether the rate falls."""
for falls in (False, True):
    name = ", falling rate" if falls else ""
    GRIDS[f"SGD{name}"] = sgd, list(itertools.product(RATES[4:], (0.0, 0.5, 0.8, 0.9, 0.95))), falls
    GRIDS[f"Adam{name}"] = (
        adam,
        list(itertools.product(RATES[:-4], (0.0, 0.5, 0.8, 0.9), (0.8, 0.9, 0.99, 0.999))),
        falls,
    )


def tuned(family: Family, count: int) -> dict[str, tuple[float, ...]]:
    """The numbers with the least mean loss after STEPS steps."""
    drawn = tasks(family, range(TUNING, TUNING + count), STEPS)
    best = {}
    for name, (make, numbers, falls) in GRIDS.items():
        losses = [
            float(trainings(family, make(*those, STEPS if falls else 0), {}, drawn, STEPS)[0][:, -1].mean())
            for those in numbers
        ]
        least = int(np.argmin(losses))
        best[name] = numbers[least]
        print(f"  {name}: {tuple(round(x, 5) for x in numbers[least])}, loss {losses[least]:.4f}", flush=True)
    return best


def interval(x: Tensor, digits: int = 4) -> str:
    half = stats.t.ppf(0.975, len(x) - 1) * float(x.std()) / math.sqrt(len(x))
    return f"{float(x.mean()):.{digits}f} +- {half:.{digits}f}"


Trained = list[tuple[LearnedRule, Tree]]
"""One rule for each seed, with its outer variables."""


def row(name: str, theirs: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor] | None) -> str:
    """One line of a table: means, then the differences of the learned rule."""
    cells = [f"{float(x.mean()):.{n}f}" for x, n in zip(summary(theirs), (4, 4, 2), strict=True)]
    if ours is not None:
        pairs = zip(summary(ours), summary(theirs), (4, 4, 2), strict=True)
        cells += [interval(a - b, n) for a, b, n in pairs]
    return f"| {name} | " + " | ".join(cells) + " |"


def summary(found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Loss at the end, mean loss along the way, accuracy at the end, of each task."""
    return found[0][:, -1], found[0].mean(1), found[1][:, -1]


def report(family: str, rules: Trained, settings: dict[str, dict[str, Any]], count: int) -> None:
    """One table for each length."""
    for times in (1, 2, 4):
        steps = times * STEPS
        drawn = tasks(FAMILIES[family], range(HELD_OUT, HELD_OUT + count), steps, held=True)
        each = [trainings(FAMILIES[family], rule, outer, drawn, steps) for rule, outer in rules]
        ours = torch.stack([x for x, _ in each]).mean(0), torch.stack([x for _, x in each]).mean(0)
        ends = ", ".join(f"{float(x[:, -1].mean()):.4f}" for x, _ in each)
        print(f"\n{family}, {steps} steps, {count} held-out tasks; learned rule, loss at the end by seed: {ends}\n")
        print("| rule | loss at the end | along the way | accuracy | learned minus it: end | along | accuracy |")
        print(f"|---|---|---|---|---|---|---|\n{row('learned', ours, None)} | | |")
        for where, best in settings.items():
            for name, numbers in best.items():
                make, _, falls = GRIDS[name]
                theirs = trainings(FAMILIES[family], make(*numbers, steps if falls else 0), {}, drawn, steps)
                print(row(name + where, theirs, ours), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--outer-steps", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=8, help="tasks of an outer step")
    parser.add_argument("--clip", type=float, default=0.2, help="greatest norm of a hypergradient")
    parser.add_argument("--held-out", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    rules = [trained(seed, options.outer_steps, options.tasks, options.clip) for seed in options.seeds]
    print("tuned on digits")
    here = tuned(FAMILIES["digits"], 128)
    report("digits", rules, {"": here}, options.held_out)
    for family in ("images", "breast cancer"):
        print(f"\ntuned on {family}")
        report(family, rules, {", as on digits": here, ", tuned here": tuned(FAMILIES[family], 40)}, options.held_out)


if __name__ == "__main__":
    main()
