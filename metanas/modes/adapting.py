"""Learners that adapt to a task by descending on its support set: MAML and its kin, as values of one type.

    theta_0 = start(outer);   theta <- theta - rate * d loss(support) / d theta;   outer loss = loss(queries)

    maml        all weights adapt      rule SGD                 Unrolled              Finn et al. 2017, 1703.03400
    fomaml      all                    SGD                      FirstOrder            the same
    anil        the head               SGD                      Unrolled              Raghu et al. 2020, 1909.09157
    meta_sgd    all                    SGD, a rate for each     Unrolled              Li et al. 2017, 1707.09835
    reptile     all                    Adam without momentum    Reptile               Nichol et al. 2018, 1803.02999
    imaml       all, held to theta_0   SGD                      ConjugateGradient     Rajeswaran et al. 2019, 1909.04630

They differ in the estimator, the rule, and what adapts; `adapting` takes any other combination. A structure may be
among the outer variables: shared by all tasks, or the start of one that adapts inside each task (then omega is part of
theta). Parts (`modes.Part`) with a penalty or a learning rate join in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import SGD, Adam, Bilevel, ConjugateGradient, Estimator, FirstOrder, Reptile, Rule, Tree, Unrolled
from metanas.errors import BilevelError, nearest
from metanas.modes.episodic import Episodic
from metanas.modes.few_shot import FewShot, Queries, Support
from metanas.modes.part import Part
from metanas.network import Mix, Statistics

Seen = Literal["support", "queries"]
"""What the norms see of a query in training: the statistics of the support set, or those of all queries together."""


@dataclass(frozen=True)
class Structure:
    """A structure among the outer variables of a learner.

    start:  omega at first, a tree of floating tensors
    mix:    omega -> what the choices of the network are set to, deterministic: softmax, or the like
    adapts: whether omega adapts inside each task, from a start that all tasks share
    """

    start: Tree
    mix: Callable[[Tree], Mix]
    adapts: bool = False


def softmax_structure(choices: Mapping[str, int], *, adapts: bool = False, gain: float = 1.0) -> Structure:
    """DARTS's relaxation: softmax(gain * omega) over the candidates of each choice, from omega = 0.

    Args:
        choices: name -> number of candidates, `{c.name: len(c.candidates) for c in space.choices}`.
        gain: how much faster omega is than at 1, for an optimiser whose steps have the size of its rate.

    >>> softmax_structure({"a": 2}).mix({"a": torch.tensor([0.0, 0.0])})
    {'a': tensor([0.5000, 0.5000])}
    """
    start = {name: torch.zeros(number) for name, number in choices.items()}
    return Structure(start, lambda omega: {name: (gain * a).softmax(-1) for name, a in omega.items()}, adapts)


def adapting(
    network: nn.Module,
    *,
    estimator: Estimator,
    rule: Rule,
    steps: int,
    adapts: Callable[[str], bool] = lambda name: True,
    norms: Seen = "support",
    hold: float = 0.0,
    structure: Structure | None = None,
    parts: Sequence[Part] = (),
) -> FewShot:
    """A learner that descends on the support set.

    Args:
        network: from images to (examples, ways); its parameters are what every task starts from. Batch norms of any
            kind are turned into `EpisodeNorm`s.
        estimator: of one task's hypergradient, through `steps` steps.
        rule: of the inner steps.
        steps: inner steps when the learner is used.
        adapts: which parameters adapt, by name; the others are shared by all tasks.
        norms: what the norms see of queries in training.
        hold: lambda in the inner loss + lambda / 2 * |theta - theta_0|^2.
        structure: omega, where the network has choices.
        parts: more that is learned; of each, its penalty on the adapted weights and its learning rate are used.

    Raises:
        BilevelError: nothing adapts, an unknown `norms`, a part that brings neither, or two that give the rate.
    """
    if norms not in get_args(Seen):
        raise BilevelError(f"norms must be support or queries, got {norms!r}{nearest(norms, get_args(Seen))}")
    call = Episodic(network)
    own = [name for name in call.theta if adapts(name)]
    if not own and not (structure and structure.adapts):
        raise BilevelError(f"nothing adapts; the parameters are {', '.join(call.theta) or 'none'}")
    rule = _paced(rule, parts)
    inside = structure is not None and structure.adapts

    def start(theta: Tree, outer: Tree, support: Support) -> Tree:
        begun = {"weights": {name: outer["weights"][name] for name in own}}
        return {**begun, "structure": outer["structure"]} if inside else begun

    def arguments(theta: Tree, outer: Tree) -> tuple[dict[str, Tensor], dict[str, Any]]:
        weights = {**outer["weights"], **theta["weights"]}
        if structure is None:
            return weights, {}
        return weights, {"mix": structure.mix(theta["structure"] if inside else outer["structure"])}

    def scores(theta: Tree, outer: Tree, images: Tensor, statistics: Statistics | None) -> Tensor:
        weights, more = arguments(theta, outer)
        return call(weights, images, statistics, **more)

    def statistics(theta: Tree, outer: Tree, images: Tensor) -> Statistics:
        weights, more = arguments(theta, outer)
        return call.statistics(weights, images, **more)

    def inner_loss(theta: Tree, outer: Tree, support: Support) -> Tensor:
        loss = F.cross_entropy(scores(theta, outer, support.images, None), support.targets)
        if hold:
            loss = loss + hold / 2 * _distance(theta, start({}, outer, support))
        for part in parts:
            loss = loss if part.penalty is None else loss + part.penalty(theta["weights"], outer[part.name])
        return loss

    def outer_loss(theta: Tree, outer: Tree, queries: Queries) -> Tensor:
        seen = statistics(theta, outer, queries.support) if norms == "support" and call.norms else None
        return F.cross_entropy(scores(theta, outer, queries.images, seen), queries.targets)

    # channels-last weights have no rule for one task under vmap, and are no faster there
    plain = {name: p.clone(memory_format=torch.contiguous_format) for name, p in call.theta.items()}
    outer: dict[str, Tree] = {"weights": plain}
    outer |= {} if structure is None else {"structure": structure.start}
    outer |= {part.name: part.start for part in parts}
    problem = Bilevel(inner_loss, outer_loss, start=start, rule=rule)
    return FewShot(problem, estimator, outer, steps, scores, statistics, mixes=structure is not None)


def maml(network: nn.Module, *, steps: int = 5, lr: float = 0.4, **more: Any) -> FewShot:
    """Model-agnostic meta-learning: a start from which a few steps suffice, by the exact gradient through them.

    `more`: arguments of `adapting` (norms, structure, parts, ...).

    >>> learner = maml(nn.Linear(2, 3), steps=1, lr=0.1)
    >>> learner.estimator, list(learner.outer["weights"])
    (Unrolled(steps=1, truncate=None, checkpoint=None, stationary=None), ['weight', 'bias'])
    """
    return adapting(network, estimator=Unrolled(steps), rule=SGD(lr), steps=steps, **more)


def fomaml(network: nn.Module, *, steps: int = 5, lr: float = 0.4, **more: Any) -> FewShot:
    """First-order MAML: the inner gradients are held constant. Arguments as of `maml`."""
    return adapting(network, estimator=FirstOrder(steps), rule=SGD(lr), steps=steps, **more)


def anil(network: nn.Module, *, steps: int = 5, lr: float = 0.4, head: str | None = None, **more: Any) -> FewShot:
    """MAML whose head alone adapts.

    Args:
        head: name of the module that is the head; None: the last linear one.

    >>> learner = anil(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    >>> list(learner.problem.start({}, learner.outer, None)["weights"])
    ['2.weight', '2.bias']
    """
    name = last_linear(network) if head is None else head
    return adapting(
        network,
        estimator=Unrolled(steps),
        rule=SGD(lr),
        steps=steps,
        adapts=lambda parameter: parameter.startswith(f"{name}.") or not name,
        **more,
    )


def meta_sgd(network: nn.Module, *, steps: int = 1, lr: float = 0.1, **more: Any) -> FewShot:
    """MAML with a learned rate for each coordinate, of any sign; all of them start at `lr`."""
    theta = Episodic(network).theta

    def shown(own: Tree) -> dict[str, float]:
        rates = torch.cat([rate.flatten() for rate in tree_leaves(own)])
        return {"rate mean": float(rates.mean()), "rate below 0": float((rates < 0).float().mean())}

    rates = Part("rates", {"weights": tree_map(lambda p: torch.full_like(p, lr), theta)}, shown, lr=lambda own: own)
    more = {**more, "parts": (rates, *more.get("parts", ()))}
    return adapting(network, estimator=Unrolled(steps), rule=SGD(lr), steps=steps, **more)


def reptile(network: nn.Module, *, steps: int = 5, lr: float = 1e-3, **more: Any) -> FewShot:
    """Reptile: the start moves toward where a few steps of Adam without momentum lead. It never looks at queries, so
    all examples of a task belong into the support set. The outer step is plain SGD with a rate of up to 1."""
    rule = Adam(lr, betas=(0.0, 0.999))
    return adapting(network, estimator=Reptile(steps), rule=rule, steps=steps, **more)


def imaml(
    network: nn.Module, *, steps: int = 16, lr: float = 0.1, hold: float = 2.0, solves: int = 5, **more: Any
) -> FewShot:
    """Implicit MAML: the weights are held to the start by `hold`, and the gradient is that of the solved inner problem.

    Args:
        steps: gradient steps toward its solution.
        solves: steps of the conjugate gradients.
    """
    estimator = ConjugateGradient(solves, inner_steps=steps)
    return adapting(network, estimator=estimator, rule=SGD(lr), steps=steps, hold=hold, **more)


def last_linear(network: nn.Module) -> str:
    """The name of the last linear module. BilevelError where there is none.

    >>> last_linear(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    '0'
    """
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise BilevelError("the network has no linear module; name its head: anil(network, head=...)")
    return names[-1]


def _paced(rule: Rule, parts: Sequence[Part]) -> Rule:
    """The rule with the learning rate of the part that gives one."""
    for part in parts:
        if part.penalty is None and part.lr is None:
            raise BilevelError(
                f"the part {part.name!r} has no place in a learner: it needs a penalty or a learning rate"
            )
    pacing = [part for part in parts if part.lr is not None]
    if len(pacing) > 1:
        raise BilevelError(f"{' and '.join(part.name for part in pacing)} both give the lr; leave one out")
    if not pacing:
        return rule
    assert isinstance(rule, SGD | Adam)
    name, lr = pacing[0].name, pacing[0].lr
    assert lr is not None
    return replace(rule, lr=lambda outer: lr(outer[name]))


def _distance(a: Tree, b: Tree) -> Tensor:
    """The squared Euclidean distance of two trees."""
    return torch.stack([(x - y).square().sum() for x, y in zip(tree_leaves(a), tree_leaves(b), strict=True)]).sum()
