"""Steps of torch optimisers that a nan cannot enter: masked on the device, with no read by the host.

    norm = |gradient|
    ok   = norm is finite, and the loss is
    step with gradient * min(1, clip / norm)  where ok, nothing at all where not: no decay, no momentum, no step count
    skipped += not ok

`found_inf` of the fused optimisers (made with `fused=True`: the fast way) does this inside their kernel on the CPU and
on CUDA. All others are stepped and then put back by `torch.where` from copies, at the price of those copies, and, on a
GPU, of a host read where the optimiser keeps its step count on the CPU. An optimiser whose first step cannot be taken
back (NAdam, ASGD, Rprop, SGD with dampening, one of the user's own) is stepped where the host has read that it may be.

A norm that overflows its dtype counts as not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metanas.bilevel.trees import Tree
from metanas.errors import BilevelError

# Their state is made of tensors that are zero before the first step, or that are there from the beginning: so a
# first step can be taken back. (NAdam, ASGD and Rprop begin elsewhere.) AdamW is an Adam.
MASKED = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.Adamax,
    torch.optim.RAdam,
)

# Devices whose fused kernels look at found_inf. Those of others take it and need not look (MPS's did not).
LOOKS_AT_FOUND_INF = frozenset({"cpu", "cuda"})


class Report(NamedTuple):
    """What the last step saw: 0-d tensors on the device, to be logged when the host reads them anyway."""

    loss: Tensor
    """The loss that was differentiated; nan where the step was given none."""
    gradient_norm: Tensor
    """Its Euclidean norm over all tensors, before clipping; not finite where the step was skipped for it."""
    skipped: Tensor
    """How many steps were skipped up to now, int64."""


class TorchStep:
    """Steps a torch optimiser with gradients that it is given. Made by `torch_step`.

    It owns the `.grad` of the tree's tensors during a call (None afterwards) and the count of skipped steps.
    `report` is the `Report` of the last call.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, tree: Tree, clip: float | None = None) -> None:
        self.optimizer = optimizer
        self.leaves: list[Tensor] = tree_leaves(tree)
        self.clip = clip
        _check(optimizer, self.leaves, clip)
        first = self.leaves[0]
        nothing = torch.full((), float("nan"), dtype=first.dtype, device=first.device)
        self.skipped = torch.zeros(
            (), dtype=torch.long, device=first.device
        )  # in place: a recorded step adds to it, too
        self.report = Report(nothing, nothing, self.skipped.clone())

    def __call__(self, gradient: Tree) -> Report:
        """One step with a gradient like the tree."""
        return self.apply(tree_leaves(gradient), None)

    def apply(self, gradients: Sequence[Tensor | None], loss: Tensor | None) -> Report:
        """One step; a tensor whose gradient is None is left alone, as torch optimisers do."""
        pairs = [(p, g) for p, g in zip(self.leaves, gradients, strict=True) if g is not None]
        if not pairs:
            return self.report
        tensors = [g for _, g in pairs]
        norm = torch.nn.utils.get_total_norm(tensors)
        ok = torch.isfinite(norm) if loss is None else torch.isfinite(norm) & torch.isfinite(loss)
        if self.clip is not None:
            tensors = list(torch._foreach_mul(tensors, torch.clamp(self.clip / (norm + 1e-6), max=1.0)))
        for (p, _), g in zip(pairs, tensors, strict=True):
            # The fused kernels walk both memories in step and never look at strides: another layout, another order.
            p.grad = g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
        masked_step(self.optimizer, ok)
        for p, _ in pairs:
            p.grad = None
        loss = torch.full_like(norm, float("nan")) if loss is None else loss
        self.report = Report(loss, norm, self.skipped.add_(~ok).clone())
        return self.report


