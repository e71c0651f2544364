"""Batch norm whose statistics are values: torch's own, both ways; what is turned over, and settled again."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from metanas.errors import ShapeError
from metanas.modes import Episodic
from metanas.network import EpisodeNorm, called_norms, episodic, norms_of, pooled, settled

KINDS = {
    "rows": (nn.BatchNorm1d, (3,)),
    "sequences": (nn.BatchNorm1d, (3, 4)),
    "images": (nn.BatchNorm2d, (3, 4, 5)),
    "volumes": (nn.BatchNorm3d, (3, 2, 2, 2)),
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def shaken(module):
    """Scales and shifts that are not those of a fresh norm."""
    for p in module.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return module


def gap(a, b):
    return float((a.detach() - b.detach()).norm() / b.detach().norm())


# The norm


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_without_statistics_it_is_torchs_in_training_and_its_own_in_evaluation(kind, affine):
    make, shape = KINDS[kind]
    theirs = shaken(make(3, affine=affine, eps=1e-3)).train()
    ours, x = episodic(theirs), 2 * torch.randn(6, *shape) + 1
    assert isinstance(ours, EpisodeNorm) and [*ours.state_dict()] == ([] if not affine else ["weight", "bias"])
    wanted = theirs(x)
    for mode in (ours.train(), ours.eval()):
        assert gap(mode(x), wanted) < 1e-12


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_with_statistics_it_is_torchs_in_evaluation(kind, affine):
    make, shape = KINDS[kind]
    theirs = shaken(make(3, affine=affine, eps=1e-3))
    theirs.running_mean.copy_(torch.randn(3))
    theirs.running_var.copy_(torch.rand(3) + 0.5)
    theirs.eval()
    ours, x = episodic(theirs).train(), torch.randn(6, *shape)
    ours.given = iter([(theirs.running_mean, theirs.running_var)])
    assert gap(ours(x), theirs(x)) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_is_what_was_used(kind):
    make, shape = KINDS[kind]
    ours, x = episodic(shaken(make(3))), 2 * torch.randn(6, *shape) + 1
    ours.found = found = []
    first = ours(x)
    ((mean, variance),) = found
    rows = x.transpose(0, 1).flatten(1)
    assert gap(mean, rows.mean(1)) < 1e-12 and gap(variance, rows.var(1, correction=0)) < 1e-12
    ours.found, ours.given = None, None
    assert gap(first, ours(x)) < 1e-12
    ours.given = iter(found)
    assert gap(ours(x), first) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_go_through_statistics_that_are_given(kind):
    make, shape = KINDS[kind]
    norm = episodic(make(3))

    def with_given(x, mean, variance, weight, bias):
        norm.given = iter([(mean, variance)])
        return functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    points = torch.randn(2, *shape), torch.randn(3), torch.rand(3) + 0.5, torch.randn(3), torch.randn(3)
    points = tuple(x.requires_grad_() for x in points)
    assert torch.autograd.gradcheck(with_given, points)
    assert torch.autograd.gradgradcheck(with_given, points)


def test_gradients_go_through_statistics_that_are_found():
    norm = episodic(nn.BatchNorm2d(3))

    def found(x):
        norm.found = rows = []
        norm(x)
        return torch.cat(rows[0])

    assert torch.autograd.gradcheck(found, torch.randn(2, 3, 2, 2).requires_grad_())


# A module of norms


class Nested(nn.Module):
    """Norms at several depths, one of them in a list, called in another order than they are held."""

    def __init__(self):
        super().__init__()
        self.last = nn.BatchNorm1d(4)
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False)), nn.Sequential(nn.Conv2d(3, 4, 3))]
        )
        self.blocks[1].append(nn.BatchNorm2d(4, track_running_stats=False, eps=1e-2))
        self.group = nn.GroupNorm(2, 4)

    def forward(self, x):
        for block in self.blocks:
            x = block(x).tanh()
        return self.last(self.group(x).mean((2, 3)))


ORDER = ["blocks.0.1", "blocks.1.1", "last"]


def test_every_batch_norm_of_a_module_is_turned_over_and_nothing_else():
    theirs = shaken(Nested()).train()
    before = {name: x.clone() for name, x in theirs.state_dict().items()}
    ours, x = episodic(theirs), torch.randn(5, 2, 6, 6)
    assert len(norms_of(ours)) == 3 and not any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in ours.modules())
    assert isinstance(ours.group, nn.GroupNorm) and ours.blocks[1][1].eps == 1e-2
    assert [n.kind for n in norms_of(ours)] == [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm2d]
    assert {k: v.shape for k, v in ours.named_parameters()} == {k: v.shape for k, v in theirs.named_parameters()}
    assert gap(ours(x), Nested.forward(theirs, x)) < 1e-12
    fresh = shaken(Nested())
    fresh.load_state_dict(before)
    copy = episodic(fresh)
    fresh.last.weight.data.fill_(9)
    assert not bool((copy.last.weight == 9).any()), "a copy of its own"
    assert called_norms(ours, x) == ORDER


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Sequential(nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True))), "0.0: InstanceNorm2d keeps run"),
        (nn.Sequential(nn.SyncBatchNorm(3)), "0: SyncBatchNorm keeps running statistics"),
        (nn.InstanceNorm1d(3, track_running_stats=True), "the network: InstanceNorm1d keeps running statistics"),
    ],
)
def test_a_norm_that_a_task_would_change_is_refused(module, said):
    with pytest.raises(ShapeError) as caught:
        episodic(module)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_one_norm_at_two_places_has_one_scale_and_statistics_for_each():
    norm = shaken(nn.BatchNorm1d(3))
    twice, x = nn.Sequential(norm, nn.Linear(3, 3), norm), torch.randn(6, 3)
    call = Episodic(twice)
    assert len(call.norms) == 2 and list(call.theta) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert gap(call(call.theta, x), twice(x)) < 1e-12
    found, names = call.statistics(call.theta, x), called_norms(call.module, x)
    assert names == ["0", "2"]
    moved = {**call.theta, "0.weight": call.theta["0.weight"] + 1}
    plain = settled(call.module, moved, call.statistics(moved, x), names)
    assert gap(plain(x), call(moved, x)) < 1e-10 and plain[0].weight is plain[2].weight
    assert gap(call(call.theta, x, found), twice(x)) < 1e-12


def test_norms_that_see_one_example_stay():
    kept = nn.Sequential(
        nn.InstanceNorm2d(3, affine=True), nn.GroupNorm(1, 3), nn.LayerNorm(4), nn.LocalResponseNorm(2)
    )
    assert [type(m) for m in episodic(kept)] == [type(m) for m in kept]


def test_calls_with_values_leave_no_trace():
    call, x = Episodic(shaken(Nested())), torch.randn(5, 2, 6, 6)
    found = call.statistics(call.theta, x)
    assert [mean.shape[0] for mean, _ in found] == [3, 4, 4]
    assert gap(call(call.theta, x, found), call(call.theta, x)) < 1e-12
    with pytest.raises(StopIteration):
        call(call.theta, x, found[:2])
    assert all(norm.given is None and norm.found is None for norm in call.norms)
    assert call.statistics(call.theta, torch.randn(5, 2, 6, 6))[0][0].shape == (3,)


def test_a_module_without_batch_norms_has_no_statistics():
    call = Episodic(nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)))
    assert call.statistics(call.theta, torch.randn(3, 2, 4, 4)) == []
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(call(call.theta, x, []), call(call.theta, x))


def test_pooled_statistics_are_those_of_all_examples_together():
    call = Episodic(nn.Sequential(shaken(nn.BatchNorm2d(3))))
    batches = torch.randn(4, 5, 3, 2, 2) * torch.rand(4, 1, 3, 1, 1) + torch.randn(4, 1, 3, 1, 1)
    ((mean, variance),) = pooled(call.statistics(call.theta, batch) for batch in batches)
    ((whole, spread),) = call.statistics(call.theta, batches.flatten(0, 1))
    assert gap(mean, whole) < 1e-12 and gap(variance, spread) < 1e-12
    assert pooled([[], []]) == []


# A plain network again


def test_a_settled_module_is_the_same_answer_in_torchs_norms():
    call, x = Episodic(shaken(Nested())), torch.randn(5, 2, 6, 6)
    theta = {name: p + 0.1 * torch.randn_like(p) for name, p in call.theta.items()}
    found = call.statistics(theta, torch.randn(7, 2, 6, 6))
    plain = settled(call.module, theta, found, called_norms(call.module, x))
    wanted = call(theta, x, found)
    assert not plain.training and not norms_of(plain)
    assert [type(plain.get_submodule(n)) for n in ORDER] == [nn.BatchNorm2d, nn.BatchNorm2d, nn.BatchNorm1d]
    assert gap(plain(x), wanted) < 1e-10
    alone = torch.cat([plain(image[None]) for image in x])
    assert gap(alone, wanted) < 1e-10, "each input is answered for itself"
    assert len(norms_of(call.module)) == 3, "the episodic module is as it was"
    assert not any(torch.equal(p, theta[name]) for name, p in call.module.named_parameters())


def test_what_theta_leaves_out_stays():
    module = episodic(nn.Sequential(nn.Linear(3, 3), shaken(nn.BatchNorm1d(3))))
    x = torch.randn(6, 3)
    plain = settled(module, {"0.bias": torch.ones(3)}, [(torch.zeros(3), torch.ones(3))], called_norms(module, x))
    assert torch.equal(plain[0].weight, module[0].weight) and torch.equal(plain[1].weight, module[1].weight)
    assert bool((plain[0].bias == 1).all())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.norm(x) * 2)


def test_a_norm_that_is_called_twice_has_two_statistics_and_cannot_be_settled():
    call, x = Episodic(shaken(Twice())), torch.randn(6, 3)
    found = call.statistics(call.theta, x)
    assert len(found) == 2 and gap(call(call.theta, x, found), call(call.theta, x)) < 1e-12
    names = called_norms(call.module, x)
    assert names == ["norm", "norm"]
    with pytest.raises(ShapeError, match="a norm of the network is called more than once, and can keep one mean"):
        settled(call.module, {}, found, names)
    with pytest.raises(ShapeError, match="called more than once"):
        settled(call.module, {}, found, ["norm"])
