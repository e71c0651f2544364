"""Hypergradients of a solved inner problem, by the implicit function theorem: no step is unrolled, memory is flat.

    v = d F / d theta,   H = d2 L / d theta2,   solve  H q = v
    gradient = d F / d outer - (d2 L / d outer d theta) q

They differ in how the linear system is solved; products H p are taken by differentiating the inner gradient, so that H
is never formed. At a theta that does not solve the inner problem the formula is silently wrong: `stationarity` says how
far it is, `residual` is |Hq - v| / |v| of the q that was used, computed anew, and `curvature` the least p'Hp / p'p that
was met. `converged` means: the residual is within `tolerance`, the inner gradient within `stationary`, every curvature
was positive, and the result is finite.

The inner problem is seen through its loss alone. An outer variable that only its start or its rule reads has no part
in the formula and would get a zero; it is refused.

Sources: Bengio 2000 (implicit differentiation); Pedregosa 2016, arXiv:1602.02355, and Rajeswaran et al. 2019,
arXiv:1909.04630 (conjugate gradients); Lorraine, Vicol, Duvenaud 2020, arXiv:1911.02590 (Neumann); Luketina et al.
2016, arXiv:1511.06727 (T1-T2); the recurrences of Hestenes and Stiefel 1952.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, vjp
from torch.utils._pytree import tree_map

from metanas.bilevel.estimator import Estimator, Hypergradient, sound
from metanas.bilevel.gradients import gradient_of, held_slope
from metanas.bilevel.problem import Bilevel, descend
from metanas.bilevel.reading import refuse_unread
from metanas.bilevel.trees import Tree, add, axpy, dot, finite, norm, zeros
from metanas.errors import BilevelError

Product = Callable[[Tree], Tree]
"""p -> H p, a tree like theta."""


class Solved(NamedTuple):
    """An approximate solution q of Hq = v, and the least p'Hp / p'p that was met on the way."""

    q: Tree
    curvature: Tensor


@dataclass(frozen=True, kw_only=True)
class Implicit(Estimator):
    """What the implicit estimators share.

    Args:
        inner_steps: of the problem's rule before the gradient is taken, >= 0; they are not differentiated.
        tolerance: the greatest residual that counts as converged.
        stationary: the greatest norm of the inner gradient at which the inner problem counts as solved.
    """

    inner_steps: int = 0
    tolerance: float = 1e-5
    stationary: float = 1e-3

    def __post_init__(self) -> None:
        if self.inner_steps < 0:
            raise BilevelError(f"inner_steps must be >= 0, got {self.inner_steps}")
        for name in ("tolerance", "stationary"):
            if not getattr(self, name) > 0:
                raise BilevelError(f"{name} must be > 0, got {getattr(self, name)}")

    @property
    def descends(self) -> bool:
        return True

    @abstractmethod
    def solve(self, product: Product, v: Tree, warm: Tree | None, generator: torch.Generator | None) -> Solved:
        """Solves H q = v.

        Args:
            product: p -> H p.
            v: the gradient of the outer loss in theta.
            warm: the q of the call before, or None.
            generator: for a solve that draws.
        """

    def doubts(self, h: Hypergradient) -> str | None:
        if not bool(torch.isfinite(h.outer_loss)):
            return super().doubts(h)
        found = []
        if float(h.curvature) <= 0:
            found.append(
                f"the Hessian of the inner loss is not positive definite (least curvature {float(h.curvature):.1e}): "
                "solve the inner problem further, or add damping"
            )
        if not float(h.stationarity) <= self.stationary:
            found.append(
                f"the inner problem is not solved (its gradient has norm {float(h.stationarity):.1e}, allowed: "
                f"{self.stationary:.0e}): take more inner_steps"
            )
        if not float(h.residual) <= self.tolerance:
            found.append(f"the residual is {float(h.residual):.1e} (allowed: {self.tolerance:.0e}): {self.remedy(h)}")
        if not found and not bool(finite(h.gradient)):
            found.append("the hypergradient is not finite: a loss has no derivative there in an outer variable")
        return "; ".join(found) or None

    def remedy(self, h: Hypergradient) -> str:
        """What makes the residual smaller."""
        return "take more steps"

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
        here, after, _ = descend(problem, theta, outer, inner_batch, memory, self.inner_steps, held_slope)
        inner_loss, batch = problem.inner_loss, problem.batch_at(inner_batch, self.inner_steps)
        assert inner_loss is not None  # Estimator.__call__ has refused it
        if carry == ():  # once: a call that goes on has been looked at
            reads = [lambda o: inner_loss(here, o, batch), lambda o: problem.outer_loss(here, o, outer_batch)]
            refuse_unread(outer, reads, "an implicit estimator sees outer variables through the losses alone")

        def valued(x: tuple[Tree, Tree]) -> tuple[Tensor, tuple[()]]:
            return problem.outer_loss(x[0], x[1], outer_batch), ()

        (v, direct), loss, _ = gradient_of(valued, (here, outer))
        viewed: Any = vjp(lambda t: grad(inner_loss)(t, outer, batch), here)
        inner, pull = viewed  # H is symmetric: its own transpose

        def product(p: Tree) -> Tree:
            (hp,) = pull(p)
            return hp

        # In theta's memory layout: a sum in another order ends in another last bit, and a resumed run with it.
        warm = None if carry == () else tree_map(lambda t, q: torch.zeros_like(t) + q, here, carry)
        q, curvature = self.solve(product, v, warm, generator)
        across: Any = vjp(lambda o: grad(inner_loss)(here, o, batch), outer)
        (mixed,) = across[1](q, retain_graph=False, create_graph=False)
        size, stationarity, hq = norm(v), norm(inner), product(q)
        residual = norm(axpy(-1.0, v, hq)) / torch.where(size > 0, size, torch.ones_like(size))
        gradient = axpy(-1.0, mixed, direct)
        # What is carried must be nearer to the solution than 0 is, or it grows from call to call: by its residual,
        # or, where H looks positive definite, by what conjugate gradients make smaller, q'Hq / 2 - v'q.
        qhq = dot(q, hq)
        useful = (residual < 1) | ((curvature > 0) & (qhq > 0) & (qhq < 2 * dot(q, v)))
        solved = (residual <= self.tolerance) & (curvature > 0) & (stationarity <= self.stationary)
        return Hypergradient(
            gradient=gradient,
            outer_loss=loss,
            stationarity=stationarity,
            residual=residual,
            curvature=curvature,
            converged=sound(loss, gradient) & solved,
            theta=here,
            memory=after,
            carry=tree_map(lambda x: torch.where(useful, x, 0.0), q),
        )


@dataclass(frozen=True)
class Neumann(Implicit):
    """q = lr * sum over k = 0 .. terms of (I - lr H)^k v: one product a term, and no division.

    Along an eigenvector of H with the eigenvalue c the relative error of q is (1 - lr c)^(terms + 1), so it converges
    for 0 < lr < 2 / the greatest eigenvalue, and slowly where eigenvalues are far apart.

    Args:
        terms: after the first, >= 0.
        lr: as of gradient descent on the inner loss, > 0.

    Raises:
        BilevelError: terms < 0 or lr <= 0.

    >>> from metanas.bilevel import Bilevel
    >>> loss = lambda theta, outer, batch: ((theta["w"] - outer["target"]) ** 2).sum() / 2
    >>> goal = lambda theta, outer, batch: theta["w"].sum()
    >>> at = {"w": torch.ones(1)}, {"target": torch.ones(1)}, None, None
    >>> h = Neumann(terms=2, lr=0.5)(Bilevel(loss, goal), *at)
    >>> h.gradient, h.residual
    ({'target': tensor([0.8750])}, tensor(0.1250))
    """

    terms: int
    lr: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.terms < 0:
            raise BilevelError(f"terms must be >= 0, got {self.terms}")
        if not self.lr > 0:
            raise BilevelError(f"lr must be > 0, got {self.lr}")

    def remedy(self, h: Hypergradient) -> str:
        if not float(h.residual) <= 1:  # worse than q = 0, or overflown: the series diverges
            return f"lr {self.lr} is past the stability bound, 2 / the greatest eigenvalue of the Hessian; lower it"
        return "take more terms"

    def solve(self, product: Product, v: Tree, warm: Tree | None, generator: torch.Generator | None) -> Solved:
        """The sum itself: a warm start has no place in it."""
        p = q = v
        curvature = torch.full_like(norm(v), torch.inf)
        for _ in range(self.terms):
            hp = product(p)
            curvature = torch.minimum(curvature, _quotient(p, hp))
            p = axpy(-self.lr, hp, p)
            q = add(q, p)
        q = tree_map(lambda x: self.lr * x, q)
        return Solved(q, torch.minimum(curvature, _quotient(q, product(q))))


def T1T2(*, lr: float, **others: Any) -> Neumann:
    """H is taken for a multiple of the identity: q = lr v (Luketina et al. 2016), one mixed product.

    >>> T1T2(lr=0.1)
    Neumann(inner_steps=0, tolerance=1e-05, stationary=0.001, terms=0, lr=0.1)
    """
    return Neumann(terms=0, lr=lr, **others)


@dataclass(frozen=True)
class ConjugateGradient(Implicit):
    """Conjugate gradients on (H + damping) q = v: exact after as many iterations as H has different eigenvalues.

        a = r'r / p'Hp;   q += a p;   r' = r - a Hp;   p = r' + (r''r' / r'r) p

    It starts from the q of the call before (`carry`), stops by itself where the residual is that of rounding, and at
    the last good q where a direction has no positive curvature: then H is not positive definite, `converged` is False,
    and damping, or a better solved inner problem, is needed.

    Args:
        steps: iterations at most, >= 1; one product each.
        damping: added to H in the solve, >= 0; `residual` is that of H itself.

    Raises:
        BilevelError: steps < 1 or damping < 0.

    >>> from metanas.bilevel import Bilevel
    >>> loss = lambda theta, outer, batch: ((theta["w"] - outer["target"]) ** 2).sum() / 2
    >>> goal = lambda theta, outer, batch: theta["w"].sum()
    >>> at = {"w": torch.ones(1)}, {"target": torch.ones(1)}, None, None
    >>> h = ConjugateGradient(steps=1)(Bilevel(loss, goal), *at)
    >>> h.gradient, h.residual, h.converged
    ({'target': tensor([1.])}, tensor(0.), tensor(True))
    """

    steps: int
    damping: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise BilevelError(f"steps must be >= 1, got {self.steps}")
        if not self.damping >= 0:
            raise BilevelError(f"damping must be >= 0, got {self.damping}")

    def solve(self, product: Product, v: Tree, warm: Tree | None, generator: torch.Generator | None) -> Solved:
        """Everything is computed in every iteration, and kept only where it is of use: the host reads no number."""

        def damped(p: Tree) -> Tree:
            return axpy(self.damping, p, product(p))

        q = zeros(v) if warm is None else tree_map(lambda x: torch.where(torch.isfinite(x), x, 0.0), warm)
        r = v if warm is None else axpy(-1.0, damped(q), v)
        p, rr = r, dot(r, r)
        least = dot(v, v) * (4 * torch.finfo(rr.dtype).eps) ** 2
        curvature = torch.full_like(rr, torch.inf)
        active = rr > least
        for _ in range(self.steps):
            hp = damped(p)
            php, pp = dot(p, hp), dot(p, p)
            curvature = torch.where(active, torch.minimum(curvature, _ratio(php, pp) - self.damping), curvature)
            active = active & (php > 0)
            step = torch.where(active, _ratio(rr, php), 0.0)
            q, r = axpy(step, p, q), axpy(-step, hp, r)
            after = dot(r, r)
            on = torch.where(active, 1.0, 0.0)
            p = axpy(torch.where(active, _ratio(after, rr), 1.0), p, tree_map(lambda x, on=on: on.to(x.dtype) * x, r))
            rr = torch.where(active, after, rr)
            active = active & (rr > least)
        # Where the warm start was the solution already, no direction was looked at.
        curvature = torch.where(torch.isinf(curvature), _quotient(q, product(q)), curvature)
        return Solved(q, curvature)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0."""
    return torch.where(b == 0, 0.0, a / torch.where(b == 0, torch.ones_like(b), b))


def _quotient(p: Tree, hp: Tree) -> Tensor:
    """Rayleigh's p'Hp / p'p; infinite for p = 0, which says nothing of H."""
    pp = dot(p, p)
    return torch.where(pp > 0, _ratio(dot(p, hp), pp), torch.inf)
