"""What shapes a training, in parts that can be learned together: a `Part` is one of them, `assemble` makes a problem.

    inner loss = mean over i of  w_i * loss_i(theta; transformed example i)  +  penalties      on inner batches
    outer loss = mean over i of  loss_i(theta)                                                on outer batches

Each part owns the outer variables under its name, and says where it enters: weights multiply, penalties add up,
transforms are applied one after the other, and at most one part gives the losses, one the learning rate.

    made by             enters as    what is learned
    example_weights     weights      a weight for each example        Franceschi et al. 2017, arXiv:1703.01785
    decay               penalty      one for all ... each parameter   Lorraine, Vicol, Duvenaud 2020, arXiv:1911.02590
    rate                lr           one for all ... layer and step   Micaelli, Storkey 2021, arXiv:2007.09250
    augmentation        transform    magnitudes                       Benton et al. 2020, arXiv:2010.11882
    label_smoothing     transform    how sure labels are              Szegedy et al. 2016, arXiv:1512.00567
    learned_loss        losses       terms and class offsets          Leng et al. 2022, arXiv:2204.12511

A batch is (inputs, targets, positions, noise): `positions` (batch,) long, where each example stands in the inner split;
`noise` (batch, NOISE) uniform in -1 .. 1, drawn anew for each batch. A part reads what it needs; the rest may be left
out where no part reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from metanas.bilevel import SGD, Adam, Bilevel, Tree, persists
from metanas.errors import BilevelError
from metanas.modes.meta_parameter import Losses, cross_entropies, meta_parameter
from metanas.network import Precision

NOISE = 8
"""Numbers of noise that travel with each example."""


@dataclass(frozen=True)
class Part:
    """One thing that shapes a training and is learned.

    Args:
        name: of its outer variables in the outer tree.
        start: their values at first, a tree of unconstrained floating tensors (logarithms, logits).
        shown: own outer variables -> {what: value in its natural unit}, a few numbers to look at while it is learned.
        weights: (own outer, batch) -> (batch,), >= 0.
        penalty: (theta, own outer) -> 0-d, added to the inner loss.
        transform: (own outer, batch) -> batch, differentiable in the outer variables.
        losses: (own outer, outputs, targets) -> (batch,), in place of the task's in the inner problem.
        lr: own outer -> the rule's learning rate, in any of the forms of `bilevel.rules`.
    """

    name: str
    start: Tree
    shown: Callable[[Tree], Mapping[str, float]]
    weights: Callable[[Tree, Any], Tensor] | None = None
    penalty: Callable[[Tree, Tree], Tensor] | None = None
    transform: Callable[[Tree, Any], Any] | None = None
    losses: Callable[[Tree, Tensor, Tensor], Tensor] | None = None
    lr: Callable[[Tree], Any] | None = None


def assemble(
    network: nn.Module,
    parts: Sequence[Part],
    *,
    losses: Losses = cross_entropies,
    rule: SGD | Adam,
    start: Callable[[Tree, Tree, Any], Tree] = persists,
    precision: Precision = "float32",
) -> Bilevel:
    """The bilevel problem whose outer variables are {part.name: part.start}.

    Args:
        network: as for `meta_parameter`.
        parts: at least one, each under its own name.
        losses: of the outer problem, and of the inner one unless a part gives its own.
        rule: of the inner steps; its learning rate is replaced where a part gives one.
        start: where the inner problem begins.
        precision: as for `meta_parameter`.

    Raises:
        BilevelError: no part, two parts of one name, or two that give the losses or the learning rate.

    >>> import torch
    >>> decay = Part(
    ...     "decay",
    ...     {"log": torch.tensor(-2.0)},
    ...     shown=lambda own: {"decay": float(own["log"].exp())},
    ...     penalty=lambda theta, own: own["log"].exp() * theta["weight"].square().sum(),
    ... )
    >>> problem = assemble(nn.Linear(2, 2), [decay], rule=SGD(lr=0.1))
    >>> outer = {decay.name: decay.start}
    """
    _check(parts)
    weighing = [part for part in parts if part.weights is not None]
    fining = [part for part in parts if part.penalty is not None]
    turning = [part for part in parts if part.transform is not None]
    judging = next((part for part in parts if part.losses is not None), None)
    pacing = next((part for part in parts if part.lr is not None), None)

    def weights(outer: Tree, batch: Any) -> Tensor:
        found = [part.weights(outer[part.name], batch) for part in weighing if part.weights]
        for other in found[1:]:
            found[0] = found[0] * other
        return found[0]

    def penalty(theta: Tree, outer: Tree) -> Tensor:
        found = [part.penalty(theta, outer[part.name]) for part in fining if part.penalty]
        for other in found[1:]:
            found[0] = found[0] + other
        return found[0]

    def transform(outer: Tree, batch: Any) -> Any:
        for part in turning:
            assert part.transform is not None
            batch = part.transform(outer[part.name], batch)
        return batch

    def inner_losses(outer: Tree, outputs: Tensor, targets: Tensor) -> Tensor:
        assert judging is not None and judging.losses is not None
        return judging.losses(outer[judging.name], outputs, targets)

    if pacing is not None and pacing.lr is not None:
        lr, name = pacing.lr, pacing.name
        rule = replace(rule, lr=lambda outer: lr(outer[name]))
    return meta_parameter(
        network,
        losses=losses,
        inner_losses=inner_losses if judging else None,
        weights=weights if weighing else None,
        penalty=penalty if fining else None,
        transform=transform if turning else None,
        rule=rule,
        start=start,
        precision=precision,
    )


def _check(parts: Sequence[Part]) -> None:
    if not parts:
        raise BilevelError("nothing is learned: give at least one part")
    names = [part.name for part in parts]
    for what in ("losses", "lr"):
        given = [part.name for part in parts if getattr(part, what) is not None]
        if len(given) > 1:
            raise BilevelError(f"{' and '.join(given)} both give the {what}; leave one out")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BilevelError(f"two parts are called {twice!r}; give each its own name")
