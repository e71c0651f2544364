"""NAS-Bench-101: its sizes, its keys, and the parameters of its networks, against the benchmark's own numbers."""

from __future__ import annotations

import csv
import gzip
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from metanas.network import OPS, derived
from metanas.network.network import _infer, make
from metanas.space import Apply, Architecture, Op

Shape = tuple[int, ...]
Cell = tuple[list[list[int]], list[str]]
FACTS = [
    ("100110100001001010101", "02001", 8_555_530, "00005c142e6f48ac74fdcf73e3439874"),
    ("100110101001000100101", "11011", 16_075_402, "000baf25e2df7a644eab3ea44e385d2d"),
    ("100100100001011100101", "01020", 8_118_666, "0017a333e5592b796bdddd855ad5ba02"),
    ("110010100001100100101", "01200", 31_552_906, "0024551651ead3be2339daebc4c83bbb"),
]
"""Upper triangle of the adjacency, operations, parameters, key."""


@pytest.fixture(scope="module")
def nasbench101(problems: ModuleType) -> ModuleType:
    return problems.shipped("nasbench101")


def read(module: ModuleType, upper: str, operations: str) -> Cell:
    n = len(operations) + 2
    rows = [[0] * n for _ in range(n)]
    for (i, j), bit in zip(itertools.combinations(range(n), 2), upper, strict=True):
        rows[i][j] = int(bit)
    return rows, [module.OPERATIONS[int(k)] for k in operations]


def reordered(cell: Cell) -> Iterator[Cell]:
    """The same cell with its inner vertices in every order in which edges go forwards."""
    matrix, operations = np.array(cell[0]), cell[1]
    n = len(matrix)
    for order in itertools.permutations(range(1, n - 1)):
        places = [0, *order, n - 1]
        moved = matrix[np.ix_(places, places)]
        if not np.tril(moved).any():
            yield moved.tolist(), [operations[v - 1] for v in order]


