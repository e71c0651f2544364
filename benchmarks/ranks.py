"""What a second process brings: images a second of a search by two processes beside one, one thread each, in turn.

    python benchmarks/ranks.py [--rounds 3] [--steps 12]

NAS-Bench-201's supernet at C 16, N 1, batches of 64 images of 3x32x32, shared by the processes; DARTS, first order.
Goal: 1.6.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from machine import machine

from metanas import load_space
from metanas.bilevel import FirstOrder, over_ranks
from metanas.controllers import Darts
from metanas.data import Data, Split
from metanas.loop import GradientSearch, Schedule
from metanas.modes import meta_network
from metanas.network import fused, supernet

BATCH, WARM_UP = 64, 3


def work(rank: int, ranks: int, steps: int, folder: str) -> None:
    """A search of some steps; the first rank writes down the seconds that a step took."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    count = (steps + WARM_UP + 1) * BATCH
    split = Split(torch.randn(count, 3, 32, 32), torch.arange(count) % 10)
    data = Data("random", split, split, split, tuple(map(str, range(10))), (), "", (0.0,), (1.0,), (0.0, 1.0))
    space = load_space("nasbench201", channels=16, cells=1)
    network = fused(supernet(space, data.shape, 10))
    problem = over_ranks(meta_network(network))
    schedule = Schedule(epochs=1, batch_size=BATCH)
    search = GradientSearch(space, network, problem, FirstOrder(), Darts(), data, schedule, seed=0, share=(rank, ranks))
    running = search.steps()
    for _ in range(WARM_UP):
        next(running)
    begun = time.perf_counter()
    for _ in range(steps):
        next(running)
    if rank == 0:
        Path(folder, "seconds").write_text(str((time.perf_counter() - begun) / steps))
    dist.destroy_process_group()


def step_seconds(ranks: int, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (ranks, steps, folder), nprocs=ranks)
        return float(Path(folder, "seconds").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    print(machine())
    rows: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(arguments.rounds):
        for ranks, row in rows.items():
            row.append(step_seconds(ranks, arguments.steps))
    one, two = (statistics.median(row) for row in rows.values())
    print(f"one process {2 * BATCH / one:.0f} images/s, two {2 * BATCH / two:.0f}: ratio {one / two:.2f}")


if __name__ == "__main__":
    main()
