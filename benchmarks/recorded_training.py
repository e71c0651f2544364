"""What a training from scratch takes on a GPU, its steps launched one operation at a time and recorded as a CUDA graph.

    python benchmarks/recorded_training.py

Cells of NAS-Bench-201 at their full size (C 16, N 5, 3x32x32, 10 classes); images are random. Both ways train the same
steps in turns; seconds of a step: medians over the turns, the recorded way after its recording. What recording costs is
the time of the first turn beyond that of the later ones.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from machine import machine

from metanas import load_space
from metanas.bilevel import CudaGraphs
from metanas.data import Split
from metanas.evaluation import ScratchTraining, Training
from metanas.network import derived

CELLS = {
    "six 3x3 convolutions": "nor_conv_3x3 nor_conv_3x3 nor_conv_3x3 nor_conv_3x3 nor_conv_3x3 nor_conv_3x3",
    "three 3x3 convolutions": "nor_conv_3x3 skip_connect skip_connect skip_connect nor_conv_3x3 nor_conv_3x3",
}


def cell(name: str) -> str:
    """As NAS-Bench-201 writes it."""
    a, b, c, d, e, f = CELLS[name].split()
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def timed(name: str, batch_size: int, turns: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each turn, by way."""
    device = torch.device("cuda")
    generator = torch.Generator().manual_seed(0)
    count = batch_size * steps
    split = Split(torch.randn(count, 3, 32, 32, generator=generator), torch.arange(count) % 10)
    split = Split(split.inputs.to(device), split.targets.to(device))
    space = load_space("nasbench201", channels=16, cells=5)
    ways = {}
    for way in ("launched", "recorded"):
        network = derived(space, space.parse(cell(name)), (3, 32, 32), 10, seed=0).to(device)
        graphs = CudaGraphs(device, print) if way == "recorded" else None
        settings = Training(epochs=turns, batch_size=batch_size)
        ways[way] = ScratchTraining(network, split, settings, seed=0, graphs=graphs).epochs()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(turns):
        for way, epochs in ways.items():
            begun = time.perf_counter()
            next(epochs)  # an epoch's sums are read: the device is waited for
            seconds[way].append(time.perf_counter() - begun)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("it needs a GPU: a CPU records nothing")
    print(machine())
    for name in CELLS:
        for batch_size in options.batches:
            seconds = timed(name, batch_size, options.turns, options.steps)
            each = {way: statistics.median(rows[1:]) / options.steps for way, rows in seconds.items()}
            first = seconds["recorded"][0] - statistics.median(seconds["recorded"][1:])
            print(
                f"{name}, batches of {batch_size}: launched {each['launched'] * 1e3:.1f} ms, recorded "
                f"{each['recorded'] * 1e3:.1f} ms, {each['launched'] / each['recorded']:.2f} times as fast; "
                f"recording takes {first:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
