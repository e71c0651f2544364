"""What a step says and does not do; epochs, warm-up, splits of every length."""

from __future__ import annotations

import builtins
import dataclasses
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from metanas.bilevel import FiniteDifference, FirstOrder
from metanas.controllers import Darts, DartsPt, DrNas
from metanas.data import batches
from metanas.errors import BilevelError, SpaceError
from metanas.loop import GradientSearch, Schedule
from metanas.loop.by_gradient import entropy
from metanas.modes import meta_network
from metanas.network import one_path, supernet


def test_steps_are_frozen_and_count_up(tiny):
    steps = list(tiny.search().steps())
    assert [s.step for s in steps] == list(range(1, 10))
    assert [s.epoch for s in steps] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [s.report is not None for s in steps] == [False, False, True] * 3
    assert [s.report.epoch for s in steps if s.report] == [1, 2, 3]
    for value in (steps[0], steps[2].report):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.step = 1
    for s in steps:
        for x in (s.inner_loss, s.outer_loss, s.gradient_norm, s.outer_gradient_norm, s.skipped):
            assert x.shape == () and not x.requires_grad
    assert float(steps[0].inner_loss) == float(steps[0].inner_loss) != float(steps[1].inner_loss)


def test_a_step_that_was_given_is_not_changed_by_later_ones(tiny):
    search = tiny.search()
    first = next(running := search.steps())
    before = [float(x) for x in (first.inner_loss, first.outer_loss, first.gradient_norm, first.skipped)]
    list(running)
    assert [float(x) for x in (first.inner_loss, first.outer_loss, first.gradient_norm, first.skipped)] == before


@pytest.mark.parametrize("controller", [Darts(), DrNas()], ids=str)
def test_a_search_writes_nothing_and_leaves_the_global_generators_alone(tiny, controller, capfd, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a search opens no file: {args}")

    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    search = tiny.search(controller=controller, warmup=1)
    running = search.steps()
    next(running)  # torch imports what it needs at the first one
    monkeypatch.setattr(builtins, "open", refuse)
    list(running)
    search.derive()
    monkeypatch.undo()
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]
    assert capfd.readouterr() == ("", "")


def test_the_curve_does_not_depend_on_the_global_generators(tiny):
    curves = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        curves.append([float(s.inner_loss) for s in tiny.search(controller=DrNas()).steps()])
    assert curves[0] == curves[1]


