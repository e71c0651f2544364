"""NAS-Bench-Macro (Su et al., CVPR 2021, arXiv:2103.11922): which of three blocks stands at each of eight layers.

Stem conv 3x3 to C; stages of 2, 3 and 3 layers with 2C, 4C and 8C channels, the first layer of each halves the image;
conv 1x1 to the head's width; global average pool, linear. Every convolution is followed by batch norm, and by ReLU but
where a block ends. A layer is one of three blocks:

    0   the identity; where the shape changes, a 1x1 convolution with its stride
    1   inverted residual, kernel 3, the middle 3 times as wide as the input
    2   inverted residual, kernel 5, the middle 6 times as wide

An inverted residual widens by a 1x1 convolution, goes through a depthwise one and narrows by a 1x1 convolution (Sandler
et al., CVPR 2018, arXiv:1801.04381); its input is added where the shape stays. There are 3^8 = 6,561 architectures,
written as eight digits, `22212220`.
"""

from metanas.space import NEEDED, Content, Edge, Graph, Node, Space, chain, one_of, op

STAGES = (2, 3, 3)
"""Layers of each."""

BLOCKS = {"1": (3, 3), "2": (5, 6)}
"""Label -> kernel, how many times wider the middle is."""


def space(channels: int = 32, head: int = 1280) -> Space:
    """The space. `channels`: C, of the stem; `head`: width of the last convolution.

    Raises ValueError where one of them is less than 1.
    """
    if channels < 1 or head < 1:
        raise ValueError(f"channels and head must be >= 1, got {channels} and {head}")
    steps: list[tuple[str, Content]] = [("stem", conv(channels, 3))]
    width, count = channels, 0
    for layers in STAGES:
        for k in range(layers):
            before, width, count = width, width * (1 if k else 2), count + 1
            steps.append((f"layer{count}", layer(f"layer{count}", before, width)))
    steps += [("last", conv(head)), ("head", op("classifier", width=NEEDED))]
    template = "".join(f"{{layer{k}}}" for k in range(1, count + 1))
    settings = {"channels": channels, "head": head}
    return Space(chain(*steps), "nasbench_macro", template=template, settings=settings)


def conv(width: int, kernel: int = 1, **facts: int) -> Content:
    """Convolution, batch norm, ReLU."""
    return op("conv", width=width, kernel=kernel, norm="batch", activation="relu", **facts)


def layer(name: str, before: int, width: int) -> Content:
    """One of three blocks, from `before` channels to `width`; where these differ, the image is halved."""
    stride = 1 if before == width else 2
    same = op("skip") if stride == 1 else op("conv", width=width, stride=2, norm="batch_cell")
    blocks = {label: inverted_residual(before, width, stride, *facts) for label, facts in BLOCKS.items()}
    return one_of(name, {"0": same, **blocks})


def inverted_residual(before: int, width: int, stride: int, kernel: int, expansion: int) -> Graph:
    """Wider, across the pixels, narrower; beside it the input, where the shape stays."""
    middle = before * expansion
    nodes = (
        Node("wide", (Edge("x", conv(middle)),)),
        Node("across", (Edge("wide", conv(middle, kernel, stride=stride, groups=middle)),)),
        Node(
            "out", (Edge("across", op("conv", width=width, norm="batch_cell")), *([Edge("x")] if stride == 1 else []))
        ),
    )
    return Graph(("x",), nodes, "out")
