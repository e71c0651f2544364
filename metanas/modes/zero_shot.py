"""Learners of classes that are known by a description alone: an attribute vector, or a sentence that was encoded.

    theta = {prototypes: c_k = g(v_k) / |g(v_k)|};  no inner step             v_k the description of class k
    scores = temperature * cosine(f(x), c_k)      or      -|f(x) - c_k|^2

f embeds images, g descriptions; both are outer variables, and the outer loss is the cross entropy of the queries. It is
a prototypical network whose prototypes are told instead of shown, so `bilevel.Tasks`, `adapt` and `answer` serve it as
any other learner.

Generalised: seen and unseen classes together, judged by the harmonic mean of both accuracies. Scores favour what was
trained on; *calibrated stacking* takes a number off the scores of the seen classes, chosen on validation classes.

Sources: Snell, Swersky, Zemel 2017, arXiv:1703.05175, section 2.6 (zero-shot); Xian et al. 2017, arXiv:1707.00600
(harmonic mean); Chao et al. 2016, arXiv:1605.04253 (stacking).
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from metanas.bilevel import Bilevel, FirstOrder, Tree
from metanas.errors import BilevelError, DataError, nearest
from metanas.modes.adapting import Structure
from metanas.modes.episodic import Episodic
from metanas.modes.few_shot import Described, FewShot, Queries
from metanas.modes.prototypes import linear_head, nearness
from metanas.modes.stateless import Stateless
from metanas.network import Statistics, norms_of

Likeness = Literal["cosine", "distance"]


def zero_shot(
    network: nn.Module,
    describer: nn.Module,
    *,
    likeness: Likeness = "cosine",
    temperature: float = 16.0,
    structure: Structure | None = None,
) -> FewShot:
    """A prototype network from descriptions; its inner batch is `Described`, its outer batch `Queries`.

    Args:
        network: f, from images to embeddings (examples, width). Its batch norms use the statistics of the batch in
            training, and those of the training classes in an inductive answer.
        describer: g, from descriptions (ways, d) to (ways, width), without batch norms: a class is what it is,
            whichever others stand beside it. `describer(d, width)` makes a small one to train, `interpolated` one in
            closed form for a network that is trained.
        likeness: what the scores are.
        temperature: of the cosine, > 0; distances take none.
        structure: omega, shared by all tasks, where the network has choices.

    Raises:
        BilevelError: an unknown likeness, a temperature that is not > 0, a structure that should adapt, a network or a
            describer without parameters, a batch norm in the describer; on a call, embeddings of two widths, or no
            statistics for the norms.

    >>> learner = zero_shot(nn.Linear(4, 3), describer(2, 3), temperature=0.0)
    Traceback (most recent call last):
    metanas.errors.BilevelError: temperature must be > 0, got 0.0
    """
    _require_sound(likeness, temperature, structure)
    call, told = Episodic(network), Stateless(copy.deepcopy(describer))
    own = {name: p.detach() for name, p in told.module.named_parameters() if p.requires_grad}
    _require_parameters(network=call.theta, describer=own)
    _require_no_norms(told.module)

    def mixed(outer: Tree) -> dict[str, Any]:
        return {} if structure is None else {"mix": structure.mix(outer["structure"])}

    def start(theta: Tree, outer: Tree, classes: Described) -> Tree:
        return {"prototypes": F.normalize(told(outer["describer"], classes.descriptions), dim=-1)}

    def embed(outer: Tree, images: Tensor, statistics: Statistics | None) -> Tensor:
        rows = call(outer["weights"], images, statistics, **mixed(outer))
        return F.normalize(rows, dim=-1) if likeness == "cosine" else rows

    def scores(theta: Tree, outer: Tree, images: Tensor, statistics: Statistics | None) -> Tensor:
        rows, centres = embed(outer, images, statistics), theta["prototypes"]
        if rows.shape[-1] != centres.shape[-1]:
            raise BilevelError(
                f"the network embeds into {rows.shape[-1]} numbers, the describer into {centres.shape[-1]}: make them "
                "equal"
            )
        if likeness == "distance":
            return nearness(rows, centres)
        found: Tensor = temperature * rows @ centres.T
        return found

    def statistics(theta: Tree, outer: Tree, images: Tensor | None) -> Statistics:
        if images is not None:
            return call.statistics(outer["weights"], images, **mixed(outer))
        if call.norms:
            raise BilevelError(
                "a description brings no images to take the statistics of the norms from: give those of the training "
                "classes, Described(descriptions, statistics), or answer transductively"
            )
        return []

    def outer_loss(theta: Tree, outer: Tree, queries: Queries) -> Tensor:
        return F.cross_entropy(scores(theta, outer, queries.images, None), queries.targets)

    outer: dict[str, Tree] = {"weights": tree_map(torch.clone, call.theta), "describer": tree_map(torch.clone, own)}
    outer |= {} if structure is None else {"structure": structure.start}
    problem = Bilevel(None, outer_loss, start=start)
    mixes = structure is not None
    learner = FewShot(problem, FirstOrder(), outer, 0, scores, statistics, pooled=True, mixes=mixes, embed=embed)
    if likeness == "distance":
        return replace(learner, head=lambda theta, outer: linear_head(theta["prototypes"]))
    return learner


def describer(d: int, width: int, *, hidden: int | None = None) -> nn.Module:
    """A small perceptron from descriptions (ways, d) to embeddings (ways, width).

    Args:
        hidden: units of its one hidden layer; 0: none, a linear map; None: twice the width.

    Raises:
        BilevelError: d or width < 1, hidden < 0.

    >>> describer(5, 8)(torch.zeros(3, 5)).shape, type(describer(5, 8, hidden=0)).__name__
    (torch.Size([3, 8]), 'Linear')
    """
    hidden = 2 * width if hidden is None else hidden
    for name, value, least in (("d", d, 1), ("width", width, 1), ("hidden", hidden, 0)):
        if value < least:
            raise BilevelError(f"{name} must be >= {least}, got {value}")
    if not hidden:
        return nn.Linear(d, width)
    return nn.Sequential(nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, width))


class Generalised(NamedTuple):
    """Accuracies where seen and unseen classes stand together, in [0, 1]; each the mean over its classes.

    harmonic: 2 seen unseen / (seen + unseen); 0 where both are
    """

    seen: float
    unseen: float
    harmonic: float


def generalised(scores: Tensor, labels: Tensor, seen: Tensor, *, off: float = 0.0) -> Generalised:
    """Judges the scores of examples of seen and unseen classes.

    Args:
        scores: (examples, classes), over all classes.
        labels: (examples,), long.
        seen: (classes,), bool: which classes were trained on.
        off: what is taken off the scores of the seen classes (`stacking`).

    Raises:
        DataError: shapes that do not fit, or no example of the seen, or of the unseen classes.

    >>> scores = torch.tensor([[2.0, 0.0], [1.0, 0.5], [0.0, 1.0]])
    >>> generalised(scores, torch.tensor([0, 1, 1]), torch.tensor([True, False]))
    Generalised(seen=1.0, unseen=0.5, harmonic=0.6666666666666666)
    """
    _require_both(scores, labels, seen)
    right = ((scores - off * seen.to(scores.dtype)).argmax(1) == labels).double()
    counts = torch.bincount(labels, minlength=len(seen))
    by_class = torch.zeros(len(seen), dtype=torch.float64, device=labels.device).index_add_(0, labels, right)
    here = counts > 0
    of_seen, of_unseen = (float((by_class / counts)[here & part].mean()) for part in (seen, ~seen))
    both = of_seen + of_unseen
    return Generalised(of_seen, of_unseen, 2 * of_seen * of_unseen / both if both else 0.0)


def stacking(scores: Tensor, labels: Tensor, seen: Tensor, *, candidates: int = 200) -> float:
    """What to take off the scores of the seen classes, for the greatest harmonic mean; arguments as of `generalised`,
    with validation classes as the unseen ones.

    >>> scores = torch.tensor([[2.0, 0.0], [1.0, 0.5], [0.0, 1.0]])
    >>> labels, seen = torch.tensor([0, 1, 1]), torch.tensor([True, False])
    >>> generalised(scores, labels, seen, off=stacking(scores, labels, seen)).harmonic
    1.0
    """
    _require_both(scores, labels, seen)
    lead = scores[:, seen].amax(1) - scores[:, ~seen].amax(1)  # an answer changes sides where `off` passes it
    ends = lead.double().quantile(torch.linspace(0, 1, candidates + 1, dtype=torch.float64, device=lead.device))
    tried: list[float] = [0.0, *((ends[1:] + ends[:-1]) / 2).tolist()]
    return max(tried, key=lambda off: (generalised(scores, labels, seen, off=off).harmonic, -abs(off)))


def _require_sound(likeness: str, temperature: float, structure: Structure | None) -> None:
    if likeness not in get_args(Likeness):
        raise BilevelError(
            f"likeness must be cosine or distance, got {likeness!r}{nearest(likeness, get_args(Likeness))}"
        )
    if not (math.isfinite(temperature) and temperature > 0):
        raise BilevelError(f"temperature must be > 0, got {temperature}")
    if structure is not None and structure.adapts:
        raise BilevelError("nothing adapts inside a task of a zero-shot learner; give a structure that is shared")


def _require_parameters(**parts: Tree) -> None:
    for name, theta in parts.items():
        if not theta:
            raise BilevelError(f"the {name} has no parameters to learn")


def _require_no_norms(module: nn.Module) -> None:
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules()) or norms_of(module):
        raise BilevelError(
            "the describer has a batch norm, so that a class would depend on the others; use layer norms"
        )


def _require_both(scores: Tensor, labels: Tensor, seen: Tensor) -> None:
    if scores.dim() != 2 or labels.shape != scores.shape[:1] or seen.shape != scores.shape[1:]:
        raise DataError(
            f"scores must be (examples, classes) with one label for each example and one `seen` for each class, got "
            f"{tuple(scores.shape)}, {tuple(labels.shape)} and {tuple(seen.shape)}"
        )
    of_seen = int(seen[labels].sum())
    if not 0 < of_seen < len(labels):
        raise DataError(f"{of_seen} of {len(labels)} examples are of seen classes: some of both are needed")
