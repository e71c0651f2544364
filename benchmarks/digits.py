"""The main job on the bundled digits: `metanas search` as it is, for several seeds.

    python benchmarks/digits.py --seeds 0 1 2 --threads 2

Prints, per seed and in the mean: wall time of the whole job (search, training from scratch, three random networks),
test accuracy of the derived network, and the mean of the random networks of the same space, trained the same way.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from machine import machine

import metanas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="path=value of the recipe")
    options = parser.parse_args()
    from metanas.recipe import parse_setting

    settings = {"threads": options.threads, **dict(map(parse_setting, options.settings))}
    print(machine())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            started = time.perf_counter()
            result = metanas.search(seed=seed, settings=settings, run=Path(folder, f"seed-{seed}"))
            seconds = time.perf_counter() - started
            assert result.random_accuracy is not None
            rows.append((seconds, 100 * result.test_accuracy, 100 * result.random_accuracy))
            print(
                f"seed {seed}  {seconds:5.1f} s  derived {rows[-1][1]:.2f} %  random {rows[-1][2]:.2f} %  "
                f"{result.architecture}",
                flush=True,
            )
    seconds, derived, random = (statistics.mean(column) for column in zip(*rows, strict=True))
    print(f"mean    {seconds:5.1f} s  derived {derived:.2f} %  random {random:.2f} %")


if __name__ == "__main__":
    main()
