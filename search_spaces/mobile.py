"""Mobile networks: stages of inverted residuals whose depth, width, kernels, expansion and squeeze-excite are searched.

Stem conv 3x3; `stages` stages at C, 2C, 4C, ... channels, the first block of each halves the image; conv 1x1 to the
head's width; global average pool, linear. Every convolution is followed by batch norm, and by ReLU but where a block
ends. A block widens by a 1x1 convolution, goes through a depthwise one and narrows by a 1x1 convolution; its input is
added where the shape stays (Sandler et al., CVPR 2018, arXiv:1801.04381). Choices, as in Once-for-all (Cai et al., ICLR
2020, arXiv:1908.09791):

    of a stage   depth 2 to `depth` blocks; width 1/2, 3/4 or all of its channels
    of a block   kernel 3, 5 or 7; middle 3, 4 or 6 times as wide as its input at most is; squeeze-excite or none

Widths share weights: a search holds the widest layers, and narrower ones are their first channels. A choice of a block
matters only where its stage is as deep, so a stage has 3 * (18^2 + ... + 18^depth) architectures, and three stages of
two to four blocks 3.7 * 10^16. Written stage by stage: `2x16[3/48/none 5/64/excite -/-/- -/-/-]` is two blocks of width
16, each with its kernel, its middle and its squeeze-excite.
"""

from metanas.space import NEEDED, Choice, Edge, Graph, Node, Size, Space, one_of, op

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
LEAST_BLOCKS = 2
SQUEEZE = 4
"""Channels of a block's middle for one number inside its squeeze-excite, at the smallest expansion."""


def space(channels: int = 8, stages: int = 3, depth: int = 4, stem_stride: int = 1, head: int = 64) -> Space:
    """The space. `channels`: C; `stages`: how many, each halves the image; `depth`: most blocks of a stage;
    `stem_stride`: 2 halves the image at the start; `head`: width of the last convolution.

    Raises ValueError for channels that are no multiple of 4, less than 2 blocks, or anything else below 1.
    """
    if channels < 1 or channels % 4 or depth < LEAST_BLOCKS or min(stages, stem_stride, head) < 1:
        raise ValueError(
            "channels must be a positive multiple of 4, depth >= 2, stages, stem_stride and head >= 1, got "
            f"{channels}, {depth}, {stages}, {stem_stride}, {head}"
        )
    stem = op("conv", width=channels, kernel=3, stride=stem_stride, norm="batch", activation="relu")
    nodes = [Node("stem", (Edge("image", stem),))]
    before = channels
    for s in range(1, stages + 1):
        nodes.append(Node(f"stage{s}", (Edge(nodes[-1].name, stage(s, before, channels * 2 ** (s - 1), depth)),)))
        before = channels * 2 ** (s - 1)
    nodes += [
        Node("last", (Edge(nodes[-1].name, op("elastic_conv", width=head)),)),
        Node("head", (Edge("last", op("classifier", width=NEEDED)),)),
    ]
    settings = {"channels": channels, "stages": stages, "depth": depth, "stem_stride": stem_stride, "head": head}
    template = " ".join(f"{{depth{s}}}x{{width{s}}}[{written(s, depth)}]" for s in range(1, stages + 1))
    return Space(Graph(("image",), tuple(nodes), "head"), "mobile", template=template, settings=settings)


def written(s: int, depth: int) -> str:
    """The blocks of a stage, as the template holds them."""
    blocks = [f"{s}.{k}" for k in range(1, depth + 1)]
    return " ".join(f"{{kernel{b}}}/{{middle{b}}}/{{squeeze{b}}}" for b in blocks)


def stage(s: int, before: int, channels: int, depth: int) -> Graph:
    """Stage `s`: from at most `before` channels to at most `channels`."""
    width = Size(f"width{s}", (channels // 2, channels // 4 * 3, channels))
    names = [f"block{k}" for k in range(1, depth + 1)]
    blocks = [block(f"{s}.1", before, width, first=True)]
    blocks += [block(f"{s}.{k}", channels, width, first=False) for k in range(2, depth + 1)]
    sources = ("x", *names[:-1])
    nodes = [Node(n, (Edge(x, b),)) for n, x, b in zip(names, sources, blocks, strict=True)]
    deep = Choice(f"depth{s}", tuple(map(str, range(LEAST_BLOCKS, depth + 1))), ordered=True)
    nodes.append(Node("out", tuple(map(Edge, names[LEAST_BLOCKS - 1 :])), choice=deep))
    return Graph(("x",), tuple(nodes), "out")


def block(name: str, before: int, width: Size, *, first: bool) -> Graph:
    """An inverted residual of at most `before` channels; the first of a stage halves the image."""
    middle = Size(f"middle{name}", tuple(before * times for times in EXPANSIONS))
    across = {
        str(kernel): op("elastic_depthwise", width=middle, kernel=kernel, stride=2 if first else 1)
        for kernel in KERNELS
    }
    squeezed = op("squeeze_excite", squeezed=max(before * EXPANSIONS[0] // SQUEEZE, 1))
    narrow = op("elastic_conv", width=width, activation="identity")
    nodes = (
        Node("wide", (Edge("x", op("elastic_conv", width=middle)),)),
        Node("across", (Edge("wide", one_of(f"kernel{name}", across)),)),
        Node("scaled", (Edge("across", one_of(f"squeeze{name}", {"none": None, "excite": squeezed})),)),
        Node("out", (Edge("scaled", narrow), *(() if first else (Edge("x"),)))),
    )
    return Graph(("x",), nodes, "out")
