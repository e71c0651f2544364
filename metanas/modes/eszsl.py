"""Zero-shot learning in closed form: a bilinear map from features to descriptions, the baseline of `zero_shot`.

    W = (X X^T + gamma I)^-1  X Y S^T  (S S^T + lambda I)^-1             X (d, n), Y (n, classes), S (a, classes)
    score of class k = x^T W s_k

W is the minimum of |X^T W S - Y|^2 + gamma |W S|^2 + lambda |X^T W|^2 + gamma lambda |W|^2. Y is 1 for an example's own
class and -1 for the others.

Source: Romera-Paredes, Torr 2015, "An embarrassingly simple approach to zero-shot learning", ICML, equation 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metanas.errors import DataError


def eszsl(
    features: Tensor, labels: Tensor, signatures: Tensor, gamma: float, lam: float, *, negative: float = -1.0
) -> Tensor:
    """The map W (d, a), float64; the scores of other features and classes are `features @ W @ signatures.T`.

    Args:
        features: of the examples of the seen classes, (n, d).
        labels: (n,), long, each in 0 .. classes - 1.
        signatures: of the seen classes, (classes, a).
        gamma: what keeps W S small, > 0.
        lam: what keeps X^T W small, > 0.
        negative: the target of the classes that an example is not of.

    Raises:
        DataError: shapes that do not fit, a label that no class has, features or signatures that are not finite, a
            gamma or lambda that is not > 0.

    >>> x, s = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.eye(2)
    >>> eszsl(x, torch.tensor([0, 1]), s, gamma=1.0, lam=1.0)
    tensor([[ 0.2500, -0.2500],
            [-0.2500,  0.2500]], dtype=torch.float64)
    """
    _require_fitting(features, labels, signatures)
    for name, value in (("gamma", gamma), ("lam", lam)):
        if not (math.isfinite(value) and value > 0):
            raise DataError(f"{name} must be a number > 0, got {value!r}")
    x, s = features.double(), signatures.double()  # (n, d), (classes, a)
    y = torch.full((len(x), len(s)), negative, dtype=torch.float64, device=x.device)
    y[torch.arange(len(x), device=x.device), labels] = 1.0
    left = torch.linalg.solve(x.T @ x + gamma * _eye(x), x.T @ (y @ s))  # (d, a)
    w: Tensor = torch.linalg.solve(s.T @ s + lam * _eye(s), left, left=False)
    return w


def _eye(rows: Tensor) -> Tensor:
    return torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)


def _require_fitting(features: Tensor, labels: Tensor, signatures: Tensor) -> None:
    for name, rows in (("features", features), ("signatures", signatures)):
        if rows.dim() != 2 or not len(rows):
            raise DataError(f"{name} must be rows of numbers, at least one, got {tuple(rows.shape)}")
        if not bool(rows.isfinite().all()):
            raise DataError(f"{name} hold {int((~rows.isfinite()).sum())} numbers that are not finite: mend these rows")
    if labels.shape != (len(features),) or labels.is_floating_point():
        raise DataError(f"labels must be ({len(features)},) integers, one for each row, got {tuple(labels.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= len(signatures):
        raise DataError(
            f"labels must be 0 to {len(signatures) - 1}, the rows of signatures, got {int(labels.min())} to "
            f"{int(labels.max())}"
        )
