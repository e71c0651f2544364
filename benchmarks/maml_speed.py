"""A MAML step of 32 tasks: `vmap` over tasks, a loop over tasks, and the loop of a known library; interleaved medians.

    python benchmarks/maml_speed.py [--threads 2] [--repeats 9] [--queries 1] [--chunk 4]

Conv4-64 with batch statistics, 5-way 1-shot, 28x28 images, 5 inner steps, exact gradients; one query a class, as MAML
was trained on Omniglot, or as many as asked for. On a CPU `vmap` saves what many small calls cost, so it pays where a
task has few images; with many, each task fills the caches by itself and the loop is the faster way. `plain loop` is
torch.autograd.grad(create_graph=True) over parameter lists, one task after the other, each loss divided by the number
of tasks and propagated back at once; `higher` is the library of that name (a test dependency), used as its examples do.
All compute the same gradient, which is compared first (in float32). Goal: 1.2 times the plain loop on 2 cores, 8 times
on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor, nn
from torch.func import functional_call

from metanas import load_space
from metanas.bilevel import Tasks
from metanas.modes import Queries, Support, maml
from metanas.network import derived

TASKS, WAYS, STEPS, LR = 32, 5, 5, 0.4
Gradient = dict[str, Tensor]


def conv4(device: str) -> nn.Module:
    space = load_space("conv4")
    return derived(space, space.architecture({}), (1, 28, 28), WAYS, phase="search").to(device)


def tasks(queries: int, device: str) -> tuple[Support, Queries]:
    """Random images with random labels: what is in them costs nothing."""
    draw = torch.Generator().manual_seed(0)
    support = torch.randn(TASKS, WAYS, 1, 28, 28, generator=draw).to(device)
    asked = torch.randn(TASKS, WAYS * queries, 1, 28, 28, generator=draw).to(device)
    one, many = (torch.eye(WAYS).repeat_interleave(k, 0).expand(TASKS, -1, -1).contiguous() for k in (1, queries))
    return Support(support, one.to(device)), Queries(asked, many.to(device), support)


def by_vmap(network: nn.Module, support: Support, queries: Queries, chunk: int | None = None) -> Gradient:
    learner = maml(network, steps=STEPS, lr=LR, norms="queries")
    h = Tasks(learner.estimator, chunk=chunk)(learner.problem, {}, learner.outer, support, queries)
    gradient: Gradient = h.gradient["weights"]
    return gradient


def by_loop(network: nn.Module, support: Support, queries: Queries) -> Gradient:
    """What one would write."""
    names = [name for name, _ in network.named_parameters()]
    leaves = [p.detach().requires_grad_() for p in network.parameters()]
    for t in range(TASKS):
        fast = leaves
        for _ in range(STEPS):
            scores = functional_call(network, dict(zip(names, fast, strict=True)), (support.images[t],))
            slopes = torch.autograd.grad(F.cross_entropy(scores, support.targets[t]), fast, create_graph=True)
            fast = [p - LR * g for p, g in zip(fast, slopes, strict=True)]
        scores = functional_call(network, dict(zip(names, fast, strict=True)), (queries.images[t],))
        (F.cross_entropy(scores, queries.targets[t]) / TASKS).backward()
    return {name: p.grad for name, p in zip(names, leaves, strict=True) if p.grad is not None}


def by_higher(network: nn.Module, support: Support, queries: Queries) -> Gradient:
    import higher

    network.zero_grad()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    for t in range(TASKS):
        with higher.innerloop_ctx(network, optimizer, copy_initial_weights=False) as (fast, inner):
            for _ in range(STEPS):
                inner.step(F.cross_entropy(fast(support.images[t]), support.targets[t]))
            (F.cross_entropy(fast(queries.images[t]), queries.targets[t]) / TASKS).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def error(a: Gradient, b: Gradient) -> float:
    """Relative distance over all parameters."""
    top = sum(float((a[name] - b[name]).square().sum()) for name in b)
    return (top / sum(float(x.square().sum()) for x in b.values())) ** 0.5


def timed(run: Callable[[], Any], device: str) -> float:
    begun = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--chunk", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.backends.cudnn.allow_tf32 = False  # five steps at 0.4 make much of a rounding: the ways are to be compared
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(machine())
    support, queries = tasks(asked.queries, device)
    few = f"vmap, {asked.chunk} at a time"
    ways: dict[str, Callable[..., Gradient]] = {"vmap": by_vmap, few: partial(by_vmap, chunk=asked.chunk)}
    ways |= {"plain loop": by_loop, "higher": by_higher}
    runs = {name: partial(way, conv4(device), support, queries) for name, way in ways.items()}
    try:
        found = {name: run() for name, run in runs.items()}  # the first calls, which also warm up
    except ImportError:
        del runs["higher"]
        found = {name: run() for name, run in runs.items()}
    print("; ".join(f"{name} differs by {error(g, found['vmap']):.0e}" for name, g in found.items() if name != "vmap"))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(asked.repeats):
        for name, run in runs.items():
            times[name].append(timed(run, device))
    base = min(statistics.median(times[name]) for name in ("vmap", few))
    for name, rows in times.items():
        print(
            f"{name:<18} {1e3 * statistics.median(rows):8.0f} ms  {statistics.median(rows) / base:.2f} times the best"
        )


if __name__ == "__main__":
    main()
