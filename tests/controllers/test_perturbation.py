"""Derivation by perturbation: the loss without each candidate, against a loss whose values are known."""

from __future__ import annotations

import math

import pytest
import torch

from metanas.controllers import DartsPt
from metanas.controllers.perturbation import most_missed, strengths

WORTH = {"none": 0.0, "skip_connect": 1.0, "nor_conv_1x1": 4.0, "nor_conv_3x3": 2.0, "avg_pool_3x3": 3.0}


def loss(weights):
    """Linear in the weights: each candidate lowers it by what it is worth."""
    worth = torch.tensor(list(WORTH.values()))
    return 10 - sum(float(w @ worth) for w in weights.values())


def test_strengths_by_hand(problems):
    space = problems.nasbench201()
    weights = {c.name: torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2]) for c in space.choices}
    values = list(WORTH.values())
    others = 5 * sum(w * v for w, v in zip(weights["1<-0"].tolist(), values, strict=True))
    for k, found in enumerate(strengths(space, weights, "1<-0", loss).tolist()):
        kept = [(w, v) for i, (w, v) in enumerate(zip(weights["1<-0"].tolist(), values, strict=True)) if i != k]
        mean = sum(w * v for w, v in kept) / sum(w for w, _ in kept)
        assert found == pytest.approx(10 - others - mean, rel=1e-5)
    assert all(torch.equal(w, torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2])) for w in weights.values())


def test_the_most_missed_operation_is_derived(problems):
    space = problems.nasbench201()
    weights = {c.name: torch.full((5,), 0.2) for c in space.choices}
    assert set(most_missed(space, weights, loss).values()) == {("nor_conv_1x1",)}


def test_each_option_is_missed_once(problems):
    space, seen = problems.darts(), []
    omega = DartsPt().start(space, generator=torch.Generator())
    DartsPt().derive(space, omega, evaluate=lambda w: seen.append(w) or 1.0, generator=torch.Generator())
    assert len(seen) == DartsPt().evaluates(space) == 7 * sum(c.take == 1 for c in space.choices)


def test_never_and_the_only_one_there_is(problems):
    space = problems.darts()
    weights = {c.name: torch.full((8,), 1 / 8) for c in space.choices if c.take == 1}
    name = "normal.2<-0"
    found = strengths(space, weights, name, lambda w: 1.0)
    assert found[0] == -math.inf and (found[1:] == 1.0).all()
    weights[name] = torch.eye(8)[3]
    assert strengths(space, weights, name, lambda w: 1.0)[3] == math.inf
    assert most_missed(space, weights, lambda w: 1.0)["normal.2<-0"] == ("skip_connect",)
