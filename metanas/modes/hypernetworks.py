"""Hypernetwork: the weights of a network as a learned function of the hyperparameters that they were trained with.

    theta = h_psi(phi) = theta_c + U s(phi) + V f(s(phi)),    s(phi) = (phi - centre) / width,    f a tanh layer

    psi:  min over psi  mean over e of  inner loss(h_psi(phi + e), phi + e)       a best response around phi
    phi:  min over phi  outer loss(h_psi(phi), phi)                               its gradient goes through h

Three ways to use one:
    `hypernetwork(problem, h)`   any `Bilevel` becomes one over psi; `solve` trains psi and moves phi in turn
    the same, phi held           psi is trained on hyperparameters that are drawn widely, then phi descends (global)
    `start=h.start`              a network that begins at h_psi(phi); with no inner steps it is the answer

No inner problem is solved and no second derivative taken: `FirstOrder()` is exact here, given psi. How good the
hypergradient is depends on how well h fits the response, which no field of a `Hypergradient` knows: train once from
scratch at what was found.

Sources: Lorraine, Duvenaud 2018, arXiv:1802.09419 (algorithms 2 and 3: global, and alternating around phi); MacKay et
al. 2019, arXiv:1903.03088 (linear in phi, the noise's width).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from metanas.bilevel import Bilevel, Tree, persists
from metanas.errors import BilevelError


@dataclass(frozen=True)
class Hypernetwork:
    """From hyperparameters phi, a tree of floating tensors, to weights like `theta`.

    Args:
        theta: the weights at first, for every phi: a tree of floating tensors, {name: parameter} for a module.
        phi: a tree like the hyperparameters, with the values around which h is written: their centre.
        width: > 0, how far phi goes from the centre, in its own units: what h sees is divided by it. Of decays that
            are learned as logarithms, a few.
        hidden: units of the tanh layer; 0: h is linear, as the response is near one phi.

    psi is {"centre": theta, "linear": (P, n), and with a tanh layer "hidden": (n, hidden), "bias": (hidden,),
    "curved": (P, hidden)}, where P counts the numbers of theta and n those of phi.

    Raises:
        BilevelError: width <= 0 or hidden < 0; theta or phi without tensors, or with others than floating ones.

    >>> h = Hypernetwork({"w": torch.ones(2)}, {"decay": torch.tensor(-3.0)})
    >>> psi = h.first()
    >>> psi["linear"] = torch.tensor([[0.0], [0.5]])
    >>> h(psi, {"decay": torch.tensor(-1.0)})
    {'w': tensor([1., 2.])}
    """

    theta: Tree
    phi: Tree
    width: float = 1.0
    hidden: int = 0
    spec: TreeSpec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise BilevelError(f"width must be > 0 and finite, got {self.width}")
        if self.hidden < 0:
            raise BilevelError(f"hidden must be >= 0, got {self.hidden}")
        for name, tree in (("theta", self.theta), ("phi", self.phi)):
            leaves = tree_leaves(tree)
            if not leaves or not all(isinstance(x, Tensor) and x.is_floating_point() for x in leaves):
                raise BilevelError(f"{name} must be a tree of one or more floating tensors")
        object.__setattr__(self, "spec", tree_flatten(self.theta)[1])

    def first(self, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The first psi, with which h is `theta` for every phi.

        Args:
            generator: draws the tanh layer; what reads it is zero at first.

        >>> h = Hypernetwork({"w": torch.ones(2, 3)}, {"decay": torch.zeros(4)}, hidden=5)
        >>> {name: tuple(x.shape) for name, x in h.first(generator=torch.Generator().manual_seed(0)).items()}
        {'centre': (6,), 'linear': (6, 4), 'hidden': (4, 5), 'bias': (5,), 'curved': (6, 5)}
        """
        centre = _row(self.theta).detach().clone()
        n = len(_row(self.phi))
        psi = {"centre": centre, "linear": centre.new_zeros(len(centre), n)}
        if self.hidden:
            for name, shape in (("hidden", (n, self.hidden)), ("bias", (self.hidden,))):
                psi[name] = torch.randn(shape, generator=generator, dtype=centre.dtype, device=centre.device)
            psi["hidden"] = psi["hidden"] / math.sqrt(n)
            psi["curved"] = centre.new_zeros(len(centre), self.hidden)
        return psi

    def __call__(self, psi: Tree, phi: Tree) -> Tree:
        """h_psi(phi), a tree like theta; differentiable in both."""
        seen = (_row(phi) - _row(self.phi)) / self.width
        row = psi["centre"] + psi["linear"] @ seen
        if self.hidden:
            row = row + psi["curved"] @ torch.tanh(seen @ psi["hidden"] + psi["bias"])
        like = tree_leaves(self.theta)
        parts = torch.split(row, [leaf.numel() for leaf in like])
        return tree_unflatten([part.view(leaf.shape) for part, leaf in zip(parts, like, strict=True)], self.spec)

    def moved(self, phi: Tree, noise: Tensor) -> Tree:
        """phi + noise (n,), in the order of phi's leaves.

        >>> h = Hypernetwork({"w": torch.ones(1)}, {"decay": torch.zeros(2), "rate": torch.zeros(1)})
        >>> h.moved({"decay": torch.ones(2), "rate": torch.ones(1)}, torch.tensor([0.0, 1.0, 2.0]))
        {'decay': tensor([1., 2.]), 'rate': tensor([3.])}
        """
        leaves, spec = tree_flatten(phi)
        parts = torch.split(noise, [leaf.numel() for leaf in leaves])
        return tree_unflatten([x + part.view(x.shape) for x, part in zip(leaves, parts, strict=True)], spec)

    def start(self, theta: Tree, outer: Tree, batch: Any) -> Tree:
        """`Bilevel.start` for outer = {"psi": ..., "phi": ...}: the inner problem begins at h_psi(phi).

        >>> h = Hypernetwork({"w": torch.ones(1)}, torch.tensor(0.0))
        >>> h.start({}, {"psi": h.first(), "phi": torch.tensor(2.0)}, None)
        {'w': tensor([1.])}
        """
        return self(outer["psi"], outer["phi"])


