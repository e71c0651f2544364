"""When a value is needed: what the terms say against what derived programs hold."""

from __future__ import annotations

import numpy as np
import pytest

from metanas.errors import SpaceError
from metanas.space import Choice, Edge, Graph, Node, Space, one_of, op
from metanas.space.needs import MOST_TERMS, disjoint, needs
from metanas.space.program import Loop


def steps_of(program, prefix: str = "") -> set[str]:
    found = set()
    for step in program.steps:
        found.add(prefix + step.out)
        if isinstance(step, Loop):
            found |= steps_of(step.program, f"{step.out}/")
    return found


def applied(program, prefix: str = "") -> set[str]:
    """Combines may be gone since one value alone is passed on; operations are not."""
    found = set()
    for step in program.steps:
        if isinstance(step, Loop):
            found |= applied(step.program, f"{step.out}/")
        elif hasattr(step, "op"):
            found.add(prefix + step.out)
    return found


def test_the_terms_say_what_is_derived(known):
    space, rng = known.build(), np.random.default_rng(3)
    terms, every = needs(space.program), applied(space.program)
    for _ in range(30):
        architecture = space.sample(rng)
        taken = {(name, label) for name, labels in architecture.items() for label in labels}
        there = steps_of(space.derive(architecture, known.outputs))
        if any(labels == () for labels in architecture.values()):
            continue  # where nothing is taken, zeros stand in
        assert {v for v in every if any(t <= taken for t in terms[v])} == there & every


def test_disjoint_terms_hold_one_at_a_time(known):
    space, rng = known.build(), np.random.default_rng(3)
    if any(c.take is None for c in space.choices):
        pytest.skip("subsets have no terms apart")
    choices, terms = {c.name: c for c in space.choices}, needs(space.program)
    for value, rows in terms.items():
        apart = list(disjoint(rows, choices)) if len(rows) < 5 else []
        for architecture in (space.sample(rng) for _ in range(5 if apart else 0)):
            taken = {(name, label) for name, labels in architecture.items() for label in labels}
            active = [t for t in apart if all(name in architecture for name, _ in t)]
            if len(active) == len(apart):
                assert sum(t <= taken for t in apart) == any(t <= taken for t in rows), value


def test_what_is_read_in_too_many_ways_is_refused():
    """A value that 12 subsets of 12 nodes each may read."""
    pairs = [Choice(f"c{k}", ("x", *map(str, range(k)))[: k + 1], take=1) for k in range(1, 12)]
    nodes = [Node("0", (Edge("x", op("conv")),))]
    for k, choice in enumerate(pairs, 1):
        nodes.append(Node(str(k), (Edge("x"), *(Edge(str(j)) for j in range(k))), choice=choice))
    last = Node("y", tuple(Edge(str(j)) for j in range(12)), choice=Choice("out", tuple(map(str, range(12))), take=1))
    space = Space(Graph(("x",), (*nodes, last), "y"))
    with pytest.raises(SpaceError, match=f"more than {MOST_TERMS} ways"):
        needs(space.program)


def test_all_options_of_a_choice_make_no_condition():
    graph = Graph(
        ("x",),
        (
            Node("a", (Edge("x", op("conv")),)),
            Node("b", (Edge("a", one_of("b", {"none": op("none"), "skip": op("skip")}, never=("none",))),)),
        ),
        "b",
    )
    assert needs(Space(graph).program)["a"] == {frozenset()}
