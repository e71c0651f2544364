"""Inner update rules: one step of an optimiser as a pure, differentiable function.

    SGD     g = grad + wd w;  v = m v + g;  w - lr v           (Nesterov: w - lr (g + m v))
    Adam    g = grad + wd w;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  w - lr m^ / (sqrt(v^) + eps)
    AdamW   Adam with g = grad, from (1 - lr wd) w

They compute, step for step, what `torch.optim.SGD`, `Adam` and `AdamW` compute in place. Estimators look ahead and
unroll with them; anything with `init` and `__call__` is a rule, so a learned optimiser is one too.

Every number may be
    a number or a 0-d tensor  SGD(lr=0.1); a tensor that a schedule writes into is read anew at each step
    a function of the outer   SGD(lr=lambda outer: outer["log_lr"].exp())                  a learned rate
    ... giving one of step    SGD(lr=lambda outer: per_step(outer["rates"]))               a learned rate per step
    a tree like theta         SGD(lr=lambda outer: outer["rate"])                          Meta-SGD, a rate each
    ... or like its upper part SGD(lr={"body": 0.01, "head": 0.1})                         a rate for each group
where the step is a 0-d integer tensor, counted from 0 in the rule's memory.

Sources: Sutskever, Martens, Dahl, Hinton 2013 (momentum and Nesterov as torch has them); Kingma, Ba 2015,
arXiv:1412.6980; Loshchilov, Hutter 2019, arXiv:1711.05101 (decoupled decay); Li, Zhou, Chen, Li 2017, arXiv:1707.09835
(Meta-SGD).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import (
    keystr,
    tree_flatten_with_path,
    tree_leaves,
    tree_map,
    tree_structure,
    tree_unflatten,
)

from metanas.bilevel.trees import Tree, zeros
from metanas.errors import BilevelError

Number: TypeAlias = float | Tensor | Tree | Callable[[Tree], Any]


class Rule(Protocol):
    """One inner update. Pure: it writes nothing, and everything it returns is differentiable in everything it got."""

    def init(self, theta: Tree) -> Tree:
        """The memory before the first step, a tree of tensors."""
        ...

    def __call__(self, theta: Tree, memory: Tree, gradient: Tree, outer: Tree) -> tuple[Tree, Tree]:
        """The next (theta, memory), from a gradient like theta."""
        ...


def per_step(values: Tensor) -> Callable[[Tensor], Tensor]:
    """One number per inner step, from a tensor of shape (steps,); after the last step its number stays.

    No host read (`values[step]` would be one), and its derivative runs under `vmap`.

    >>> rate = per_step(torch.tensor([0.1, 0.2]))
    >>> [round(rate(torch.tensor(k)).item(), 1) for k in range(3)]
    [0.1, 0.2, 0.2]
    """
    return lambda step: values[step.clamp(max=len(values) - 1)[None]][0]


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum (no dampening), Nesterov momentum and coupled weight decay.

    Memory: {"velocity": like theta, "step": 0-d long}.

    Args:
        lr, momentum, weight_decay: numbers in any of the forms of this module.
        nesterov: look ahead along the new velocity.

    Raises:
        BilevelError: a plain number that is out of range (lr > 0, momentum >= 0, weight_decay >= 0).

    >>> rule, theta = SGD(lr=0.1, momentum=0.9), {"w": torch.tensor([1.0])}
    >>> theta, memory = rule(theta, rule.init(theta), {"w": torch.tensor([2.0])}, {})
    >>> theta, memory
    ({'w': tensor([0.8000])}, {'velocity': {'w': tensor([2.])}, 'step': tensor(1)})
    """

    lr: Number
    momentum: Number = 0.0
    weight_decay: Number = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        _positive("lr", self.lr)
        _at_least_zero("momentum", self.momentum)
        _at_least_zero("weight_decay", self.weight_decay)
        if self.nesterov and _is_zero(self.momentum):
            raise BilevelError("nesterov=True needs a momentum > 0, got 0; give one, or leave nesterov out")

    def init(self, theta: Tree) -> Tree:
        return {"velocity": zeros(theta), "step": _counter(theta, torch.long)}

    def __call__(self, theta: Tree, memory: Tree, gradient: Tree, outer: Tree) -> tuple[Tree, Tree]:
        with _explained(self, theta, memory, outer):
            return self._moved(theta, memory, gradient, outer)

    def _numbers(self) -> dict[str, Number]:
        return {"lr": self.lr, "momentum": self.momentum, "weight_decay": self.weight_decay}

    def _moved(self, theta: Tree, memory: Tree, gradient: Tree, outer: Tree) -> tuple[Tree, Tree]:
        step = memory["step"]
        lr = _spread(self.lr, outer, step, theta)
        gradient = _decayed(self.weight_decay, outer, step, theta, gradient)
        velocity = direction = gradient
        if not _is_zero(self.momentum):
            momentum = _spread(self.momentum, outer, step, theta)
            velocity = tree_map(lambda m, v, g: m * v + g, momentum, memory["velocity"], gradient)
            direction = velocity
            if self.nesterov:
                direction = tree_map(lambda m, v, g: g + m * v, momentum, velocity, gradient)
        theta = tree_map(lambda a, w, d: w - a * d, lr, theta, direction)
        return theta, {"velocity": velocity, "step": step + 1}


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction and coupled (L2) weight decay, or decoupled: see `AdamW`.

    Memory: {"m": like theta, "v": like theta, "step": 0-d float32}.

    A coordinate that never had a gradient has v = 0, where the derivative of the square root is infinite; the rule's
    own derivative there is finite (lr / eps) and is what comes out.

    Args:
        lr, eps, weight_decay: numbers in any of the forms of this module.
        betas: two such numbers.
        decoupled: the decay shrinks theta itself, by lr * weight_decay, and does not pass through the moments.

    Raises:
        BilevelError: a plain number that is out of range (lr > 0, 0 <= betas < 1, eps >= 0, weight_decay >= 0).

    >>> rule, theta = Adam(lr=0.1), {"w": torch.tensor([1.0])}
    >>> theta, memory = rule(theta, rule.init(theta), {"w": torch.tensor([2.0])}, {})
    >>> theta, memory["step"]
    ({'w': tensor([0.9000])}, tensor(1.))
    """

    lr: Number
    betas: tuple[Number, Number] = (0.9, 0.999)
    eps: Number = 1e-8
    weight_decay: Number = 0.0
    decoupled: bool = False

    def __post_init__(self) -> None:
        _positive("lr", self.lr)
        for name, value in (("eps", self.eps), ("weight_decay", self.weight_decay)):
            _at_least_zero(name, value)
        for beta in self.betas:
            if isinstance(beta, int | float) and not 0 <= beta < 1:
                raise BilevelError(f"betas must be two numbers with 0 <= beta < 1, got {self.betas}")

    def init(self, theta: Tree) -> Tree:
        return {"m": zeros(theta), "v": zeros(theta), "step": _counter(theta, torch.float32)}

    def __call__(self, theta: Tree, memory: Tree, gradient: Tree, outer: Tree) -> tuple[Tree, Tree]:
        with _explained(self, theta, memory, outer):
            return self._moved(theta, memory, gradient, outer)

    def _numbers(self) -> dict[str, Number]:
        b1, b2 = self.betas
        return {"lr": self.lr, "betas[0]": b1, "betas[1]": b2, "eps": self.eps, "weight_decay": self.weight_decay}

    def _moved(self, theta: Tree, memory: Tree, gradient: Tree, outer: Tree) -> tuple[Tree, Tree]:
        count, step = memory["step"].long(), memory["step"] + 1  # torch's own count is a float
        lr, b1, b2, eps = (_spread(x, outer, count, theta) for x in (self.lr, *self.betas, self.eps))
        if not self.decoupled:
            gradient = _decayed(self.weight_decay, outer, count, theta, gradient)
        elif not _is_zero(self.weight_decay):
            decay = _spread(self.weight_decay, outer, count, theta)
            theta = tree_map(lambda w, a, d: w - a * d * w, theta, lr, decay)
        m = tree_map(lambda b, m, g: b * m + (1 - b) * g, b1, memory["m"], gradient)
        v = tree_map(lambda b, v, g: b * v + (1 - b) * g * g, b2, memory["v"], gradient)

        def move(w: Tensor, m: Tensor, v: Tensor, lr: Any, b1: Any, b2: Any, eps: Any) -> Any:
            t = step.to(torch.promote_types(w.dtype, torch.float32))  # b ** t in half precision would be 1
            return w - lr * (m / (1 - b1**t)) / (_root(v / (1 - b2**t)) + eps)

        return tree_map(move, theta, m, v, lr, b1, b2, eps), {"m": m, "v": v, "step": step}


def AdamW(
    lr: Number,
    betas: tuple[Number, Number] = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 0.01,
) -> Adam:
    """Adam with decoupled weight decay, and torch.optim.AdamW's default of it.

    >>> rule, theta = AdamW(lr=0.1, weight_decay=0.5), {"w": torch.tensor([1.0])}
    >>> rule(theta, rule.init(theta), {"w": torch.tensor([2.0])}, {})[0]
    {'w': tensor([0.8500])}
    """
    return Adam(lr, betas, eps, weight_decay, decoupled=True)


def _root(x: Tensor) -> Tensor:
    """The square root of x >= 0 with a finite derivative at 0: inf times a zero gradient would be nan; nan stays."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, torch.ones_like(x)).sqrt(), x)


