"""Channels-last weights against contiguous ones: steps of NAS-Bench-201's supernet (C 8, N 1), batch 64, one thread.

    python benchmarks/memory_format.py

Both sides take the same step in turn, in one process; medians and their ratio. "weights" is a gradient in the weights,
"mixture" one in the mixing weights alone.
"""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F
from machine import machine

from metanas.network import Network, supernet
from metanas.recipe.spaces import load_space

ROUNDS = 15


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    space = load_space("nasbench201", channels=8, cells=1)
    for shape in ((3, 16, 16), (1, 8, 8)):
        generator = torch.Generator().manual_seed(0)
        images, labels = torch.randn(64, *shape, generator=generator), torch.randint(10, (64,), generator=generator)
        omega = torch.zeros(len(space.choices), 5, requires_grad=True)

        def step(
            network: Network, what: str, images: torch.Tensor = images, labels: torch.Tensor = labels, omega=omega
        ) -> None:
            mix = dict(zip((c.name for c in space.choices), torch.softmax(omega, -1).unbind(), strict=True))
            loss = F.cross_entropy(network(images, mix=mix), labels)
            torch.autograd.grad(loss, [omega] if what == "mixture" else list(network.parameters()))

        networks = {"channels last": supernet(space, shape, 10), "contiguous": supernet(space, shape, 10)}
        networks["contiguous"].to(memory_format=torch.contiguous_format)
        times: dict[tuple[str, str], list[float]] = {}
        for round in range(ROUNDS + 2):
            for what in ("weights", "mixture"):
                for name, network in networks.items():
                    started = time.perf_counter()
                    step(network, what)
                    if round >= 2:
                        times.setdefault((what, name), []).append(1e3 * (time.perf_counter() - started))
        for what in ("weights", "mixture"):
            slow, fast = (statistics.median(times[what, name]) for name in ("contiguous", "channels last"))
            times_text = f"contiguous {slow:6.1f} ms  channels last {fast:6.1f} ms  ratio {slow / fast:.2f}"
            print(f"{shape!s:<12} {what}  {times_text}")


if __name__ == "__main__":
    main()
