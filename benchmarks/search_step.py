"""What a step of a search costs beside the two backward passes that it cannot do without, interleaved, medians.

    python benchmarks/search_step.py [--repeats 60]

The job of `make search`: NAS-Bench-201 at 8 channels and 1 cell, batches of 64 digits, first order. Below it, two parts
that claim to be quick, each beside the plain way: a module called with other parameters (`modes.Stateless` and
`functional_call`), and the relaxation of all choices at once (`controllers.base.by_rows` and one by one).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch.func import functional_call

from metanas import load_data, load_space
from metanas.bilevel import FirstOrder
from metanas.controllers import DrNas, dirichlet
from metanas.controllers.base import by_rows
from metanas.loop import GradientSearch, Schedule
from metanas.modes import Stateless, meta_network
from metanas.network import Network, supernet


def compare(name: str, ways: dict[str, Callable[[], Any]], repeats: int) -> None:
    """Times the ways in turn; prints their medians, and the ratio of each to the first."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + 3):
        for way, run in ways.items():
            begun = time.perf_counter()
            run()
            if repeat >= 3:
                times[way].append(time.perf_counter() - begun)
    medians = {way: statistics.median(rows) for way, rows in times.items()}
    base = next(iter(medians.values()))
    print(name)
    for way, median in medians.items():
        print(f"  {way:<44s} {1e3 * median:8.3f} ms   {median / base:5.2f}")


def passes(net: Network, mix: dict[str, torch.Tensor], inputs: torch.Tensor, targets: torch.Tensor) -> None:
    """Forward and backward for the weights, then for the mixing weights: plain torch."""
    parameters = list(net.parameters())
    torch.autograd.grad(F.cross_entropy(net(inputs, mix=mix), targets), parameters)
    leaves = {name: w.clone().requires_grad_() for name, w in mix.items()}
    for p in parameters:
        p.requires_grad_(False)
    torch.autograd.grad(F.cross_entropy(net(inputs, mix=leaves), targets), list(leaves.values()))
    for p in parameters:
        p.requires_grad_(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=60)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(machine())
    space, data = load_space("nasbench201", channels=8, cells=1), load_data("digits")
    net = supernet(space, data.shape, len(data.classes))
    settings = Schedule(epochs=10**6, monitor=1)
    search = GradientSearch(space, net, meta_network(net), FirstOrder(), DrNas(), data, settings, seed=0)
    running = search.steps()

    def step() -> None:
        while next(running).report is not None:  # the last step of an epoch does more
            pass

    inputs, targets = data.inner.inputs[:64], data.inner.targets[:64]
    mix = {choice.name: torch.full((5,), 0.2) for choice in space.choices}
    compare(
        "a step of a search",
        {"two passes of plain torch": lambda: passes(net, mix, inputs, targets), "a whole step": step},
        repeats,
    )
    theta = {name: p.detach() for name, p in net.named_parameters()}
    call, small = Stateless(net), inputs[:1]
    with torch.no_grad():
        ways = {
            "the module itself": lambda: net(small, mix=mix),
            "Stateless": lambda: call(theta, small, mix=mix),
            "functional_call": lambda: functional_call(net, theta, (small,), {"mix": mix}),
        }
        compare("one image through the supernet at other weights", ways, 3 * repeats)
    generator = torch.Generator().manual_seed(0)
    omega = {choice.name: torch.zeros(5, requires_grad=True) for choice in space.choices}
    leaves = list(omega.values())

    def draw(rows: torch.Tensor) -> torch.Tensor:
        return dirichlet(F.elu(rows) + 1, generator=generator)

    def back(weights: dict[str, torch.Tensor]) -> None:
        torch.autograd.grad(list(weights.values()), leaves, [torch.ones(5)] * len(leaves))

    ways = {
        "one choice at a time": lambda: back({name: draw(row) for name, row in omega.items()}),
        "all choices at once": lambda: back(by_rows(draw, omega)),
    }
    compare("Dirichlet weights of six choices, and back", ways, 3 * repeats)


if __name__ == "__main__":
    main()
