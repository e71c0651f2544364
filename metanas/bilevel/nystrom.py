"""A Hessian of low rank, and its damped inverse by Woodbury: few products, and no condition number in their count.

    S  orthonormal, n x rank, drawn;   Y = H S;   S'Y = W diag(c) W'
    B  = Y W c^-1/2 = U diag(s) V'     so that   H ~ U diag(s^2) U'
    q  = U (s^2 + damping)^-1 U'v + (v - U U'v) / damping

What the sketch does not see of H counts as `damping` there, so it should be about as large as the eigenvalues that are
left out; where the rank is that of H, q is the solution of (H + damping) q = v.

Sources: Hataya, Yamada 2023, arXiv:2302.09726 (Nystrom for hypergradients); Frangella, Tropp, Udell 2023,
arXiv:2110.02820 (the stable form by a Gaussian sketch).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metanas.bilevel.estimator import Hypergradient
from metanas.bilevel.implicit import Implicit, Product, Solved
from metanas.bilevel.trees import Tree, ravel
from metanas.errors import BilevelError


@dataclass(frozen=True)
class Nystrom(Implicit):
    """The hypergradient with the inverse of a sketched Hessian: `rank` products, whatever its condition.

    The sketch is drawn, so the call needs a `generator`; on a GPU its factorisations make the host wait. `curvature` is
    the least Ritz value of the sketch; below zero H is not positive definite. `residual` is that of H itself, so that
    damping and what the sketch left out show in it.

    Args:
        rank: columns of the sketch, >= 1; more than theta has numbers are as many as it has.
        damping: added to H, > 0.

    Raises:
        BilevelError: rank < 1 or damping <= 0; on the call, where no generator is given.

    >>> from metanas.bilevel import Bilevel
    >>> loss = lambda theta, outer, batch: ((theta["w"] - outer["target"]) ** 2).sum() / 2
    >>> goal = lambda theta, outer, batch: theta["w"].sum()
    >>> at = {"w": torch.ones(1)}, {"target": torch.ones(1)}, None, None
    >>> Nystrom(rank=1, damping=0.25)(Bilevel(loss, goal), *at, generator=torch.Generator()).gradient
    {'target': tensor([0.8000])}
    """

    rank: int
    damping: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise BilevelError(f"rank must be >= 1, got {self.rank}")
        if not self.damping > 0:
            raise BilevelError(f"damping must be > 0, got {self.damping}")

    def remedy(self, h: Hypergradient) -> str:
        return "take a greater rank, or less damping"

    def solve(self, product: Product, v: Tree, warm: Tree | None, generator: torch.Generator | None) -> Solved:
        if generator is None:
            raise BilevelError("Nystrom draws a sketch: hand it a generator=torch.Generator().manual_seed(...)")
        flat, back = ravel(v)
        flat = flat.to(torch.promote_types(flat.dtype, torch.float32))  # no factorisation knows half precision
        rank = min(self.rank, len(flat))
        drawn = torch.randn(len(flat), rank, dtype=flat.dtype, device=generator.device, generator=generator)
        sketch = torch.linalg.qr(drawn.to(flat.device)).Q  # (n, rank)
        image = torch.stack([ravel(product(back(column)))[0].to(flat.dtype) for column in sketch.unbind(1)], 1)
        # H S, (n, rank)
        sound = torch.isfinite(image).all()  # a factorisation raises at what is not
        image = torch.where(sound, image, 0.0)
        core = sketch.T @ image
        ritz, turn = torch.linalg.eigh((core + core.T) / 2)  # (rank,), (rank, rank)
        kept = ritz > ritz.abs().amax() * rank * torch.finfo(ritz.dtype).eps
        scale = torch.where(kept, ritz.where(kept, 1.0).rsqrt(), 0.0)
        u, s, _ = torch.linalg.svd(image @ turn * scale, full_matrices=False)
        along = u.T @ flat
        seen = torch.where(s > 0, along, 0.0)  # directions that were dropped are not of the sketch
        q = u @ (seen / (s.square() + self.damping)) + (flat - u @ seen) / self.damping
        return Solved(back(torch.where(sound, q, torch.nan)), torch.where(sound, ritz[0], torch.nan))
