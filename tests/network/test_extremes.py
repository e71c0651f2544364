"""The smallest and the largest architecture of a supernet."""

from __future__ import annotations

import numpy as np
import pytest

import metanas
from metanas.errors import SpaceError
from metanas.network import by_size, derived, extreme, supernet
from metanas.space import NEEDED, Choice, Edge, Graph, Node, Space, chain, one_of, op


def parameters(space, architecture, shape=(1, 8, 8)) -> int:
    return sum(p.numel() for p in derived(space, architecture, shape, 3).parameters())


@pytest.mark.parametrize("name", ["mobile", "vit"])
def test_no_architecture_has_fewer_or_more_parameters(name):
    space = metanas.load_space(name, **({"stages": 1} if name == "mobile" else {}))
    sizes = by_size(supernet(space, (1, 8, 8), 3))
    ends = []
    for largest in (False, True):
        path = extreme(sizes, {}, largest=largest)
        taken = {c.name: (c.candidates[path[c.name]],) for c in space.choices}
        ends.append(parameters(space, {n: x for n, x in taken.items() if n in space.architecture(taken)}))
    rng = np.random.default_rng(0)
    between = [parameters(space, space.sample(rng)) for _ in range(5)]
    assert ends[0] <= min(between) and max(between) <= ends[1] and ends[0] < ends[1]


def test_what_is_never_derived_is_neither():
    pick = one_of("y", {"none": op("none"), "conv": op("conv", width=2), "skip": op("skip")}, never=("none",))
    network = supernet(Space(chain(("y", pick), ("head", op("classifier", width=NEEDED)))), (2, 4, 4), 3)
    assert by_size(network) == {"y": (2, 1)}
    assert extreme(by_size(network), {"y": (0, 2)}, largest=True) == {"y": 2}


def test_a_candidate_that_is_a_graph_counts_what_it_holds():
    pair = chain(("a", op("conv", width=2)), ("b", op("conv", width=2)), inputs=("x",))
    pick = one_of("y", {"two": pair, "one": op("conv", width=2), "large": op("conv", width=2, kernel=3)})
    network = supernet(Space(chain(("y", pick), ("head", op("classifier", width=NEEDED)))), (2, 4, 4), 3)
    assert by_size(network) == {"y": (1, 0, 2)}


def test_what_two_candidates_read_counts_for_both():
    """`q` reads `p`, so that it is larger, and larger than `r`, though its own operation is the smallest."""
    nodes = [
        Node(name, (Edge(source, op("conv", width=2, kernel=kernel)),))
        for name, source, kernel in (("p", "image", 5), ("q", "p", 1), ("r", "image", 3))
    ]
    nodes.append(Node("y", tuple(map(Edge, "pqr")), choice=Choice("y", ("p", "q", "r"))))
    nodes.append(Node("head", (Edge("y", op("classifier", width=NEEDED)),)))
    network = supernet(Space(Graph(("image",), tuple(nodes), "head")), (2, 4, 4), 3)
    assert by_size(network) == {"y": (2, 0, 1)}


def test_a_space_without_a_choice_of_one_has_no_ends():
    nodes = (Node("y", (Edge("image", op("skip")),)), Node("head", (Edge("y", op("classifier", width=NEEDED)),)))
    with pytest.raises(SpaceError, match="no choice of one of n, so there is no smallest"):
        by_size(supernet(Space(Graph(("image",), nodes, "head")), (2, 4, 4), 3))
