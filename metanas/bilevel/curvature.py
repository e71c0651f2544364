"""The largest eigenvalue of a Hessian, from products with it alone (Lanczos).

    q_1 = random, of length 1
    for k = 1 .. steps:
        w = H q_k;   a_k = q_k'w
        w <- w - its parts along q_1 .. q_k          twice: once leaves rounding behind
        b_k = |w|;   q_{k+1} = w / b_k               b_k = 0: the q span all that H does to q_1
    eigenvalue = the largest of the tridiagonal matrix of a and b

The estimate is never above the eigenvalue, and is the eigenvalue itself after as many steps as H has different ones.
H is never formed: a product is the derivative of the gradient along a direction. Where an operation has no second
derivative, or where the smooth part of a loss with kinks is wanted, it is a central difference of two gradients.

Source: Lanczos 1950; for the Hessian of a loss in structure parameters Zela et al., ICLR 2020, arXiv:1909.09656.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metanas.bilevel.trees import Tree, detach, ravel
from metanas.errors import BilevelError

LEAST = 1e-6
"""A part of the largest number met so far that counts as zero."""


def largest_eigenvalue(
    loss: Callable[[Tree], Tensor],
    at: Tree,
    *,
    steps: int = 10,
    generator: torch.Generator | None = None,
    difference: float | None = None,
) -> float:
    """The largest (not the largest in size) eigenvalue of the Hessian of a loss at a tree, nan where it is not finite.

    Args:
        loss: tree -> 0-d tensor; the same numbers at every call.
        at: where; tensors of one device.
        steps: products with the Hessian at most, each the price of two gradients.
        generator: of the first direction, on the CPU.
        difference: None: exact products, and central differences where an operation has no second derivative; else the
            length of the difference.

    Raises:
        BilevelError: steps or difference that are not positive.

    >>> loss = lambda x: (torch.tensor([1.0, 3.0, -9.0]) * x["w"] ** 2).sum() / 2
    >>> round(largest_eigenvalue(loss, {"w": torch.ones(3)}, generator=torch.Generator().manual_seed(0)), 4)
    3.0
    """
    if steps < 1 or (difference is not None and not difference > 0):
        raise BilevelError(f"steps must be >= 1 and difference > 0 or None, got {steps} and {difference}")
    here, back = ravel(detach(at))
    product = _product(lambda x: loss(back(x)), here, difference)
    q = torch.randn(here.numel(), generator=generator, dtype=torch.float64).to(here)
    basis, diagonal, beside = [q / q.norm()], list[float](), list[float]()
    for k in range(min(steps, here.numel())):
        w = product(basis[k])
        diagonal.append(float(basis[k] @ w))
        rows = torch.stack(basis)
        for _ in range(2):
            w = w - rows.T @ (rows @ w)
        size = float(w.norm())
        if not size > LEAST * max(map(abs, (*diagonal, *beside, 0.0))):
            break
        beside.append(size)
        basis.append(w / size)
    between = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    whole = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(between, 1) + torch.diag(between, -1)
    return float(torch.linalg.eigvalsh(whole)[-1]) if bool(torch.isfinite(whole).all()) else float("nan")


DIFFERENCE = 1e-2
"""The length of a difference in place of a second derivative that is not there: that of DARTS's second order."""


def _product(loss: Callable[[Tensor], Tensor], here: Tensor, difference: float | None) -> Callable[[Tensor], Tensor]:
    """p -> H p."""

    def gradient(x: Tensor, *, graph: bool = False) -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            value = loss(leaf)
            (found,) = torch.autograd.grad(value, leaf, create_graph=graph) if value.requires_grad else (leaf * 0,)
        return leaf, found

    def differ(p: Tensor, length: float) -> Tensor:
        (_, plus), (_, minus) = gradient(here + length * p), gradient(here - length * p)
        return (plus - minus) / (2 * length)

    if difference is not None:
        return lambda p: differ(p, difference)
    leaf, slope = gradient(here, graph=True)

    def exact(p: Tensor) -> Tensor:
        if not slope.requires_grad:  # the loss is linear, or a derivative hides that it has one
            return differ(p, DIFFERENCE)
        try:
            (found,) = torch.autograd.grad(slope, leaf, p, retain_graph=True)
        except RuntimeError as error:
            if not any(word in str(error) for word in ("derivative", "differentiate")):
                raise
            return differ(p, DIFFERENCE)
        return found

    return exact
