"""What mixing weights are charged for what they cost: a term of omega's gradient, no part of the losses.

    charge(mix) = weight * expected cost / reference                       relative to a mean
                  weight * max(0, expected cost / reference - 1)           beyond a target

It is differentiated where the hypergradient of the mixing weights is pulled back to omega (`relaxed`), so losses are
reported as they are. Cai, Zhu, Han: ProxylessNAS, ICLR 2019, arXiv:1812.00332, section 3.2, add such a term.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Price:
    """A cost and what it is worth.

    Args:
        expected: mixing weights by choice -> expected cost, a scalar; differentiable.
        weight: of the charge, in units of the outer loss.
        reference: what the cost is divided by.
        beyond: whether only what is beyond the reference is charged.
    """

    expected: Callable[[Mapping[str, Tensor]], Tensor]
    weight: float
    reference: float
    beyond: bool = False

    def charge(self, mix: Mapping[str, Tensor]) -> Tensor:
        """What is added to the outer loss, a scalar.

        >>> price = Price(expected=lambda mix: mix["y"][0] * 6, weight=2.0, reference=2.0, beyond=True)
        >>> price.charge({"y": torch.tensor([0.5, 0.5])}), price.charge({"y": torch.tensor([0.25, 0.75])})
        (tensor(1.), tensor(0.))
        """
        share = self.expected(mix) / self.reference
        return self.weight * (torch.relu(share - 1) if self.beyond else share)

    def gradient(self, mix: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the charge, at each choice's weights."""
        leaves = {name: weights.detach().requires_grad_() for name, weights in mix.items()}
        with torch.enable_grad():
            charge = self.charge(leaves)
        rows = torch.autograd.grad(charge, list(leaves.values()), allow_unused=True) if charge.requires_grad else ()
        return {name: row for name, row in zip(leaves, rows, strict=False) if row is not None}
