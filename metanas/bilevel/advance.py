"""The ways theta moves between two outer steps: trained by a torch optimiser, adopted from the unroll, or not at all.

    train     theta persists: ordinary autograd and torch.optim step the live parameters in place
    adopt     theta persists: it goes on from where the estimator's inner steps ended
    restart   the inner problem begins anew each time (few-shot tasks)

`memory_of` reads a torch optimiser's state as the memory of the matching rule, so that an estimator looks ahead with
the momentum that the training really has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from metanas.bilevel.capture import Captured, Graphs
from metanas.bilevel.estimator import Hypergradient
from metanas.bilevel.problem import Bilevel
from metanas.bilevel.rules import Rule
from metanas.bilevel.stepping import Report, TorchStep, check_stepped
from metanas.bilevel.trees import Tree, detach, finite
from metanas.errors import BilevelError


class Train:
    """Steps theta on the inner loss, once per batch. Made by `train`; `report` is that of the last step."""

    def __init__(
        self,
        problem: Bilevel,
        theta: Tree,
        outer: Tree | Callable[[], Tree],
        step: TorchStep,
        graphs: Graphs | None = None,
    ) -> None:
        if problem.inner_loss is None:
            raise BilevelError("inner_loss is None, so there is nothing to train theta on; give a loss, or use restart")
        self.inner_loss = problem.inner_loss
        self.outer = outer
        self.step = step
        live = tree_leaves(theta)
        # A loss that is given the very parameters of its module may call the module directly: hand out theta itself
        # if possible.
        grown = all(p.requires_grad for p in live)
        self.theta = theta if grown else tree_map(lambda p: p.detach().requires_grad_(), theta)
        self.leaves: list[Tensor] = tree_leaves(self.theta)
        self.captured = None if graphs is None else Captured(self._once, graphs)

    @property
    def report(self) -> Report:
        return self.step.report

    def __call__(self, h: Hypergradient | None, batches: Iterable[Any]) -> Report:
        """One step per batch; the hypergradient is not looked at."""
        once = self.captured or self._once
        for batch in batches:
            outer = detach(self.outer() if callable(self.outer) else self.outer)
            self.step.report = once(self.theta, (outer, batch))
        return self.report

    def _once(self, theta: Tree, fed: tuple[Tree, Any]) -> Report:
        outer, batch = fed
        with torch.enable_grad():
            loss = self.inner_loss(theta, outer, batch)
            gradients = torch.autograd.grad(loss, self.leaves, allow_unused=True)
        return self.step.apply(gradients, loss.detach())

    def forget(self) -> None:
        """The loss or the optimiser's memory is another one now: what was recorded of them is not played again."""
        if self.captured is not None:
            self.captured.forget()


def train(
    problem: Bilevel,
    theta: Tree,
    outer: Tree | Callable[[], Tree],
    optimizer: torch.optim.Optimizer,
    *,
    clip: float | None = None,
    graphs: Graphs | None = None,
) -> Train:
    """An `advance` that trains theta in place on the inner loss, by ordinary autograd and a torch optimiser.

    The update is skipped on the device, and counted, where the loss or a gradient is not finite (see `stepping`). A
    tensor that the loss does not read is left alone: no decay, no momentum.

    Args:
        theta: the live tree; its tensors are those that the optimiser steps.
        outer: the live outer variables; or a function that returns them, called once per batch.
        optimizer: as for `torch_step`; fused=True is fastest.
        clip: the greatest gradient norm (DARTS: 5); None: never clipped.
        graphs: records the step, and plays it (see `capture`); a learning rate that a schedule changes is then a tensor
            that it writes into. None: every step is launched anew.

    Raises:
        BilevelError: as for `torch_step`, and where the problem has no inner loss.

    >>> theta = {"w": torch.nn.Parameter(torch.zeros(1))}
    >>> loss = lambda theta, outer, batch: ((theta["w"] - batch) ** 2).sum() / 2
    >>> problem = Bilevel(loss, loss)
    >>> advance = train(problem, theta, {}, torch.optim.SGD(theta.values(), lr=0.5))
    >>> report = advance(None, [torch.ones(1), torch.ones(1)])
    >>> theta["w"].data, report.loss, report.gradient_norm, report.skipped
    (tensor([0.7500]), tensor(0.1250), tensor(0.5000), tensor(0))
    """
    return Train(problem, theta, outer, TorchStep(optimizer, theta, clip), graphs)


