"""Learners of new classes: every norm under `vmap` is the loop, the loop is autograd written by hand, and what is known
in closed form comes out."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import Reptile, Tasks, descend
from metanas.bilevel.gradients import slope
from metanas.errors import BilevelError
from metanas.modes import (
    Queries,
    Support,
    adapt,
    anil,
    answer,
    fomaml,
    imaml,
    maml,
    meta_sgd,
    one_hot,
    prototypical,
    reptile,
)
from metanas.modes.prototypes import nearness, prototypes, turns_loss
from metanas.network import pooled

WAYS, SHOTS, TASKS, WIDTH = 3, 2, 3, 4

NORMS = {
    "none": nn.Identity,
    "batch": lambda: nn.BatchNorm2d(WIDTH),
    "batch, untracked": lambda: nn.BatchNorm2d(WIDTH, track_running_stats=False),
    "batch, not affine": lambda: nn.BatchNorm2d(WIDTH, affine=False),
    "group": lambda: nn.GroupNorm(2, WIDTH),
    "group of all": lambda: nn.GroupNorm(1, WIDTH),
    "layer": lambda: nn.LayerNorm([WIDTH, 3, 3]),
    "instance, affine": lambda: nn.InstanceNorm2d(WIDTH, affine=True),
}
LEARNERS = {
    "maml": lambda net, norms: maml(net, steps=2, lr=0.3, norms=norms),
    "fomaml": lambda net, norms: fomaml(net, steps=2, lr=0.3, norms=norms),
    "anil": lambda net, norms: anil(net, steps=2, lr=0.3, norms=norms),
    "meta_sgd": lambda net, norms: meta_sgd(net, steps=2, lr=0.3, norms=norms),
    "reptile": lambda net, norms: reptile(net, steps=3, lr=0.01, norms=norms),
    "imaml": lambda net, norms: imaml(net, steps=4, lr=0.3, solves=3, norms=norms),
    "prototypical": lambda net, norms: prototypical(net),
    "prototypical, turns": lambda net, norms: prototypical(net, loss="turns"),
}
COMPARING = ("prototypical", "prototypical, turns")
CASES = [
    (name, seen) for name, seen in itertools.product(LEARNERS, ("support", "queries"))
    if name not in COMPARING or seen == "support"
]  # fmt: skip


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def backbone(norm="batch", outputs=WAYS):
    """A convolution, a norm whose scale and shift are not those of a fresh one, and a head."""
    net = nn.Sequential(
        nn.Conv2d(1, WIDTH, 3, bias=norm == "none"),
        NORMS[norm](),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(9 * WIDTH, outputs),
    )
    for p in net[1].parameters():
        p.data += 0.3 * torch.randn_like(p)
    return net


def tasks(count=TASKS, each=SHOTS, shape=(1, 5, 5), ways=WAYS):
    """Support sets and queries of `count` tasks, as a learner's problem reads them; the classes differ a little."""
    targets = one_hot(torch.arange(ways).repeat(each), ways).double().expand(count, -1, -1)
    means = torch.randn(count, ways, *shape)
    images, asked = (means.repeat(1, each, *[1] * len(shape)) + torch.randn(count, ways * each, *shape) for _ in "sq")
    return Support(images, targets), Queries(asked, targets, images)


def taken(batch, t):
    return tree_map(lambda x: None if x is None else x[t], batch)


def gap(a, b):
    """The relative distance over the whole tree."""
    a, b = (torch.cat([x.flatten() for x in tree_leaves(tree)]) for tree in (a, b))
    return float((a - b).norm() / b.norm())


# One task after the other, and all at once


@pytest.mark.parametrize(("name", "seen"), CASES)
@pytest.mark.parametrize("norm", NORMS)
def test_all_tasks_at_once_are_one_after_the_other(norm, name, seen):
    learner = LEARNERS[name](backbone(norm), seen)
    args = (learner.problem, {}, learner.outer, *tasks())
    a, b = Tasks(learner.estimator)(*args), Tasks(learner.estimator, loop=True)(*args)
    assert set(b.gradient) == set(learner.outer) and all(bool(x.any()) for x in tree_leaves(b.gradient["weights"])[:1])
    assert gap(a.gradient, b.gradient) < 1e-10
    for key in b.gradient:
        assert gap(a.gradient[key], b.gradient[key]) < 1e-10, key
    assert gap(a.outer_loss, b.outer_loss) < 1e-12 and gap(a.theta, b.theta) < 1e-10


