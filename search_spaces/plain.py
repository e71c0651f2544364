"""Plain networks with nothing to choose: a linear model, a perceptron, a small convolutional network.

    linear       one linear map of the image or the row
    perceptron   `depth` hidden layers of `width`, each with its activation
    conv         `depth` blocks of convolution 3x3, activation, 2x2 max pooling, of `width`, twice it, ...; mean over
                 all positions, linear head

They have no norms, so that every hypergradient goes through them. `metanas tune` trains them.
"""

from metanas.space import NEEDED, Op, Space, chain, op

Steps = list[tuple[str, Op]]
KINDS = ("linear", "perceptron", "conv")


def space(kind: str = "perceptron", width: int = 64, depth: int = 1, activation: str = "relu") -> Space:
    """The space of one network: its kind, and width, depth and activation of its hidden layers.

    Raises ValueError for another kind, or a width or depth below 1.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if width < 1 or depth < 1:
        raise ValueError(f"width and depth must be >= 1, got {width} and {depth}")
    between: dict[str, Steps] = {
        "linear": [],
        "perceptron": hidden(width, depth, activation),
        "conv": blocks(width, depth, activation),
    }
    head = op("classifier" if kind == "conv" else "linear", width=NEEDED)
    first: Steps = [] if kind == "conv" else [("rows", op("flatten"))]
    given: dict[str, int | float | str] = {"kind": kind, "width": width, "depth": depth, "activation": activation}
    return Space(chain(*first, *between[kind], ("head", head)), "plain", settings=given)


def hidden(width: int, depth: int, activation: str) -> Steps:
    """The hidden layers of a perceptron."""
    return [(f"hidden{k}", op("linear", width=width, activation=activation)) for k in range(1, depth + 1)]


def blocks(width: int, depth: int, activation: str) -> Steps:
    """The blocks of a convolutional network."""
    steps: Steps = []
    for k in range(depth):
        steps.append((f"conv{k + 1}", op("conv", width=width * 2**k, kernel=3, activation=activation)))
        steps.append((f"pool{k + 1}", op("max_pool", kernel=2, stride=2)))
    return steps
