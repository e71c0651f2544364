"""Equal canonical forms if and only if the networks are isomorphic, judged by networkx on a graph built here anew."""

from __future__ import annotations

import itertools
from collections import Counter

import networkx as nx
import numpy as np
import pytest
import torch

from metanas.network import derived
from metanas.space import Choice, Edge, Graph, Node, Space, canonical, compile_graph, distinct, one_of, op
from metanas.space.canonical import program_form

CELL_EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))


def cell_graph(architecture):
    """A NAS-Bench-201 cell as networkx sees it, built from the definition: operations are vertices, each node is what
    is added up in it, in multiplicities; zeros add nothing, a skip adds what its source adds up, and of a cell nothing
    is kept but what its output depends on.
    """
    graph, adds = nx.DiGraph(), {0: Counter({"input": 1})}
    graph.add_node("input", label="input")

    def point(terms):
        if sum(terms.values()) == 1:
            return next(iter(terms))
        name = f"sum {sorted(terms.items())}"
        graph.add_node(name, label="sum")
        for term, times in terms.items():
            graph.add_edge(term, name, times=times)
        return name

    for node in (1, 2, 3):
        adds[node] = Counter()
        for source in range(node):
            (label,) = architecture[f"{node}<-{source}"]
            if label == "none" or (not adds[source] and label in ("skip_connect", "avg_pool_3x3")):
                continue
            if label == "skip_connect":
                adds[node] += adds[source]
                continue
            name = f"{node}<-{source}"
            graph.add_node(name, label=label)
            graph.add_edge(point(adds[source]), name, times=0)
            adds[node][name] += 1
    output = point(adds[3])
    graph.nodes[output]["label"] += " output"
    return graph.subgraph(nx.ancestors(graph, output) | {output})


def isomorphic(a, b):
    return nx.is_isomorphic(
        a, b, node_match=lambda x, y: x["label"] == y["label"], edge_match=lambda x, y: x["times"] == y["times"]
    )


@pytest.fixture(scope="module")
def space(problems):
    return problems.nasbench201(channels=2, cells=1)


