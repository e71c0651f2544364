"""DARTS (Liu, Simonyan, Yang, ICLR 2019, arXiv:1806.09055): a normal and a reduction cell, eight operations an edge.

Stem conv 3x3 to 3C and batch norm; cells that read the two values before them; reduction cells, which halve the image
and double the channels, at a third and two thirds of the depth; global average pool, linear. A cell has four nodes,
each the sum of two of the values before it, and gives all four side by side. All normal cells share their choices, and
so do all reduction cells: (1 * 3 * 6 * 10 * 7^8)^2, about 10^18, architectures.

A search mixes all inputs of a node and all eight operations of an edge; `none` is mixed and never derived. C 16 with 8
layers is the paper's search, C 36 with 20 its evaluation.

Spaces on which DARTS fails are parts of it (Zela et al., ICLR 2020, arXiv:1909.09656), by `operations`:

    S1   two operations an edge: what was left when the least important were dropped again and again
    S2   skip_connect, sep_conv_3x3
    S3   none, skip_connect, sep_conv_3x3
    S4   noise, sep_conv_3x3

Each has (1 * 3 * 6 * 10 * 2^8)^2, about 2.1 * 10^9, architectures. `noise` gives N(0, 1) samples in the place of what
comes in. They are a function of the batch, new for every other one (`metanas.network.noise`).
"""

from metanas.space import NEEDED, Choice, Content, Edge, Graph, Node, Space, one_of, op

OPERATIONS = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
    "dil_conv_5x5",
)  # fmt: skip
KNOWN = (*OPERATIONS, "noise")
NODES = (2, 3, 4, 5)  # 0 and 1 are the cell's inputs
KINDS = ("normal", "reduce")

SHORT = {"max": "max_pool_3x3", "avg": "avg_pool_3x3", "skip": "skip_connect", "sep": "sep_conv_3x3",
         "dil": "dil_conv_3x3", "dil5": "dil_conv_5x5"}  # fmt: skip
S1 = {
    "normal": ("skip dil, skip dil5", "skip dil5, skip sep, skip dil", "max skip, skip sep, skip sep, skip dil",
               "skip sep, max skip, skip dil, dil dil5, dil dil5"),
    "reduce": ("max avg, max dil", "max avg, max avg, skip dil5", "max avg, max sep, skip dil, skip dil5",
               "max avg, max avg, skip dil5, skip dil5, skip dil5"),
}  # fmt: skip
"""The pairs of operations on the edges of each node, from its inputs in order, as the authors' code lists them."""

PARTS = {"all": OPERATIONS, "S2": ("skip_connect", "sep_conv_3x3"), "S3": ("none", "skip_connect", "sep_conv_3x3"),
         "S4": ("noise", "sep_conv_3x3")}  # fmt: skip
"""Name -> the operations on every edge."""

DARTS_V2 = {
    "normal": (("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
               ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)),
    "reduce": (("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
               ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)),
}  # fmt: skip
"""The cells that the paper's second order found, two (operation, source) for each node: 3,349,342 parameters at C 36,
20 layers, 10 classes. `metanas.build(DARTS_V2)` makes the network, `metanas.space.from_genotype` the choices."""


def space(channels: int = 16, layers: int = 8, operations: str = "all") -> Space:
    """The space. `channels`: C, a quarter of what the first normal cell gives; `layers`: cells in all; `operations`:
    all, S1, S2, S3, S4, or the names of some joined by "+".

    Raises ValueError where there are fewer than 3 layers, no channels, or no such operations.
    """
    if channels < 1 or layers < 3:
        raise ValueError(f"channels must be >= 1 and layers >= 3, got {channels} and {layers}")
    nodes = [Node("stem", (Edge("image", op("conv", width=3 * channels, kernel=3, norm="batch")),))]
    older = newer = "stem"
    width, reduced = channels, False
    for k in range(layers):
        reduce = k in (layers // 3, 2 * layers // 3)
        width *= 2 if reduce else 1
        nodes.append(
            Node(
                f"cell{k}",
                (Edge(older), Edge(newer)),
                combine="each",
                body=cell(width, reduce, after=reduced, operations=operations, place=k),
            )
        )
        older, newer, reduced = newer, f"cell{k}", reduce
    nodes.append(Node("head", (Edge(newer, op("classifier", width=NEEDED)),)))
    settings: dict[str, int | float | str] = {"channels": channels, "layers": layers, "operations": operations}
    auxiliary = f"cell{2 * layers // 3}"
    return Space(Graph(("image",), tuple(nodes), "head"), "darts", settings=settings, auxiliary=auxiliary)


def cell(width: int, reduce: bool, *, after: bool, operations: str = "all", place: int = 0) -> Graph:
    """A cell whose nodes have `width` channels. `after`: it follows a reduction cell, so its older input is halved;
    `place`: the how many-th it is, by which its noise is its own.
    """
    kind = KINDS[reduce]
    made = {"width": width, "norm": "batch_cell", "activation": "relu"}

    def candidates(i: int, j: int) -> Content:
        stride = 2 if reduce and j < 2 else 1
        contents = (
            op("none", width=width, stride=stride),
            op("max_pool", kernel=3, stride=stride, norm="batch_search"),
            op("avg_pool", kernel=3, stride=stride, norm="batch_search"),
            op("skip", stride=stride, **made),
            *(op("separable", kernel=k, stride=stride, repeat=2, **made) for k in (3, 5)),
            *(op("separable", kernel=k, stride=stride, repeat=1, dilation=2, **made) for k in (3, 5)),
            op("noise", stride=stride, stream=14 * place + i * (i - 1) // 2 - 1 + j, beside="image"),
        )
        named = dict(zip(KNOWN, contents, strict=True))
        labels = labels_of(operations, kind, i, j)
        return one_of(
            f"{kind}.{i}<-{j}", {label: named[label] for label in labels}, never=("none",) * ("none" in labels)
        )

    halved = op("factorized_reduce", stride=2, **made)
    fitted = op("preact_conv", **made)
    nodes = [Node("0", (Edge("older", halved if after else fitted),)), Node("1", (Edge("newer", fitted),))]
    for i in NODES:
        edges = tuple(Edge(str(j), candidates(i, j)) for j in range(i))
        nodes.append(Node(str(i), edges, choice=Choice(f"{kind}.{i}", tuple(map(str, range(i))), take=2)))
    nodes.append(Node("out", tuple(Edge(str(i)) for i in NODES), combine="concat"))
    return Graph(("older", "newer"), tuple(nodes), "out")


def labels_of(operations: str, kind: str, i: int, j: int) -> tuple[str, ...]:
    """The operations that are mixed on the edge from j to i.

    >>> labels_of("S1", "normal", 5, 3), labels_of("sep_conv_3x3+none", "reduce", 2, 0)
    (('dil_conv_3x3', 'dil_conv_5x5'), ('none', 'sep_conv_3x3'))
    """
    if operations == "S1":
        return tuple(SHORT[word] for word in S1[kind][i - NODES[0]].split(", ")[j].split())
    if operations in PARTS:
        return PARTS[operations]
    named = operations.split("+")
    if not set(named) <= set(KNOWN) or not set(named) - {"none"}:
        known = f"{', '.join(('all', 'S1', 'S2', 'S3', 'S4'))}, or some of {', '.join(KNOWN)} joined by '+'"
        raise ValueError(f"operations must be {known}, one of them not none; got {operations!r}")
    return tuple(label for label in KNOWN if label in named)
