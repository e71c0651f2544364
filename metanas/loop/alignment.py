"""Lambda-DARTS: the weights are trained so that all cells of a kind want the same of their shared mixing weights.

    g_l      = d L / d (mixing weights of cell l)              each cell with weights of its own, all equal
    Lambda   = mean over pairs of cells of cos(g_i, g_j)
    u_l      = d Lambda / d g_l = 2 / (M (M - 1)) (S - (S . g_l / |g_l|) g_l / |g_l|) / |g_l|,  S = sum of g_l / |g_l|
    theta   <- SGD on L - strength * progress * Lambda
    d Lambda / d theta
             = d (sum of u_l . g_l) / d theta, u held           epsilon = 0: a second backward pass
             = (d L / d theta (w + e u) - d L / d theta (w - e u)) / 2e, e = epsilon / |u|, w the mixing weights

Movahedi, Adabinejad, Imani, Keshavarz, Dehghani, Shakery, Araabi: Lambda-DARTS, ICLR 2023, arXiv:2210.07998: where
cells share mixing weights, those near the output decide for all, which is how DARTS collapses. Omega's own step sees
nothing of it. Each kind of cells is aligned by itself, and the Lambdas are added (the authors' code aligns normal cells
alone).

The difference is the paper's, and needs smooth losses: where the step carries units with a ReLU over their kink, their
gradients jump, and the sum of the jumps over 2e grows as 1 / sqrt(epsilon). On NAS-Bench-201 with 8 channels, untrained
and a batch of 64 images of noise, it is 8 (epsilon 1e-2) to 57 times (1e-4) as long as Lambda's gradient. So the second
backward pass is what is done unless a difference is asked for; in bfloat16 it is off by a third, there too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from metanas.controllers import GradientController
from metanas.errors import SpaceError
from metanas.loop.trained import Loss, Trained
from metanas.network import Network, spread
from metanas.space import Kind

Weights = dict[str, Tensor]


@final
@dataclass(frozen=True)
class Alignment(Trained):
    """What a search needs to align its cells.

    Args:
        network: the supernet in which each cell has choices of its own (`network.apart`).
        apart: (theta, {"mix": weights of its own names}, batch) -> 0-d tensor, the inner loss of that network.
        kinds: its cells (`space.kinds_of`).
        strength: of the alignment at the end of the search, from 0 linearly (paper: 0.125, or 0.25).
        epsilon: norm of the step of all mixing weights together, to either side, of the difference (paper: 1e-4 or
            1e-3); 0: a second backward pass in its place, through operations that are differentiable twice.
    """

    network: Network
    apart: Loss
    kinds: tuple[Kind, ...]
    strength: float
    epsilon: float = 0.0

    def check(self, controller: GradientController) -> None:
        if controller.single_path:
            name = type(controller).__name__
            raise SpaceError(f"align: {name} runs one candidate of each choice, which leaves nothing to align; take 0")

    def loss(self, plain: Loss, theta: Any, outer: Any, batch: Any, *, progress: float) -> Tensor:
        strength = self.strength * progress
        return self.aligned(theta, outer, batch, strength) if strength else plain(theta, outer, batch)

    def keep(self, kept: Mapping[str, tuple[int, ...]]) -> None:
        self.network.keep(spread(kept, self.kinds))

    def aligned(self, theta: Any, outer: Any, batch: Any, strength: float) -> Tensor:
        """The task's loss, 0-d, whose gradient in theta is that of loss - strength * Lambda. It is differentiable once,
        in theta."""
        shared: Weights = outer["mix"]
        mix = {name: w.detach().clone().requires_grad_() for name, w in spread(shared, self.kinds).items()}
        loss = self.apart(theta, {"mix": mix}, batch)
        found = torch.autograd.grad(
            loss, list(mix.values()), retain_graph=True, create_graph=not self.epsilon, allow_unused=True
        )
        slopes = {name: torch.zeros_like(mix[name]) if g is None else g for name, g in zip(mix, found, strict=True)}
        up = directions({name: g.detach() for name, g in slopes.items()}, self.kinds)
        if self.epsilon:
            rise = self._difference(theta, mix, batch, up)
        else:
            rise = torch.stack([(u * slopes[name]).sum() for name, u in up.items()]).sum()
        return loss - strength * (rise - rise.detach())  # Lambda moves theta and is not reported as a loss

    def _difference(self, theta: Any, mix: Weights, batch: Any, up: Weights) -> Tensor:
        """A number whose gradient in theta is that of sum of u_l . g_l, by a central difference."""
        with torch.no_grad():
            size = torch.stack([u.square().sum() for u in up.values()]).sum().sqrt()
            step = self.epsilon / size.clamp(min=torch.finfo(size.dtype).tiny ** 0.5)
            sides = [{n: w + sign * step * up[n] if n in up else w for n, w in mix.items()} for sign in (1, -1)]
        ahead, behind = (self.apart(theta, {"mix": side}, batch) for side in sides)
        return (ahead - behind) / (2 * step)


def alignment_of(gradients: Sequence[Tensor]) -> Tensor:
    """Lambda: the mean cosine of all pairs, 0-d, in -1 to 1; a gradient that is 0 has the cosine 0 with all.

    >>> alignment_of([torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([3.0, 0.0])])
    tensor(0.3333)
    """
    rows = _unit(torch.stack(list(gradients)))
    count = len(rows)
    return (rows.sum(0).square().sum() - rows.square().sum()) / (count * (count - 1))


def directions(slopes: Mapping[str, Tensor], kinds: Sequence[Kind]) -> Weights:
    """Own name of a choice -> d Lambda / d slope, (candidates,): how the slopes of the loss in the mixing weights would
    have to change. What is not in `slopes` has no part in it."""
    found: Weights = {}
    for kind in kinds:
        choices = [choice for choice in kind.choices if kind.own(choice)[0] in slopes]
        if not choices:
            continue
        names = [[kind.own(choice)[k] for choice in choices] for k in range(len(kind.cells))]
        rows = torch.stack([torch.cat([slopes[name] for name in row]) for row in names])  # (cells, candidates of all)
        lengths = [len(slopes[name]) for name in names[0]]
        for row, up in zip(names, _ascent(rows), strict=True):
            found.update(zip(row, up.split(lengths), strict=True))
    return found


def _ascent(rows: Tensor) -> Tensor:
    """d Lambda / d row, (cells, numbers); 0 for a row that is 0."""
    count, unit = len(rows), _unit(rows)
    total = unit.sum(0)
    across = total - (unit @ total)[:, None] * unit
    norms = rows.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, across / norms, 0.0) * 2 / (count * (count - 1))


def _unit(rows: Tensor) -> Tensor:
    norms = rows.norm(dim=-1, keepdim=True)
    return torch.where(norms > 0, rows / norms, 0.0)
