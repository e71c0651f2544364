"""A learned update rule: a small network, the same for every coordinate of theta, says how far that coordinate moves.

    m_k = b_k m_k + (1-b_k) g     v_j = c_j v_j + (1-c_j) g^2      each divided by 1 - decay^t, as Adam does
    n   = (g, m_1, .., m_K) / sqrt(v_slow)                         free of the gradient's scale
    x   = agreements n_k n_r, log ratios of the roots of v, features of the step count where asked for
    (a, s) = network(x);   w - exp(s) sum_k a_k n_k                direction times exp(magnitude)

The network's weights are outer variables, so an estimator that differentiates through the rule learns them:
    Tasks(Unrolled(50)), restarting       a rule for a family of tasks, from scratch to the end of 50 steps
    Unrolled(10), theta adopted           a rule that is tuned while one network trains

The network gives weights of the directions at hand and no direction of its own. So a coordinate that never had a
gradient stays where it is, a gradient of other sign gives the step of other sign, and a loss that is multiplied by a
number gives the same steps. The first variables (`first`) are Adam's: all that is learned is learned on top of it.

Sources: Andrychowicz et al. 2016, arXiv:1606.04474 (coordinate-wise, unrolled); Metz et al. 2022, arXiv:2203.11860
(momenta at several time scales, direction times exp(magnitude), features of the step count).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from metanas.bilevel.trees import Tree
from metanas.errors import BilevelError

FAST, SLOW = 0.9, 0.999
"""Decays of the two second moments; the slow one normalises, as in Adam."""
TINY = 1e-8
"""Least root of a second moment."""


@dataclass(frozen=True)
class LearnedRule:
    """A coordinate-wise rule whose weights stand in outer[name]. It keeps the dtype of theta; float32 or float64.

    Memory: {"m": (decays, coordinates), "v": (2, coordinates), "step": 0-d}, the coordinates of all leaves of theta in
    one row.

    Args:
        name: of the rule's weights in the outer tree, which `first` makes.
        decays: of the momenta, each in 0 .. 1; the network sees all of them, and the gradient.
        hidden: widths of the hidden layers, each >= 1.
        lead: which of the decays is Adam's first beta: the rule begins as Adam with it and 0.999.
        times: the network also sees 1 / (1 + step / time) for each of these, > 0, and so can learn a schedule, for the
            numbers of steps that it is trained with. (3, 30) suits fifty steps.

    Raises:
        BilevelError: a decay, a width or a time out of range, a lead that is no position in decays; on the call, where
            theta has no tensor, or outer has no such name.

    >>> from metanas.bilevel import Bilevel, Unrolled
    >>> rule = LearnedRule()
    >>> loss = lambda theta, outer, batch: (theta["w"] ** 2).sum() / 2
    >>> outer = {"rule": rule.first(lr=0.1, generator=torch.Generator().manual_seed(0))}
    >>> h = Unrolled(steps=2)(Bilevel(loss, loss, rule=rule), {"w": torch.ones(3)}, outer, None, None)
    >>> h.theta["w"], sorted(h.gradient["rule"]), h.memory["m"].shape
    (tensor([0.8004, 0.8004, 0.8004]), ['bias0', 'bias1', 'weight0', 'weight1'], torch.Size([3, 3]))
    """

    name: str = "rule"
    decays: Sequence[float] = (0.5, 0.9, 0.99)
    hidden: Sequence[int] = (16,)
    lead: int = 1
    times: Sequence[float] = ()

    def __post_init__(self) -> None:
        if not self.decays or not all(0 <= b < 1 for b in self.decays):
            raise BilevelError(f"decays must be one or more numbers with 0 <= decay < 1, got {tuple(self.decays)}")
        if not all(width >= 1 for width in self.hidden):
            raise BilevelError(f"hidden must be widths >= 1, got {tuple(self.hidden)}")
        if not 0 <= self.lead < len(self.decays):
            raise BilevelError(f"lead must be a position in decays, 0 to {len(self.decays) - 1}, got {self.lead}")
        if not all(time > 0 for time in self.times):
            raise BilevelError(f"times must be > 0, got {tuple(self.times)}")

    def first(
        self, *, lr: float = 1e-2, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> dict[str, Tensor]:
        """The first weights: with them the rule is Adam with rate `lr`, since the last layer sees no feature yet.

        Args:
            lr: > 0 and finite.
            generator: draws the hidden layers.
            dtype: of the weights.

        Returns:
            {"weight0": (inputs, width), "bias0": (width,), ...}, to be put into the outer tree under `name`.

        Raises:
            BilevelError: lr out of range.

        >>> weights = LearnedRule(hidden=(8,)).first(generator=torch.Generator().manual_seed(0))
        >>> {name: tuple(x.shape) for name, x in weights.items()}
        {'weight0': (6, 8), 'bias0': (8,), 'weight1': (8, 5), 'bias1': (5,)}
        """
        if not 0 < lr < math.inf:
            raise BilevelError(f"lr must be > 0 and finite, got {lr}")
        directions = len(self.decays) + 1
        widths = (directions + 2 + len(self.times), *self.hidden, directions + 1)
        weights: dict[str, Tensor] = {}
        for k, (n, m) in enumerate(pairwise(widths)):
            weights[f"weight{k}"] = torch.randn(n, m, generator=generator, dtype=dtype) / math.sqrt(n)
            weights[f"bias{k}"] = torch.zeros(m, dtype=dtype)
        last = len(self.hidden)
        weights[f"weight{last}"].zero_()
        weights[f"bias{last}"][1 + self.lead] = 1.0
        weights[f"bias{last}"][-1] = math.log(lr)
        return weights

    def init(self, theta: Tree) -> Tree:
        flat = _row(tree_flatten(theta)[0])
        moments = [torch.zeros_like(flat).expand(k, -1).clone() for k in (len(self.decays), 2)]
        return {"m": moments[0], "v": moments[1], "step": flat.new_zeros(())}

    def __call__(self, theta: Tree, memory: Tree, gradient: Tree, outer: Tree) -> tuple[Tree, Tree]:
        if self.name not in outer:
            raise BilevelError(f"outer has no {self.name!r}, where the rule's weights stand; got {sorted(outer)}")
        leaves, spec = tree_flatten(theta)
        w, g = _row(leaves), _row(tree_flatten(gradient)[0])
        step = memory["step"] + 1
        b, c = w.new_tensor(self.decays)[:, None], w.new_tensor((FAST, SLOW))[:, None]
        m = b * memory["m"] + (1 - b) * g  # (decays, coordinates)
        v = c * memory["v"] + (1 - c) * g * g  # (2, coordinates)
        # The square is added under the root: its derivative is finite where no gradient has ever been.
        fast, slow = v / (1 - c**step) + TINY**2
        along = torch.cat([g[None], m / (1 - b**step)]) / slow.sqrt()  # (directions, coordinates)
        answers = _network(outer[self.name], self._features(along, fast, slow, step))
        move = answers[:, -1].exp() * (answers[:, :-1].T * along).sum(0)
        parts = (w - move).split([leaf.numel() for leaf in leaves])
        moved = [part.reshape(leaf.shape).to(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
        return tree_unflatten(moved, spec), {"m": m, "v": v, "step": step}

    def _features(self, along: Tensor, fast: Tensor, slow: Tensor, step: Tensor) -> Tensor:
        """What the network sees of each coordinate (coordinates, features): even in the gradient, without scale."""
        agreements = torch.tanh(along * along[1 + self.lead])
        # Half the log of a second moment is the log of its root; the mean over coordinates is all that they share.
        ratios = torch.stack([(fast / slow).log(), (slow / slow.mean()).log()]) / 2
        times = [(1 / (1 + step / time)).expand_as(slow) for time in self.times]
        return torch.cat([agreements, torch.tanh(ratios / 2), *[x[None] for x in times]]).T


def _row(leaves: Sequence[Tensor]) -> Tensor:
    if not leaves:
        raise BilevelError("theta has no tensors, so there is nothing that a rule could move")
    return torch.cat([leaf.reshape(-1) for leaf in leaves])


def _network(weights: Tree, x: Tensor) -> Tensor:
    """A perceptron with tanh between its layers; x (coordinates, features) -> (coordinates, answers)."""
    layers = len(weights) // 2
    for k in range(layers):
        x = x @ weights[f"weight{k}"].to(x.dtype) + weights[f"bias{k}"].to(x.dtype)
        x = torch.tanh(x) if k + 1 < layers else x
    return x
