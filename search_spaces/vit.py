"""Vision transformers (Dosovitskiy et al., ICLR 2021, arXiv:2010.11929) of searched depth, width, heads and MLP ratio.

Patches of the image, each with its position; blocks; layer norm, mean over the patches, linear. A block adds to what
comes in what the patches tell each other, and then a function of each patch alone:

    x + out(attention(norm(x)))        x + down(gelu(up(norm(x))))

The choices are those of AutoFormer (Chen et al., ICCV 2021, arXiv:2107.00651):

    width        of all patches between the blocks: 1/2, 3/4 or all of `width`
    depth        1 to `depth` blocks
    attention    of a block: 1 to `heads` heads of `head` features each; labels are features
    hidden       of a block: 1, 2 or 4 times `width`

Widths share weights: a search holds the widest layers, and narrower ones are their first features. A choice of a block
matters only where the network is as deep: 3 * (9 + 9^2 + ... + 9^depth) architectures with three heads, 22,140 with
four blocks. Written `36x2 [32/96 16/192 -/- -/-]`: width and depth, attention and hidden of each block.
"""

from metanas.space import NEEDED, Choice, Edge, Graph, Node, Size, Space, op

RATIOS = (1, 2, 4)


def space(width: int = 48, depth: int = 4, heads: int = 3, head: int = 16, patch: int = 4) -> Space:
    """The space. `width`: the greatest; `depth`: most blocks; `heads`: most heads of a block, of `head` features each;
    `patch`: side of a patch, which divides the sides of the image.

    Raises ValueError for a width that is no multiple of 4, or anything else below 1.
    """
    if width < 1 or width % 4 or min(depth, heads, head, patch) < 1:
        given = f"{width}, {depth}, {heads}, {head} and {patch}"
        raise ValueError(f"width must be a positive multiple of 4, depth, heads, head and patch >= 1, got {given}")
    stream = Size("width", (width // 2, width // 4 * 3, width))
    names = [f"block{k}" for k in range(1, depth + 1)]
    nodes = [Node("patches", (Edge("image", op("patches", width=stream, kernel=patch)),))]
    for k, name in enumerate(names, 1):
        attended = Size(f"attention{k}", tuple(head * n for n in range(1, heads + 1)))
        hidden = Size(f"hidden{k}", tuple(width * ratio for ratio in RATIOS))
        nodes.append(Node(name, (Edge(nodes[-1].name, block(stream, attended, hidden, head)),)))
    deep = Choice("depth", tuple(map(str, range(1, depth + 1))), ordered=True)
    nodes += [
        Node("trunk", tuple(map(Edge, names)), choice=deep, body=op("token_norm", width=stream)),
        Node("mean", (Edge("trunk", op("token_mean")),)),
        Node("head", (Edge("mean", op("elastic_linear", width=NEEDED)),)),
    ]
    template = f"{{width}}x{{depth}} [{' '.join(f'{{attention{k}}}/{{hidden{k}}}' for k in range(1, depth + 1))}]"
    settings = {"width": width, "depth": depth, "heads": heads, "head": head, "patch": patch}
    return Space(Graph(("image",), tuple(nodes), "head"), "vit", template=template, settings=settings)


def block(stream: Size, attended: Size, hidden: Size, head: int) -> Graph:
    """What the patches tell each other, then a function of each."""
    nodes = (
        Node("norm1", (Edge("x", op("token_norm", width=stream)),)),
        Node("attention", (Edge("norm1", op("attention", width=attended, head=head)),)),
        Node("told", (Edge("attention", op("elastic_linear", width=stream)), Edge("x"))),
        Node("norm2", (Edge("told", op("token_norm", width=stream)),)),
        Node("up", (Edge("norm2", op("elastic_linear", width=hidden)),)),
        Node("active", (Edge("up", op("activation", activation="gelu")),)),
        Node("out", (Edge("active", op("elastic_linear", width=stream)), Edge("told"))),
    )
    return Graph(("x",), nodes, "out")