class Counter:
    """Counts the parameters of derived networks, an operation at a time: each kind is made once."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.shapes: dict[tuple[Op, Shape], Shape] = {}
        self.counts: dict[tuple[Op, Shape], int] = {}
        self.spaces = {n: module.space(vertices=n, edges=21) for n in (5, 6, 7)}

    def __call__(self, cell: Cell) -> int:
        program = self.spaces[len(cell[0])].derive(self.module.choices(*cell), outputs=10)
        shapes = _infer(program, [(3, 32, 32)], "scratch", OPS, self.shapes)
        return sum(self.one(s.op, shapes[s.source]) for s in program.steps if isinstance(s, Apply))

    def one(self, op: Op, shape: Shape) -> int:
        if (op, shape) not in self.counts:
            with torch.device("meta"):
                self.counts[op, shape] = sum(p.numel() for p in make(op, shape, "scratch", OPS).parameters())
        return self.counts[op, shape]


@pytest.fixture(scope="module")
def counter(nasbench101: ModuleType) -> Counter:
    return Counter(nasbench101)


@pytest.mark.parametrize(("upper", "operations", "parameters", "key"), FACTS)
def test_published_networks(
    nasbench101: ModuleType, counter: Counter, upper: str, operations: str, parameters: int, key: str
) -> None:
    cell = read(nasbench101, upper, operations)
    space = nasbench101.space()
    architecture = space.architecture(nasbench101.choices(*cell))
    with torch.device("meta"):
        network = derived(space, architecture, (3, 32, 32), 10)
    assert sum(p.numel() for p in network.parameters()) == counter(cell) == parameters
    assert nasbench101.network_class(architecture) == key
    assert nasbench101.matrix(architecture) == cell


def test_every_network_of_the_sample(nasbench101: ModuleType, counter: Counter, benchmark_data: Path) -> None:
    with gzip.open(benchmark_data / "nasbench101_sample.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 300
    for row in rows:
        n = int(row["n_vertices"])
        cell = read(nasbench101, row["adj_upper"].zfill(n * (n - 1) // 2), row["ops"].zfill(n - 2))
        # The sample was numbered anew, and the remainder of a split goes to the first vertices.
        assert int(row["params"]) in map(counter, itertools.chain([cell], reordered(cell))), row
        architecture = counter.spaces[n].architecture(nasbench101.choices(*cell))
        assert nasbench101.network_class(architecture) == row["hash"]


def networks(vertices: int, most: int = 9) -> int:
    """Cells with so many vertices, each on a path from input to output, that differ by more than the order of their
    vertices: graphs by their smallest form, operations by Burnside's lemma over the symmetries of each.
    """
    pairs = list(itertools.combinations(range(vertices), 2))
    bits = (np.arange(2 ** len(pairs))[:, None] >> np.arange(len(pairs))) & 1
    source, target = np.array(pairs).T
    whole = bits.sum(1) <= most
    for v in range(vertices):
        whole &= (v == vertices - 1) | bits[:, source == v].any(1)
        whole &= (v == 0) | bits[:, target == v].any(1)
    orders = np.array([(0, *order, vertices - 1) for order in itertools.permutations(range(1, vertices - 1))])
    forms = bits[whole] @ (1 << (orders[:, source] * vertices + orders[:, target])).T  # (graphs, orders)
    first = np.unique(forms.min(1), return_index=True)[1]
    symmetries = forms[first] == forms[first, :1]
    fixed = 3 ** np.array([cycles(order[1:-1] - 1) for order in orders])
    return int((symmetries @ fixed // symmetries.sum(1)).sum())


def cycles(order: np.ndarray) -> int:
    seen: set[int] = set()
    count = 0
    for start in range(len(order)):
        count += start not in seen
        while start not in seen:
            seen.add(start)
            start = int(order[start])
    return count


@pytest.mark.long
def test_the_published_number_of_networks() -> None:
    assert [networks(n) for n in range(2, 8)] == [1, 6, 84, 2_441, 62_010, 359_082]
    assert 1 + 6 + 84 + 2_441 + 62_010 + 359_082 == 423_624


@pytest.mark.parametrize("vertices", [3, 4, pytest.param(5, marks=pytest.mark.long)])
def test_the_space_holds_every_network_once_by_its_key(nasbench101: ModuleType, vertices: int) -> None:
    space = nasbench101.space(channels=2, cells=1, vertices=vertices)
    rows = [[s for k in range(len(c.options) + 1) for s in itertools.combinations(c.options, k)]
            if c.take is None else [(label,) for label in c.options] for c in space.choices]  # fmt: skip
    taken = [dict(zip((c.name for c in space.choices), row, strict=True)) for row in itertools.product(*rows)]
    kept = [Architecture(t) for t in taken if space.limits[0].holds(t)]
    assert (
        len(kept)
        == space.size
        == 3 ** (vertices - 2) * sum(math.comb(vertices * (vertices - 1) // 2, k) for k in range(10))
    )
    cells = {str(nasbench101.matrix(a)): a for a in kept}
    found = {nasbench101.network_class(a) for text, a in cells.items() if text != "([], [])"}
    assert len(found) == sum(map(networks, range(2, vertices + 1)))


def test_the_published_size_of_the_assignments(nasbench101: ModuleType) -> None:
    assert nasbench101.space().size == 169_093_980
    assert nasbench101.space(edges=21).size == 3**5 * 2**21


def test_an_architecture_as_it_is_written(nasbench101: ModuleType) -> None:
    space = nasbench101.space(vertices=4)
    text = "1=conv3x3(input) 2=maxpool3x3(input+1) out=2 direct=input"
    architecture = space.parse(text)
    assert str(architecture) == text
    cell = ([[0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], ["conv3x3", "maxpool3x3"])
    assert nasbench101.matrix(architecture) == cell and space.architecture(nasbench101.choices(*cell)) == architecture


def test_cells_without_a_path_have_a_key_of_their_own(nasbench101: ModuleType) -> None:
    space = nasbench101.space(vertices=4)
    blind = [
        space.parse(f"1={a}() 2={b}(1) out=1+2 direct=") for a, b in (("conv3x3", "conv1x1"), ("conv1x1", "conv3x3"))
    ]
    assert [nasbench101.matrix(a) for a in blind] == [([], [])] * 2
    assert len(set(map(nasbench101.network_class, blind))) == 1


@pytest.mark.parametrize("options", [{"vertices": 2}, {"edges": 0}, {"channels": 0}, {"stacks": 0}, {"cells": -1}])
def test_settings_that_cannot_be(nasbench101: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="channels, cells, stacks, edges must be >= 1 and vertices >= 3, got"):
        nasbench101.space(**options)
