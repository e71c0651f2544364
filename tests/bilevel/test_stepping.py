"""Masked steps: what is not finite changes nothing, from the first step on; what is finite is torch's own step."""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import SGD, Adam, Bilevel, Unrolled, adopt, restart, solve, stepping, torch_step, train
from metanas.errors import BilevelError

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.2}),
    "amsgrad": (torch.optim.Adam, {"lr": 0.1, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.2}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.1, "momentum": 0.9}),
    "adadelta": (torch.optim.Adadelta, {"lr": 0.1}),
    "adamax": (torch.optim.Adamax, {"lr": 0.1}),
    "radam": (torch.optim.RAdam, {"lr": 0.1}),
}
FUSED = ("sgd", "momentum", "nesterov", "adam", "amsgrad", "adamw", "adagrad")
CASES = [(name, False) for name in OPTIMIZERS] + [(name, True) for name in FUSED]


def make(name, fused, tensors):
    kind, options = OPTIMIZERS[name]
    return kind(tensors, **options, **({"fused": True} if fused else {}))


@pytest.mark.parametrize(("name", "fused"), CASES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_steps_are_as_if_they_had_not_been(name, fused, bad):
    """bad, good, bad, good, good, bad against good, good, good by plain torch: bit for bit, state included."""
    tree = {"w": torch.randn(4, 3), "b": torch.randn(3)}
    plain = tree_map(torch.clone, tree)
    masked, reference = make(name, fused, tree.values()), make(name, fused, plain.values())
    step = torch_step(masked, tree)
    for is_good in (False, True, False, True, True, False):
        gradient = tree_map(torch.randn_like, tree)
        if is_good:
            for k, p in plain.items():
                p.grad = gradient[k].clone()
            reference.step()
        else:
            gradient["b"][1] = bad
        step(gradient)
        assert all(torch.equal(tree[k], plain[k]) for k in tree)
    assert step.report.skipped == 3
    for p, q in zip(tree.values(), plain.values(), strict=True):
        for key, value in reference.state[q].items():
            assert value is None or torch.equal(masked.state[p][key], value), key
    assert not hasattr(masked, "found_inf") and all(p.grad is None for p in tree.values())


@pytest.mark.parametrize("name", FUSED)
def test_fused_kernels_that_do_not_look_at_found_inf_are_put_back(name, monkeypatch):
    """As on MPS, whose kernels took it and stepped all the same."""
    monkeypatch.setattr(stepping, "LOOKS_AT_FOUND_INF", frozenset())
    test_bad_steps_are_as_if_they_had_not_been(name, True, float("nan"))
    tree, asked = {"w": torch.ones(3)}, []
    optimizer = make(name, True, tree.values())
    optimizer.register_step_pre_hook(lambda optimizer, *_: asked.append(hasattr(optimizer, "found_inf")))
    torch_step(optimizer, tree)({"w": torch.ones(3)})
    assert asked == [False]


@pytest.mark.parametrize("fused", [True, False])
def test_unset_memory_never_becomes_momentum(fused):
    """A first step that is skipped, many times over: torch's own fused kernel leaves an unset buffer behind."""
    for _ in range(20):
        junk = [torch.full((50,), 1e30) for _ in range(20)]
        del junk
        tree = {str(k): torch.ones(50) for k in range(10)}
        step = torch_step(torch.optim.SGD(tree.values(), 0.1, momentum=0.9, fused=fused), tree)
        step(tree_map(lambda x: x * float("nan"), tree))
        step(tree_map(torch.ones_like, tree))
        assert all((x == 0.9).all() for x in tree.values())


@pytest.mark.parametrize("fused", [True, False])
def test_clip_is_torchs_and_keeps_the_gradient_it_was_given(fused):
    tree = {"a": torch.zeros(2), "b": torch.zeros(1)}
    gradient = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    step = torch_step(torch.optim.SGD(tree.values(), 1.0, fused=fused), tree, clip=1.0)
    report = step(gradient)
    reference = [torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)]
    for p, g in zip(reference, gradient.values(), strict=True):
        p.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(reference, 1.0)
    assert all(torch.equal(-p, q.grad) for p, q in zip(tree.values(), reference, strict=True))
    assert report.gradient_norm == 5 and report.skipped == 0 and report.loss.isnan()
    assert gradient["b"] == 4
    step(tree_map(lambda x: x / 1000, gradient))  # a short one is not scaled up
    assert torch.allclose(tree["b"], -torch.tensor([0.8]) - 0.004, rtol=0, atol=1e-6)


def quadratic():
    return Bilevel(
        lambda t, o, b: ((t["w"] * b) ** 2).sum() / 2, lambda t, o, b: (t["w"] * o["a"]).sum(), rule=SGD(0.1)
    )


