"""The sandwich rule: its loss and its gradient against ones that are written out, on widths, depths and kernels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import metanas
from metanas.bilevel import Bilevel
from metanas.data.task import squared_error
from metanas.modes import sandwich, soft_cross_entropy
from metanas.network import fused, one_path, supernet

LARGEST = {"depth1": "3", "width1": "8", **{f"kernel1.{k}": "7" for k in (1, 2, 3)},
           "middle1.1": "48", "middle1.2": "48", "middle1.3": "48",
           **{f"squeeze1.{k}": "excite" for k in (1, 2, 3)}}  # fmt: skip
SMALLEST = {"depth1": "2", "width1": "4", "kernel1.1": "3", "kernel1.2": "3", "middle1.1": "24", "middle1.2": "24",
            "squeeze1.1": "none", "squeeze1.2": "none"}  # fmt: skip
DRAWN = [{"depth1": "3", "width1": "6", "kernel1.1": "5", "kernel1.2": "3", "kernel1.3": "7", "middle1.1": "32",
          "middle1.2": "48", "middle1.3": "24", "squeeze1.1": "excite", "squeeze1.2": "none", "squeeze1.3": "none"},
         {"depth1": "2", "width1": "8", "kernel1.1": "7", "kernel1.2": "5", "middle1.1": "24", "middle1.2": "32",
          "squeeze1.1": "none", "squeeze1.2": "excite"}]  # fmt: skip


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def space():
    return metanas.load_space("mobile", stages=1, depth=3, head=6)


def weights_of(space, labels):
    """One-hot mixing weights; what the architecture does not have takes its first candidate."""
    places = {c.name: c.index(labels[c.name]) if c.name in labels else 0 for c in space.choices}
    return {c.name: torch.eye(len(c.candidates))[places[c.name]] for c in space.choices}


def batch_of(outputs):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 1, 8, 8, generator=generator)
    targets = torch.arange(6) % outputs if outputs > 1 else torch.randn(6, generator=generator)
    return inputs, targets


def gradient(loss, theta):
    rows = torch.autograd.grad(loss, theta.values(), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(theta.items(), rows, strict=True)}


@pytest.mark.parametrize("outputs", [3, 1])
def test_the_gradient_is_that_of_the_sum_and_the_value_that_of_the_largest(space, outputs):
    network = supernet(space, (1, 8, 8), outputs)
    own = {} if outputs > 1 else {"loss": squared_error, "soft": squared_error}
    loss = sandwich(fused(network), **own)
    outer = {"mix": weights_of(space, DRAWN[0]), "others": [weights_of(space, DRAWN[1])]}
    theta, (inputs, targets) = dict(network.named_parameters()), batch_of(outputs)
    found = loss(theta, outer, (inputs, targets))

    def said(labels):
        return network(inputs, mix=one_path(space.choices, {name: (label,) for name, label in labels.items()}))

    best, rest = said(LARGEST), [said(labels) for labels in (SMALLEST, *DRAWN)]
    if outputs > 1:
        task = -torch.log_softmax(best, 1)[torch.arange(6), targets].mean()
        taught = sum(-(torch.softmax(best, 1).detach() * torch.log_softmax(y, 1)).sum(1).mean() for y in rest)
    else:
        task = ((best[:, 0] - targets) ** 2).mean()
        taught = sum(((y - best.detach()) ** 2).mean() for y in rest)
    torch.testing.assert_close(found, task)
    wanted, rows = gradient(task + taught, theta), gradient(found, theta)
    for name, row in rows.items():
        torch.testing.assert_close(row, wanted[name], rtol=1e-10, atol=1e-12)


def test_the_soft_loss_is_least_at_the_teacher_and_its_gradient_the_difference():
    teacher, outputs = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.5, 0.0, 0.2]], requires_grad=True)
    (slope,) = torch.autograd.grad(soft_cross_entropy(outputs, teacher), outputs)
    torch.testing.assert_close(slope, torch.softmax(outputs.detach(), 1) - torch.softmax(teacher, 1))
    assert soft_cross_entropy(teacher, teacher) < soft_cross_entropy(outputs, teacher)


def test_it_is_a_loss_of_a_bilevel_problem(space):
    loss = sandwich(supernet(space, (1, 8, 8), 3))
    problem = Bilevel(loss, loss)
    theta = dict(supernet(space, (1, 8, 8), 3).named_parameters())
    assert torch.isfinite(problem.inner_loss(theta, {"mix": weights_of(space, DRAWN[0])}, batch_of(3)))


def test_the_largest_learns_from_the_labels_alone(space):
    """What only the largest has, its third block's large kernel, has the gradient of the plain loss."""
    network = supernet(space, (1, 8, 8), 3)
    theta, batch = dict(network.named_parameters()), batch_of(3)
    outer = {"mix": weights_of(space, SMALLEST)}
    found = gradient(sandwich(network)(theta, outer, batch), theta)
    path = one_path(space.choices, {name: (label,) for name, label in LARGEST.items()})
    plain = gradient(F.cross_entropy(network(batch[0], mix=path), batch[1]), theta)
    only = [name for name in theta if "block3" in name]
    assert only and all(torch.allclose(found[name], plain[name], rtol=1e-12) for name in only)
    assert any(plain[name].abs().max() > 0 for name in only)
    assert not all(torch.allclose(found[name], plain[name]) for name in theta if "block1" in name)
