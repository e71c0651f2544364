"""What the inner problem is told about its targets, learned: how sure they are, and the shape of the loss.

    label smoothing   shares = (1 - s) * label + s / classes
    learned loss      sum over classes c of  share_c * (a * -log p_c  +  sum over j of  b_j * (1 - p_c) ** j),
                      p = softmax(outputs + offset)

The cross entropy is sum over j of (1 - p) ** j / j: the coefficients b_j bend its leading terms (PolyLoss); a small `a`
with a positive b_1 is the loss that is robust to wrong labels, the mean absolute error. The offset of each class is a
logit adjustment: where a class is rare in the inner split and not in the outer one, its offset becomes small, so that
the network itself must favour it. Both are the plain cross entropy at first.

Sources: Szegedy et al. 2016, arXiv:1512.00567 (label smoothing); Leng et al. 2022, arXiv:2204.12511 (PolyLoss); Menon
et al. 2021, arXiv:2007.07314, eq. 10 (logit adjustment); Ghosh, Kumar, Sastry 2017, arXiv:1712.09482 (robust losses).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metanas.bilevel import Tree
from metanas.errors import BilevelError
from metanas.modes.meta_parameter import cross_entropies
from metanas.modes.part import Part


def label_smoothing(classes: int, *, start: float = 0.05, name: str = "smoothing") -> Part:
    """A learned share of each label that goes to all classes alike: labels (batch,) become shares (batch, classes).

    Args:
        classes: >= 2.
        start: the share s at first, 0 < start < 1, as `label_smoothing` of torch's cross entropy.
        name: of the part.

    Returns:
        A part with {"logit": 0-d} and `transform`; shares that come in are smoothed as well. Shown: the share.

    Raises:
        BilevelError: classes < 2, or a start that is out of range.

    >>> part = label_smoothing(4, start=0.2)
    >>> part.transform(part.start, (None, torch.tensor([1])))[1]
    tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    >>> round(part.shown(part.start)["smoothed share"], 2)
    0.2
    """
    _check_classes(classes)
    if not 0 < start < 1:
        raise BilevelError(f"start must be > 0 and < 1, got {start}")

    def transform(own: Tree, batch: Any) -> Any:
        shares = _shares(batch[1], classes, own["logit"].dtype)
        smoothed = own["logit"].sigmoid()
        return (batch[0], (1 - smoothed) * shares + smoothed / classes, *batch[2:])

    def shown(own: Tree) -> Mapping[str, float]:
        return {"smoothed share": float(own["logit"].detach().sigmoid())}

    return Part(name, {"logit": torch.tensor(float(start)).logit()}, shown, transform=transform)


def learned_loss(classes: int, *, terms: int = 2, name: str = "loss") -> Part:
    """A loss for the inner problem that begins as the cross entropy: its scale, its leading terms, its class offsets.

    Args:
        classes: >= 2.
        terms: coefficients b_1 .. b_terms, >= 0.
        name: of the part.

    Returns:
        A part with {"log_scale": 0-d, "poly": (terms,), "offset": (classes,)}, all 0 at first (no "poly" where terms is
        0), and `losses`, which takes labels (batch,) or shares (batch, classes). Shown: the scale a, the coefficients,
        and how far the offsets lie apart.

    Raises:
        BilevelError: classes < 2 or terms < 0.

    >>> part, outputs = learned_loss(3), torch.tensor([[2.0, 0.0, -1.0]])
    >>> part.losses(part.start, outputs, torch.tensor([1])), cross_entropies(outputs, torch.tensor([1]))
    (tensor([2.1698]), tensor([2.1698]))
    >>> part.shown(part.start)
    {'scale': 1.0, 'b1': 0.0, 'b2': 0.0, 'range of the offsets': 0.0}
    """
    _check_classes(classes)
    if terms < 0:
        raise BilevelError(f"terms must be >= 0, got {terms}")

    def losses(own: Tree, outputs: Tensor, targets: Tensor) -> Tensor:
        adjusted = outputs + own["offset"]
        each: Tensor = own["log_scale"].exp() * cross_entropies(adjusted, targets)
        if not terms:
            return each
        missing = 1 - adjusted.softmax(1)  # (batch, classes)
        shares = _shares(targets, classes, outputs.dtype)
        term = torch.ones_like(missing)
        for b in own["poly"].unbind():
            term = term * missing
            each = each + b * (shares * term).sum(1)
        return each

    def shown(own: Tree) -> Mapping[str, float]:
        offset = own["offset"].detach()
        poly = {f"b{j}": float(b) for j, b in enumerate(own["poly"].detach(), 1)} if terms else {}
        scale = float(own["log_scale"].detach().exp())
        return {"scale": scale, **poly, "range of the offsets": float(offset.max() - offset.min())}

    start = {"log_scale": torch.zeros(()), "offset": torch.zeros(classes)}
    if terms:  # a variable that nothing reads is refused by the estimators
        start["poly"] = torch.zeros(terms)
    return Part(name, start, shown, losses=losses)


def _shares(targets: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """(batch,) labels as (batch, classes) shares, or the shares themselves; `F.one_hot` raises under `vmap`."""
    return targets if targets.is_floating_point() else torch.eye(classes, dtype=dtype, device=targets.device)[targets]


def _check_classes(classes: int) -> None:
    if classes < 2:
        raise BilevelError(f"classes must be >= 2, got {classes}")
