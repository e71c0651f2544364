"""What a first-order hypergradient and a training step cost beside plain torch, interleaved, medians and ratios.

    python benchmarks/bilevel_gradients.py [--device cuda] [--repeats 31]

The supernet is small on purpose (12 mixed edges of 8 channels, 8x8 images): there the overhead of a tool shows.
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
from torch import Tensor, nn
from torch.func import functional_call, grad

from metanas.bilevel import Bilevel, FirstOrder, train


class Supernet(nn.Module):
    """12 edges that mix conv1-BN, conv3-BN, skip and average pooling."""

    def __init__(self, channels: int = 8, edges: int = 12) -> None:
        super().__init__()

        def conv(k: int) -> nn.Module:
            norm = nn.BatchNorm2d(channels, track_running_stats=False)
            return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, k, padding=k // 2, bias=False), norm)

        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.edges = nn.ModuleList([nn.ModuleList([conv(1), conv(3)]) for _ in range(edges)])
        self.head = nn.Linear(channels, 10)

    def forward(self, x: Tensor, mix: Tensor) -> Tensor:  # (batch, 1, 8, 8), (edges, 4)
        h = self.stem(x)
        for w, (small, large) in zip(mix, self.edges, strict=True):
            h = h + w[0] * small(h) + w[1] * large(h) + w[2] * h + w[3] * F.avg_pool2d(h, 3, 1, 1)
        return self.head(h.mean((2, 3)))


def compare(name: str, ways: dict[str, Callable[[], Any]], repeats: int, wait: Callable[[], None]) -> None:
    """Times the ways in turn and prints their medians, and the ratio of each to the first."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + 3):
        for way, run in ways.items():
            wait()
            begun = time.perf_counter()
            run()
            wait()
            if repeat >= 3:
                times[way].append(time.perf_counter() - begun)
    medians = {way: statistics.median(rows) for way, rows in times.items()}
    base = next(iter(medians.values()))
    print(name)
    for way, median in medians.items():
        print(f"  {way:<44s} {1e3 * median:7.2f} ms   {median / base:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=31)
    options = parser.parse_args()
    device = torch.device(options.device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    torch.manual_seed(0)
    print(machine())
    nets = [Supernet().to(device) for _ in range(2)]
    batch = torch.randn(64, 1, 8, 8, device=device), torch.randint(0, 10, (64,), device=device)
    theta = dict(nets[0].named_parameters())
    outer = {"alpha": torch.zeros(12, 4, device=device)}

    def loss(theta: Any, outer: Any, batch: Any) -> Tensor:
        logits = functional_call(nets[0], theta, (batch[0], torch.softmax(outer["alpha"], -1)))
        return F.cross_entropy(logits, batch[1])

    def autograd() -> Any:
        leaf = outer["alpha"].clone().requires_grad_()
        return torch.autograd.grad(loss(held, {"alpha": leaf}, batch), leaf)

    held = {k: p.detach() for k, p in theta.items()}
    problem = Bilevel(loss, loss)
    compare(
        "gradient in alpha, first order",
        {
            "torch.autograd.grad, theta detached": autograd,
            "FirstOrder()": lambda: FirstOrder()(problem, theta, outer, None, batch),
            "torch.func.grad": lambda: grad(lambda o: loss(held, o, batch))(outer),
        },
        options.repeats,
        wait,
    )

    def make(net: nn.Module, fused: bool) -> torch.optim.SGD:
        return torch.optim.SGD(net.parameters(), 0.025, 0.9, weight_decay=3e-4, nesterov=True, fused=fused)

    def plain(optimizer: torch.optim.SGD) -> Callable[[], None]:
        def step() -> None:
            optimizer.zero_grad()
            logits = nets[1](batch[0], torch.softmax(outer["alpha"], -1))
            F.cross_entropy(logits, batch[1]).backward()
            nn.utils.clip_grad_norm_(nets[1].parameters(), 5.0)
            optimizer.step()

        return step

    def direct(theta: Any, outer: Any, batch: Any) -> Tensor:  # theta is the module's own: no functional_call
        return F.cross_entropy(nets[0](batch[0], torch.softmax(outer["alpha"], -1)), batch[1])

    def ours(loss: Any, fused: bool) -> Callable[[], Any]:
        advance = train(Bilevel(loss, loss), theta, outer, make(nets[0], fused), clip=5.0)
        return lambda: advance(None, [batch])

    compare(
        "one training step of theta with clipping",
        {
            "torch, fused (no mask)": plain(make(nets[1], True)),
            "train, fused, masked, module called": ours(direct, True),
            "train, fused, masked, functional_call": ours(loss, True),
            "torch, not fused (no mask)": plain(make(nets[1], False)),
            "train, not fused, masked by copies": ours(direct, False),
        },
        options.repeats,
        wait,
    )


if __name__ == "__main__":
    main()
