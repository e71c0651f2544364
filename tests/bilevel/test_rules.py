"""The rules compute what the torch optimisers compute, step for step, and are differentiable in every number."""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import SGD, Adam, AdamW, memory_of, per_step
from metanas.errors import BilevelError

PAIRS = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (SGD(0.1, 0.9), lambda p: torch.optim.SGD(p, 0.1, 0.9)),
    "nesterov": (SGD(0.1, 0.9, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True)),
    "decay": (SGD(0.1, 0.9, 0.2), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.2)),
    "all": (SGD(0.1, 0.9, 0.2, True), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.2, nesterov=True)),
    "adam": (Adam(0.1), lambda p: torch.optim.Adam(p, 0.1)),
    "adam decay": (
        Adam(0.1, (0.5, 0.99), 1e-6, 0.2),
        lambda p: torch.optim.Adam(p, 0.1, (0.5, 0.99), 1e-6, weight_decay=0.2),
    ),
    "adamw": (AdamW(0.1), lambda p: torch.optim.AdamW(p, 0.1)),
    "adamw all": (
        AdamW(0.1, (0.5, 0.99), 1e-6, 0.2),
        lambda p: torch.optim.AdamW(p, 0.1, (0.5, 0.99), 1e-6, weight_decay=0.2),
    ),
}
GROUPS = {
    "sgd": (
        lambda body, head: SGD({"body": body, "head": head}, 0.9, {"body": 0.2, "head": 0.0}),
        lambda groups: torch.optim.SGD(groups, momentum=0.9),
    ),
    "adam": (
        lambda body, head: Adam({"body": body, "head": head}, weight_decay={"body": 0.2, "head": 0.0}),
        lambda groups: torch.optim.Adam(groups),
    ),
    "adamw": (
        lambda body, head: AdamW({"body": body, "head": head}, weight_decay={"body": 0.2, "head": 0.0}),
        lambda groups: torch.optim.AdamW(groups),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_rule_equals_torch_step_for_step_and_its_state_is_the_memory(name, rel):
    rule, make = PAIRS[name]
    live = {"w": torch.randn(3, 2), "b": torch.randn(2)}
    optimizer = make(live.values())
    theta = tree_map(torch.clone, live)
    memory = rule.init(theta)
    for _ in range(5):
        gradient = tree_map(torch.randn_like, theta)
        for k, p in live.items():
            p.grad = gradient[k].clone()
        optimizer.step()
        theta, memory = rule(theta, memory, gradient, {})
        assert rel(theta, live) < 1e-14
    if name != "sgd":  # torch keeps no buffer without momentum
        want = memory_of(optimizer, live)
        assert all(rel(memory[k], want[k]) < 1e-14 for k in want if k != "step")
    theta_from_memory, _ = rule(live, memory_of(optimizer, live), gradient, {})
    assert rel(theta_from_memory, rule(theta, memory, gradient, {})[0]) < 1e-14


@pytest.mark.parametrize("name", GROUPS)
def test_a_tree_like_the_upper_part_of_theta_is_a_torch_optimiser_with_groups(name, rel):
    make, torch_like = GROUPS[name]
    live = {"body": {"w": torch.randn(3, 2), "b": torch.randn(2)}, "head": torch.randn(2)}
    body, head = {"params": list(live["body"].values())}, {"params": [live["head"]]}
    optimizer = torch_like([{**body, "lr": 0.01, "weight_decay": 0.2}, {**head, "lr": 0.1, "weight_decay": 0.0}])
    rule, theta = make(0.01, 0.1), tree_map(torch.clone, live)
    memory = rule.init(theta)
    for _ in range(5):
        gradient = tree_map(torch.randn_like, theta)
        for p, g in zip(tree_leaves(live), tree_leaves(gradient), strict=True):
            p.grad = g.clone()
        optimizer.step()
        theta, memory = rule(theta, memory, gradient, {})
        assert rel(theta, live) < 1e-14
    want = memory_of(optimizer, live)
    assert all(rel(memory[k], want[k]) < 1e-14 for k in want if k != "step")


@pytest.mark.parametrize("make", [SGD, Adam, AdamW])
def test_the_step_that_a_schedule_sees_is_an_integer_from_zero(make):
    """Of Adam as well, whose own count is a float as torch's is: `per_step` looks its number up."""
    seen, theta = [], {"w": torch.ones(2)}

    def rate(step):
        seen.append(step)
        return per_step(torch.tensor([0.5, 0.25]))(step)

    rule = make(lambda o: rate)
    memory = rule.init(theta)
    for _ in range(3):
        theta, memory = rule(theta, memory, tree_map(torch.ones_like, theta), {})
    assert [(int(k), k.dtype, k.dim()) for k in seen] == [(k, torch.long, 0) for k in range(3)]


def test_numbers_are_values_tensors_functions_trees_and_rates_per_step(rel):
    theta, gradient = {"a": torch.ones(2), "b": torch.ones(1)}, {"a": torch.randn(2), "b": torch.randn(1)}
    each = {"a": torch.tensor([0.2, 0.2]), "b": torch.tensor(0.2)}
    outer = {"lr": torch.tensor(0.2), "rates": torch.tensor([0.5, 0.2]), "each": each}
    memory = {**SGD(0.2).init(theta), "step": torch.tensor(1)}
    want, _ = SGD(0.2)(theta, memory, gradient, outer)
    for lr in (
        torch.tensor(0.2),
        lambda o: o["lr"],
        lambda o: per_step(o["rates"]),
        lambda o: o["each"],
        {"a": 0.2, "b": 0.2},
    ):
        assert rel(SGD(lr)(theta, memory, gradient, outer)[0], want) < 1e-15
    adam = Adam(lambda o: o["lr"], betas=(lambda o: o["lr"], torch.tensor(0.5)), eps=lambda o: o["lr"])
    plain = Adam(0.2, betas=(0.2, 0.5), eps=0.2)
    got, _ = adam(theta, adam.init(theta), gradient, outer)
    assert rel(got, plain(theta, plain.init(theta), gradient, outer)[0]) < 1e-15


def test_adam_is_differentiable_where_no_gradient_has_ever_been():
    rule, theta = Adam(0.1, eps=1e-3), torch.zeros(2)
    slope = torch.func.jacrev(lambda g: rule(theta, rule.init(theta), g, {})[0])(torch.zeros(2))
    assert torch.allclose(slope, -0.1 / 1e-3 * torch.eye(2), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rules_keep_the_dtype(dtype):
    theta = {"w": torch.ones(3, dtype=dtype)}
    for rule in (SGD(0.1, 0.9, 0.1, True), Adam(0.1, weight_decay=0.1)):
        moved, memory = rule(theta, rule.init(theta), theta, {})
        assert moved["w"].dtype == dtype
        assert all(x.dtype == dtype for k, x in memory.items() if k != "step" for x in x.values())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SGD(0.0), "lr must be > 0 and finite, got 0.0"),
        (lambda: SGD(float("nan")), "lr must be > 0"),
        (lambda: SGD(0.1, momentum=-1), "momentum must be >= 0"),
        (lambda: SGD(0.1, nesterov=True), "nesterov=True needs a momentum"),
        (lambda: Adam(-1), "lr must be > 0 and finite, got -1"),
        (lambda: Adam(1, betas=(0.9, 1.0)), "betas must be"),
        (lambda: Adam(1, eps=-1), "eps must be >= 0"),
    ],
)
def test_numbers_out_of_range_are_refused(make, words):
    with pytest.raises(BilevelError, match=words):
        make()