def hypernetwork(problem: Bilevel, h: Hypernetwork) -> Bilevel:
    """The problem whose inner variables are psi, and whose theta is h_psi of the outer variables.

    Args:
        problem: over theta and outer variables phi, both like those of h; it has an inner loss. Its `start` and `rule`
            play no part, since no inner step is taken.
        h: the hypernetwork.

    Returns:
        A problem over psi and phi. An inner batch is (batch of `problem`, noise (draws, n)): its loss is the mean over
        the draws. An outer batch is that of `problem`. Psi persists: train it by `train`, or `adopt` an `Unrolled`'s.

    Raises:
        BilevelError: the problem has no inner loss.

    >>> from metanas.bilevel import FirstOrder, solve, torch_step, train
    >>> inner = lambda theta, phi, batch: ((theta["w"] - 3.0) ** 2 + phi.exp() * theta["w"] ** 2).sum()
    >>> outer = lambda theta, phi, batch: ((theta["w"] - 1.0) ** 2).sum()         # w = 1 where exp(phi) = 2
    >>> phi = torch.tensor(0.0, requires_grad=True)
    >>> h = Hypernetwork({"w": torch.zeros(1)}, phi.detach())
    >>> problem, psi = hypernetwork(Bilevel(inner, outer), h), h.first()
    >>> advance = train(problem, psi, phi, torch.optim.Adam([x.requires_grad_() for x in psi.values()], 0.05))
    >>> step = torch_step(torch.optim.Adam([phi], 0.02), phi)
    >>> draw = torch.Generator().manual_seed(0)
    >>> batches = (([(None, torch.randn(8, 1, generator=draw) / 4)], None, None) for _ in range(300))
    >>> for _ in solve(problem, FirstOrder(), psi, phi, batches, outer_step=step, advance=advance, order="advance"):
    ...     pass
    >>> abs(float(phi.detach().exp()) - 2) < 0.2
    True
    """
    if problem.inner_loss is None:
        raise BilevelError("inner_loss is None, so a hypernetwork has nothing to learn a response to; give a loss")
    inner: Callable[[Tree, Tree, Any], Tensor] = problem.inner_loss

    def inner_loss(psi: Tree, phi: Tree, batch: Any) -> Tensor:
        given, noise = batch

        def one(noise: Tensor) -> Tensor:
            there = h.moved(phi, noise)
            return inner(h(psi, there), there, given)

        return vmap(one)(noise).mean()

    def outer_loss(psi: Tree, phi: Tree, batch: Any) -> Tensor:
        return problem.outer_loss(h(psi, phi), phi, batch)

    return replace(problem, inner_loss=inner_loss, outer_loss=outer_loss, start=persists)


def _row(tree: Tree) -> Tensor:
    return torch.cat([leaf.reshape(-1) for leaf in tree_leaves(tree)])