def _spread(value: Number, outer: Tree, step: Tensor, theta: Tree) -> Tree:
    """The number for every leaf of theta, as a tree like theta."""
    if callable(value):
        value = value(outer)
    if callable(value):
        value = value(step)
    if isinstance(value, int | float | Tensor):
        return tree_map(lambda _: value, theta)
    try:
        return _matched(value, theta)
    except (LookupError, TypeError, ValueError):
        raise BilevelError(
            "a rule's numbers must be one for all, or a tree like theta or its upper part; theta has "
            f"{_names(theta)}, got {_names(value)}"
        ) from None


def _matched(value: Any, theta: Tree) -> Tree:
    """The tree of numbers, each repeated for all leaves below it; the entries of mappings are matched by name, and not,
    as `tree_map` does, by the order in which they stand."""
    if not isinstance(value, Mapping | list | tuple):
        return tree_map(lambda _: value, theta)
    if isinstance(theta, Mapping) and isinstance(value, Mapping):
        if value.keys() != theta.keys():
            raise LookupError
        parts: Any = {key: _matched(value[key], part) for key, part in theta.items()}
    elif isinstance(theta, list | tuple) and isinstance(value, list | tuple):
        parts = [_matched(v, part) for v, part in zip(value, theta, strict=True)]
    else:
        raise TypeError
    return tree_unflatten(tree_leaves(parts), tree_structure(theta))


