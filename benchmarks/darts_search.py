"""A DARTS search on a CPU: CIFAR-10 halved to 16x16, from the first step to the derived cells.

    METANAS_DATA=... python benchmarks/darts_search.py [--epochs 3] [--threads 2] [--seed 0]

C 8, 5 layers, batch 64, 5,000 inner and 5,000 outer images; DARTS, first order, no warm-up. It says what every epoch
took, and the genotype in the end; the aim is at most ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from cifar import cifar16
from machine import machine

from metanas import load_data, load_space
from metanas.bilevel import FirstOrder
from metanas.controllers import Darts
from metanas.data import Crop, Flip
from metanas.loop import GradientSearch, Schedule
from metanas.modes import meta_network
from metanas.network import supernet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="an .npz in which the halved images are kept")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    raw = cifar16(os.environ["METANAS_DATA"], cache=options.cache)
    data = load_data(
        (raw["x_train"], raw["y_train"]),
        inner=5_000,
        outer=5_000,
        test=1_000,  # never looked at
        seed=options.seed,
        augment=(Crop(2), Flip()),
    )
    space = load_space("darts", channels=8, layers=5)
    begun = time.perf_counter()
    network = supernet(space, data.shape, len(data.classes), seed=options.seed)
    search = GradientSearch(
        space,
        network,
        meta_network(network),
        FirstOrder(0),
        Darts(),
        data,
        Schedule(epochs=options.epochs, lr=0.1),
        seed=options.seed,
    )
    print(f"supernet of {sum(p.numel() for p in network.parameters()):,} parameters, {search.total} steps", flush=True)
    started = time.perf_counter()
    for step in search.steps():
        if step.report is not None:
            r = step.report
            print(
                f"epoch {r.epoch}: {time.perf_counter() - started:.0f} s, inner loss {r.inner_loss:.3f}, "
                f"outer accuracy {r.outer_score:.1%}, entropy {r.entropy:.3f}",
                flush=True,
            )
            started = time.perf_counter()
    print(search.derive())
    print(f"{time.perf_counter() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
