"""Learners that compare: a query belongs to the class whose prototype is nearest in a learned embedding.

    theta = {prototypes: mean of the embedded examples of each class};  no inner step
    scores = -|f(x) - c_k|^2

The outer loss is the cross entropy of the queries (`loss="prototypes"`; Snell, Swersky, Zemel 2017, arXiv:1703.05175),
or that of all one-shot tasks that the examples of an episode hold (`loss="turns"`): every example of a class takes its
turn as the prototype, and all others are queries, so that one embedding of a batch gives many more comparisons:

    mean over classes w, examples m of w, turns k != m  of  cross entropy(-|f_wm - f_ck|^2 over c, w)
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.bilevel import Bilevel, FirstOrder, Tree
from metanas.errors import BilevelError, nearest
from metanas.modes.adapting import Structure
from metanas.modes.episodic import Episodic
from metanas.modes.few_shot import FewShot, Queries, Support
from metanas.network import Statistics

Comparison = Literal["prototypes", "turns"]


def prototypical(network: nn.Module, *, loss: Comparison = "prototypes", structure: Structure | None = None) -> FewShot:
    """A prototypical network.

    Args:
        network: from images to embeddings (examples, width). Its batch norms use the statistics of the batch in
            training, and those of the training classes in an inductive answer.
        loss: what the embedding is trained by; "turns" needs as many examples of each class as of any other.
        structure: omega, shared by all tasks, where the network has choices.

    Raises:
        BilevelError: an unknown loss; a structure that should adapt, where nothing does.

    >>> learner = prototypical(nn.Identity(), loss="prototypes")
    Traceback (most recent call last):
    metanas.errors.BilevelError: the network has no parameters to learn; a prototypical network is its embedding
    """
    if loss not in get_args(Comparison):
        raise BilevelError(f"loss must be prototypes or turns, got {loss!r}{nearest(loss, get_args(Comparison))}")
    if structure is not None and structure.adapts:
        raise BilevelError("nothing adapts inside a task of a prototypical network; give a structure that is shared")
    call = Episodic(network)
    if not call.theta:
        raise BilevelError("the network has no parameters to learn; a prototypical network is its embedding")

    def embedded(outer: Tree, images: Tensor, statistics: Statistics | None) -> Tensor:
        more = {} if structure is None else {"mix": structure.mix(outer["structure"])}
        return call(outer["weights"], images, statistics, **more)

    def start(theta: Tree, outer: Tree, support: Support) -> Tree:
        rows = embedded(outer, support.images, support.statistics)
        found = {"prototypes": prototypes(rows, support.targets)}
        return {**found, "rows": rows, "targets": support.targets} if loss == "turns" else found

    def scores(theta: Tree, outer: Tree, images: Tensor, statistics: Statistics | None) -> Tensor:
        return nearness(embedded(outer, images, statistics), theta["prototypes"])

    def statistics(theta: Tree, outer: Tree, images: Tensor) -> Statistics:
        more = {} if structure is None else {"mix": structure.mix(outer["structure"])}
        return call.statistics(outer["weights"], images, **more)

    def outer_loss(theta: Tree, outer: Tree, queries: Queries) -> Tensor:
        if loss == "prototypes":
            return F.cross_entropy(scores(theta, outer, queries.images, None), queries.targets)
        rows = torch.cat([theta["rows"], embedded(outer, queries.images, None)])
        return turns_loss(rows, torch.cat([theta["targets"], queries.targets]))

    outer: dict[str, Tree] = {"weights": {name: p.clone() for name, p in call.theta.items()}}
    outer |= {} if structure is None else {"structure": structure.start}
    problem = Bilevel(None, outer_loss, start=start)
    return FewShot(
        problem,
        FirstOrder(),
        outer,
        0,
        scores,
        statistics,
        pooled=True,
        head=lambda theta, outer: linear_head(theta["prototypes"]),
        mixes=structure is not None,
    )


def prototypes(rows: Tensor, targets: Tensor) -> Tensor:
    """The mean embedding of each class: rows (examples, width), targets (examples, ways) -> (ways, width).

    >>> prototypes(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    tensor([[2.],
            [5.]])
    """
    return targets.T @ rows / targets.sum(0)[:, None]


def nearness(rows: Tensor, prototypes: Tensor) -> Tensor:
    """-|f - c|^2 + |f|^2 = 2 f.c - |c|^2: the same softmax, and linear in f; (examples, ways).

    >>> nearness(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    tensor([[ 1., -4.]])
    """
    weight, bias = linear_head(prototypes)
    return rows @ weight.T + bias


def linear_head(prototypes: Tensor) -> tuple[Tensor, Tensor]:
    """`nearness` as a linear map: its weight (ways, width) and bias (ways,)."""
    return 2 * prototypes, -prototypes.square().sum(-1)


def turns_loss(rows: Tensor, targets: Tensor) -> Tensor:
    """The mean cross entropy of all one-shot tasks; rows (examples, width), targets (examples, ways) one-hot, of each
    class as many, two or more.

    >>> rows = torch.tensor([[0.0], [9.0], [0.1], [9.1]])
    >>> bool(turns_loss(rows, torch.eye(2)[torch.tensor([0, 1, 0, 1])]) < 1e-3)
    True
    """
    ways = targets.shape[-1]
    order = targets.argmax(-1).argsort(stable=True)
    rows = rows[order]
    near = nearness(rows, rows).view(ways, -1, ways, len(rows) // ways)  # (w, m, c, k)
    own = near.log_softmax(2).diagonal(dim1=0, dim2=2)  # (m, k, w)
    each = own.shape[0]
    others = 1 - torch.eye(each, device=rows.device, dtype=rows.dtype)
    return -(own * others[:, :, None]).sum() / (ways * each * (each - 1))