@pytest.fixture(scope="module")
def sample(space):
    """Architectures with few kinds of operations, so that many of them are isomorphic."""
    rng = np.random.default_rng(0)
    kinds = [("none", "skip_connect", "nor_conv_3x3"), ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1")]
    rows = []
    for k in range(160):
        labels = rng.choice(kinds[k % 2], size=6)
        rows.append(space.architecture({f"{i}<-{j}": str(x) for (i, j), x in zip(CELL_EDGES, labels, strict=True)}))
    return rows


def test_equal_forms_are_isomorphic_networks_and_the_other_way_round(space, sample):
    forms = [canonical(space, a) for a in sample]
    graphs = [cell_graph(a) for a in sample]
    equal = 0
    for i, j in itertools.combinations(range(len(sample)), 2):
        if len(graphs[i]) == len(graphs[j]) or forms[i] == forms[j]:
            assert (forms[i] == forms[j]) == isomorphic(graphs[i], graphs[j]), (sample[i], sample[j])
            equal += forms[i] == forms[j] and sample[i] != sample[j]
    assert equal > 50


def test_equal_forms_have_equal_parameter_counts(space, sample):
    counts = {}
    for architecture in sample[:30]:
        with torch.device("meta"):
            network = derived(space, pruned_of_zeros(architecture), (3, 8, 8), 10)
        counts.setdefault(canonical(space, architecture), set()).add(sum(p.numel() for p in network.parameters()))
    assert any(len(group) > 1 for group in distinct(space, {str(a): a for a in sample[:30]}).values())
    assert all(len(found) == 1 for found in counts.values())


def pruned_of_zeros(architecture):
    """`none` on every edge whose value reaches nothing: what a benchmark counts although it is dead."""
    taken = {name: labels[0] for name, labels in architecture.items()}
    if all(taken[f"3<-{j}"] == "none" for j in range(3)):
        return dict.fromkeys(taken, "none")
    if taken["3<-2"] == "none":
        taken |= {"2<-0": "none", "2<-1": "none"}
    if taken["3<-1"] == taken["2<-1"] == "none":
        taken["1<-0"] = "none"
    return taken


def conv(n=3):
    return op("conv", width=4, kernel=n)


def form(*nodes, output="y"):
    return program_form(compile_graph(Graph(("x",), nodes, output)))


def test_reading_a_source_twice_is_not_reading_it_once():
    once = form(Node("a", (Edge("x", conv()),)), Node("y", (Edge("a"),)))
    twice = form(Node("a", (Edge("x", conv()),)), Node("y", (Edge("a"), Edge("a"))))
    apart = form(Node("y", (Edge("x", conv()), Edge("x", conv()))))
    assert len({once, twice, apart}) == 3


def test_pairs_that_local_colours_cannot_tell_apart():
    """f(2a) + g(2b) is not f(a + b) + g(a + b): every vertex has the same neighbourhood, the networks differ."""
    first = (Node("a", (Edge("x", conv()),)), Node("b", (Edge("x", conv()),)))

    def second(f, g):
        rows = (Node("p", tuple(map(Edge, f)), body=conv()), Node("q", tuple(map(Edge, g)), body=conv()))
        return form(*first, *rows, Node("y", (Edge("p"), Edge("q"))))

    assert second("aa", "bb") == second("bb", "aa") != second("ab", "ab") == second("ba", "ab")


def ring(*pairs):
    nodes = [Node(v, (Edge("x", conv()),)) for v in "abcd"]
    nodes += [Node(f"s{k}", (Edge(p[0]), Edge(p[1])), body=conv()) for k, p in enumerate(pairs)]
    return form(*nodes, Node("y", tuple(Edge(f"s{k}") for k in range(len(pairs)))))


def test_one_ring_of_eight_is_not_two_rings_of_four():
    assert ring("ab", "bc", "cd", "da") == ring("ac", "cb", "bd", "da") != ring("ab", "ab", "cd", "cd")


def test_zero_adds_nothing_to_a_sum_but_counts_in_a_mean():
    nothing = Edge("x", op("none"))
    real = Edge("x", conv())
    assert form(Node("y", (real, nothing))) == form(Node("y", (real,)))
    assert form(Node("y", (real, nothing), combine="mean")) != form(Node("y", (real,)))


def test_order_matters_in_a_concatenation_and_not_in_a_sum():
    a, b = Edge("x", conv(1)), Edge("x", conv(3))
    assert form(Node("y", (a, b))) == form(Node("y", (b, a)))
    assert form(Node("y", (a, b), combine="concat")) != form(Node("y", (b, a), combine="concat"))


def test_sums_of_sums_are_one_sum():
    a, b, c = (Edge("x", conv(n)) for n in (1, 3, 5))
    left = form(Node("p", (a, b)), Node("y", (Edge("p"), c)))
    right = form(Node("p", (b, c)), Node("y", (a, Edge("p"))))
    assert left == right == form(Node("y", (c, b, a)))


def test_a_sum_of_skips_may_grow_exponentially():
    nodes = [Node("n0", (Edge("x"), Edge("x")))]
    nodes += [Node(f"n{k}", (Edge(f"n{k - 1}"), Edge(f"n{k - 1}"))) for k in range(1, 60)]
    assert form(*nodes, output="n59") != form(*nodes[:-1], output="n58")


def test_a_zero_is_as_wide_as_it_is():
    """Its readers have as many weights: the networks differ."""
    one, two = (form(Node("z", (Edge("x", op("none", width=w)),)), Node("y", (Edge("z", conv()),))) for w in (4, 8))
    assert one != two


def test_a_reduction_of_zeros_keeps_its_weights():
    """Zeros through a pool are zeros; through a skip with a stride they still are, but that one has convolutions."""

    def reduced(kind, **facts):
        rows = (Node("z", (Edge("x", op("none", width=4)),)), Node("r", (Edge("z", op(kind, stride=2, **facts)),)))
        return form(*rows, Node("y", (Edge("r"), Edge("x", op("conv", width=4, stride=2)))))

    assert reduced("avg_pool", kernel=3) == reduced("max_pool", kernel=3) != reduced("skip")


def test_dead_branches_are_gone():
    pick = one_of("a", {"none": op("none"), "conv": conv()})
    graph = Graph(
        ("x",),
        (
            Node("p", (Edge("x", pick),)),
            Node("y", (Edge("x", conv()), Edge("p")), choice=Choice("in", ("x", "p"))),
        ),
        "y",
    )
    space = Space(graph)
    forms = {canonical(space, space.architecture({"in": "x", "a": label})) for label in ("none", "conv")}
    assert len(forms) == 1