def forward(net, norm, weights, x, reference):
    """The network, in plain operations: a batch norm uses the statistics of what `reference` is at its place."""
    bias = weights.get("0.bias")
    h, r = (F.conv2d(images, weights["0.weight"], bias) for images in (x, reference))
    if norm.startswith("batch"):
        mean, variance = r.mean((0, 2, 3)), r.var((0, 2, 3), correction=0)
        h = (h - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        if "1.weight" in weights:
            h = h * weights["1.weight"][:, None, None] + weights["1.bias"][:, None, None]
    else:
        own = {name: weights[f"1.{name}"] for name, _ in net[1].named_parameters()}
        h = functional_call(net[1], own, (h,))
    return F.linear(h.tanh().flatten(1), weights["4.weight"], weights["4.bias"])


def task_by_hand(net, norm, weights, support, queries, *, steps, seen, first, head):
    """The outer loss of one task, as other libraries write it: torch.autograd, with the graph of each step kept."""
    theta = {k: v for k, v in weights.items() if not head or k.startswith("4.")}
    for _ in range(steps):
        scores = forward(net, norm, {**weights, **theta}, support.images, support.images)
        loss = F.cross_entropy(scores, support.targets.argmax(-1))
        slopes = torch.autograd.grad(loss, list(theta.values()), create_graph=not first)
        theta = {k: v - 0.3 * d for (k, v), d in zip(theta.items(), slopes, strict=True)}
    reference = support.images if seen == "support" else queries.images
    return F.cross_entropy(
        forward(net, norm, {**weights, **theta}, queries.images, reference), queries.targets.argmax(-1)
    )


@pytest.mark.parametrize("seen", ["support", "queries"])
@pytest.mark.parametrize("name", ["maml", "fomaml", "anil"])
@pytest.mark.parametrize("norm", NORMS)
def test_descending_learners_are_autograd_by_hand(norm, name, seen):
    net = backbone(norm)
    support, queries = tasks()
    learner = LEARNERS[name](net, seen)
    h = Tasks(learner.estimator)(learner.problem, {}, learner.outer, support, queries)
    leaves = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    total = sum(
        task_by_hand(net, norm, leaves, taken(support, t), taken(queries, t), steps=2, seen=seen,
                     first=name == "fomaml", head=name == "anil")
        for t in range(TASKS)
    ) / TASKS  # fmt: skip
    wanted = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    assert gap(h.gradient["weights"], wanted) < 1e-10
    assert gap(h.outer_loss, total.detach()) < 1e-12


@pytest.mark.parametrize("loss", ["prototypes", "turns"])
@pytest.mark.parametrize("norm", NORMS)
def test_prototypes_are_autograd_by_hand(norm, loss):
    net = backbone(norm, outputs=5)
    support, queries = tasks()
    learner = prototypical(net, loss=loss)
    h = Tasks(learner.estimator)(learner.problem, {}, learner.outer, support, queries)
    leaves = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    total = torch.zeros(())
    for t in range(TASKS):
        shown, asked = support.images[t], queries.images[t]
        a, b = (forward(net, norm, leaves, x, x) for x in (shown, asked))
        labels = support.targets[t].argmax(-1)
        if loss == "prototypes":
            centres = torch.stack([a[labels == k].mean(0) for k in range(WAYS)])
            total = total + F.cross_entropy(-torch.cdist(b, centres).square(), labels) / TASKS
            continue
        rows, labels = torch.cat([a, b]), torch.cat([labels, labels])
        losses = []
        for turn in range(2 * SHOTS):  # the prototypes of a turn: one example of each class
            chosen = [int((labels == k).nonzero()[turn]) for k in range(WAYS)]
            others = [i for i in range(len(rows)) if i not in chosen]
            far = (rows[others][:, None] - rows[chosen]).square().sum(-1)
            losses.append(F.cross_entropy(-far, labels[others]))
        total = total + torch.stack(losses).mean() / TASKS
    wanted = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    assert gap(h.gradient["weights"], wanted) < 1e-10
    assert gap(h.outer_loss, total.detach()) < 1e-12


def test_the_gradient_of_a_vmap_with_an_inner_gradient_is_wrong_and_is_told_apart():
    """Why `vmap` stands outside of every gradient: the other way around, affine batch norms give other numbers. Once
    this fails, torch has mended it; then the two orders are the same, and no test is lost."""
    net, (support, queries) = backbone("batch, untracked"), tasks()
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def loss(weights, batch):
        return F.cross_entropy(functional_call(net, weights, (batch.images,)), batch.targets)

    def task(weights, support, queries):
        slopes = grad(loss)(weights, support)
        return loss({k: w - 0.3 * slopes[k] for k, w in weights.items()}, queries)

    every = vmap(task, in_dims=(None, Support(0, 0, None), Queries(0, 0, 0)))
    wrong = grad(lambda weights: every(weights, support, queries).mean())(weights)
    loop = [grad(task)(weights, taken(support, t), taken(queries, t)) for t in range(TASKS)]
    wanted = tree_map(lambda *rows: torch.stack(rows).mean(0), *loop)
    learner = maml(net, steps=1, lr=0.3, norms="queries")
    ours = Tasks(learner.estimator)(learner.problem, {}, learner.outer, support, queries).gradient["weights"]
    assert gap(ours, wanted) < 1e-10
    assert gap(wrong, wanted) > 1e-5, "the bound of the test of equality would let it pass"


# What is known in closed form: a linear network


def linear(rows=4):
    net = nn.Linear(rows, WAYS)
    return net, {name: p.detach().clone() for name, p in net.named_parameters()}


def softmax_slope(weights, batch):
    """d cross entropy / d (weight, bias) of softmax regression: (p - y)' [x 1] / n; (ways, rows + 1)."""
    x = torch.cat([batch.images, torch.ones(len(batch.images), 1)], 1)
    p = (batch.images @ weights["weight"].T + weights["bias"]).softmax(-1)
    return (p - batch.targets).T @ x / len(x)


def softmax_hessian(weights, batch):
    """mean of (diag p - p p') (x) [x 1] [x 1]', (ways * (rows + 1),) squared."""
    x = torch.cat([batch.images, torch.ones(len(batch.images), 1)], 1)
    p = (batch.images @ weights["weight"].T + weights["bias"]).softmax(-1)
    curved = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    size = WAYS * x.shape[1]
    return torch.einsum("nij,nk,nl->ikjl", curved, x, x).reshape(size, size) / len(x)


def flat(weights):
    """(ways * (rows + 1),), as the Hessian counts them."""
    return torch.cat([weights["weight"], weights["bias"][:, None]], 1).flatten()


def split(vector):
    whole = vector.view(WAYS, -1)
    return {"weight": whole[:, :-1], "bias": whole[:, -1]}


def test_one_step_on_a_linear_network_is_the_closed_form():
    """MAML's gradient is (I - lr H) v, FOMAML's is v, where v is the queries' at the weights after the step."""
    net, weights = linear()
    support, queries = (taken(batch, 0) for batch in tasks(1, 4, (4,)))
    after = split(flat(weights) - 0.5 * softmax_slope(weights, support).flatten())
    v = softmax_slope(after, queries).flatten()
    exact = v - 0.5 * softmax_hessian(weights, support) @ v
    full, first = (make(net, steps=1, lr=0.5) for make in (maml, fomaml))
    args = ({}, full.outer, support, queries)
    assert gap(flat(full.estimator(full.problem, *args).gradient["weights"]), exact) < 1e-12
    assert gap(flat(first.estimator(first.problem, *args).gradient["weights"]), v) < 1e-12
    assert gap(v, exact) > 1e-2, "they differ"


def test_implicit_maml_is_the_implicit_gradient_with_a_dense_hessian():
    """hold (H + hold I)^-1 v at the solution, which Newton's method finds to the last bit."""
    net, start = linear()
    hold, (support, queries) = 0.7, (taken(batch, 0) for batch in tasks(1, 4, (4,)))
    at = flat(start)
    for _ in range(20):
        slopes = softmax_slope(split(at), support).flatten() + hold * (at - flat(start))
        bent = softmax_hessian(split(at), support) + hold * torch.eye(len(at))
        at = at - torch.linalg.solve(bent, slopes)
    exact = hold * torch.linalg.solve(bent, softmax_slope(split(at), queries).flatten())
    learner = imaml(net, steps=400, lr=0.5, hold=hold, solves=len(at))
    h = learner.estimator(learner.problem, {}, learner.outer, support, queries)
    assert bool(h.converged) and gap(flat(h.theta["weights"]), at) < 1e-10
    assert gap(flat(h.gradient["weights"]), exact) < 1e-9


def test_reptile_walks_to_where_torchs_adam_ends():
    net, weights = linear()
    support, queries = (taken(batch, 0) for batch in tasks(1, 4, (4,)))
    learner = reptile(net, steps=5, lr=0.02)
    h = learner.estimator(learner.problem, {}, learner.outer, support, queries)
    adam = torch.optim.Adam(net.parameters(), lr=0.02, betas=(0.0, 0.999))
    for _ in range(5):
        adam.zero_grad()
        F.cross_entropy(net(support.images), support.targets).backward()
        adam.step()
    way = {name: weights[name] - p.detach() for name, p in net.named_parameters()}
    assert isinstance(learner.estimator, Reptile) and gap(h.gradient["weights"], way) < 1e-10
    blind = learner.estimator(learner.problem, {}, learner.outer, support, queries._replace(images=queries.images * 0))
    assert gap(blind.gradient, h.gradient) == 0, "it never looks at queries"


def test_anil_moves_the_head_alone():
    net = backbone()
    support, _ = (taken(batch, 0) for batch in tasks())
    learner = anil(net, steps=2)
    theta = adapt(learner, learner.outer, support)["weights"]
    assert list(theta) == ["4.weight", "4.bias"]
    assert all(not torch.equal(x, learner.outer["weights"][name]) for name, x in theta.items())
    assert list(adapt(anil(net, head="0"), learner.outer, support)["weights"]) == ["0.weight"]
    with pytest.raises(BilevelError, match=r"nothing adapts; the parameters are 0\.weight, 1\.weight, "):
        anil(net, head="5")
    with pytest.raises(BilevelError, match="no linear module; name its head"):
        anil(nn.Conv2d(1, 3, 5))


def test_the_rates_of_meta_sgd_are_learned(numeric):
    net, (support, queries) = backbone("layer"), tasks()
    learner = meta_sgd(net, steps=2, lr=0.3)
    rates = learner.outer["rates"]["weights"]
    assert {k: v.shape for k, v in rates.items()} == {k: v.shape for k, v in learner.outer["weights"].items()}
    assert all(bool((v == 0.3).all()) for v in rates.values())
    h = Tasks(learner.estimator)(learner.problem, {}, learner.outer, support, queries)
    some = "4.bias"

    def value(rate):
        moved = {**learner.outer, "rates": {"weights": {**rates, some: rate}}}
        return mean_loss(learner, moved, support, queries)

    assert gap(h.gradient["rates"]["weights"][some], numeric(value, rates[some])) < 1e-7
    by_maml = maml(net, steps=2, lr=0.3)
    same = Tasks(by_maml.estimator)(by_maml.problem, {}, by_maml.outer, support, queries)
    assert gap(same.gradient["weights"], h.gradient["weights"]) < 1e-12, "with equal rates it is MAML"


def mean_loss(learner, outer, support, queries, steps=None):
    """The outer loss over tasks as a number, without any gradient of its own."""
    rows = []
    for t in range(len(support.images)):
        inner = taken(support, t)
        theta = descend(learner.problem, {}, outer, inner, None, learner.steps if steps is None else steps, slope)[0]
        rows.append(learner.problem.outer_loss(theta, outer, taken(queries, t)))
    return torch.stack(rows).mean()


@pytest.fixture
def numeric():
    def central(value, at, step=1e-5):
        found = torch.zeros(at.numel())
        for j in range(at.numel()):
            bump = torch.zeros(at.numel())
            bump[j] = step
            up, down = (value(at + sign * bump.view_as(at)).detach() for sign in (1, -1))
            found[j] = (up - down) / (2 * step)
        return found.view_as(at)

    return central


def test_the_inner_hessian_by_hand_is_autograds():
    """The closed form that two tests above rest on."""
    _, weights = linear()
    support = taken(tasks(1, 4, (4,))[0], 0)

    def loss(vector):
        w = split(vector)
        return F.cross_entropy(support.images @ w["weight"].T + w["bias"], support.targets)

    theirs = torch.autograd.functional.hessian(loss, flat(weights))
    assert gap(softmax_hessian(weights, support), theirs) < 1e-12


# What an answer may see


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_an_inductive_answer_is_for_each_query_alone(norm, name):
    support, queries = (taken(batch, 0) for batch in tasks())
    learner = LEARNERS[name](backbone(norm), "support")
    if learner.pooled:
        others = tasks(4)[0].images
        found = pooled(learner.statistics({}, learner.outer, images) for images in others)
        support = support._replace(statistics=found)
    together = answer(learner, learner.outer, support, queries.images)
    alone = torch.cat([answer(learner, learner.outer, support, image[None]) for image in queries.images])
    altered = answer(learner, learner.outer, support, torch.cat([queries.images[:1], 9 * queries.images[1:] + 3]))
    assert together.shape == (WAYS * SHOTS, WAYS)
    assert gap(alone, together) < 1e-12 and gap(altered[:1], together[:1]) < 1e-12


@pytest.mark.parametrize("name", LEARNERS)
def test_a_transductive_answer_sees_the_queries_together(name):
    support, queries = (taken(batch, 0) for batch in tasks())
    learner = LEARNERS[name](backbone("batch"), "support")
    together = answer(learner, learner.outer, support, queries.images, transductive=True)
    fewer = answer(learner, learner.outer, support, queries.images[:3], transductive=True)
    assert gap(fewer, together[:3]) > 1e-3
    own = learner.statistics({"weights": {}}, learner.outer, support.images)
    given = support._replace(statistics=own)
    same = answer(learner, learner.outer, given, queries.images, transductive=True)
    assert gap(same, together) == 0, "statistics that are given have no part in it"
    plain = LEARNERS[name](backbone("group"), "support")
    both = [answer(plain, plain.outer, support, queries.images, transductive=seen) for seen in (False, True)]
    assert gap(*both) < 1e-12, "without batch norms there is one answer"


def test_pooled_statistics_are_what_both_sides_of_a_comparison_rest_on():
    net, (support, queries) = backbone("batch", outputs=5), (taken(batch, 0) for batch in tasks())
    learner = prototypical(net)
    others = torch.randn(4, 8, 1, 5, 5)
    found = pooled(learner.statistics({}, learner.outer, images) for images in others)
    scores = answer(learner, learner.outer, support._replace(statistics=found), queries.images)
    weights, labels = learner.outer["weights"], support.targets.argmax(-1)
    every = others.flatten(0, 1)
    a, b = (forward(net, "batch", weights, x, every) for x in (support.images, queries.images))
    centres = torch.stack([a[labels == k].mean(0) for k in range(WAYS)])
    wanted = -(b[:, None] - centres).square().sum(-1)
    assert gap(scores.log_softmax(-1), wanted.log_softmax(-1)) < 1e-12
    own = answer(learner, learner.outer, support, queries.images)
    assert gap(own, scores) > 1e-3, "without them the support set's are used"


def test_answers_run_under_vmap():
    support, queries = tasks()
    for make in LEARNERS.values():
        learner = make(backbone("batch"), "support")
        one = lambda images, targets, asked, learner=learner: answer(  # noqa: E731
            learner, learner.outer, Support(images, targets), asked
        )
        every = vmap(one)(support.images, support.targets, queries.images)
        for t in range(TASKS):
            assert gap(every[t], one(support.images[t], support.targets[t], queries.images[t])) < 1e-10


# What is handed in


def test_a_learner_leaves_the_network_that_it_was_made_of_alone():
    net = backbone("batch").train()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    support, queries = tasks()
    for make in LEARNERS.values():
        learner = make(net, "support")
        Tasks(learner.estimator)(learner.problem, {}, learner.outer, support, queries)
        assert net.training and isinstance(net[1], nn.BatchNorm2d)
        assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
        assert all(x.data_ptr() != p.data_ptr() for x, p in zip(learner.outer["weights"].values(), net.parameters(),
                   strict=True))  # fmt: skip


def test_frozen_parameters_are_no_part_of_what_is_learned():
    net = backbone("batch")
    net[0].weight.requires_grad_(False)
    learner = maml(net, steps=1)
    assert list(learner.outer["weights"]) == ["1.weight", "1.bias", "4.weight", "4.bias"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: maml(backbone(), norms="suport"), "norms must be support or queries, got 'suport'; did you mean"),
        (lambda: prototypical(backbone(), loss="turn"), "loss must be prototypes or turns, got 'turn'; did you mean"),
        (lambda: prototypical(nn.ReLU()), "the network has no parameters to learn"),
        (lambda: maml(nn.ReLU()), "nothing adapts; the parameters are none"),
    ],
)  # fmt: skip
def test_mistakes(make, said):
    with pytest.raises(BilevelError) as caught:
        make()
    assert said in str(caught.value)


def test_nearness_is_the_distance_but_for_what_all_classes_share():
    rows, centres = torch.randn(7, 4), torch.randn(3, 4)
    wanted = rows.square().sum(-1, keepdim=True) - torch.cdist(rows, centres).square()
    assert gap(nearness(rows, centres), wanted) < 1e-12


def test_the_order_of_the_classes_does_not_matter():
    rows, labels = torch.randn(12, 4), torch.arange(3).repeat_interleave(4)
    mixed, hot = torch.randperm(12), one_hot(labels, 3).double()
    assert gap(prototypes(rows[mixed], hot[mixed]), rows.view(3, 4, 4).mean(1)) < 1e-12
    turned = torch.arange(12).view(3, 4).T.flatten()  # class by class, or turn by turn
    assert gap(turns_loss(rows[turned], hot[turned]), turns_loss(rows, hot)) < 1e-12


def test_one_hot_is_torchs():
    labels = torch.tensor([[0, 2, 1], [1, 1, 0]])
    assert torch.equal(one_hot(labels, 4).long(), F.one_hot(labels, 4))