class Adopt:
    """Copies the hypergradient's theta into the live one. Made by `adopt`.

    It owns the rule's memory between two calls (`memory`) and the count of copies that were skipped (`skipped`).
    """

    def __init__(self, theta: Tree, rule: Rule | None) -> None:
        self.leaves: list[Tensor] = tree_leaves(theta)
        self.kept: Tree | None = None if rule is None else detach(rule.init(theta))
        self.skipped = torch.zeros((), dtype=torch.long, device=self.leaves[0].device if self.leaves else None)

    def memory(self) -> Tree | None:
        """The rule's memory where theta is: what `solve(memory=...)` asks for; None where no rule was given."""
        return self.kept

    @torch.no_grad()
    def __call__(self, h: Hypergradient | None, batches: Any) -> None:
        """Copies h.theta; nothing where there is none yet, and nothing where it or its memory is not finite."""
        if h is None:
            return
        ok = finite((h.theta, h.memory))
        for p, q in zip(self.leaves, tree_leaves(h.theta), strict=True):
            p.copy_(torch.where(ok, q, p))
        if self.kept is not None:
            self.kept = tree_map(lambda new, old: torch.where(ok, new, old), h.memory, self.kept)
        self.skipped = self.skipped + ~ok


def adopt(theta: Tree, *, rule: Rule | None = None) -> Adopt:
    """An `advance` that goes on from where the estimator's inner steps ended, instead of training a second time.

    Args:
        theta: the live tree, written in place.
        rule: keep this rule's memory from call to call; hand `advance.memory` to `solve`. None: fresh at each estimate.

    >>> from metanas.bilevel import SGD, Unrolled
    >>> theta = {"w": torch.zeros(1)}
    >>> loss = lambda theta, outer, batch: ((theta["w"] - outer["to"]) ** 2).sum() / 2
    >>> problem = Bilevel(loss, loss, rule=SGD(lr=0.5))
    >>> h = Unrolled(2)(problem, theta, {"to": torch.ones(1)}, None, None)
    >>> adopt(theta)(h, None)
    >>> theta
    {'w': tensor([0.7500])}
    """
    return Adopt(theta, rule)


def restart(h: Hypergradient | None, batches: Any) -> None:
    """An `advance` that leaves theta alone: `problem.start` begins the inner problem anew.

    >>> restart(None, None)
    """


def memory_of(optimizer: torch.optim.Optimizer, theta: Tree) -> Tree:
    """The state of a torch optimiser, as the memory of `SGD` or `Adam`.

    Args:
        optimizer: torch.optim.SGD, Adam or AdamW.
        theta: the tree of the very tensors that it steps.

    Returns:
        {"velocity", "step"} for SGD, where step is 0 since torch counts none: rates per step begin at the look-ahead;
        {"m", "v", "step"} for Adam, with the step count of the first tensor that was stepped. It shares memory with
        the optimiser, whose next step changes it.

    Raises:
        BilevelError: another optimiser, dampening, amsgrad, maximize, or a tensor that the optimiser does not step.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> w.grad = torch.tensor([2.0]); optimizer.step()
    >>> memory_of(optimizer, {"w": w})
    {'velocity': {'w': tensor([2.])}, 'step': tensor(0)}
    """
    leaves, spec = tree_flatten(theta)
    if not isinstance(optimizer, torch.optim.SGD | torch.optim.Adam):
        raise BilevelError(f"memory_of knows torch.optim.SGD, Adam and AdamW, got {type(optimizer).__name__}")
    for setting in ("dampening", "amsgrad", "maximize"):
        if any(group.get(setting) for group in optimizer.param_groups):
            raise BilevelError(
                f"no rule has {setting}; leave it out of the optimizer, or look ahead without its memory"
            )
    if any(p not in optimizer.state for p in leaves):  # before its first step an optimiser has no state: look closer
        check_stepped(optimizer, leaves)

    def of(key: str) -> Tree:
        found = [optimizer.state[p].get(key) if p in optimizer.state else None for p in leaves]
        return tree_unflatten(
            [torch.zeros_like(p) if x is None else x for p, x in zip(leaves, found, strict=True)], spec
        )

    first = leaves[0]
    if isinstance(optimizer, torch.optim.SGD):
        return {"velocity": of("momentum_buffer"), "step": torch.zeros((), dtype=torch.long, device=first.device)}
    steps = [optimizer.state[p]["step"] for p in leaves if "step" in optimizer.state.get(p, {})]
    step = steps[0] if steps else torch.zeros((), dtype=torch.float32)
    return {"m": of("exp_avg"), "v": of("exp_avg_sq"), "step": step.to(first.device)}