def torch_step(optimizer: torch.optim.Optimizer, tree: Tree, *, clip: float | None = None) -> TorchStep:
    """A function gradient -> step, that moves the tensors of the tree in place by a torch optimiser.

    A gradient that is not finite changes neither the tensors nor the optimiser's memory; it is counted in
    `report.skipped`.

    Args:
        optimizer: any but LBFGS. SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax and RAdam need no host read,
            and are best with fused=True.
        tree: tensors that the optimiser steps; gradients come as trees like it.
        clip: the greatest norm of a gradient, > 0: longer ones are scaled down to it. None: never.

    Raises:
        BilevelError: an optimiser that needs a closure, a tensor that it does not step, or clip <= 0.

    >>> outer = {"alpha": torch.ones(2)}
    >>> step = torch_step(torch.optim.SGD(outer.values(), lr=1.0), outer)
    >>> _ = step({"alpha": torch.tensor([1.0, float("nan")])})
    >>> outer["alpha"], step.report.skipped
    (tensor([1., 1.]), tensor(1))
    >>> step({"alpha": torch.tensor([3.0, 4.0])}).gradient_norm, outer["alpha"]
    (tensor(5.), tensor([-2., -3.]))
    """
    return TorchStep(optimizer, tree, clip)


def masked_step(optimizer: Any, ok: Tensor) -> None:
    """`optimizer.step()` where ok (a 0-d bool tensor), and nothing where not; the host does not learn which.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = torch.optim.Adam([w], lr=0.5)
    >>> w.grad = torch.tensor([float("nan")])
    >>> masked_step(optimizer, torch.tensor(False))
    >>> w, optimizer.state[w]["step"]
    (tensor([1.], requires_grad=True), tensor(0.))
    """
    if not _maskable(optimizer):
        if bool(ok):
            optimizer.step()
        return
    _seed_momentum(optimizer)
    fused = all(group.get("fused") for group in optimizer.param_groups)
    if fused and ok.device.type in LOOKS_AT_FOUND_INF:
        optimizer.found_inf = (~ok).to(torch.float32)
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf
    else:
        _step_or_put_back(optimizer, ok)


def _seed_momentum(optimizer: Any) -> None:
    """Gives SGD its momentum buffers before the first step: m * 0 + g = g, what torch would begin with.

    The fused kernel makes a buffer of unset memory at a first step, and found_inf leaves it unset: the next step
    adds it up.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if group["momentum"]:
            for p in group["params"]:
                if p.grad is not None and optimizer.state[p].get("momentum_buffer") is None:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


@torch.no_grad()
def _step_or_put_back(optimizer: Any, ok: Tensor) -> None:
    moved = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    tensors = [p.detach().clone() for p in moved]
    states = [{k: x.clone() for k, x in optimizer.state.get(p, {}).items() if isinstance(x, Tensor)} for p in moved]
    optimizer.step()
    for p, old, state in zip(moved, tensors, states, strict=True):
        p.copy_(torch.where(ok, p, old))
        for key, value in optimizer.state[p].items():
            if isinstance(value, Tensor):
                before = state.get(key, torch.zeros_like(value))
                value.copy_(torch.where(ok.to(value.device), value, before))


def _maskable(optimizer: torch.optim.Optimizer) -> bool:
    dampened = any(group.get("dampening") and group.get("momentum") for group in optimizer.param_groups)
    return isinstance(optimizer, MASKED) and not dampened


def _check(optimizer: torch.optim.Optimizer, leaves: Sequence[Tensor], clip: float | None) -> None:
    if isinstance(optimizer, torch.optim.LBFGS):
        raise BilevelError("LBFGS asks for the loss again and again, and a step is given one gradient; use another")
    if clip is not None and not clip > 0:
        raise BilevelError(f"clip must be > 0 or None, got {clip}")
    check_stepped(optimizer, leaves)


def check_stepped(optimizer: torch.optim.Optimizer, leaves: Sequence[Tensor]) -> None:
    """Raises a `BilevelError` where a tensor is not among those that the optimiser steps, or there is none.

    >>> check_stepped(torch.optim.SGD([torch.ones(1)], lr=0.1), [torch.ones(1)])
    Traceback (most recent call last):
    metanas.errors.BilevelError: the optimizer does not step 1 of 1 tensors of the tree; make it of the same tensors
    """
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = sum(id(leaf) not in stepped for leaf in leaves)
    if missing or not leaves:
        raise BilevelError(
            f"the optimizer does not step {missing} of {len(leaves)} tensors of the tree; make it of the same tensors"
        )
