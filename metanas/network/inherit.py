"""Weight sharing: a derived network that starts from the weights of the supernet it was derived from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


@torch.no_grad()
def inherit(network: nn.Module, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Copies a supernet's weights into a derived network, by name.

    An elastic weight that is narrower than in the supernet takes the first channels, as it did in there. What the
    supernet does not have, or has smaller, stays as it is.

    Args:
        weights: name of a parameter -> its value in the supernet.

    Returns:
        The names of the parameters that stayed as they were.

    >>> small, wide = nn.Linear(1, 2, bias=False), nn.Linear(1, 3, bias=False)
    >>> inherit(small, dict(wide.named_parameters()))
    ()
    >>> torch.equal(small.weight, wide.weight[:2])
    True
    """
    kept = []
    for name, own in network.named_parameters():
        shared = weights.get(name)
        if (
            shared is None
            or shared.dim() != own.dim()
            or any(n > m for n, m in zip(own.shape, shared.shape, strict=True))
        ):
            kept.append(name)
        else:
            own.copy_(shared[tuple(slice(n) for n in own.shape)])
    return tuple(kept)
