"""Weight decays, learned: one for all, for each tensor, for each input feature or for each parameter.

    inner loss = mean over i of  loss_i(theta)  +  1/2 * sum over j of  exp(log_j) * w_j ** 2

With one decay for all, a gradient step on it is that of `torch.optim.SGD(weight_decay=exp(log))`. Biases are tensors
as others are: they decay too, as they do in torch; `per="layer"` may learn to let them go.

Source: Lorraine, Vicol, Duvenaud 2020, arXiv:1911.02590 (a decay for each parameter); Bengio 2000 (by gradient).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import Tree
from metanas.errors import BilevelError, nearest
from metanas.modes.part import Part

PerDecay = Literal["all", "layer", "parameter", "feature"]


def decay(theta: Tree, *, per: PerDecay = "all", start: float = 1e-4, name: str = "decay") -> Part:
    """Learned weight decays, at least one for all of theta.

    Args:
        theta: the tree that decays, for its shapes, dtype and device; it is not kept.
        per: "all": one; "layer": one for each tensor; "parameter": one for each coordinate; "feature": one for each
            input feature, that is column (axis 1) of the first tensor of theta with two axes or more, and one for
            everything else.
        start: every decay at first, > 0, as `weight_decay` of torch's SGD.
        name: of the part.

    Returns:
        A part with {"log": logarithms of the decays} and `penalty`: 0-d for "all", a tree like theta of 0-d tensors
        for "layer", of tensors like theta's for "parameter"; for "feature" {"features": (features,), "others": 0-d}.
        Shown: the decay, or the least, the geometric mean over the logarithms, and the greatest.

    Raises:
        BilevelError: an unknown `per`, a start that is not > 0 and finite, a theta without tensors, or for "feature"
            without a matrix.

    >>> theta = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}
    >>> part = decay(theta, per="feature", start=0.1)
    >>> own = {"log": {"features": torch.tensor([1.0, 0.5]).log(), "others": torch.tensor(0.0)}}
    >>> part.penalty(theta, own)                                    # (1 * 1 + 0.5 * 4 + 1 * 9) / 2
    tensor(6.)
    >>> {what: round(value, 4) for what, value in part.shown(part.start).items()}
    {'least decay': 0.1, 'mean decay': 0.1, 'greatest decay': 0.1, 'decay of the others': 0.1}
    """
    leaves = tree_leaves(theta)
    if per not in get_args(PerDecay):
        raise BilevelError(
            f"per must be one of {', '.join(get_args(PerDecay))}, got {per!r}{nearest(per, get_args(PerDecay))}"
        )
    if not 0 < start < math.inf:
        raise BilevelError(f"start must be > 0 and finite, got {start}")
    if not leaves:
        raise BilevelError("theta has no tensors to decay; give the parameters of the network")
    log = math.log(start)
    if per == "feature":
        return _per_feature(leaves, log, name)
    logs: Tree
    if per == "all":
        logs = leaves[0].new_full((), log)
    elif per == "layer":
        logs = tree_map(lambda p: p.new_full((), log), theta)
    else:
        logs = tree_map(lambda p: torch.full_like(p, log, requires_grad=False), theta)

    def penalty(theta: Tree, own: Tree) -> Tensor:
        logs = tree_leaves(own["log"])
        if per == "all":  # one product instead of one for each tensor
            squares: Tensor = logs[0].exp() * _sum([p.square() for p in tree_leaves(theta)])
            return squares / 2
        return _sum([log.exp() * p.square() for log, p in zip(logs, tree_leaves(theta), strict=True)]) / 2

    return Part(name, {"log": logs}, lambda own: _shown(own["log"]), penalty=penalty)


def _per_feature(leaves: list[Tensor], log: float, name: str) -> Part:
    first = next((k for k, p in enumerate(leaves) if p.dim() >= 2), None)
    if first is None:
        raise BilevelError('per="feature" needs a tensor with two axes or more in theta; use per="parameter"')
    matrix = leaves[first]
    logs = {"features": matrix.new_full((matrix.shape[1],), log), "others": matrix.new_full((), log)}

    def penalty(theta: Tree, own: Tree) -> Tensor:
        squares = [p.square() for p in tree_leaves(theta)]
        columns = squares.pop(first).transpose(0, 1).flatten(1).sum(1)  # (features,)
        found: Tensor = (own["log"]["features"].exp() * columns).sum()
        if squares:
            found = found + own["log"]["others"].exp() * _sum(squares)
        return found / 2

    def shown(own: Tree) -> Mapping[str, float]:
        return {**_shown(own["log"]["features"]), "decay of the others": float(own["log"]["others"].detach().exp())}

    return Part(name, {"log": logs}, shown, penalty=penalty)


def _sum(tensors: list[Tensor]) -> Tensor:
    return torch.stack([x.sum() for x in tensors]).sum()


def _shown(logs: Tree) -> Mapping[str, float]:
    return spread("decay", logs)


def spread(what: str, logs: Tree) -> Mapping[str, float]:
    """What a tree of logarithms stands for: one number, or the least, the geometric mean and the greatest.

    >>> spread("rate", {"log": torch.tensor([0.0, 1.0, 2.0])})["mean rate"]
    2.7182817459106445
    """
    every = torch.cat([x.detach().flatten() for x in tree_leaves(logs)])
    least, mean, greatest = (float(x.exp()) for x in (every.min(), every.mean(), every.max()))
    if len(every) == 1:
        return {what: mean}
    return {f"least {what}": least, f"mean {what}": mean, f"greatest {what}": greatest}
