"""Sequences whose elements are mixed by attention, convolutions or matrices, a choice for each block.

Every element is mapped to `width` features and learns its place; blocks; layer norm, mean over the elements, linear. A
block is that of a transformer with another way to mix in the place of attention (MetaFormer, Yu et al., CVPR 2022,
arXiv:2111.11418):

    x + out(mix(norm(x)))        x + down(gelu(up(norm(x))))

    mix      of a block: attention with heads of `head` features (Vaswani et al., NeurIPS 2017, arXiv:1706.03762),
             a depthwise convolution along time of kernel 3 or 7, a matrix over time (MLP-Mixer, Tolstikhin et al.,
             NeurIPS 2021, arXiv:2105.01601), or none
    hidden   of a block: 1, 2 or 4 times `width`; narrower ones are the first features of the widest
    depth    1 to `depth` blocks

A choice of a block matters only where the network is as deep: 15 + 15^2 + ... + 15^depth architectures, 54,240 with
four blocks, written `2 [attention/64 conv7/32 -/- -/-]`.

Images are read row by row, and so are arrays (examples, time, features), which data takes for images of one channel.
Tokens (examples, time), read with `inputs="tokens"`, are mapped to a vector each.
"""

from metanas.space import NEEDED, Choice, Edge, Graph, Node, Size, Space, one_of, op

RATIOS = (1, 2, 4)

RECIPE = {"data.augment": ()}
"""Sequences are not flipped or shifted."""


def space(width: int = 32, depth: int = 4, head: int = 8, vocabulary: int = 0) -> Space:
    """The space. `width`: features of an element; `depth`: most blocks; `head`: features of a head of attention;
    `vocabulary`: of tokens, which a search takes from the data; 0: numbers.

    Raises ValueError where one of them is less than 1 (the vocabulary: 0), or the heads do not make up the width.
    """
    if min(width, depth, head) < 1 or width % head:
        raise ValueError(f"width, depth and head must be >= 1, width a multiple of head, got {width}, {depth}, {head}")
    if vocabulary < 0:
        raise ValueError(f"vocabulary must be >= 0, got {vocabulary}")
    numbers = (
        Node("rows", (Edge("sequence", op("sequence")),)),
        Node("mapped", (Edge("rows", op("linear", width=width)),)),
    )
    tokens = Node("mapped", (Edge("sequence", op("embedding", width=width, vocabulary=vocabulary)),))
    names = [f"block{k}" for k in range(1, depth + 1)]
    nodes = [
        *((tokens,) if vocabulary else numbers),
        Node("placed", (Edge("mapped", op("position")),)),
    ]
    for k, name in enumerate(names, 1):
        nodes.append(Node(name, (Edge(nodes[-1].name, block(k, width, head)),)))
    deep = Choice("depth", tuple(map(str, range(1, depth + 1))), ordered=True)
    nodes += [
        Node("trunk", tuple(map(Edge, names)), choice=deep, body=op("token_norm")),
        Node("mean", (Edge("trunk", op("token_mean")),)),
        Node("head", (Edge("mean", op("linear", width=NEEDED)),)),
    ]
    template = f"{{depth}} [{' '.join(f'{{mix{k}}}/{{hidden{k}}}' for k in range(1, depth + 1))}]"
    settings = {"width": width, "depth": depth, "head": head, **({"vocabulary": vocabulary} if vocabulary else {})}
    return Space(Graph(("sequence",), tuple(nodes), "head"), "mixers", template=template, settings=settings)


def block(k: int, width: int, head: int) -> Graph:
    """What the elements tell each other, then a function of each."""
    ways = {
        "attention": op("attention", width=width, head=head),
        "conv3": op("token_conv", kernel=3),
        "conv7": op("token_conv", kernel=7),
        "matrix": op("token_mix"),
        "none": op("skip"),
    }
    hidden = Size(f"hidden{k}", tuple(width * ratio for ratio in RATIOS))
    nodes = (
        Node("norm1", (Edge("x", op("token_norm")),)),
        Node("mixed", (Edge("norm1", one_of(f"mix{k}", ways)),)),
        Node("told", (Edge("mixed", op("linear", width=width)), Edge("x"))),
        Node("norm2", (Edge("told", op("token_norm")),)),
        Node("up", (Edge("norm2", op("elastic_linear", width=hidden)),)),
        Node("active", (Edge("up", op("activation", activation="gelu")),)),
        Node("out", (Edge("active", op("elastic_linear", width=width)), Edge("told"))),
    )
    return Graph(("x",), nodes, "out")
