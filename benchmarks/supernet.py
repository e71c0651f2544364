"""How much faster the fused executor makes a search, how its cost grows, and how soon it starts.

    python benchmarks/supernet.py [--repeats 5] [--threads 2] [--device cuda]

The first part is `metanas bench` on the supernets of the papers: NAS-Bench-201 at C 16, N 5, and DARTS at C 16 with 8
layers, images of 3x32x32, batches of 64. The second grows, one at a time, the batch, the cells, and the candidates of
an edge, and divides what a step takes by them: 1.00 everywhere is linear. The third counts from the start of a process
to the end of its first step. On a GPU there is the first part alone, with steps as CUDA graphs beside the others.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch.utils.flop_counter import FlopCounterMode

from metanas import load_space
from metanas.api.bench import bench
from metanas.network import Network, fused, supernet
from metanas.network.memory import kept_bytes
from metanas.space import NEEDED, Content, Edge, Graph, Node, Space, chain, one_of, op

SUPERNETS: dict[str, tuple[str, dict[str, object]]] = {
    "NAS-Bench-201, C 16, N 5": ("nasbench201", {"channels": 16, "cells": 5}),
    "DARTS, C 16, 8 layers": ("darts", {"channels": 16, "layers": 8}),
}
SIZES = (1, 2, 4, 8)


def cells(edges: int = 2, candidates: int = 2) -> Space:
    """Nodes one after the other, each with that many convolutions of the node before it to choose from."""

    def pick(name: str) -> Content:
        conv = op("preact_conv", width=16, kernel=3, norm="batch_cell", activation="relu")
        return one_of(name, {f"conv{k}": conv for k in range(candidates)})

    nodes = tuple(Node(str(k + 1), (Edge(str(k), pick(str(k))),)) for k in range(edges))
    stem, head = op("conv", width=16, kernel=3, norm="batch"), op("classifier", width=NEEDED)
    return Space(chain(("stem", stem), ("cells", Graph(("0",), nodes, nodes[-1].name)), ("head", head)), "grown")


def step_of(network: Network, space: Space, batch: int) -> tuple[Callable[[], Any], int]:
    """Gradients of weights and of mixing weights at once; and the bytes that the forward pass keeps for them."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(batch, 3, 16, 16, generator=generator), torch.arange(batch) % 10
    mix = {c.name: torch.full((len(c.candidates),), 0.5, requires_grad=True) for c in space.choices}

    def step() -> Any:
        loss = F.cross_entropy(network(images, mix=mix), labels)
        return torch.autograd.grad(loss, [*network.parameters(), *mix.values()])

    kept: dict[int, Any] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage()._cdata] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        network(images, mix=mix)
    return step, sum(storage.nbytes() for storage in kept.values())


def growth(repeats: int) -> None:
    print(f"\n{'what grows':<12}{'':>8}" + "".join(f"{f'x{size}':>10}" for size in SIZES))
    for name in ("batch", "edges", "candidates"):
        ways = []
        for size in SIZES:
            space = cells(**({} if name == "batch" else {name: 2 * size}))
            network = fused(supernet(space, (3, 16, 16), 10))
            ways.append(step_of(network, space, 16 * size if name == "batch" else 32))
        times: list[list[float]] = [[] for _ in ways]
        for repeat in range(repeats + 2):
            for (step, _), row in zip(ways, times, strict=True):
                begun = time.perf_counter()
                step()
                if repeat >= 2:
                    row.append(time.perf_counter() - begun)
        medians = [statistics.median(row) for row in times]
        for what, values in (("time", medians), ("memory", [float(held) for _, held in ways])):
            shares = [value / size / values[0] for value, size in zip(values, SIZES, strict=True)]
            print(f"{name:<12}{what:>8}" + "".join(f"{share:10.2f}" for share in shares))


def best(run: Callable[[], Any], repeats: int = 5) -> float:
    """Seconds of the fastest of some runs."""
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        found.append(time.perf_counter() - begun)
    return min(found)


def floors() -> None:
    """What a step of NAS-Bench-201's supernet cannot be faster than: its arithmetic at the speed of a matrix product,
    and its activations written once and read once, in each of the two passes, at the speed of a copy.
    """
    name, (source, options) = next(iter(SUPERNETS.items()))
    space = load_space(source, **options)
    network = fused(supernet(space, (3, 32, 32), 10))
    images, labels = torch.randn(64, 3, 32, 32), torch.arange(64) % 10
    mix = {c.name: torch.full((len(c.candidates),), 0.2, requires_grad=True) for c in space.choices}
    constant = {name: weights.detach() for name, weights in mix.items()}
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(F.cross_entropy(network(images, mix=constant), labels), list(network.parameters()))
        torch.autograd.grad(F.cross_entropy(network(images, mix=mix), labels), list(mix.values()))
    flops = counter.get_total_flops()
    held = kept_bytes(network, images, mix=constant) + kept_bytes(network, images, mix=mix)
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    speed = 2 * 2048**3 / best(lambda: a @ b)
    big = torch.randn(1 << 26)
    into = torch.empty_like(big)
    width = 2 * 4 * big.numel() / best(lambda: into.copy_(big))
    print(
        f"\nfloors of {name}: {flops / 1e9:.0f} GFLOP at {speed / 1e9:.0f} GFLOP/s, {flops / speed:.2f} s; "
        f"{held / 1e9:.2f} GB of activations, twice at {width / 1e9:.1f} GB/s, {2 * held / width:.2f} s"
    )


FIRST_STEP = """
import torch
torch.set_num_threads({threads})
from metanas.api.handed import Handed
from metanas.api.work import prepare
from metanas.data import Data, Split
from metanas.recipe import Recipe
names = tuple(map(str, range(10)))
split = Split(torch.randn(128, 3, 32, 32), torch.arange(128) % 10)
data = Data("random", split, split, split, names, (), "", (0.0,), (1.0,), (0.0, 1.0))
recipe = Recipe.model_validate({{"space": {{"name": "{space}", "options": {options}}}, "data": {{"source": None}}}})
next(prepare(recipe, None, data, Handed()).search().steps())
"""


def first_step(threads: int) -> None:
    print()
    for name, (space, options) in SUPERNETS.items():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        before, begun = used.ru_utime + used.ru_stime, time.perf_counter()
        code = FIRST_STEP.format(threads=threads, space=space, options=options)
        subprocess.run([sys.executable, "-c", code], check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime - before
        wall = time.perf_counter() - begun
        print(f"{name}: {wall:.1f} s from the start of the process to the end of the first step, {cpu:.1f} s of a core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    print(machine())
    for name, (space, options) in SUPERNETS.items():
        times = bench(load_space(space, **options), repeats=arguments.repeats, device=device)
        told = ", ".join(f"{t.way} {1e3 * t.seconds:.1f} ms ({times[0].seconds / t.seconds:.2f}x)" for t in times)
        print(f"{name}: {told}", flush=True)
    if device.type != "cpu":
        return
    floors()
    growth(arguments.repeats)
    first_step(arguments.threads)


if __name__ == "__main__":
    main()
