"""Prototypes of new classes from those of known ones: Gaussian process regression from descriptions to embeddings.

    k(v, w) = exp(-rate |v - w|^2)              v, w descriptions
    A       = (k(V, V) + noise I)^-1 (M - m)    V (anchors, d); M (anchors, width), the mean embeddings of their classes
    c(v)    = m + k(v, V) A                     m the mean over classes

A class has an anchor for each of its wordings. `rate` and `noise` are those of a grid under which M is the likeliest,
all numbers of an embedding with one variance:

    log p = -width / 2 log det(K + noise I) - anchors width / 2 log variance + const

A describer that was trained beside the embedding knows only which of the known classes an image is not; this asks, once
the embedding stands, where the known classes came to lie, and goes between them as smoothly as they do.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, equations 2.25 and 5.8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metanas.errors import BilevelError

RATES = tuple(2.0 ** (k / 2) for k in range(-12, 7))
"""Of the kernel, over the mean squared distance of two descriptions."""
NOISES = tuple(10.0 ** (k / 2) for k in range(-10, 3))
CHOSEN_ON = 1000
"""Descriptions that both are chosen on, at most; all of them are gone between."""


class Interpolated(nn.Module):
    """A describer in closed form, descriptions (ways, d) to embeddings (ways, width); `interpolated` makes one.

    known:   (anchors, d), descriptions of the known classes
    weights: (anchors, width), A
    mean:    (width,), m
    rate:    (), of the kernel
    """

    def __init__(self, known: Tensor, weights: Tensor, mean: Tensor, rate: Tensor) -> None:
        super().__init__()
        self.known, self.weights = nn.Parameter(known), nn.Parameter(weights)
        self.mean, self.rate = nn.Parameter(mean), nn.Parameter(rate)

    @classmethod
    def blank(cls, anchors: int, d: int, width: int) -> Interpolated:
        """All zeros, for numbers that are yet to come."""
        return cls(torch.zeros(anchors, d), torch.zeros(anchors, width), torch.zeros(width), torch.zeros(()))

    def forward(self, descriptions: Tensor) -> Tensor:
        centre = self.known.mean(0)  # of numbers far from 0 the squares would cancel
        return self.mean + torch.exp(-self.rate * _squares(descriptions - centre, self.known - centre)) @ self.weights


@torch.no_grad()
def interpolated(descriptions: Tensor, embeddings: Tensor, mean: Tensor | None = None) -> Interpolated:
    """The describer under which the known classes' embeddings are the likeliest.

    Args:
        descriptions: of the known classes, (anchors, d); a class with several wordings stands in several rows.
        embeddings: the mean embedding of the class of each, (anchors, width).
        mean: what is answered far from all of them, (width,); None: the mean of the rows of `embeddings`.

    Returns:
        A module of the embeddings' dtype and device. Time grows with the cube of the anchors, memory with the square.

    Raises:
        BilevelError: shapes that do not fit, fewer than two rows, descriptions that are all the same, numbers that are
            not finite.

    >>> x = torch.linspace(0, 1, 6)[:, None]
    >>> told = interpolated(x, torch.cat([x, x**2], 1))
    >>> told(torch.tensor([[0.5]])).round(decimals=2)
    tensor([[0.5000, 0.2500]], grad_fn=<RoundBackward1>)
    """
    _require_fitting(descriptions, embeddings)
    v, rows = (x.cpu().double() for x in (descriptions, embeddings))  # some devices have no float64
    mean = rows.mean(0) if mean is None else mean.cpu().double()
    targets = rows - mean
    some = torch.linspace(0, len(v) - 1, min(len(v), CHOSEN_ON)).round().long()
    rate, noise = _likeliest(_squares(v[some], v[some]), targets[some])
    kernel = torch.exp(-rate * _squares(v, v)) + noise * torch.eye(len(v), dtype=v.dtype)
    weights = torch.linalg.solve(kernel, targets)
    # Contiguous, as they are read from a file: a product in another layout has another last bit.
    return Interpolated(*(x.to(embeddings).contiguous() for x in (v, weights, mean, rate)))


def _likeliest(squares: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rate and noise of the grid; squares (n, n) of the distances, targets (n, width), centred."""
    usual = squares.sum() / (len(squares) * (len(squares) - 1))  # of two different rows
    noises = torch.tensor(NOISES, dtype=squares.dtype)
    best, found = torch.inf, (usual, noises[0])
    for share in RATES:
        values, vectors = torch.linalg.eigh(torch.exp(-share / usual * squares))
        spectrum = values.clamp(min=0)[:, None] + noises  # (n, noises)
        power = (vectors.T @ targets).square().sum(1, keepdim=True)
        variance = (power / spectrum).mean(0).clamp(min=torch.finfo(squares.dtype).tiny)
        surprise = spectrum.log().mean(0) + variance.log()
        if float(surprise.min()) < best:
            best, found = float(surprise.min()), (share / usual, noises[surprise.argmin()])
    return found


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2, (rows of a, rows of b), without the memory of all differences."""
    found = a.square().sum(-1)[..., None] + b.square().sum(-1) - 2 * a @ b.mT
    return found.clamp(min=0)


def _require_fitting(descriptions: Tensor, embeddings: Tensor) -> None:
    if descriptions.dim() != 2 or embeddings.dim() != 2 or len(descriptions) != len(embeddings):
        raise BilevelError(
            f"descriptions must be (classes, d) and embeddings (classes, width), got {tuple(descriptions.shape)} and "
            f"{tuple(embeddings.shape)}"
        )
    if not bool(descriptions.isfinite().all() and embeddings.isfinite().all()):
        raise BilevelError("descriptions or embeddings hold numbers that are not finite; mend these classes")
    if len(descriptions) < 2 or bool((descriptions == descriptions[0]).all()):
        raise BilevelError(f"interpolation needs two different descriptions or more, got {len(descriptions)} rows")
