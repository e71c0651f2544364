"""Weight sharing, by name: a derived network starts from the supernet it was derived from (`inherit`), and a supernet,
or another network of the space, from a derived one (`bequeath`).
"""

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


@torch.no_grad()
def bequeath(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copies the weights and statistics of a derived network into another network of its space, by name.

    Of two widths the first channels are those that both have. What has no weights of its name stays as it is.

    Args:
        weights: name in the state dict of the derived network -> its value.

    >>> wide, small = nn.Linear(1, 3, bias=False), nn.Linear(1, 2, bias=False)
    >>> bequeath(wide, small.state_dict())
    >>> torch.equal(wide.weight[:2], small.weight)
    True
    """
    for name, own in network.state_dict().items():
        given = weights.get(name)
        if given is not None and given.dim() == own.dim():
            both = tuple(slice(min(n, m)) for n, m in zip(own.shape, given.shape, strict=True))
            own[both].copy_(given[both])
