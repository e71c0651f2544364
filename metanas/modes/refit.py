"""A learned describer beside ridge regression: what descriptions say of the mean embeddings of the seen classes.

    r(v) = m + (v - s) R     R = (S^T S + lambda I)^-1 S^T M, of S (classes, d) and M (classes, width) less their means
    g'(v) = g(v) / |g(v)| + r(v) / |r(v)|                                      g the describer that was trained

A describer that was trained to tell the seen classes apart is free in between them, and ridge regression is not: it
adds up what each number of a description does. Both err on unseen classes, in different ways.

From descriptions to embeddings, and not back, since fewer points are then the neighbours of many: Shigeto, Suzuki,
Hara, Shimbo, Matsumoto: Ridge regression, hubness, and zero-shot learning, ECML PKDD 2015, arXiv:1507.00825.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.errors import DataError


class Refitted(nn.Module):
    """The sum of the unit vectors of a describer and of a fixed linear map."""

    weight: Tensor
    bias: Tensor

    def __init__(self, describer: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.describer = copy.deepcopy(describer)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, descriptions: Tensor) -> Tensor:
        told, fitted = self.describer(descriptions), F.linear(descriptions, self.weight, self.bias)
        return F.normalize(told, dim=-1) + F.normalize(fitted, dim=-1)


def refitted(describer: nn.Module, descriptions: Tensor, means: Tensor, penalty: float) -> Refitted:
    """A describer, for `zero_shot`, of a trained one and of ridge regression, in the dtype of `means`.

    Args:
        describer: g, trained; copied.
        descriptions: of the seen classes, (classes, d).
        means: of the embeddings of their examples, which have length 1 each, (classes, width).
        penalty: lambda, > 0; to be chosen on validation classes.

    Raises:
        DataError: numbers of classes that differ, numbers that are not finite, a penalty that is not > 0.

    >>> s, m = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> told = refitted(nn.Linear(2, 2), s, m, penalty=1e-9)
    >>> bool((F.linear(s, told.weight, told.bias) - m).abs().max() < 1e-6)
    True
    """
    if descriptions.dim() != 2 or means.dim() != 2 or len(descriptions) != len(means) or not len(means):
        raise DataError(
            f"descriptions are {tuple(descriptions.shape)} and means {tuple(means.shape)}; give a row of each for "
            "every seen class"
        )
    if not (descriptions.isfinite().all() and means.isfinite().all()):
        raise DataError("descriptions and means must be finite; look for the classes that are not")
    if not (math.isfinite(penalty) and penalty > 0):
        raise DataError(f"penalty must be a number > 0, got {penalty!r}")
    s, m = descriptions.double(), means.double()
    around, centre = s.mean(0), m.mean(0)
    gram = (s - around).T @ (s - around)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    r = torch.linalg.solve(gram + penalty * eye, (s - around).T @ (m - centre))  # (d, width)
    return Refitted(describer, r.T.to(means.dtype), (centre - around @ r).to(means.dtype))
