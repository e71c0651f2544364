"""bfloat16 against float32: steps of NAS-Bench-201's supernet (C 8, N 1), batch 64, and short runs on digits.

    python benchmarks/precision.py [runs]

Both sides take the same step in turn, in one process; medians and their ratio. "weights" is a gradient in the weights,
"mixture" one in the mixing weights alone. With `runs`: one search and training on digits for each, at one seed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import machine

import metanas
from metanas.network import Precision, computed_in, supernet
from metanas.recipe.spaces import load_space

ROUNDS = 15
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def steps(device: str) -> None:
    space = load_space("nasbench201", channels=8, cells=1)
    for shape in ((3, 16, 16), (1, 8, 8)):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(64, *shape, generator=generator).to(device)
        labels = torch.randint(10, (64,), generator=generator).to(device)
        network = supernet(space, shape, 10).to(device)
        omega = torch.zeros(len(space.choices), 5, requires_grad=True, device=device)
        times: dict[tuple[str, str], list[float]] = {}
        for round in range(ROUNDS + 2):
            for what in ("weights", "mixture"):
                for precision in PRECISIONS:
                    started = time.perf_counter()
                    mix = dict(zip((c.name for c in space.choices), torch.softmax(omega, -1).unbind(), strict=True))
                    loss = F.cross_entropy(computed_in(precision, network, images, mix=mix), labels)
                    torch.autograd.grad(loss, [omega] if what == "mixture" else list(network.parameters()))
                    if device == "cuda":
                        torch.cuda.synchronize()
                    if round >= 2:
                        times.setdefault((what, precision), []).append(1e3 * (time.perf_counter() - started))
        for what in ("weights", "mixture"):
            full, half = (statistics.median(times[what, precision]) for precision in PRECISIONS)
            print(f"{shape!s:<12} {what}  float32 {full:6.1f} ms  bfloat16 {half:6.1f} ms  ratio {full / half:.2f}")


def runs(device: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            settings = {"precision": precision, "device": device, "evaluation.random": 1, "threads": 1}
            result = metanas.search("nasbench201", "digits", epochs=10, settings=settings, run=Path(folder, precision))
            seconds = f"search {result.search_seconds:.0f} s, trainings {result.train_seconds:.0f} s"
            print(f"{precision:<9} digits, 10 epochs: {result.test_accuracy:.2%}, {seconds}; {result.architecture}")


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    steps(device)
    if "runs" in sys.argv[1:]:
        runs(device)


if __name__ == "__main__":
    main()