def test_memory_of_refuses_what_no_rule_has():
    w = torch.ones(1)
    for optimizer, words in (
        (torch.optim.RMSprop([w], 0.1), "knows torch.optim.SGD, Adam and AdamW, got RMSprop"),
        (torch.optim.SGD([w], 0.1, momentum=0.9, dampening=0.5), "no rule has dampening"),
        (torch.optim.Adam([w], amsgrad=True), "no rule has amsgrad"),
    ):
        with pytest.raises(BilevelError, match=words):
            memory_of(optimizer, {"w": w})
    with pytest.raises(BilevelError, match="does not step 1 of 1 tensors"):
        memory_of(torch.optim.SGD([w], 0.1), {"w": w.clone()})


@pytest.mark.parametrize("make", [SGD, Adam, AdamW])
def test_a_tree_of_numbers_is_matched_by_name_whatever_its_order(make):
    theta = {"a": torch.ones(2), "b": torch.ones(2)}
    moved = []
    for rates in ({"a": 0.0, "b": 1.0}, {"b": 1.0, "a": 0.0}):
        rule = make(lr=lambda outer, rates=rates: rates)
        moved.append(rule(theta, rule.init(theta), theta, {})[0])
    assert torch.equal(moved[0]["a"], theta["a"]) and torch.equal(moved[1]["a"], theta["a"])
    assert torch.equal(moved[0]["b"], moved[1]["b"]) and not torch.equal(moved[0]["b"], theta["b"])
