"""What every part must do, and what `assemble` makes of several: in float64 against torch's own training.

A new part is one line of PARTS.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from metanas.bilevel import SGD, Tasks, Unrolled
from metanas.errors import BilevelError
from metanas.loop import minibatches
from metanas.modes import Part, assemble, part
from metanas.modes.augmentations import COLUMNS, augmentation
from metanas.modes.decays import decay
from metanas.modes.losses import label_smoothing, learned_loss
from metanas.modes.part import NOISE
from metanas.modes.rates import rate
from metanas.modes.weights import example_weights

N, CLASSES, SHAPE = 6, 3, (1, 4, 4)
RULE = SGD(lr=0.1, momentum=0.5)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double()


THETA = {name: p.detach() for name, p in network().named_parameters()}
# Name -> (the part somewhere, the part where it changes nothing).
PARTS = {
    "example weights": (example_weights(N), example_weights(N, start=50.0)),
    **{f"decay per {per}": (decay(THETA, per=per, start=0.2), decay(THETA, per=per, start=1e-200))
       for per in ("all", "layer", "parameter", "feature")},
    "rate": (rate(THETA, start=0.3), rate(THETA)),
    "rate per layer": (rate(THETA, per="layer", start=0.3), rate(THETA, per="layer")),
    "rate per step": (rate(THETA, per="step", steps=2, start=0.3), rate(THETA, per="step", steps=2)),
    "rate per layer and step": (
        rate(THETA, per="layer and step", steps=3, start=0.3), rate(THETA, per="layer and step", steps=3)
    ),
    "label smoothing": (label_smoothing(CLASSES, start=0.2), label_smoothing(CLASSES, start=1e-20)),
    "learned loss": (learned_loss(CLASSES, terms=3), learned_loss(CLASSES)),
    "learned loss, no terms": (learned_loss(CLASSES, terms=0), learned_loss(CLASSES, terms=0)),
    **{what: (augmentation([what], SHAPE, start=0.3), augmentation([what], SHAPE, start=1e-15)) for what in COLUMNS},
    "augmentation": (augmentation(list(COLUMNS), SHAPE, start=0.2), augmentation(list(COLUMNS), SHAPE, start=1e-15)),
}  # fmt: skip


@pytest.fixture(params=list(PARTS))
def pair(request):
    return PARTS[request.param]


def batch(seed=0, dtype=torch.float64):
    """(inputs, labels, positions, noise)."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(N, *SHAPE, generator=draw, dtype=dtype)
    labels = torch.randint(CLASSES, (N,), generator=draw)
    return inputs, labels, torch.randperm(N, generator=draw), 2 * torch.rand(N, NOISE, generator=draw, dtype=dtype) - 1


def own_of(part, *, moved=0.0):
    """{name: its start, in float64, moved at random}: no two coordinates the same."""
    torch.manual_seed(1)
    return {part.name: tree_map(lambda x: x.double() + moved * torch.randn(x.shape, dtype=torch.float64), part.start)}


def test_the_hypergradient_against_central_differences(pair):
    part, _ = pair
    problem, inner, outer_batch = assemble(network(), [part], rule=RULE), batch(0), batch(1)
    outer = own_of(part, moved=0.2)
    found = Unrolled(3)(problem, THETA, outer, inner, outer_batch)
    leaves, spec = tree_flatten(outer)

    def loss(leaves):
        return Unrolled(3)(problem, THETA, tree_unflatten(leaves, spec), inner, outer_batch).outer_loss

    for k, g in enumerate(tree_leaves(found.gradient)):
        way = torch.randn(leaves[k].shape, dtype=torch.float64)
        ends = [loss([*leaves[:k], leaves[k] + sign * 1e-5 * way, *leaves[k + 1 :]]) for sign in (1, -1)]
        difference = float(ends[0] - ends[1]) / 2e-5
        assert abs(difference) > 1e-7  # it does something at all
        assert float((g * way).sum()) == pytest.approx(difference, rel=1e-5, abs=1e-10)


def test_at_its_neutral_start_a_part_changes_nothing(pair):
    """Three steps of torch's own SGD."""
    _, neutral = pair
    data = batch()
    found = Unrolled(3)(assemble(network(), [neutral], rule=RULE), THETA, own_of(neutral), data, data).theta
    plain = network()
    optimizer = torch.optim.SGD(plain.parameters(), RULE.lr, RULE.momentum)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(plain(data[0]), data[1]).backward()
        optimizer.step()
    for name, p in plain.named_parameters():
        # the starts are float32, log(0.1) too
        torch.testing.assert_close(found[name], p.detach(), rtol=1e-6, atol=1e-8)


