"""The search against DARTS written by hand after its paper: torch.autograd and torch.optim, in place."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from metanas.bilevel import FiniteDifference, FirstOrder, Unrolled
from metanas.controllers import Darts
from metanas.data import batches
from metanas.data.seeds import seeded
from metanas.network import supernet

LR, LR_END, MOMENTUM, DECAY, CLIP, EPOCHS, BATCH = 0.1, 0.01, 0.9, 5e-4, 0.5, 3, 4
SETTINGS = {"lr": LR, "lr_end": LR_END, "weight_decay": DECAY, "clip": CLIP, "epochs": EPOCHS}


class ByHand:
    """What both orders share: the same start and the same batches as the search."""

    def __init__(self, tiny):
        data = self.data = tiny.data()
        self.net = supernet(tiny.space, data.shape, tiny.classes)
        self.w = dict(self.net.named_parameters())
        start = Darts().start(tiny.space, generator=seeded(0, "omega"))
        self.alpha = {name: row.clone().requires_grad_() for name, row in start.items()}
        self.step_w = torch.optim.SGD(self.w.values(), LR, MOMENTUM, weight_decay=DECAY, nesterov=True)
        self.step_alpha = torch.optim.Adam(self.alpha.values(), Darts().lr, (0.5, 0.999), weight_decay=1e-3)

    def epochs(self):
        for epoch in range(EPOCHS):
            lr = LR_END + (LR - LR_END) * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2
            self.step_w.param_groups[0]["lr"] = lr
            splits = (self.data.inner, "inner"), (self.data.outer, "outer")
            rows = [
                batches(split, BATCH, seed=0, epoch=epoch, stream=name, augment=self.data.augment)
                for split, name in splits
            ]
            for inner, outer in zip(*rows, strict=False):
                yield lr, inner, outer

    def loss(self, w, batch):
        mix = {name: torch.softmax(row, -1) for name, row in self.alpha.items()}
        return F.cross_entropy(functional_call(self.net, w, (batch[0],), {"mix": mix}), batch[1])

    def train(self, batch):
        self.step_w.zero_grad()
        self.loss(self.w, batch).backward()
        torch.nn.utils.clip_grad_norm_(self.w.values(), CLIP)
        self.step_w.step()

    def move_alpha(self, gradients):
        for row, g in zip(self.alpha.values(), gradients, strict=True):
            row.grad = g
        self.step_alpha.step()


def first_order(tiny, steps):
    """The weights first, then the structure at the new weights."""
    by = ByHand(tiny)
    for _, (_, inner, outer) in zip(range(steps), by.epochs(), strict=False):
        by.train(inner)
        by.move_alpha(torch.autograd.grad(by.loss(by.w, outer), list(by.alpha.values())))
    return by


def second_order(tiny, steps):
    """Eq. 7 and 8. The look-ahead has the optimiser's momentum, but no Nesterov and no clipping."""
    by = ByHand(tiny)
    for _, (xi, inner, outer) in zip(range(steps), by.epochs(), strict=False):
        g = torch.autograd.grad(by.loss(by.w, inner), list(by.w.values()))
        ahead = {}
        for (name, p), d in zip(by.w.items(), g, strict=True):
            buffer = by.step_w.state[p].get("momentum_buffer", torch.zeros_like(p))
            ahead[name] = (p - xi * (MOMENTUM * buffer + d + DECAY * p)).detach().requires_grad_()
        rows = list(by.alpha.values())
        found = torch.autograd.grad(by.loss(ahead, outer), [*ahead.values(), *rows])
        v, direct = found[: len(ahead)], found[len(ahead) :]
        eps = 0.01 / torch.cat([x.flatten() for x in v]).norm()
        plus, minus = (
            torch.autograd.grad(
                by.loss({n: (p + s * eps * x).detach() for (n, p), x in zip(by.w.items(), v, strict=True)}, inner), rows
            )
            for s in (1, -1)
        )
        by.move_alpha([d - xi * (a - b) / (2 * eps) for d, a, b in zip(direct, plus, minus, strict=True)])
        by.train(inner)
    return by


def run(search, steps):
    for _, step in zip(range(steps), search.steps(), strict=False):
        assert torch.isfinite(step.inner_loss)
    assert search.step == steps
    return search


def difference(search, by):
    """The largest relative distances of omega and of a weight from those by hand."""
    far = lambda a, b: float((a - b).norm() / b.norm())  # noqa: E731
    return (
        max(far(search.relaxed.omega[n].detach(), row.detach()) for n, row in by.alpha.items()),
        max(far(search.theta[n].detach(), p.detach()) for n, p in by.w.items()),
    )


@pytest.mark.parametrize(
    "by_hand, estimator, order",
    [(first_order, FirstOrder(), "advance"), (second_order, FiniteDifference(), "outer")],
    ids=["first order", "second order"],
)
def test_the_search_is_darts(tiny, by_hand, estimator, order):
    """Eight steps over three epochs, so that the rate changes twice: omega and every weight."""
    search = run(tiny.search(estimator=estimator, order=order, **SETTINGS), 8)
    assert max(difference(search, by_hand(tiny, 8))) < 1e-10


@pytest.mark.parametrize("change", [{"momentum": 0.8}, {"weight_decay": 0.01}, {"lr_end": 0.05}, {"clip": 5.0}])
def test_the_comparison_sees_a_setting_that_differs(tiny, change):
    search = run(tiny.search(estimator=FiniteDifference(), order="outer", **SETTINGS | change), 8)
    assert min(difference(search, second_order(tiny, 8))) > 1e-8


def test_the_order_matters(tiny):
    search = run(tiny.search(order="outer", **SETTINGS), 8)
    assert min(difference(search, first_order(tiny, 8))) > 1e-8


def test_one_exact_step_ahead_is_near_its_finite_difference(tiny):
    """Near, since the network has ReLUs: the same direction, not the same number."""
    found = []
    for estimator in (FiniteDifference(1e-4), Unrolled(1)):
        search = tiny.search(estimator=estimator, order="outer", **SETTINGS)
        run(search, 4)
        found.append(torch.cat([x.detach() for x in search.relaxed.omega.values()]))
    moved = torch.cat(list(Darts().start(tiny.space, generator=seeded(0, "omega")).values()))
    a, b = (x - moved for x in found)
    assert torch.cosine_similarity(a, b, 0) > 0.99
