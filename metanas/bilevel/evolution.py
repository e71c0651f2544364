"""Gradients from values alone: the outer variables are shaken, and where it helped, the mean moves.

    e_i ~ N(0, 1), i = 1 .. samples
    d_i = (F(outer + sigma e_i) - F(outer - sigma e_i)) / 2 sigma          F: the outer loss after the inner steps
    gradient = mean over i of  d_i e_i

No derivative is taken of anything, so kinks, long unrolls and chaos do no harm; the price is variance. The pairs are
antithetic: what is even in e cancels. Both of a pair, and all pairs, see the same batches.

Persistent: the particles do not start anew. Each pair walks on from where it stands for `steps` more inner steps, with
fresh noise, and the difference is weighed by the *sum* of the noise since the start, which makes truncations unbiased.

Sources: Salimans, Ho, Chen, Sidor, Sutskever 2017, arXiv:1703.03864; Vicol, Metz, Sohl-Dickstein 2021,
arXiv:2112.13835 (persistent).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

from metanas.bilevel.estimator import Estimator, Hypergradient, sound, unmeasured
from metanas.bilevel.gradients import held_slope
from metanas.bilevel.problem import Bilevel, descend, persists
from metanas.bilevel.trees import Tree, add, axpy, finite, norm, zeros
from metanas.errors import BilevelError


@dataclass(frozen=True)
class EvolutionStrategies(Estimator):
    """The smoothed gradient through `steps` inner steps, by antithetic samples; the call needs a `generator`.

    `residual` is the standard error of the gradient over its norm. `theta` is where the steps end unshaken; where the
    estimate is persistent, where the inner problem was, since its own particles have moved on (`carry`).

    Args:
        steps: inner steps, >= 0; persistent: >= 1, as many more at each call.
        samples: pairs, >= 2.
        sigma: how far the outer variables are shaken, > 0, in their own units.
        persistent: go on from call to call; hand the result's `carry` to the next call (`solve` does).
        horizon: inner steps after which persistent particles start anew, >= steps; None: never. They also do where
            one is not finite.
        chunk: how many pairs go at a time, >= 1, where memory is short; None: all.

    Raises:
        BilevelError: a number out of range; on the call, where no generator is given.

    >>> from metanas.bilevel import SGD, Bilevel
    >>> loss = lambda theta, outer, batch: ((theta["w"] - outer["target"]) ** 2).sum() / 2
    >>> goal = lambda theta, outer, batch: theta["w"].sum()
    >>> problem = Bilevel(loss, goal, rule=SGD(lr=0.5))
    >>> estimator, draw = EvolutionStrategies(steps=2, samples=1000), torch.Generator().manual_seed(0)
    >>> at = {"w": torch.zeros(1)}, {"target": torch.ones(1)}, None, None
    >>> h = estimator(problem, *at, generator=draw)
    >>> abs(float(h.gradient["target"]) - 0.75) < 0.1, float(h.residual) < 0.1
    (True, True)
    """

    steps: int
    samples: int
    sigma: float = 0.01
    persistent: bool = False
    horizon: int | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        least = 1 if self.persistent else 0
        if self.steps < least:
            raise BilevelError(f"steps must be >= {least}, got {self.steps}")
        if self.samples < 2:
            raise BilevelError(f"samples must be >= 2, got {self.samples}")
        if not self.sigma > 0:
            raise BilevelError(f"sigma must be > 0, got {self.sigma}")
        if self.chunk is not None and self.chunk < 1:
            raise BilevelError(f"chunk must be >= 1 or None, got {self.chunk}")
        if self.horizon is not None and (not self.persistent or self.horizon < self.steps):
            raise BilevelError(
                f"horizon must be >= steps ({self.steps}), and only particles that are persistent have one, "
                f"got {self.horizon}"
            )

    @property
    def descends(self) -> bool:
        return self.steps > 0

    def estimate(
        self,
        problem: Bilevel,
        theta: Tree,
        outer: Tree,
        inner_batch: Any,
        outer_batch: Any,
        *,
        memory: Tree | None,
        carry: Tree,
        generator: torch.Generator | None,
    ) -> Hypergradient:
        if generator is None:
            raise BilevelError("EvolutionStrategies draws: hand it a generator=torch.Generator().manual_seed(...)")
        noise = tree_map(lambda x: self._drawn(x, generator), outer)
        if self.persistent:
            return self._go_on(problem, theta, outer, inner_batch, outer_batch, memory, carry, noise)

        def value(outer: Tree) -> Tensor:
            end, _, _ = descend(problem, theta, outer, inner_batch, memory, self.steps, held_slope)
            return problem.outer_loss(end, outer, outer_batch)

        def pair(e: Tree) -> tuple[Tensor, Tensor]:
            return value(axpy(self.sigma, e, outer)), value(axpy(-self.sigma, e, outer))

        up, down = vmap(pair, chunk_size=self.chunk, randomness="same")(noise)
        gradient, error = self._mean((up - down) / (2 * self.sigma), noise)
        end, after, slope = descend(problem, theta, outer, inner_batch, memory, self.steps, held_slope)
        loss = problem.outer_loss(end, outer, outer_batch)
        stationarity = unmeasured(loss) if slope is None else norm(slope)
        return _result(gradient, loss, stationarity, error, end, after, ())

    def _go_on(
        self,
        problem: Bilevel,
        theta: Tree,
        outer: Tree,
        inner_batch: Any,
        outer_batch: Any,
        memory: Tree | None,
        carry: Tree,
        noise: Tree,
    ) -> Hypergradient:
        """The persistent estimate: `carry` is (theta, memory, summed noise, steps taken) of all particles, a particle
        of a pair on the first axis, pairs on the second."""
        here = problem.start(theta, outer, inner_batch)
        fresh = here, problem.rule.init(here) if memory is None else memory
        fresh = tree_map(lambda x: x.expand(2, self.samples, *x.shape), fresh)
        taken = torch.zeros((), dtype=torch.long, device=self._device(outer))
        stood, summed, taken = (fresh, zeros(noise), taken) if carry == () else carry
        over = ~finite((stood, summed))  # one particle that is not would spoil every estimate to come
        if self.horizon is not None:
            over = over | (taken + self.steps > self.horizon)
        stood = tree_map(lambda new, old: torch.where(over, new, old), fresh, stood)
        summed = tree_map(lambda x: torch.where(over, 0.0, x), summed)
        taken = torch.where(over, 0, taken)
        summed, walk = add(summed, noise), replace(problem, start=persists)
        steps = tree_map(lambda e: self.sigma * e, noise)  # each in its own dtype, which sigma as a tensor might not be

        def particle(sign: Tensor, at: tuple[Tree, Tree], step: Tree) -> tuple[Tensor, tuple[Tree, Tree]]:
            shaken = axpy(sign, step, outer)
            end, after, _ = descend(walk, at[0], shaken, inner_batch, at[1], self.steps, held_slope)
            return problem.outer_loss(end, shaken, outer_batch), (end, after)

        pairs = vmap(particle, in_dims=(None, 0, 0), chunk_size=self.chunk, randomness="same")
        signs = torch.tensor([1.0, -1.0], device=taken.device)
        losses, moved = vmap(pairs, in_dims=(0, 0, None), randomness="same")(signs, stood, steps)
        gradient, error = self._mean((losses[0] - losses[1]) / (2 * self.sigma), summed)
        loss = losses.mean()
        kept = memory if memory is not None else ()
        return _result(gradient, loss, unmeasured(loss), error, theta, kept, (moved, summed, taken + self.steps))

    def _drawn(self, like: Tensor, generator: torch.Generator) -> Tensor:
        shape = (self.samples, *like.shape)
        return torch.randn(shape, dtype=like.dtype, device=generator.device, generator=generator).to(like.device)

    def _device(self, outer: Tree) -> torch.device:
        devices: list[torch.device] = []
        tree_map(lambda x: devices.append(x.device), outer)
        return devices[0]

    def _mean(self, slopes: Tensor, directions: Tree) -> tuple[Tree, Tensor]:
        """The mean over samples of slope times direction, and its standard error over its norm."""

        def each(e: Tensor) -> Tensor:
            return slopes.view(-1, *[1] * (e.dim() - 1)).to(e.dtype) * e

        mean = tree_map(lambda e: each(e).mean(0), directions)
        error = norm(tree_map(lambda e: each(e).std(0), directions)) / self.samples**0.5
        size = norm(mean)
        return mean, error / torch.where(size > 0, size, torch.ones_like(size))


def _result(
    gradient: Tree, loss: Tensor, stationarity: Tensor, error: Tensor, theta: Tree, memory: Tree, carry: Tree
) -> Hypergradient:
    return Hypergradient(
        gradient=gradient,
        outer_loss=loss,
        stationarity=stationarity,
        residual=error,
        curvature=unmeasured(loss),
        converged=sound(loss, gradient),
        theta=theta,
        memory=memory,
        carry=carry,
    )
