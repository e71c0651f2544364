"""NAS-Bench-201: the costs, strings and classes of all 15,625 architectures against the published table.

    METANAS_DATA=folder python benchmarks/nasbench201_table.py [--built 200]

The folder holds `nasbench201.csv.gz` with the columns arch, parameters, mega_multiply_adds and network_class
(NATS-Bench, Dong et al., TPAMI 2021, arXiv:2009.00437). Counts add up over the edges of the cell, so 25 networks give
the costs of all; as many as `--built` says are drawn at random and really built. Exit status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from machine import machine

from metanas.evaluation.costs import Cost, cost
from metanas.network import derived
from metanas.space import Architecture, Space, canonical

SHAPE, CLASSES = (3, 32, 32), 10
UNIQUE_CELLS = 6_466


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--built", type=int, default=200, help="networks that are really built")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    if "METANAS_DATA" not in os.environ:
        print("set METANAS_DATA to the folder with nasbench201.csv.gz", file=sys.stderr)
        return 2
    with gzip.open(Path(os.environ["METANAS_DATA"]) / "nasbench201.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    module = shipped()
    space: Space = module.space(channels=16, cells=5)
    print(f"{machine()}\n")
    print(f"{'check':<46}{'right':>16}{'seconds':>9}")
    architectures = {row["arch"]: space.parse(row["arch"]) for row in rows}
    table = {row["arch"]: published(row) for row in rows}
    picked = np.random.default_rng(options.seed).choice(list(table), size=options.built, replace=False)
    added = costs_by_edge(space)
    good = [
        line("strings: str(parse(s)) == s", lambda: [str(space.parse(s)) == s for s in table]),
        line("costs: sums over edges", lambda: [added(architectures[s]) == table[s] for s in table]),
        line("costs: built", lambda: [built(space, architectures[str(s)]) == table[str(s)] for s in picked]),
        line("classes: equal to the table's", lambda: classes(module, architectures, rows)),
        line("canonical forms: one parameter count each", lambda: forms(module, architectures)),
    ]
    return 0 if all(good) else 1


def shipped() -> ModuleType:
    """The shipped space's module; a space is loaded by its path."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "search_spaces"))
    import nasbench201

    return nasbench201


def line(name: str, check: Callable[[], list[bool]]) -> bool:
    """Runs one check and prints how many were right."""
    start = time.perf_counter()
    found = check()
    print(f"{name:<46}{sum(found):>7,} / {len(found):<6,}{time.perf_counter() - start:>9.1f}", flush=True)
    return all(found)


def published(row: dict[str, str]) -> Cost:
    """The table's cost; it gives multiply-adds in millions with five digits, 10 multiply-adds."""
    return Cost(int(row["parameters"]), round(float(row["mega_multiply_adds"]) * 1e6))


def built(space: Space, architecture: Architecture) -> Cost:
    """The cost of the network itself."""
    with torch.device("meta"):
        return cost(derived(space, architecture, SHAPE, CLASSES), SHAPE)


def costs_by_edge(space: Space) -> Callable[[Architecture], Cost]:
    """Cost as the empty cell's plus what each edge adds."""
    empty = {c.name: "none" for c in space.choices}
    base = built(space, space.architecture(empty))
    more = {}
    for choice in space.choices:
        for label in choice.options:
            one = built(space, space.architecture({**empty, choice.name: label}))
            more[choice.name, label] = (one.parameters - base.parameters, one.multiply_adds - base.multiply_adds)

    def added(architecture: Architecture) -> Cost:
        parts = [more[name, label] for name, (label,) in architecture.items()]
        return Cost(base.parameters + sum(p for p, _ in parts), base.multiply_adds + sum(m for _, m in parts))

    return added


def classes(module: ModuleType, architectures: dict[str, Architecture], rows: list[dict[str, str]]) -> list[bool]:
    """Whether the space's own key groups the architectures as the table does: a one-to-one pairing of classes."""
    keys = [module.network_class(architectures[row["arch"]]) for row in rows]
    pairs = set(zip(keys, (row["network_class"] for row in rows), strict=True))
    ours, theirs = {a for a, _ in pairs}, {b for _, b in pairs}
    same = len(pairs) == len(ours) == len(theirs) == UNIQUE_CELLS
    print(f"  {len(ours):,} classes, the table has {len(theirs):,}")
    return [same] * len(rows)


def forms(module: ModuleType, architectures: dict[str, Architecture]) -> list[bool]:
    """One canonical form, one network: its operations with weights, dead branches aside, are the same."""
    space = module.space(channels=1, cells=1)
    found: dict[str, set[tuple[str, ...]]] = {}
    for architecture in architectures.values():
        found.setdefault(canonical(space, architecture), set()).add(live(architecture))
    print(f"  {len(found):,} canonical forms")
    return [len(kinds) == 1 for kinds in found.values()]


def live(architecture: Architecture) -> tuple[str, ...]:
    """The convolutions that something leads from to the cell's output, sorted."""
    read, convolutions = {3}, []
    for node in (3, 2, 1):
        for source in range(node) if node in read else ():
            (label,) = architecture[f"{node}<-{source}"]
            read |= {source} if label != "none" else set()
            convolutions += [label] if label.startswith("nor_conv") else []
    return tuple(sorted(convolutions))


if __name__ == "__main__":
    sys.exit(main())
