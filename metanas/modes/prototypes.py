"""Learners that compare: a query belongs to the class whose prototype is nearest in a learned embedding.

    theta = {prototypes: mean of the embedded examples of each class};  no inner step
    scores = -|f(x) - c_k|^2

The outer loss is the cross entropy of the queries (`loss="prototypes"`; Snell, Swersky, Zemel 2017, arXiv:1703.05175),
or neighbourhood component analysis over all examples of the task (`loss="neighbours"`), in which each example is a query
to all others, so that one embedding of a batch gives many more comparisons (Goldberger et al. 2004; Laenen, Bertinetto
2021, arXiv:2012.09831):

    p(i is of its class) = sum of exp(-|f_i - f_j|^2) over j != i of the class of i / sum of the same over all j != i
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

Comparison = Literal["prototypes", "neighbours"]


def prototypical(
    network: nn.Module, *, loss: Comparison = "prototypes", structure: Structure | None = None
) -> FewShot:
    """A prototypical network.

    Args:
        network: from images to embeddings (examples, width). Its batch norms use the statistics of the batch in
            training, and those of the training classes in an inductive answer.
        loss: what the embedding is trained by.
        structure: omega, shared by all tasks, where the network has choices.

    Raises:
        BilevelError: an unknown loss; a structure that should adapt, where nothing does.

    >>> learner = prototypical(nn.Identity(), loss="prototypes")
    Traceback (most recent call last):
    metanas.errors.BilevelError: the network has no parameters to learn; a prototypical network is its embedding
    """
    if loss not in get_args(Comparison):
        raise BilevelError(f"loss must be prototypes or neighbours, got {loss!r}{nearest(loss, get_args(Comparison))}")
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
        return {**found, "rows": rows, "targets": support.targets} if loss == "neighbours" else found

    def scores(theta: Tree, outer: Tree, images: Tensor, statistics: Statistics | None) -> Tensor:
        return nearness(embedded(outer, images, statistics), theta["prototypes"])

    def statistics(theta: Tree, outer: Tree, images: Tensor) -> Statistics:
        more = {} if structure is None else {"mix": structure.mix(outer["structure"])}
        return call.statistics(outer["weights"], images, **more)

    def outer_loss(theta: Tree, outer: Tree, queries: Queries) -> Tensor:
        if loss == "prototypes":
            return F.cross_entropy(scores(theta, outer, queries.images, None), queries.targets)
        rows = torch.cat([theta["rows"], embedded(outer, queries.images, None)])
        return neighbour_loss(rows, torch.cat([theta["targets"], queries.targets]))

    outer: dict[str, Tree] = {"weights": {name: p.clone() for name, p in call.theta.items()}}
    outer |= {} if structure is None else {"structure": structure.start}
    problem = Bilevel(None, outer_loss, start=start)
    return FewShot(problem, FirstOrder(), outer, 0, scores, statistics, pooled=True)


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
    return 2 * rows @ prototypes.T - prototypes.square().sum(-1)


def neighbour_loss(rows: Tensor, targets: Tensor) -> Tensor:
    """The mean over examples of -log p(i is of its class); rows (examples, width), targets (examples, ways) one-hot.
    Each class needs two examples.

    >>> rows = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
    >>> bool(neighbour_loss(rows, torch.eye(2)[torch.tensor([0, 0, 1, 1])]) < 1e-3)
    True
    """
    near = nearness(rows, rows)
    hidden = torch.finfo(near.dtype).min
    near = near.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), hidden)
    same = targets @ targets.T > 0.5
    return (near.logsumexp(-1) - near.masked_fill(~same, hidden).logsumexp(-1)).mean()