def test_many_tasks_at_once_are_one_after_the_other(pair):
    part, _ = pair
    problem = assemble(network(), [part], rule=RULE)
    tasks = [tree_map(lambda *x: torch.stack(x), *(batch(seed) for seed in seeds)) for seeds in ((0, 1), (2, 3))]
    outer = own_of(part, moved=0.2)
    once, loop = (Tasks(Unrolled(2), loop=loop)(problem, THETA, outer, *tasks).gradient for loop in (False, True))
    torch.testing.assert_close(once, loop, rtol=1e-10, atol=1e-12)


def test_in_float32_its_start_is_as_it_comes(pair):
    part, _ = pair
    theta, data = tree_map(lambda x: x.float(), THETA), batch(dtype=torch.float32)
    start = tree_map(lambda x: x.float(), part.start)  # that of a decay has theta's dtype
    found = Unrolled(2)(assemble(network().float(), [part], rule=RULE), theta, {part.name: start}, data, data)
    for x in tree_leaves((found.gradient, found.theta)):
        assert x.dtype == torch.float32 and bool(x.isfinite().all())


def test_what_is_shown_is_a_few_numbers(pair):
    part, _ = pair
    own = tree_map(lambda x: x.clone().requires_grad_(), part.start)
    shown = part.shown(own)
    assert 1 <= len(shown) <= 6 and all(type(value) is float for value in shown.values())


def test_parts_together_are_each_in_its_place():
    """Weights multiply, penalties add up, transforms follow one another: the inner loss, written out."""
    double = Part("double", {"by": torch.tensor(2.0)}, lambda own: {},
                  transform=lambda own, batch: (own["by"] * batch[0], *batch[1:]))  # fmt: skip
    more = Part("more", {"by": torch.tensor(1.0)}, lambda own: {},
                transform=lambda own, batch: (own["by"] + batch[0], *batch[1:]))  # fmt: skip
    parts = [double, more, example_weights(N), example_weights(N, start=1.0, name="again"),
             decay(THETA, start=0.1), decay(THETA, per="layer", start=0.2, name="layers"),
             label_smoothing(CLASSES, start=0.3), learned_loss(CLASSES)]  # fmt: skip
    module = network()
    problem = assemble(module, parts, rule=RULE)
    outer = {name: x for part in parts for name, x in own_of(part, moved=0.3).items()}
    inputs, labels, positions, _ = data = batch()
    outputs = module(outer["more"]["by"] + outer["double"]["by"] * inputs)
    share = outer["smoothing"]["logit"].sigmoid()
    shares = (1 - share) * F.one_hot(labels, CLASSES) + share / CLASSES
    weights = outer["weights"]["logit"][positions].sigmoid() * outer["again"]["logit"][positions].sigmoid()
    expected = (weights * learned_loss(CLASSES).losses(outer["loss"], outputs, shares)).mean()
    for name, p in THETA.items():
        expected += (outer["decay"]["log"].exp() + outer["layers"]["log"][name].exp()) * p.square().sum() / 2
    torch.testing.assert_close(problem.inner_loss(THETA, outer, data), expected.detach(), rtol=1e-12, atol=0)
    plain = F.cross_entropy(module(inputs), labels).detach()
    torch.testing.assert_close(problem.outer_loss(THETA, outer, data), plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "nothing is learned: give at least one part"),
        ([decay(THETA), decay(THETA)], "two parts are called 'decay'; give each its own name"),
        ([rate(THETA), rate(THETA, name="other")], "rate and other both give the lr; leave one out"),
        ([learned_loss(2), learned_loss(2, name="x")], "loss and x both give the losses; leave one out"),
    ],
)
def test_what_cannot_be_assembled_is_refused(parts, message):
    with pytest.raises(BilevelError) as caught:
        assemble(network(), parts, rule=RULE)
    assert str(caught.value) == message


def test_the_noise_of_a_batch_is_as_wide_as_the_loop_draws_it() -> None:
    """The rooms are neighbours, so neither can take the number from the other."""
    assert minibatches.NOISE == part.NOISE
