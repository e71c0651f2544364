"""SDARTS: the weights are trained at mixing weights that are not quite those of the structure, so that they stand it.

    random         mix + uniform(-epsilon, epsilon), put back
    adversarial    the same, then `steps` times: weights + (2 epsilon / steps) sign(d inner loss / d weights), in every
                   number within epsilon of mix, put back
    put back       clamped to 0 and 1, then over its sum; where nothing is left, the largest alone

Chen, Hsieh: Stabilizing differentiable architecture search via perturbation-based regularization, ICML 2020,
arXiv:2002.05283 (SDARTS-RS; SDARTS-ADV, 7 steps). Training under perturbations lowers the curvature of the loss in
omega, from which a derivation, a step to a corner, suffers. Omega's own step is at the weights themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from metanas.loop.relaxed import Relaxed
from metanas.loop.schedule import Schedule

Weights = dict[str, Tensor]


def perturbed(
    loss: Callable[[Weights], Tensor],
    mix: Weights,
    schedule: Schedule,
    at: Relaxed,
    *,
    competing: bool,
) -> Weights:
    """Mixing weights for a step of the training: these themselves, shaken ones, or the worst near by.

    Args:
        loss, competing: as of `worst`.
        schedule: by how much at the end of the search (0: nothing is perturbed, and nothing drawn), and how.
        at: where the search stands, and its generator.
    """
    epsilon, steps, generator = schedule.perturb * at.progress, schedule.perturb_steps, at.generator
    if not epsilon:
        return mix
    if not steps:
        return shaken(mix, epsilon, competing=competing, generator=generator)
    return worst(loss, mix, epsilon, steps, competing=competing, generator=generator)


@torch.no_grad()
def shaken(mix: Mapping[str, Tensor], epsilon: float, *, competing: bool, generator: torch.Generator) -> Weights:
    """Mixing weights with uniform noise; one that is exactly 0, of a candidate that is gone, stays so.

    Args:
        mix: choice -> weights (candidates,).
        epsilon: the greatest change of each, before it is put back.
        competing: whether the weights of a choice sum to 1; else they are clamped and no more.
        generator: on the weights' device.

    >>> mix = {"y": torch.tensor([0.5, 0.5])}
    >>> moved = shaken(mix, 0.1, competing=True, generator=torch.Generator().manual_seed(0))["y"]
    >>> bool(abs(moved - 0.5).max() < 0.12), round(float(moved.sum()), 4)
    (True, 1.0)
    """
    found = {}
    for name, w in mix.items():
        noise = torch.empty_like(w).uniform_(-epsilon, epsilon, generator=generator)
        found[name] = put_back(torch.where(w == 0, w, w + noise), competing=competing)
    return found


def worst(
    loss: Callable[[Weights], Tensor],
    mix: Mapping[str, Tensor],
    epsilon: float,
    steps: int,
    *,
    competing: bool,
    generator: torch.Generator,
) -> Weights:
    """Mixing weights near `mix` at which the loss is large, by projected gradient ascent.

    Args:
        loss: mixing weights -> 0-d tensor.
        mix, epsilon, competing, generator: as of `shaken`, which is where it begins.
        steps: of the ascent, each the price of a gradient.

    >>> loss = lambda mix: (torch.tensor([-1.0, 1.0]) * mix["y"]).sum()
    >>> mix = {"y": torch.tensor([0.5, 0.5])}
    >>> worst(loss, mix, 0.25, 7, competing=True, generator=torch.Generator().manual_seed(0))
    {'y': tensor([0.2500, 0.7500])}
    """
    at = shaken(mix, epsilon, competing=competing, generator=generator)
    for _ in range(steps):
        leaves = {name: w.requires_grad_() for name, w in at.items()}
        with torch.enable_grad():
            value = loss(leaves)
            slopes = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        at = {}
        with torch.no_grad():
            for (name, w), slope in zip(leaves.items(), slopes, strict=True):
                moved = w if slope is None else w + 2 * epsilon / steps * slope.sign()
                near = mix[name] + (moved - mix[name]).clamp(-epsilon, epsilon)
                at[name] = put_back(near, competing=competing)
    return at


def put_back(weights: Tensor, *, competing: bool) -> Tensor:
    """Weights (candidates,) that may be: none below 0 or above 1, and with the sum 1 where they compete.

    >>> put_back(torch.tensor([-0.1, 0.3, 0.3]), competing=True), put_back(torch.tensor([-0.2, -0.1]), competing=True)
    (tensor([0.0000, 0.5000, 0.5000]), tensor([0., 1.]))
    """
    inside = weights.clamp(0, 1)
    if not competing:
        return inside
    total = inside.sum()
    alone = torch.zeros_like(weights).scatter(0, weights.argmax(0, keepdim=True), 1.0)
    return torch.where(total > 0, inside / total.clamp(min=torch.finfo(weights.dtype).tiny), alone)
