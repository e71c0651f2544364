"""Recurrent cells for sequences: DARTS's (Liu, Simonyan, Yang, ICLR 2019, arXiv:1806.09055), eight nodes of highways.

A cell goes along (batch, time, features) with a state h; what reads the last state is linear. Node 0 reads the input
and the state, every other node one node before it; the new state is the mean of nodes 1 to 8.

    node 0   h + sigmoid(c) * (tanh(n) - h)      (c, n) linear in (h, x)
    node i   s + sigmoid(c) * (f(n) - s)         (c, n) linear in s, the node that it reads

Chosen are the node that each reads and its f, one of tanh, relu, sigmoid, identity: 8! * 4^8, about 2.6 * 10^9, cells,
written `relu(0) relu(1) tanh(2) ...`. A search mixes the nodes that may be read, then the functions, and normalises
every node over the batch, as the paper's search does. The paper mixes pairs of a node and a function, with one matrix
for all pairs of a node; here each function has its own. Its `none`, which is never derived, is left out.

Images are read row by row, and so are arrays (examples, time, features), which data takes for images of one channel.
Tokens (examples, time), read with `inputs="tokens"`, are mapped to a vector each.
"""

from metanas.space import NEEDED, Choice, Edge, Graph, Node, Scan, Space, chain, one_of, op

FUNCTIONS = ("tanh", "relu", "sigmoid", "identity")

DARTS = "relu(0) relu(1) tanh(2) relu(3) relu(4) identity(1) relu(5) relu(1)"
"""The cell that the authors' code gives."""

RECIPE = {"data.augment": (), "search.lr": 0.2, "evaluation.lr": 0.5}
"""Sequences are not flipped or shifted; gates move little, so the steps are large."""


def space(width: int = 64, nodes: int = 8, vocabulary: int = 0) -> Space:
    """The space. `width`: of the state; `nodes`: that are chosen; `vocabulary`: of tokens, which a search takes from
    the data; 0: numbers.

    Raises ValueError where the width or the nodes are less than 1, or the vocabulary less than 0.
    """
    if width < 1 or nodes < 1:
        raise ValueError(f"width and nodes must be >= 1, got {width} and {nodes}")
    if vocabulary < 0:
        raise ValueError(f"vocabulary must be >= 0, got {vocabulary}")
    steps = (
        ("rows", op("embedding", width=width, vocabulary=vocabulary) if vocabulary else op("sequence")),
        ("cell", Scan(cell(width, nodes), width)),
        ("last", op("last")),
        ("head", op("linear", width=NEEDED)),
    )
    template = " ".join(f"{{function{i}}}({{read{i}}})" if i > 1 else "{function1}(0)" for i in range(1, nodes + 1))
    settings = {"width": width, "nodes": nodes, **({"vocabulary": vocabulary} if vocabulary else {})}
    return Space(chain(*steps, inputs=("sequence",)), "sequence", template=template, settings=settings)


def cell(width: int, nodes: int) -> Graph:
    """From (state, value) to the next state."""
    normal = op("norm", norm="batch_search")
    start = op("highway", width=width, activation="tanh")
    made = [
        Node("both", (Edge("state"), Edge("value")), combine="concat"),
        Node("start", (Edge("both", start),)),
        Node("0", (Edge("start", normal),)),
    ]
    for i in range(1, nodes + 1):
        before = tuple(map(str, range(i)))
        read = Choice(f"read{i}", before) if i > 1 else None
        functions = one_of(f"function{i}", {f: op("highway", width=width, activation=f) for f in FUNCTIONS})
        made.append(Node(f"new{i}", tuple(map(Edge, before)), choice=read, body=functions))
        made.append(Node(str(i), (Edge(f"new{i}", normal),)))
    made.append(Node("next", tuple(Edge(str(i)) for i in range(1, nodes + 1)), combine="mean"))
    return Graph(("state", "value"), tuple(made), "next")
