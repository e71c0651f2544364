"""The network of few-shot learning (Vinyals et al. 2016, arXiv:1606.04080), and a space around it.

fixed     `depth` blocks of convolution 3x3, batch norm, ReLU, 2x2 max pooling, all of `width` or each `grow` times as
          wide as the one before; mean over all positions, linear head
search    the same with choices in every block (three from the second on): an operation, an operation beside it that
          is added to the first, and how the block pools
"""

from metanas.space import NEEDED, Content, Edge, Graph, Node, Space, chain, one_of, op


def space(width: int = 64, depth: int = 4, flat: bool = False, search: bool = False, grow: int = 1) -> Space:
    """The space. `width`: of the first block; `depth`: how many, each halves height and width; `flat`: but for the
    last; `search`: whether its operations are choices; `grow`: how many times as wide as the one before a block is.

    Raises ValueError for a width, depth or growth below 1, and for growth in a search, whose skips keep the width.
    """
    if width < 1 or depth < 1 or grow < 1:
        raise ValueError(f"width, depth and grow must be >= 1, got {width}, {depth} and {grow}")
    if search and grow > 1:
        raise ValueError(f"blocks that are searched have one width, as their skips keep it: grow must be 1, got {grow}")
    steps: list[tuple[str, Content]] = []
    for k in range(1, depth + 1):
        wide = width * grow ** (k - 1)
        steps.append((f"block{k}", block(k, wide)) if search else (f"conv{k}", conv(wide)))
        if k < depth or not flat:
            steps.append((f"pool{k}", pooling(k) if search else op("max_pool", kernel=2, stride=2)))
    steps += [("rows", op("flatten")), ("head", op("linear", width=NEEDED))] if flat else []
    steps += [] if flat else [("head", op("classifier", width=NEEDED))]
    given: dict[str, int | float | str] = {"width": width, "depth": depth, "flat": flat, "search": search}
    given |= {"grow": grow} if grow != 1 else {}  # spaces of runs that knew no growth stay what they are
    return Space(chain(*steps), "conv4", settings=given)


def conv(width: int, **facts: int) -> Content:
    """Convolution, batch norm, ReLU."""
    return op("conv", width=width, norm="batch", activation="relu", **{"kernel": 3, **facts})


def block(k: int, width: int) -> Graph:
    """Block k: the sum of an operation and, from the second block on, of another one beside it."""
    convs = {"conv_3x3": conv(width), "conv_5x5": conv(width, kernel=5), "dil_conv_3x3": conv(width, dilation=2)}
    if k == 1:
        return Graph(("x",), (Node("sum", (Edge("x", one_of("block1.main", convs)),)),), "sum")
    separable = {
        f"sep_conv_{n}x{n}": op("separable", width=width, kernel=n, norm="batch", activation="relu") for n in (3, 5)
    }
    main = one_of(f"block{k}.main", {**convs, **separable})
    beside = one_of(f"block{k}.beside", {"none": op("none"), "skip": op("skip"), "conv_1x1": conv(width, kernel=1)})
    return Graph(("x",), (Node("sum", (Edge("x", main), Edge("x", beside))),), "sum")


def pooling(k: int) -> Content:
    """How block k pools."""
    return one_of(
        f"pool{k}",
        {"max_pool": op("max_pool", kernel=2, stride=2), "avg_pool": op("avg_pool", kernel=2, stride=2)},
    )
