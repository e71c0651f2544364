"""From weights to an architecture: argmax, and DARTS's rule of the two strongest inputs, against one by hand."""

from __future__ import annotations

import pytest
import torch

from metanas.controllers import Darts, strongest
from metanas.space import Choice, Edge, Graph, Node, Space, one_of, op


def darts_rule(space, weights):
    """Liu et al. 2019, section 2.4, for each cell: the two inputs whose best operation but `none` is strongest."""
    taken = {}
    for kind in ("normal", "reduce"):
        for i in range(2, 6):
            best = {}
            for j in range(i):
                choice = space.program.choice(f"{kind}.{i}<-{j}")
                row = {label: w for label, w in zip(choice.candidates, weights[choice.name], strict=True)}
                del row["none"]
                label = max(row, key=row.get)
                best[j] = (row[label], label)
            two = sorted(sorted(best, key=lambda j: best[j][0])[-2:])
            taken[f"{kind}.{i}"] = tuple(map(str, two))
            taken.update({f"{kind}.{i}<-{j}": best[j][1] for j in two})
    return space.architecture(taken)


@pytest.mark.parametrize("seed", range(20))
def test_darts_rule_equals_one_by_hand(problems, seed):
    space = problems.darts()
    generator = torch.Generator().manual_seed(seed)
    omega = Darts(scale=1.0).start(space, generator=generator)
    weights = {name: row.tolist() for name, row in Darts().expected(omega).items()}
    derived = Darts().derive(space, omega, evaluate=lambda a: 0.0, generator=generator)
    assert derived == darts_rule(space, weights)


def test_a_tie_goes_to_the_first(problems):
    space = problems.nasbench201()
    weights = {c.name: torch.full((5,), 0.2) for c in space.choices}
    assert {labels for labels in strongest(space, weights).values()} == {("none",)}


def test_an_input_that_is_never_derived_is_not_among_the_strongest():
    def ops(name):
        return one_of(name, {"a": op("skip"), "b": op("none")})

    pick = Choice("pick", ("0", "1", "2"), take=2, never=("1",))
    nodes = (
        *(Node(str(k), (Edge("x", ops(f"op{k}")),)) for k in range(3)),
        Node("y", tuple(Edge(str(k)) for k in range(3)), choice=pick),
    )
    space = Space(Graph(("x",), nodes, "y"))
    weights = {f"op{k}": torch.tensor([0.5 + 0.1 * k, 0.5 - 0.1 * k]) for k in range(3)}
    assert strongest(space, weights)["pick"] == ("0", "2")


def test_a_choice_that_does_not_matter_is_left_out(problems):
    space = problems.hierarchical()
    weights = {c.name: torch.zeros(len(c.candidates)) for c in space.choices}
    for name in ("xy", "xz", "yz"):
        weights[name][2] = 1.0
    architecture = strongest(space, weights)
    assert not [name for name in architecture if name.startswith(("m0", "m1"))]