@pytest.mark.parametrize("grown", [True, False])
def test_train_is_plain_torch_in_place(grown, rel):
    w = torch.randn(3)
    theta = {"w": torch.nn.Parameter(w.clone()) if grown else w.clone()}
    plain = w.clone().requires_grad_()
    address = theta["w"].data_ptr()
    advance = train(quadratic(), theta, {}, torch.optim.SGD(theta.values(), 0.1, momentum=0.9))
    reference = torch.optim.SGD([plain], 0.1, momentum=0.9)
    for _ in range(3):
        batch = torch.randn(3)
        report = advance(None, [batch])
        reference.zero_grad()
        loss = ((plain * batch) ** 2).sum() / 2
        loss.backward()
        reference.step()
        assert torch.equal(theta["w"], plain)
        assert report.loss == loss and torch.allclose(report.gradient_norm, plain.grad.norm(), rtol=1e-14)
    assert theta["w"].data_ptr() == address and not report.loss.requires_grad


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("batch", [float("nan"), float("inf"), 1e200], ids=["nan", "inf", "overflow"])
def test_train_skips_what_is_not_finite(fused, batch):
    theta = {"w": torch.nn.Parameter(torch.ones(3))}
    optimizer = torch.optim.SGD(theta.values(), 0.1, momentum=0.9, weight_decay=0.1, fused=fused)
    advance = train(quadratic(), theta, {}, optimizer, clip=1.0)
    report = advance(None, [torch.tensor(batch)])
    assert (theta["w"] == 1).all() and report.skipped == 1 and not report.loss.isfinite()
    report = advance(None, [torch.tensor(0.5), torch.tensor(batch), torch.tensor(0.5)])
    assert theta["w"].isfinite().all() and (theta["w"] < 1).all() and report.skipped == 2


@pytest.mark.parametrize("fused", [True, False])
def test_a_loss_that_is_not_finite_skips_even_where_its_gradient_is(fused):
    loss = lambda t, o, b: t["w"].sum() + b  # noqa: E731
    theta = {"w": torch.nn.Parameter(torch.ones(3))}
    advance = train(Bilevel(loss, loss), theta, {}, torch.optim.SGD(theta.values(), 0.1, fused=fused))
    assert advance(None, [torch.tensor(float("inf"))]).skipped == 1
    assert (theta["w"] == 1).all()


@pytest.mark.parametrize("fused", [True, False])
def test_what_the_loss_does_not_read_is_left_alone(fused):
    theta = {"w": torch.nn.Parameter(torch.ones(3)), "idle": torch.nn.Parameter(torch.ones(2))}
    optimizer = torch.optim.SGD(theta.values(), 0.1, momentum=0.9, weight_decay=0.5, fused=fused)
    train(quadratic(), theta, {}, optimizer)(None, [torch.ones(3)] * 2)
    assert (theta["idle"] == 1).all() and (theta["w"] < 1).all()


def test_train_hands_the_loss_the_very_parameters_and_detached_outer_variables():
    theta, outer = {"w": torch.nn.Parameter(torch.ones(3))}, {"a": torch.nn.Parameter(torch.ones(3))}

    def loss(t, o, b):
        assert t is theta and not o["a"].requires_grad
        return (t["w"] * o["a"]).sum()

    train(Bilevel(loss, loss), theta, outer, torch.optim.SGD(theta.values(), 0.1))(None, [None])
    assert outer["a"].grad is None


# ---- the three ways theta moves, through the one loop


def three_ways_by_hand(ridge, way, steps, outer_steps=8):
    """Unrolled gradient descent with torch.autograd; theta is trained (rate 0.2, 3 steps), adopted or back at zero."""
    theta, o = ridge.zero["w"], ridge.outer["log_wd"].clone()

    def descend(w, o, rate, steps):
        for _ in range(steps):
            at = w if w.requires_grad else w.clone().requires_grad_()
            (g,) = torch.autograd.grad(ridge.inner({"w": at}, {"log_wd": o}, ridge.train), at, create_graph=True)
            w = at - rate * g
        return w

    for _ in range(outer_steps):
        leaf = o.clone().requires_grad_()
        ahead = descend(theta, leaf, ridge.problem.rule.lr, steps)
        loss = ridge.fit({"w": ahead}, None, ridge.valid)
        o = o - 0.5 * torch.autograd.grad(loss, leaf)[0]
        theta = {"train": descend(theta, o, 0.2, 3), "adopt": ahead, "restart": ridge.zero["w"]}[way].detach()
    return theta, o, loss.detach()


@pytest.mark.parametrize("way", ["train", "adopt", "restart"])
def test_the_one_loop_three_ways(ridge, rel, way):
    theta, outer = tree_map(torch.clone, ridge.zero), tree_map(torch.clone, ridge.outer)
    advance = {
        "train": train(ridge.problem, theta, outer, torch.optim.SGD(theta.values(), 0.2)),
        "adopt": adopt(theta),
        "restart": restart,
    }[way]
    step = torch_step(torch.optim.SGD(outer.values(), 0.5), outer)
    batches = [([ridge.train] * 3, ridge.train, ridge.valid)] * 8
    hs = list(solve(ridge.problem, Unrolled(4), theta, outer, batches, outer_step=step, advance=advance))
    want, o, loss = three_ways_by_hand(ridge, way, 4)
    assert rel((theta["w"], outer["log_wd"], hs[-1].outer_loss), (want, o, loss)) < 1e-12


