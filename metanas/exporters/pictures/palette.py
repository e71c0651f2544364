"""A colour for every kind of operation, always beside its name: no meaning rests on colour alone.

Okabe and Ito's palette (2008), which people with any kind of colour vision tell apart; fills are its colours thinned
with white, so that dark text stands out on all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from metanas.space import Op

TEXT = "#1a1a1a"
LINE = "#555555"
FAINT = "#9a9a9a"


@dataclass(frozen=True)
class Colour:
    """Of a box: what it is filled with and its border, which is also the colour of an arrow of that kind."""

    fill: str
    line: str


PALETTE = {
    "input": Colour("#e8e8e8", LINE),
    "output": Colour("#e8e8e8", LINE),
    "node": Colour("#ffffff", LINE),
    "cell": Colour("#ffffff", TEXT),
    "conv": Colour("#ddf0fb", "#2b87bd"),
    "separable": Colour("#cceee4", "#007a59"),
    "dilated": Colour("#cce3f0", "#0072b2"),
    "pool": Colour("#faebcc", "#b07a00"),
    "skip": Colour("#fcfad9", "#8f8600"),
    "linear": Colour("#f7dfcc", "#d55e00"),
    "norm": Colour("#f5e4ed", "#b05588"),
    "none": Colour("#ffffff", FAINT),
    "": Colour("#f2f2f2", LINE),
}
"""Kind -> colour; "" is an operation of any other kind, and an arrow that carries none."""

KINDS = {
    "conv": "conv",
    "preact_conv": "conv",
    "elastic_conv": "conv",
    "elastic_depthwise": "separable",
    "residual": "conv",
    "separable": "separable",
    "avg_pool": "pool",
    "max_pool": "pool",
    "skip": "skip",
    "factorized_reduce": "skip",
    "linear": "linear",
    "elastic_linear": "linear",
    "classifier": "linear",
    "patches": "linear",
    "highway": "linear",
    "token_conv": "separable",
    "token_mix": "linear",
    "norm": "norm",
    "token_norm": "norm",
    "activation": "norm",
    "none": "none",
}


def kind_of(op: Op) -> str:
    """The kind that an operation is drawn as.

    >>> from metanas.space import op
    >>> kind_of(op("separable", kernel=3)), kind_of(op("separable", kernel=3, dilation=2)), kind_of(op("mine"))
    ('separable', 'dilated', '')
    """
    kind = KINDS.get(op.kind, "")
    return "dilated" if kind in ("conv", "separable") and op.dilation > 1 else kind


def colour_of(kind: str) -> Colour:
    """The colour of a kind, known or not."""
    return PALETTE.get(kind, PALETTE[""])
