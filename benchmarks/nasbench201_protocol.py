"""The published search on NAS-Bench-201: 50 epochs of 25,000 and 25,000 images of CIFAR-10, C 16, N 5, batches of 64.

    METANAS_DATA=... python benchmarks/nasbench201_protocol.py drnas --seed 0 --results results.jsonl --state 0.pt

Weights: SGD from 0.025 to 0.001 along half a cosine, Nesterov momentum 0.9, decay 5e-4, gradients clipped at 5; omega:
Adam at 3e-4 with decays 0.5 and 0.999, weight decay 1e-3 (DARTS), first order, no warm-up; crop with padding 4 and
flip. After each epoch the cell that would be derived is looked up in the table of trained networks (CIFAR-10, test, 200
epochs) and written as a line of the results. A guard is a pure function of what epochs say: one search says where each
of them would have ended it; with --guards the eigenvalue is measured for the one that reads it. With --then the guard
on skips hands a search over to `darts_pt` where it speaks. With --refine the derived cell and its neighbours are
trained for short times from scratch, as in the table's own 12-epoch runs (batches of 256, rate 0.1), the best kept, as
the recipe's `search.refine` does: 25 cells for 2 epochs, 5 for 6. The state is kept after each epoch and each short
training: what was cut off goes on.

Dong, Yang: NAS-Bench-201, ICLR 2020, arXiv:2001.00326; published with it: DARTS (first order) 54.30, GDAS 93.61.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar import _decode
from collapse import Silent
from machine import machine

from metanas import load_space
from metanas.api.parts import Parts
from metanas.bilevel import CudaGraphs, FirstOrder
from metanas.controllers import Darts, DartsPt, DrNas, FairDarts, Gdas, GradientController
from metanas.data import Crop, Data, Flip, Split
from metanas.evaluation.tables import ArchitectureTable
from metanas.loop import EigenvalueGrowth, GradientSearch, Guard, Health, Refinement, Schedule, SkipShare
from metanas.modes import meta_network
from metanas.network import fused, supernet
from metanas.recipe import override, read
from metanas.space import Architecture

CONTROLLERS: dict[str, GradientController] = {
    "darts": Darts(lr=3e-4),
    "beta_darts": Darts(lr=3e-4, beta=50.0),
    "darts_pt": DartsPt(),
    "drnas": DrNas(lr=3e-4),
    "gdas": Gdas(lr=3e-4),
    "fair_darts": FairDarts(lr=3e-4),
}
GUARDS: dict[str, Guard] = {"eigenvalue": EigenvalueGrowth(), "skip share 0.5": SkipShare(most=0.5)}
REFINE = {
    "search.refine": [{"candidates": 25, "epochs": 2}, {"candidates": 5, "epochs": 6}],
    "search.refine_from": "scratch",
    "evaluation.batch_size": 256,
    "evaluation.lr": 0.1,
}
"""The short trainings, of the recipe."""


def cifar10(folder: Path, per_split: int, device: torch.device) -> Data:
    """The training images in two halves, as shuffled in the file; normalised by the first."""
    with np.load(folder / "cifar10_train.npz", allow_pickle=False) as file:
        jpeg, offset, label = file["jpeg"], file["offset"], file["label"].astype(np.int64)
    count = 2 * per_split
    images = np.stack([_decode(jpeg[offset[i] : offset[i + 1]].tobytes()) for i in range(count)])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (f(pixels[:per_split], (0, 2, 3)) for f in (torch.mean, torch.std))
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    labels = torch.from_numpy(label[:count])
    first, second = (Split(pixels[rows], labels[rows]) for rows in (slice(0, per_split), slice(per_split, count)))
    names = tuple(map(str, range(10)))
    moments = tuple(mean.tolist()), tuple(std.tolist())
    return Data("cifar10", first, second, second, names, (Crop(4), Flip()), "", *moments, (0.0, 1.0)).to(device)


def searched(options: argparse.Namespace, data: Data) -> GradientSearch:
    space = load_space("nasbench201", channels=16, cells=options.cells)
    network = fused(supernet(space, data.shape, data.outputs, seed=options.seed).to(data.device))
    controller = CONTROLLERS[options.controller]
    schedule = Schedule(
        epochs=options.epochs,
        warmup=options.warmup,
        lr=0.025,
        lr_end=0.001,
        weight_decay=5e-4,
        nesterov=True,
        clip=5.0,
        monitor=5_000,
    )
    records = data.device.type == "cuda" and not controller.single_path
    return GradientSearch(
        space,
        network,
        meta_network(network, single_path=controller.single_path),
        FirstOrder(),
        controller,
        data,
        schedule,
        seed=options.seed,
        guards=(SkipShare(most=0.5),) if options.then else (Silent(),) if options.guards else (),
        instead=DartsPt() if options.then else None,
        graphs=CudaGraphs(data.device, print) if records else None,
    )


def refinement_of(options: argparse.Namespace, data: Data, search: GradientSearch, start: Architecture) -> Refinement:
    """The short trainings about a derived cell."""
    changes = {"seed": options.seed, "device": data.device.type, **REFINE}
    parts = Parts(read(override({}, changes | {"data.source": None})), search.space, search.space, data)
    found = parts.refinement(start)
    assert found is not None  # there are rounds
    return found


class Kept:
    """Owns the files: lines of results, and the state that a search goes on from."""

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self.options, self.begun = options, time.perf_counter()
        self.state: dict[str, Any] = {"seconds": 0.0, "past": []}
        if options.state.is_file():
            self.state = torch.load(options.state, map_location=device, weights_only=True)
        self.before = self.state["seconds"]
        folder = Path(os.environ["METANAS_DATA"])
        self.table = ArchitectureTable.read(folder / "nasbench201.csv.gz", key="arch", test=("cifar10_test",))

    @property
    def late(self) -> bool:
        return time.perf_counter() - self.begun > self.options.seconds

    def write(self, what: dict[str, Any], architecture: Architecture | None, **state: Any) -> None:
        """A line, with the accuracy of the cell trained for 200 epochs; and the state after it."""
        test = None
        if architecture is not None:
            test = float(self.table.columns["cifar10_test"][self.table.places[str(architecture)]])
        seconds = self.before + time.perf_counter() - self.begun
        name = self.options.controller + (", then darts_pt" if self.options.then else "")
        row = {"controller": name, "seed": self.options.seed, "seconds": round(seconds, 1)}
        row |= {"test": test, **what}
        with self.options.results.open("a", encoding="ascii") as file:
            file.write(json.dumps(row | {"arch": str(architecture)}) + "\n")
        print(json.dumps(row), flush=True)
        self.state |= {"seconds": seconds, **state}
        torch.save(self.state, self.options.state)


def train(kept: Kept, search: GradientSearch) -> bool:
    """The epochs that are left, or as many as there is time for; whether all are done."""
    past = [Health(**row) for row in kept.state["past"]]
    for step in search.steps():
        report = step.report
        if report is None:
            continue
        past.append(Health(report.epoch, report.entropy, report.skip_share, report.eigenvalue))
        row = {"gap": report.gap, "loss": report.outer_loss, **past[-1].__dict__}
        row |= {name: verdict.epoch for name, guard in GUARDS.items() if (verdict := guard(past)) is not None}
        rows = [health.__dict__ for health in past]
        kept.write(row, report.architecture, search=search.state(), past=rows)
        if kept.late:
            break
    return len(past) == kept.options.epochs


def refine(kept: Kept, refinement: Refinement) -> None:
    """The short trainings that are left, or as many as there is time for."""
    if "refinement" in kept.state:
        refinement.restore(kept.state["refinement"])
    for step in refinement.steps():
        row = {"trained": step.step, "of": step.budget, "value": step.value, "failed": step.reason}
        kept.write(row, step.best, refinement=refinement.state())
        if kept.late:
            return
    kept.write({"refined": True}, refinement.derive())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("controller", choices=CONTROLLERS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--images", type=int, default=25_000, help="of each half")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, one an epoch")
    parser.add_argument("--state", type=Path, required=True, help="where the search stands; goes on from it")
    parser.add_argument("--guards", action="store_true", help="measure the eigenvalue after each epoch")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no epoch begins later")
    parser.add_argument("--refine", action="store_true", help="short trainings about the derived cell")
    parser.add_argument("--then", action="store_true", help="darts_pt goes on where half of the cell skips")
    parser.add_argument("--warmup", type=int, default=0, help="epochs in which only the weights are trained")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = cifar10(Path(os.environ["METANAS_DATA"]), options.images, device)
    search = searched(options, data)
    kept = Kept(options, device)
    if "search" in kept.state:
        search.restore(kept.state["search"])
    print(machine(), flush=True)
    if not train(kept, search):
        return
    start = search.derive()
    if not kept.state.get("derived"):
        kept.write({"derived": True}, start, derived=True)
    if options.refine:
        refine(kept, refinement_of(options, data, search, start))


if __name__ == "__main__":
    main()
