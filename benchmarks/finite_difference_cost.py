"""What DARTS's second order costs beside its first: one iteration on NAS-Bench-201's supernet, interleaved medians.

    python benchmarks/finite_difference_cost.py [--repeats 21]

An iteration is a hypergradient in the mixing weights with its Adam step, and a training step of the weights (SGD with
momentum, clipped). C 8, N 1, batches of 64 images of 3x16x16, one thread. Goal: a ratio of at most 3.5.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from machine import machine

from metanas import load_space
from metanas.bilevel import Estimator, FiniteDifference, FirstOrder, Unrolled, memory_of, torch_step, train
from metanas.modes import meta_network
from metanas.network import supernet

WARM_UP = 3


def iteration(estimator: Estimator) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The two halves of an iteration, each on a supernet of its own: the outer step, the training step."""
    torch.manual_seed(0)
    space = load_space("nasbench201", channels=8, cells=1)
    network = supernet(space, (3, 16, 16), 10)
    inner, outer = ((torch.randn(64, 3, 16, 16), torch.randint(10, (64,))) for _ in range(2))
    theta = dict(network.named_parameters())
    logits = torch.zeros(len(space.choices), 5, requires_grad=True)
    names = [choice.name for choice in space.choices]
    problem = meta_network(network)
    sgd = torch.optim.SGD(theta.values(), 0.025, 0.9, weight_decay=3e-4, fused=True)
    step = torch_step(torch.optim.Adam([logits], 3e-4, (0.5, 0.999), fused=True), {"logits": logits})

    def mixed() -> dict[str, Any]:
        return dict(zip(names, torch.softmax(logits, -1).unbind(), strict=True))

    advance = train(problem, theta, lambda: {"mix": mixed()}, sgd, clip=5.0)

    def structure() -> None:
        mix = mixed()
        h = estimator(problem, theta, {"mix": mix}, inner, outer, memory=memory_of(sgd, theta))
        pulled = torch.autograd.grad(list(mix.values()), logits, [h.gradient["mix"][name] for name in names])
        step({"logits": pulled[0]})

    return structure, lambda: advance(None, [inner])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(machine())
    ways = {"first order": FirstOrder(), "finite difference": FiniteDifference(), "Unrolled(1), exact": Unrolled(1)}
    halves = {name: iteration(estimator) for name, estimator in ways.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(repeats + WARM_UP):
        for name, (structure, weights) in halves.items():
            begun = time.perf_counter()
            structure()
            between = time.perf_counter()
            weights()
            if repeat >= WARM_UP:
                times[name].append((between - begun, time.perf_counter() - between))
    base = statistics.median(a + b for a, b in times["first order"])
    for name, rows in times.items():
        outer, inner = (1e3 * statistics.median(column) for column in zip(*rows, strict=True))
        whole = statistics.median(a + b for a, b in rows)
        print(f"{name:<22} outer step {outer:6.1f} ms  weights {inner:6.1f} ms  ratio {whole / base:.2f}")


if __name__ == "__main__":
    main()
