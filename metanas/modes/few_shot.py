"""Learning to learn new classes: what a learner of the meta-classification mode is, and how it is put to use.

    adapt    theta = start(outer, support), then `steps` of the rule on the support set
    answer   scores (queries, ways) at theta

A learner is a `Bilevel` of one task, the estimator of that task's hypergradient, and the outer variables at first;
`bilevel.Tasks` makes the mean over tasks of any of them. None has a loop of its own.

What the norms of the network may see is part of the answer. *Inductive*: each query is answered without a look at the
others; batch norms use the statistics of the support set, or those of the training classes. *Transductive*: the
statistics of all queries together, which tells the network how its queries are spread; worth points, and another task.

Sources: Bronskill et al. 2020, arXiv:2003.03284; Nichol, Achiam, Schulman 2018, arXiv:1803.02999, section 6 (both
ways).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metanas.bilevel import Bilevel, Estimator, Tree
from metanas.bilevel.gradients import held_slope
from metanas.bilevel.problem import descend
from metanas.network import Statistics


class Support(NamedTuple):
    """What a task is learned from, the inner batch of a learner's problem.

    images:     (examples, *shape)
    targets:    (examples, ways), one-hot; the number of classes is a shape, which `vmap` can see
    statistics: of the norms, where they are given (those of the training classes); None: those of the images
    """

    images: Tensor
    targets: Tensor
    statistics: Statistics | None = None


class Described(NamedTuple):
    """Classes that no example shows: it takes the place of the support set.

    descriptions: (ways, d), a vector for each class
    statistics:   of the norms, those of the training classes; None: for a network without batch norms, or a
                  transductive answer
    images:       there are none
    """

    descriptions: Tensor
    statistics: Statistics | None = None
    images: None = None


class Queries(NamedTuple):
    """What a task is judged by, the outer batch of a learner's problem.

    images:  (examples, *shape)
    targets: (examples, ways), one-hot
    support: the images of the support set, (examples, *shape), for the statistics of the norms; where there is no
             support set nothing reads them, and any images will do
    """

    images: Tensor
    targets: Tensor
    support: Tensor


Scores = Callable[[Tree, Tree, Tensor, Statistics | None], Tensor]
"""(theta, outer, images, statistics or None: those of the images) -> (examples, ways)."""


@dataclass(frozen=True)
class FewShot:
    """A learner of new classes.

    problem:    of one task; theta is {} before its start; batches are `Support` or `Described`, and `Queries`
    estimator:  of one task's hypergradient
    outer:      outer variables at first, a dict of trees; "weights" are the network's
    steps:      inner steps when it is used
    scores:     the answer at theta
    statistics: (theta, outer, images; None where a task has none) -> statistics of the norms at theta
    pooled:     what an inductive answer rests on: the statistics of the training classes, pooled, or of the support set
    head:       (theta, outer) -> weight (ways, width) and bias (ways,) of the linear map from the network's output to
                the scores; None: the output is the scores
    mixes:      whether the network has choices that are mixed, so that it is no plain network
    embed:      (outer, images, statistics) -> (examples, width), what prototypes that are told are compared with; None:
                the learner reads no descriptions
    """

    problem: Bilevel
    estimator: Estimator
    outer: dict[str, Tree]
    steps: int
    scores: Scores
    statistics: Callable[[Tree, Tree, Any], Statistics]
    pooled: bool = False
    head: Callable[[Tree, Tree], tuple[Tensor, Tensor]] | None = None
    mixes: bool = False
    embed: Callable[[Tree, Tensor, Statistics | None], Tensor] | None = None


def adapt(learner: FewShot, outer: Tree, support: Support | Described) -> Tree:
    """Theta of a task: its start, and the learner's steps from there. Runs under `vmap`."""
    theta, _, _ = descend(learner.problem, {}, outer, support, None, learner.steps, held_slope)
    return theta


def answer(
    learner: FewShot, outer: Tree, support: Support | Described, images: Tensor, *, transductive: bool = False
) -> Tensor:
    """The scores of queries, (examples, ways), after adapting to the support set. Runs under `vmap`.

    Args:
        transductive: the norms use the statistics of `images` together. Else each image is answered for itself, by
            the statistics in `support`, or where there are none, by those of its images.
    """
    support = support._replace(statistics=None) if transductive else support
    theta = adapt(learner, outer, support)
    statistics = None if transductive else support.statistics
    if statistics is None and not transductive:
        statistics = learner.statistics(theta, outer, support.images)
    return learner.scores(theta, outer, images, statistics)


def one_hot(labels: Tensor, ways: int) -> Tensor:
    """(..., ways) float32: `F.one_hot` raises under `vmap` of a gradient.

    >>> one_hot(torch.tensor([1, 0]), 3)
    tensor([[0., 1., 0.],
            [1., 0., 0.]])
    """
    return torch.eye(ways, device=labels.device)[labels]
