"""What guards avert: DARTS on NAS-Bench-201 with many epochs, what it would derive after each, looked up in the table.

    METANAS_DATA=... python benchmarks/collapse.py --seeds 0 1 2

Protocol: CIFAR-10 halved to 16x16 (2x2 means), 2,000 inner and 2,000 outer images, crop with padding 2 and flip, batch
64, supernet of C 4, N 1, first order, Adam on omega at 0.1 (a large step, to provoke a collapse), 25 epochs, no
warm-up, one thread. A guard is a pure function of what the epochs say: each search runs once, to its end, and every
guard is asked afterwards where it would have ended it and with which epoch's cell. With --then each seed is searched
again, with the guard on skips and `darts_pt` to go on where it speaks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metanas.loop import Decided, EigenvalueGrowth, Guard, Health, Probe, SkipShare, Verdict

GUARDS: dict[str, Guard] = {
    "eigenvalue": EigenvalueGrowth(),
    "skip share 0.5": SkipShare(most=0.5),
    "entropy 0.5": Decided(least=0.5),
}


@dataclass(frozen=True)
class Silent(Guard):
    """Has the eigenvalue measured and never speaks."""

    @property
    def probe(self) -> Probe | None:
        return Probe(examples=256, steps=8)

    def __call__(self, past: Sequence[Health]) -> Verdict | None:
        return None


def searched(seed: int, options: argparse.Namespace, *, then: bool = False) -> tuple[list[dict[str, Any]], str]:
    """What each epoch of a search says, and the cell that it ends with; `then`: where a guard hands it over."""
    import torch
    from cifar import cifar16

    from metanas.bilevel import FirstOrder
    from metanas.controllers import Darts, DartsPt
    from metanas.data import Crop, Flip, load_data
    from metanas.loop import GradientSearch, Schedule
    from metanas.modes import meta_network
    from metanas.network import fused, supernet
    from metanas.recipe.spaces import load_space

    torch.set_num_threads(1)
    raw = cifar16(os.environ["METANAS_DATA"], cache=options.cache)
    sizes = {"inner": options.images, "outer": options.images, "test": 1000}
    data = load_data((raw["x_train"], raw["y_train"]), seed=seed, augment=(Crop(2), Flip()), name="cifar16", **sizes)
    space = load_space("nasbench201", channels=options.channels, cells=options.cells)
    network = fused(supernet(space, data.shape, data.outputs, seed=seed))
    search = GradientSearch(
        space,
        network,
        meta_network(network),
        FirstOrder(),
        Darts(lr=options.lr),
        data,
        Schedule(epochs=options.epochs, warmup=options.warmup, lr=0.1),
        seed=seed,
        guards=(SkipShare(most=0.5),) if then else (Silent(),),
        instead=DartsPt() if then else None,
    )
    rows, started = [], time.perf_counter()
    for step in search.steps():
        if step.report is not None:
            r = step.report
            health = {
                "epoch": r.epoch,
                "instead": r.instead,
                "entropy": r.entropy,
                "skip_share": r.skip_share,
                "eigenvalue": r.eigenvalue,
            }
            rows.append({**health, "key": str(r.architecture), "seconds": time.perf_counter() - started})
            print(json.dumps({"seed": seed, "outer_loss": r.outer_loss, **rows[-1]}), flush=True)
    return rows, str(search.derive())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--cells", type=int, default=1)
    parser.add_argument("--then", action="store_true", help="again, with darts_pt to go on where the guard speaks")
    parser.add_argument("--warmup", type=int, default=0)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--cache", default="runs/cifar16.npz", help="where the halved images are kept")
    options = parser.parse_args()
    from machine import machine
    from nasbench201_quality import table

    print(machine())
    accuracy = table("cifar10_test")
    found: dict[str, list[float]] = {}
    for seed in options.seeds:
        rows, _ = searched(seed, options)
        ends = {"to its end": rows[-1]["epoch"], "best epoch": max(rows, key=lambda r: accuracy[r["key"]])["epoch"]}
        learned = rows[options.warmup :]  # guards do not look before
        past = [Health(r["epoch"], r["entropy"], r["skip_share"], r["eigenvalue"]) for r in learned]
        for name, guard in GUARDS.items():
            spoken = ((k, guard(past[:k])) for k in range(1, len(past) + 1))
            after, verdict = next(((past[k - 1].epoch, v) for k, v in spoken if v is not None), (len(rows), None))
            ends[name] = rows[-1]["epoch"] if verdict is None else verdict.epoch
            print(f"seed {seed}  {name:<15} after epoch {after}, back to {ends[name]}: {verdict and verdict.reason}")
        for name, epoch in ends.items():
            key = rows[epoch - 1]["key"]
            found.setdefault(name, []).append(accuracy[key])
            print(f"seed {seed}  {name:<15} epoch {epoch:>3}  {accuracy[key]:.2f}  {key}", flush=True)
        if options.then:
            past, key = searched(seed, options, then=True)
            found.setdefault("handed over", []).append(accuracy[key])
            after = next((r["epoch"] for r in past if r["instead"]), None)
            print(f"seed {seed}  handed over after epoch {after}  {accuracy[key]:.2f}  {key}", flush=True)
    for name, values in found.items():
        print(f"{name:<15} mean {statistics.mean(values):.2f}  {' '.join(f'{v:.2f}' for v in values)}")


if __name__ == "__main__":
    main()
