"""A weight for each training example, learned: examples that do harm lose theirs.

    inner loss = mean over i of  sigmoid(logit_i) * loss_i(theta)

Source: Franceschi, Donini, Frasconi, Pontil 2017, arXiv:1703.01785, section 5.1 (data hyper-cleaning).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metanas.bilevel import Tree
from metanas.errors import BilevelError
from metanas.modes.part import Part


def example_weights(count: int, *, start: float = 0.0, name: str = "weights") -> Part:
    """A weight in 0 .. 1 for each example of the inner split, looked up by the positions in the batch.

    Args:
        count: examples of the inner split, >= 1. A position outside 0 .. count - 1 raises torch's IndexError.
        start: the logit of every weight at first; 0 is a weight of one half.
        name: of the part.

    Returns:
        A part with {"logit": (count,)} and `weights`. Shown: the mean weight and the share of examples below one half.

    Raises:
        BilevelError: count < 1, or a start that is not finite.

    >>> part = example_weights(3, start=1.0)
    >>> batch = (None, None, torch.tensor([2, 0]))
    >>> part.weights({"logit": torch.tensor([0.0, 1.0, -1.0])}, batch)
    tensor([0.2689, 0.5000])
    >>> {what: round(value, 2) for what, value in part.shown({"logit": torch.tensor([-1.0, 0.0, 1.0, 2.0])}).items()}
    {'mean weight': 0.6, 'share below one half': 0.25}
    """
    if count < 1:
        raise BilevelError(f"count must be >= 1, got {count}")
    if not math.isfinite(start):
        raise BilevelError(f"start must be finite, got {start}")

    def weights(own: Tree, batch: Any) -> Tensor:
        looked_up: Tensor = own["logit"][batch[2]]
        return looked_up.sigmoid()

    def shown(own: Tree) -> Mapping[str, float]:
        logit = own["logit"].detach()
        return {
            "mean weight": float(logit.sigmoid().mean()),
            "share below one half": float((logit < 0).double().mean()),
        }

    return Part(name, {"logit": torch.full((count,), float(start))}, shown, weights=weights)


def kept(own: Tree) -> Tensor:
    """Which examples of the inner split have kept a weight of one half or more: (count,), bool.

    >>> kept({"logit": torch.tensor([-1.0, 0.0, 2.0])})
    tensor([False,  True,  True])
    """
    found: Tensor = own["logit"].detach() >= 0
    return found