def _names(tree: Tree) -> str:
    return ", ".join(keystr(path) or "one tensor" for path, _ in tree_flatten_with_path(tree)[0]) or "nothing"


@contextmanager
def _explained(rule: SGD | Adam, theta: Tree, memory: Tree, outer: Tree) -> Iterator[None]:
    """Where a step fails and the rule's memory or numbers do not fit theta, says so; costs nothing where none fails."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        found = _misfit(rule, theta, memory, outer)
        if found is None or isinstance(error, BilevelError):
            raise
        raise BilevelError(found) from error


def _misfit(rule: SGD | Adam, theta: Tree, memory: Tree, outer: Tree) -> str | None:
    wanted, got = (
        {keystr(path): tuple(x.shape) for path, x in tree_flatten_with_path(tree)[0] if isinstance(x, Tensor)}
        for tree in (rule.init(theta), memory)
    )
    for name, shape in wanted.items():
        if got.get(name) != shape:
            came = f"shape {got[name]}" if name in got else "nothing"
            return f"memory{name} must have shape {shape}, got {came}; it is that of another rule or of another theta"
    for name, value in rule._numbers().items():
        spread = _spread(value, outer, memory["step"].long(), theta)
        for (path, w), x in zip(tree_flatten_with_path(theta)[0], tree_leaves(spread), strict=True):
            if not isinstance(x, int | float | Tensor):
                return f"{name} must be a number or a tensor, got {type(x).__name__} for theta{keystr(path)}"
            if isinstance(x, Tensor) and not _fits(x.shape, w.shape):
                return f"{name} must broadcast to {tuple(w.shape)} for theta{keystr(path)}, got shape {tuple(x.shape)}"
    return None


def _fits(number: torch.Size, leaf: torch.Size) -> bool:
    """Whether it broadcasts to the leaf."""
    return len(number) <= len(leaf) and all(n in (1, m) for n, m in zip(reversed(number), reversed(leaf), strict=False))


def _decayed(weight_decay: Number, outer: Tree, step: Tensor, theta: Tree, gradient: Tree) -> Tree:
    if _is_zero(weight_decay):
        return gradient
    return tree_map(lambda d, g, w: g + d * w, _spread(weight_decay, outer, step, theta), gradient, theta)


def _counter(theta: Tree, dtype: torch.dtype) -> Tensor:
    leaves = tree_leaves(theta)
    return torch.zeros((), dtype=dtype, device=leaves[0].device if leaves else None)


def _is_zero(value: Number) -> bool:
    """A plain 0: then the term is left out; a tensor is never looked into."""
    return isinstance(value, int | float) and value == 0


def _positive(name: str, value: Number) -> None:
    if isinstance(value, int | float) and not 0 < value < math.inf:
        raise BilevelError(f"{name} must be > 0 and finite, got {value}")


def _at_least_zero(name: str, value: Number) -> None:
    if isinstance(value, int | float) and not 0 <= value < math.inf:
        raise BilevelError(f"{name} must be >= 0 and finite, got {value}")