class HostReads(TorchDispatchMode):
    """Counts the reads of single numbers from tensors: on a GPU each makes the host wait."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("estimator", [FirstOrder(), FiniteDifference()], ids=str)
@pytest.mark.parametrize("controller", [Darts(), DrNas()], ids=str)
def test_the_host_reads_nothing_in_the_middle_of_an_epoch(tiny, controller, estimator):
    search = tiny.search(
        controller=controller, estimator=estimator, data=tiny.data(20, 20), order="outer", patience=100
    )
    running = search.steps()
    next(running)
    with HostReads() as middle:
        for _ in range(3):
            next(running)
    with HostReads() as last:
        assert next(running).report is not None
    assert (middle.count, last.count > 0) == (0, True)


@pytest.mark.parametrize("controller", [Darts(), DrNas()], ids=str)
def test_a_warm_up_trains_the_weights_only(tiny, controller):
    search = tiny.search(warmup=2, controller=controller)
    start = {name: x.detach().clone() for name, x in search.relaxed.omega.items()}
    theta = {name: p.detach().clone() for name, p in search.theta.items()}
    for step in search.steps():
        warm = step.epoch < 2
        assert all(torch.equal(search.relaxed.omega[name], x) for name, x in start.items()) == warm
        assert math.isnan(float(step.outer_loss)) == warm
        if step.report:
            assert (step.report.outer_loss is None) == warm and step.report.inner_loss is not None
        if step.step == 1:
            assert all(not torch.equal(search.theta[name], p) for name, p in theta.items())


def test_the_loss_falls_and_the_structure_moves(tiny):
    search = tiny.search(epochs=20, controller=DrNas(), data=tiny.data(48, 48), batch_size=12)
    reports = [s.report for s in search.steps() if s.report]
    assert reports[-1].inner_loss < 0.5 * reports[0].inner_loss
    assert reports[-1].outer_score > 0.9
    assert reports[-1].entropy < reports[0].entropy


@pytest.mark.parametrize(
    "inner, outer, size, per_epoch",
    [(18, 13, 4, 3), (13, 18, 4, 3), (40, 9, 4, 2), (5, 40, 4, 1), (6, 5, 64, 1), (16, 3, 4, 1)],
)
def test_splits_of_any_length(tiny, inner, outer, size, per_epoch):
    """An epoch is as long as the shorter split; a split smaller than a batch is one batch."""
    seen = []

    def loss(outputs, targets):
        seen.append(len(targets))
        return F.cross_entropy(outputs, targets)

    search = tiny.search(data=tiny.data(inner, outer), batch_size=size, epochs=2, loss=loss)
    steps = list(search.steps())
    assert search.per_epoch == per_epoch and len(steps) == search.total == 2 * per_epoch
    assert seen == [min(size, inner), min(size, outer)] * len(steps)
    assert all(torch.isfinite(s.inner_loss) and torch.isfinite(s.outer_loss) for s in steps)


def test_a_batch_size_that_cannot_be(tiny):
    with pytest.raises(ValueError, match="batch size"):
        tiny.search(batch_size=0)


@pytest.mark.parametrize("nesterov", [True, False])
def test_no_momentum(tiny, nesterov):
    assert len(list(tiny.search(momentum=0.0, nesterov=nesterov, epochs=1).steps())) == 3


def test_rates(tiny):
    schedule = Schedule(epochs=4, lr=0.5, lr_end=0.1)
    half = math.sqrt(0.5)
    expected = [0.5, 0.3 + 0.2 * half, 0.3, 0.3 - 0.2 * half]
    assert [schedule.rate(k) for k in range(4)] == pytest.approx(expected)
    search = tiny.search(epochs=4, lr=0.5, lr_end=0.1)
    for step in search.steps():
        assert search.optimizer.param_groups[0]["lr"] == schedule.rate(step.epoch)
        assert step.report is None or step.report.lr == schedule.rate(step.epoch)


def test_one_draw_for_the_structure_and_one_for_the_weights(tiny):
    """Each step draws twice from its own noise; a step's noise does not depend on the steps before it."""
    drawn = []

    class Spy(DrNas):
        def relax(self, omega, *, progress, generator):
            drawn.append((progress, generator.initial_seed(), torch.is_grad_enabled()))
            return super().relax(omega, progress=progress, generator=generator)

    search = tiny.search(controller=Spy(), epochs=1)
    list(search.steps())
    assert [p for p, _, _ in drawn] == [0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert [grad for *_, grad in drawn] == [False, True] * 3
    assert len({seed for _, seed, _ in drawn}) == 3


# reports


def test_a_report_by_hand(tiny):
    search = tiny.search(controller=DrNas(lr=0.5), epochs=1, data=tiny.data(18, 18), monitor=7)
    steps = list(search.steps())
    report, data = steps[-1].report, search.data
    assert report.inner_loss == pytest.approx(sum(float(s.inner_loss) for s in steps) / len(steps), rel=1e-6)
    assert report.outer_loss == pytest.approx(sum(float(s.outer_loss) for s in steps) / len(steps), rel=1e-6)
    means = search.controller.expected(search.relaxed.omega)
    assert report.weights == {name: tuple(w.tolist()) for name, w in means.items()}
    assert (
        report.architecture
        == search.derive()
        == search.controller.derive(
            tiny.space, search.relaxed.omega, evaluate=lambda a: 0.0, generator=torch.Generator()
        )
    )
    with torch.no_grad():
        path = one_path(tiny.space.choices, report.architecture)
        mixed, derived = (search.network(data.outer.inputs[:7], mix=mix) for mix in (means, path))
    targets = data.outer.targets[:7]
    gap = F.cross_entropy(derived, targets) - F.cross_entropy(mixed, targets)
    assert report.gap == pytest.approx(float(gap), rel=1e-12)
    assert report.outer_score == pytest.approx(float((mixed.argmax(1) == targets).double().mean()))
    assert report.derived_score == pytest.approx(float((derived.argmax(1) == targets).double().mean()))
    rows = [-sum(w * math.log(w) for w in row if w) / math.log(3) for row in report.weights.values()]
    assert report.entropy == pytest.approx(sum(rows) / 3)
    assert (report.epoch, report.epochs) == (1, 1)


def test_scores_come_in_parts_of_nearly_equal_size(tiny, monkeypatch):
    """A last part of one image would have no statistics for its norms."""
    monkeypatch.setattr("metanas.loop.by_gradient.MONITOR_BATCH", 4)
    search = tiny.search(data=tiny.data(18, 13), monitor=100)
    mix = one_path(tiny.space.choices, search.derive())
    sizes, losses, right = [], [], 0
    forward = search.network.forward
    monkeypatch.setattr(search.network, "forward", lambda x, mix: sizes.append(len(x)) or forward(x, mix=mix))
    loss, accuracy = search.score(mix)
    assert sizes == [4, 3, 3, 3]
    start = 0
    for size in sizes:
        rows = slice(start, start := start + size)
        with torch.no_grad():
            outputs, targets = forward(search.data.outer.inputs[rows], mix=mix), search.data.outer.targets[rows]
        losses.append(float(F.cross_entropy(outputs, targets, reduction="sum")))
        right += int((outputs.argmax(1) == targets).sum())
    assert loss == pytest.approx(sum(losses) / 13) and accuracy == pytest.approx(right / 13)


def test_entropy():
    third = torch.full((3,), 1 / 3)
    assert entropy({"a": third, "b": torch.full((8,), 1 / 8)}) == pytest.approx(1.0)
    assert entropy({"a": torch.tensor([0.0, 1.0, 0.0])}) == 0.0
    assert entropy({"a": torch.ones(1)}) == 0.0 == entropy({})
    assert entropy({"a": third, "one": torch.ones(1)}) == pytest.approx(1.0)  # nothing to decide: does not count
    assert entropy({"apart": torch.full((4,), 0.5)}) == pytest.approx(1.0)  # weights that do not sum to 1
    assert entropy({"apart": torch.zeros(4)}) == 0.0 == entropy({"apart": torch.tensor([0.0, 0.9])})


def test_a_derivation_that_evaluates_gets_the_loss_at_mixing_weights(tiny):
    seen = []

    class Asks(Darts):
        def derive(self, space, omega, *, evaluate, generator):
            seen.append(evaluate(self.expected(omega)))
            return super().derive(space, omega, evaluate=evaluate, generator=generator)

    search = tiny.search(controller=Asks(), epochs=1)
    list(search.steps())
    search.derive()
    assert seen == [search.score(search.controller.expected(search.relaxed.omega))[0]]


def test_a_fixed_omega_stays_and_no_hypergradient_is_taken(tiny):
    """Only the weights are trained; the report has no derived architecture, since to derive one takes time."""
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        return F.cross_entropy(outputs, targets)

    search = tiny.search(controller=DartsPt(), loss=loss)
    steps = list(search.steps())
    assert len(calls) == len(steps) == 9
    assert all(not x.any() for x in search.relaxed.omega.values())
    assert all(math.isnan(float(s.outer_loss)) for s in steps)
    report = steps[-1].report
    assert (report.architecture, report.gap, report.derived_score, report.outer_loss) == (None, None, None, None)
    assert report.outer_score > 0 and report.entropy == pytest.approx(1.0)
    assert search.space.architecture(search.derive()) == search.derive()


# what cannot be


def test_a_choice_that_cannot_be_relaxed_is_refused_at_the_start(problems, tiny):
    space = problems.subsets()
    network = supernet(space, (3, 8, 8), 3)
    with pytest.raises(SpaceError, match="any subset"):
        GradientSearch(
            space, network, meta_network(network), FirstOrder(), Darts(), tiny.data(), Schedule(epochs=1), seed=0
        )


def test_an_order_that_is_none_is_refused(tiny):
    with pytest.raises(BilevelError, match="order"):
        next(tiny.search(order="both").steps())


def test_the_batches_are_those_of_the_data_room(tiny):
    """Augmented, from the stream of their split: what is trained on does not depend on the search."""
    search = tiny.search()
    for k in range(3):
        train, inner, outer = next(search._triples(1, k))
        for got, split, name in ((inner, search.data.inner, "inner"), (outer, search.data.outer, "outer")):
            want = list(batches(split, 4, seed=0, epoch=1, stream=name, augment=search.data.augment))[k]
            assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        assert train == [inner]


class ByDescent(Darts):
    """DARTS whose structure moves by plain descent, so that the length of a step shows."""

    def optimizer(self, omega):
        return torch.optim.SGD(omega, lr=1.0)


def test_an_exploding_hypergradient_is_clipped_and_its_norm_reported(tiny):
    """The outer loss a million times as steep: omega moves by the greatest norm, the whole norm is told."""

    def run(scale, clip):
        search = tiny.search(controller=ByDescent(), epochs=1, outer_clip=clip)
        loss = search.problem.outer_loss
        search.problem = dataclasses.replace(search.problem, outer_loss=lambda t, o, b: loss(t, o, b) * scale)
        before = {name: x.detach().clone() for name, x in search.relaxed.omega.items()}
        step = next(search.steps())
        moved = torch.stack([(x.detach() - before[name]).square().sum() for name, x in search.relaxed.omega.items()])
        return float(moved.sum().sqrt()), float(step.outer_gradient_norm)

    plain, norm = run(1.0, 5.0)
    assert plain == pytest.approx(norm) and 0 < norm < 5, "an ordinary one is left as it is"
    moved, steep = run(1e6, 5.0)
    assert steep == pytest.approx(1e6 * norm, rel=1e-3) and moved == pytest.approx(5.0, rel=1e-3)
    assert run(1e6, 0.5)[0] == pytest.approx(0.5, rel=1e-3)


def test_without_a_step_of_the_structure_there_is_no_norm_of_it(tiny):
    steps = list(tiny.search(warmup=1, epochs=2).steps())
    assert [math.isnan(float(s.outer_gradient_norm)) for s in steps] == [True] * 3 + [False] * 3
