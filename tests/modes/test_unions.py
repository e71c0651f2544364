"""Outer variables together: a structure, the start of the tasks, and what shapes a training, in any union."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import SGD, Bilevel, Tasks, Unrolled, descend
from metanas.bilevel.gradients import slope
from metanas.errors import BilevelError
from metanas.modes import (
    Part,
    Queries,
    Stateless,
    Support,
    adapt,
    answer,
    decay,
    fomaml,
    maml,
    meta_sgd,
    one_hot,
    prototypical,
    rate,
    reptile,
    softmax_structure,
)
from metanas.network import supernet
from metanas.recipe.spaces import load_space

WAYS, TASKS = 3, 2


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def searched(outputs=WAYS):
    """A supernet of two blocks, and how many candidates each choice has."""
    space = load_space("conv4", width=2, depth=2, search=True)
    return supernet(space, (1, 8, 8), outputs).double(), {c.name: len(c.candidates) for c in space.choices}


def structured(make, *, adapts=False, **more):
    net, choices = searched()
    learner = make(net, structure=softmax_structure(choices, adapts=adapts, gain=2.0), **more)
    learner.outer["structure"] = {name: 0.3 * torch.randn(n) for name, n in choices.items()}
    return learner


def tasks(count=TASKS, shape=(1, 8, 8), each=2):
    targets = one_hot(torch.arange(WAYS).repeat(each), WAYS).double().expand(count, -1, -1)
    means = torch.randn(count, WAYS, *shape)
    images, asked = (means.repeat(1, each, *[1] * len(shape)) + torch.randn(count, WAYS * each, *shape) for _ in "sq")
    return Support(images, targets), Queries(asked, targets, images)


def taken(batch, t):
    return tree_map(lambda x: None if x is None else x[t], batch)


def gap(a, b):
    a, b = (torch.cat([x.flatten() for x in tree_leaves(tree)]) for tree in (a, b))
    return float((a - b).norm() / b.norm())


def central(value, tree, step=1e-5):
    """The gradient of `value` in a tree by central differences."""
    leaves = {name: tree[name] for name in tree}
    found = {}
    for name, leaf in leaves.items():
        rows = torch.zeros(leaf.numel())
        for j in range(leaf.numel()):
            bump = torch.zeros(leaf.numel())
            bump[j] = step
            up, down = (value({**tree, name: leaf + sign * bump.view_as(leaf)}).detach() for sign in (1, -1))
            rows[j] = (up - down) / (2 * step)
        found[name] = rows.view_as(leaf)
    return found


def mean_loss(learner, outer, support, queries):
    rows = []
    for t in range(len(support.images)):
        theta, _, _ = descend(learner.problem, {}, outer, taken(support, t), None, learner.steps, slope)
        rows.append(learner.problem.outer_loss(theta, outer, taken(queries, t)))
    return torch.stack(rows).mean()


UNIONS = {
    "shared": lambda: structured(maml, steps=2, lr=0.2),
    "adapts": lambda: structured(maml, steps=2, lr=0.2, adapts=True),
    "adapts, queries": lambda: structured(maml, steps=2, lr=0.2, adapts=True, norms="queries"),
    "meta_sgd, shared": lambda: structured(meta_sgd, steps=1, lr=0.2),
    "first order, adapts": lambda: structured(fomaml, steps=2, lr=0.2, adapts=True),
    "reptile, adapts": lambda: structured(reptile, steps=2, lr=0.01, adapts=True),
    "prototypical, shared": lambda: structured(prototypical),
}


@pytest.mark.parametrize("name", UNIONS)
def test_structure_and_start_at_once_are_one_task_after_the_other(name):
    learner, (support, queries) = UNIONS[name](), tasks()
    assert learner.mixes and {"weights", "structure"} <= set(learner.outer)
    args = (learner.problem, {}, learner.outer, support, queries)
    a, b = Tasks(learner.estimator)(*args), Tasks(learner.estimator, loop=True)(*args)
    for key in learner.outer:
        assert gap(a.gradient[key], b.gradient[key]) < 1e-10, key
    assert gap(a.outer_loss, b.outer_loss) < 1e-12


@pytest.mark.parametrize("name", ["shared", "adapts", "prototypical, shared"])
def test_the_gradient_of_the_structure_is_that_of_central_differences(name):
    learner, (support, queries) = UNIONS[name](), tasks()
    h = Tasks(learner.estimator)(learner.problem, {}, learner.outer, support, queries)
    wanted = central(
        lambda omega: mean_loss(learner, {**learner.outer, "structure": omega}, support, queries),
        learner.outer["structure"],
    )
    assert gap(h.gradient["structure"], wanted) < 1e-6


def test_a_shared_structure_is_the_same_in_every_task_and_one_that_adapts_is_not():
    support, _ = tasks()
    shared, inside = UNIONS["shared"](), UNIONS["adapts"]()
    assert list(adapt(shared, shared.outer, taken(support, 0))) == ["weights"]
    found = [adapt(inside, inside.outer, taken(support, t))["structure"] for t in range(TASKS)]
    assert set(found[0]) == set(inside.outer["structure"])
    for name in found[0]:
        assert not torch.equal(found[0][name], inside.outer["structure"][name]), "it moves"
        assert not torch.equal(found[0][name], found[1][name]), "and to another place in another task"


def test_a_structure_alone_may_adapt():
    net, choices = searched()
    structure = softmax_structure(choices, adapts=True, gain=2.0)
    learner = maml(net, steps=1, lr=0.5, structure=structure, adapts=lambda name: False)
    support, queries = tasks()
    theta = adapt(learner, learner.outer, taken(support, 0))
    assert theta["weights"] == {} and any(bool(x.any()) for x in tree_leaves(theta["structure"]))
    h = Tasks(learner.estimator)(learner.problem, {}, learner.outer, support, queries)
    assert all(bool(x.any()) for x in tree_leaves(h.gradient["structure"]))
    with pytest.raises(BilevelError, match="nothing adapts"):
        maml(net, structure=softmax_structure(choices), adapts=lambda name: False)


def test_an_answer_uses_the_structure_of_its_task():
    inside, (support, queries) = UNIONS["adapts"](), tasks()
    scores = answer(inside, inside.outer, taken(support, 0), queries.images[0])
    theta = adapt(inside, inside.outer, taken(support, 0))
    held = inside.scores({**theta, "structure": inside.outer["structure"]}, inside.outer, queries.images[0], None)
    own = inside.scores(theta, inside.outer, queries.images[0], None)
    assert scores.shape == (6, WAYS) and gap(held, own) > 1e-6


def test_a_comparing_learner_has_nothing_that_adapts():
    net, choices = searched()
    with pytest.raises(BilevelError, match="nothing adapts inside a task of a prototypical network"):
        prototypical(net, structure=softmax_structure(choices, adapts=True))


# A structure, and what shapes a training whose weights persist


@pytest.mark.long
def test_a_structure_and_a_decay_over_weights_that_persist():
    net, choices = searched()
    theta = {name: p.detach() for name, p in net.named_parameters()}
    part, structure, call = decay(theta, per="layer", start=0.05), softmax_structure(choices, gain=2.0), Stateless(net)
    support, queries = (taken(batch, 0) for batch in tasks())

    def fit(theta, outer, batch):
        return F.cross_entropy(call(theta, batch.images, mix=structure.mix(outer["structure"])), batch.targets)

    def inner(theta, outer, batch):
        return fit(theta, outer, batch) + part.penalty(theta, outer[part.name])

    problem = Bilevel(inner, fit, rule=SGD(0.1, 0.9))
    outer = {"structure": {name: 0.3 * torch.randn(n) for name, n in choices.items()}, part.name: part.start}
    h = Unrolled(2)(problem, theta, outer, support, queries)

    def value(outer):
        end, _, _ = descend(problem, theta, outer, support, None, 2, slope)
        return fit(end, outer, queries)

    for key, own in (("structure", outer["structure"]), (part.name, part.start["log"])):
        wrapped = (lambda own: {"log": own}) if key == part.name else (lambda own: own)
        wanted = central(lambda own, key=key, wrapped=wrapped: value({**outer, key: wrapped(own)}), own)
        got = h.gradient[key]["log"] if key == part.name else h.gradient[key]
        assert gap(got, wanted) < 1e-6, key


# A start, and what shapes the training of a task


def rows_net():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, WAYS))


def with_part(make_part, make=maml, **more):
    net = rows_net()
    theta = {"weights": {name: p.detach() for name, p in net.named_parameters()}}
    return make(net, steps=2, lr=0.3, parts=[make_part(theta)], **more)


def test_a_start_and_a_rate_for_each_layer_and_step():
    learner = with_part(lambda theta: rate(theta, per="layer and step", steps=2, start=0.3))
    support, queries = tasks(3, (4,))
    assert set(learner.outer) == {"weights", "rate"}
    args = (learner.problem, {}, learner.outer, support, queries)
    a, b = Tasks(learner.estimator)(*args), Tasks(learner.estimator, loop=True)(*args)
    assert gap(a.gradient["weights"], b.gradient["weights"]) < 1e-10
    assert gap(a.gradient["rate"], b.gradient["rate"]) < 1e-10
    logs = learner.outer["rate"]["log"]["weights"]
    wanted = central(
        lambda own: mean_loss(learner, {**learner.outer, "rate": {"log": {"weights": own}}}, support, queries), logs
    )
    assert gap(a.gradient["rate"]["log"]["weights"], wanted) < 1e-6
    plain = maml(rows_net(), steps=2, lr=0.3)
    same = Tasks(plain.estimator)(plain.problem, {}, {"weights": learner.outer["weights"]}, support, queries)
    assert gap(same.gradient["weights"], a.gradient["weights"]) < 1e-10, "with equal rates it is MAML"


def test_a_start_and_a_decay():
    learner = with_part(lambda theta: decay(theta["weights"], per="layer", start=0.1))
    support, queries = tasks(3, (4,))
    h = Tasks(learner.estimator)(learner.problem, {}, learner.outer, support, queries)
    wanted = central(
        lambda own: mean_loss(learner, {**learner.outer, "decay": {"log": own}}, support, queries),
        learner.outer["decay"]["log"],
    )
    assert gap(h.gradient["decay"]["log"], wanted) < 1e-6


def test_parts_that_have_no_place_in_a_learner():
    shown = lambda own: {}  # noqa: E731
    turning = Part("turn", {"x": torch.zeros(1)}, shown, transform=lambda own, batch: batch)
    with pytest.raises(BilevelError, match="the part 'turn' has no place in a learner: it needs a penalty or a lea"):
        maml(rows_net(), parts=[turning])
    pace = Part("pace", {"x": torch.zeros(1)}, shown, lr=lambda own: own["x"].exp())
    with pytest.raises(BilevelError, match="rates and pace both give the lr; leave one out"):
        meta_sgd(rows_net(), parts=[pace])
