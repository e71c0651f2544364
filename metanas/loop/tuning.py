"""The loop that learns what shapes a training: a hypergradient each outer step, until they are used up.

    for each outer step:
        minibatches of the inner steps, an outer batch; noise for both
        h <- estimator;  outer variables <- a torch optimiser on h.gradient, clipped
        theta <- where the inner steps ended (persists), or fresh weights (restarts)
        yield TuneStep

An update that is not finite is left out, on the device; the loop gives up when too many in a row were. Every random
number is a function of (seed, purpose, step), so a tuning restored from `state()` goes on bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten_with_path, tree_leaves, tree_map, tree_structure, tree_unflatten

from metanas.bilevel import Bilevel, Estimator, Hypergradient, Tree, adopt, solve, torch_step
from metanas.bilevel.trees import finite
from metanas.data.seeds import seeded
from metanas.errors import DivergedError
from metanas.loop.state import check_fits, copy_into, optimizer_state, restore_optimizer


class Draws(Protocol):
    """Where the batches of a tuning come from."""

    @property
    def device(self) -> torch.device: ...

    def batches(self, step: int) -> tuple[Any, Any]:
        """(inner batch, outer batch) of an outer step, counted from 0: a function of the step and of nothing else."""

    def fitted(self, problem: Bilevel) -> Bilevel:
        """The problem, whose `batch_at` picks the minibatch of an inner step from such an inner batch."""


@dataclass(frozen=True, kw_only=True)
class TuneSchedule:
    """Numbers of a tuning.

    Args:
        steps: outer steps.
        lr: learning rate of the outer optimiser at first.
        cosine: whether it falls to 0 along half a cosine; else it stays.
        clip: the greatest norm of a hypergradient.
        patience: steps in a row without a finite update after which the tuning is given up.
    """

    steps: int
    lr: float
    cosine: bool = True
    clip: float = 10.0
    patience: int = 10

    def rate(self, step: int) -> float:
        """The learning rate of an outer step, counted from 0.

        >>> [round(TuneSchedule(steps=4, lr=1.0).rate(k), 3) for k in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        """
        return self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2 if self.cosine else self.lr


@dataclass(frozen=True)
class TuneStep:
    """One outer step, counted from 1. The numbers of the hypergradient are 0-d tensors on the device, nan where they
    were not measured; `gradient_norm` is the hypergradient's before it was clipped, `skipped` counts the updates left
    out so far; `learned` shows the outer variables after the step, in natural units."""

    step: int
    steps: int
    outer_loss: Tensor
    gradient_norm: Tensor
    stationarity: Tensor
    residual: Tensor
    curvature: Tensor
    converged: Tensor
    skipped: Tensor
    learned: Mapping[str, float]


class Tuning:
    """A tuning in progress: the outer variables, theta, and where it stands.

    Args:
        problem: over theta and the outer variables.
        estimator: of the hypergradient.
        fresh: outer step -> weights at the beginning of a training, a tree of new tensors; for step 0 at first. {}
            where the problem's start makes them.
        restart: begin anew at every outer step; else theta goes on from where the inner steps ended.
        outer: tree of outer variables at first; it is copied.
        draws: the batches.
        optimizer: (tensors, learning rate) -> a torch optimiser of the outer variables.
        shown: outer variables -> numbers to look at.
        seed: of what the estimator draws.
    """

    def __init__(
        self,
        problem: Bilevel,
        estimator: Estimator,
        fresh: Callable[[int], Tree],
        outer: Tree,
        draws: Draws,
        schedule: TuneSchedule,
        *,
        optimizer: Callable[[list[Tensor], float], torch.optim.Optimizer],
        shown: Callable[[Tree], Mapping[str, float]],
        restart: bool,
        seed: int,
    ) -> None:
        self.estimator, self.fresh, self.draws, self.schedule = estimator, fresh, draws, schedule
        self.shown, self.restart, self.seed = shown, restart, seed
        self.problem = draws.fitted(problem)
        self.theta = tree_map(lambda x: x.detach().clone(), fresh(0))
        self.outer = tree_map(lambda x: x.detach().to(draws.device).clone().requires_grad_(), outer)
        self.optimizer = optimizer(tree_leaves(self.outer), schedule.lr)
        self.outer_step = torch_step(self.optimizer, self.outer, clip=schedule.clip)
        self.adopt = adopt(self.theta, rule=None if restart else problem.rule)
        self.generator = torch.Generator()
        self.carry: Tree = ()
        self.last: Hypergradient | None = None  # its numbers
        self.step = 0
        self.skipped = torch.zeros((), dtype=torch.long, device=draws.device)  # before the state was restored
        self.lost = 0

    @torch.no_grad()
    def check(self) -> None:
        """Calls both losses once, on the first batches: raises what they raise."""
        _, inner, outer = next(self._batches())
        if self.problem.inner_loss is not None:
            self.problem.inner_loss(self.theta, self.outer, self.problem.batch_at(inner, 0))
        self.problem.outer_loss(self.theta, self.outer, outer)

    def steps(self) -> Iterator[TuneStep]:
        """The outer steps that are left; between two of them the tuning may be asked for its `state()`.

        Raises:
            DivergedError: `schedule.patience` updates in a row were not finite; it says what the estimator doubts.
            BilevelError: what the estimator refuses.
        """
        solving = solve(
            self.problem,
            self.estimator,
            self.theta,
            self.outer,
            self._batches(),
            outer_step=self.outer_step,
            advance=self._advance,
            memory=self.adopt.memory,
            carry=self.carry,
            generator=self.generator,
        )
        for h in solving:
            self.step += 1
            self.carry = h.carry
            self.last = h._replace(theta=(), memory=(), carry=())
            report = self.outer_step.report
            self._give_up_if_lost(h, bool(torch.isfinite(report.gradient_norm)))
            yield TuneStep(
                step=self.step,
                steps=self.schedule.steps,
                outer_loss=h.outer_loss,
                gradient_norm=report.gradient_norm,
                stationarity=h.stationarity,
                residual=h.residual,
                curvature=h.curvature,
                converged=h.converged,
                skipped=self.skipped + report.skipped,
                learned=self.shown(tree_map(torch.Tensor.detach, self.outer)),
            )

    def _advance(self, h: Hypergradient | None, batches: Any) -> None:
        if not self.restart:
            self.adopt(h, batches)
            return
        for p, new in zip(tree_leaves(self.theta), tree_leaves(self.fresh(self.step + 1)), strict=True):
            p.copy_(new.detach())

    def _batches(self) -> Iterator[tuple[None, Any, Any]]:
        """Of the steps that are left. A batch is made just before its step, and so is the estimator's generator."""
        while self.step < self.schedule.steps:
            k = self.step
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule.rate(k)
            self.generator.manual_seed(seeded(self.seed, "estimator", k).initial_seed())
            inner, outer = self.draws.batches(k)
            yield None, inner, outer

    def doubts(self) -> str | None:
        """What speaks against the last hypergradient, in words; None where nothing does, or there was none."""
        return None if self.last is None or bool(self.last.converged) else self.estimator.doubts(self.last)

    def _give_up_if_lost(self, h: Hypergradient, finite: bool) -> None:
        self.lost = 0 if finite else self.lost + 1
        if self.lost >= min(self.schedule.patience, self.schedule.steps):
            raise DivergedError(
                f"outer step {self.step}: the last {self.lost} hypergradients were not finite: "
                f"{self.estimator.doubts(h) or 'its norm overflows'}"
            )

    def state(self) -> dict[str, Any]:
        """Everything that a tuning needs to go on. The tensors are live: write or copy them before the next step."""
        return {
            "step": self.step,
            "theta": named(self.theta),
            "outer": named(self.outer),
            "optimizer": optimizer_state(self.optimizer),
            "memory": None if self.adopt.kept is None else tree_leaves(self.adopt.kept),
            "carry": self.carry if bool(finite(self.carry)) else (),
            "skipped": self.skipped + self.outer_step.report.skipped,
            "lost": self.lost,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave. Raises CheckpointError where it does not fit."""
        theta, outer = named(self.theta), named(self.outer)
        check_fits(theta, state["theta"], "theta")
        check_fits(outer, state["outer"], "the outer variables")
        restore_optimizer(self.optimizer, state["optimizer"])
        copy_into(theta, state["theta"])
        copy_into(outer, state["outer"])
        if self.adopt.kept is not None:
            device, spec = self.draws.device, tree_structure(self.adopt.kept)
            self.adopt.kept = tree_unflatten([x.to(device) for x in state["memory"]], spec)
        self.carry = tree_map(lambda x: x.to(self.draws.device), state["carry"])
        self.outer_step = torch_step(self.optimizer, self.outer, clip=self.schedule.clip)  # its count begins anew
        self.skipped = state["skipped"].to(self.skipped.device)
        self.step, self.lost = state["step"], state["lost"]


def named(tree: Tree) -> dict[str, Tensor]:
    """The leaves by their path, as one flat mapping; they share memory with the tree.

    >>> named({"decay": {"log": torch.zeros(1)}})
    {'decay.log': tensor([0.])}
    """
    found = tree_flatten_with_path(tree)[0]
    return {".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path): x.detach() for path, x in found}