def test_adopt_keeps_the_rules_memory_on_request(ridge, rel):
    """40 x 1 step with the memory kept is one descent of 40 steps with momentum (the outer variables stand still)."""
    problem = Bilevel(ridge.inner, ridge.fit, rule=Adam(0.01))
    theta = tree_map(torch.clone, ridge.far)
    move = adopt(theta, rule=problem.rule)
    batches = ((None, ridge.train, ridge.valid) for _ in range(40))
    still = lambda gradient: None  # noqa: E731
    for _ in solve(
        problem, Unrolled(1), theta, ridge.outer, batches, outer_step=still, advance=move, memory=move.memory
    ):
        pass
    whole = Unrolled(40, truncate=1)(problem, ridge.far, ridge.outer, ridge.train, ridge.valid)
    assert rel(theta, whole.theta) < 1e-13
    assert rel(move.memory(), whole.memory) < 1e-13


def test_adopt_and_the_outer_step_refuse_what_is_not_finite(ridge):
    poisoned = (ridge.train[0] * float("nan"), ridge.train[1])
    theta, outer = tree_map(torch.clone, ridge.far), tree_map(torch.clone, ridge.outer)
    problem = Bilevel(ridge.inner, ridge.fit, rule=Adam(0.01))
    move, step = adopt(theta, rule=problem.rule), torch_step(torch.optim.Adam(outer.values(), 0.1), outer)
    batches = [(None, batch, ridge.valid) for batch in (poisoned, ridge.train, poisoned)]
    hs = list(solve(problem, Unrolled(2), theta, outer, batches, outer_step=step, advance=move, memory=move.memory))
    assert [bool(h.converged) for h in hs] == [False, True, False]
    assert move.skipped == 2 and step.report.skipped == 2
    assert all(x.isfinite().all() for x in tree_leaves((theta, outer, move.memory())))
    assert not torch.equal(theta["w"], ridge.far["w"]) and move.memory()["step"] == 2


def test_the_carry_and_the_order_of_the_loop(ridge):
    seen = []

    class Spy(Unrolled):
        def estimate(self, *args, carry, **options):
            seen.append(("estimate", carry))
            return super().estimate(*args, carry=carry, **options)._replace(carry=(carry[0] + 1,))

    for order, first in (("outer", ["estimate", "step", "advance"]), ("advance", ["advance", "estimate", "step"])):
        seen.clear()
        loop = solve(
            ridge.problem, Spy(1), ridge.far, ridge.outer, [("t", ridge.train, ridge.valid)] * 2,
            outer_step=lambda g: seen.append(("step",)), order=order, carry=(torch.tensor(5),),
            advance=lambda h, batches: seen.append(("advance", h, batches)),
        )  # fmt: skip
        h = next(loop)
        assert [s[0] for s in seen] == first
        assert next(s for s in seen if s[0] == "advance")[1] is (None if order == "advance" else h)
        assert next(s for s in seen if s[0] == "advance")[2] == "t"
        assert next(loop).carry == (torch.tensor(7),)


@pytest.mark.parametrize(
    "make",
    [
        lambda w: torch.optim.NAdam([w], 0.1),
        lambda w: torch.optim.Rprop([w], 0.1),
        lambda w: torch.optim.ASGD([w], 0.1),
        lambda w: torch.optim.SGD([w], 0.1, 0.9, dampening=0.1),
    ],
)
def test_optimisers_that_cannot_be_masked_are_asked_by_the_host(make):
    """A nan before, between and after good gradients changes nothing: the same steps as without it."""
    ways = []
    for gradients in ([1.0, 2.0, -1.0], [float("nan"), 1.0, 2.0, float("nan"), -1.0, float("inf")]):
        w = torch.ones(2, requires_grad=True)
        step = torch_step(make(w), [w])
        for g in gradients:
            report = step([torch.full((2,), g)])
        ways.append(w.detach())
    assert torch.equal(*ways) and report.skipped == 3


def test_a_schedule_outside_is_followed():
    """torch's own schedules work on the optimiser that the step holds."""
    w = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([w], 1.0)
    step, schedule = torch_step(optimizer, [w]), torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        step([torch.ones(1)])
        schedule.step()
    assert float(w.detach()) == -1.75


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda w: torch_step(torch.optim.LBFGS([w]), [w]), "LBFGS asks for the loss again and again"),
        (lambda w: torch_step(torch.optim.SGD([w], 1), [w], clip=0.0), "clip must be > 0 or None, got 0.0"),
        (lambda w: torch_step(torch.optim.SGD([w], 1), [w.clone()]), "does not step 1 of 1 tensors"),
        (lambda w: torch_step(torch.optim.SGD([w], 1), []), "does not step 0 of 0"),
        (lambda w: train(Bilevel(None, None), [w], {}, torch.optim.SGD([w], 1)), "nothing to train theta on"),
    ],
)
def test_what_cannot_be_stepped_is_refused(make, words):
    with pytest.raises(BilevelError, match=words):
        make(torch.ones(1))
