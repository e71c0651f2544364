"""A search that was stopped anywhere and goes on from its checkpoint is the one that was not, bit for bit."""

from __future__ import annotations

import copy
import random

import pytest
import torch

from metanas.bilevel import ConjugateGradient, FiniteDifference, FirstOrder, Nystrom
from metanas.controllers import Darts, DartsPt, DrNas, FairDarts, PcDarts, RandomSearch
from metanas.errors import CheckpointError
from metanas.loop import ValueSearch
from metanas.loop.state import optimizer_state, restore_optimizer
from metanas.network import supernet
from metanas.run.checkpoints import load, save

KINDS = {
    "darts": {"controller": Darts(), "estimator": FirstOrder()},
    "drnas with a warm-up": {"controller": DrNas(), "warmup": 1},
    "darts, second order": {"controller": Darts(), "estimator": FiniteDifference(), "order": "outer", "warmup": 1},
    "drnas, structure first": {"controller": DrNas(), "order": "outer", "clip": 0.1},
    "a warm linear solve": {"controller": Darts(), "estimator": ConjugateGradient(2, damping=1.0)},
    "a sketch that is drawn": {"controller": Darts(), "estimator": Nystrom(3, damping=1.0)},
    "fixed omega": {"controller": DartsPt()},
    "candidates that do not compete": {"controller": FairDarts()},
    "partial channels": {"controller": PcDarts(parts=2)},
    "with batches left out": {"controller": DrNas(), "patience": 100},
}


LONG = {"a sketch that is drawn"}


@pytest.fixture(params=[pytest.param(k, marks=pytest.mark.long) if k in LONG else k for k in KINDS], ids=str)
def make(request, tiny):
    """Makes the same search anew."""
    data = tiny.data()
    if request.param == "with batches left out":
        data.inner.inputs[3] = torch.nan
        data.outer.inputs[5] = torch.nan
    return lambda: tiny.search(data=data, **KINDS[request.param])


def numbers(step):
    """Everything that a step says, comparable bit by bit (nan included)."""
    seen = [step.inner_loss, step.outer_loss, step.gradient_norm, step.outer_gradient_norm, step.skipped]
    return step.step, step.epoch, [x.numpy().tobytes() for x in seen], repr(step.report)


def same(a, b):
    """Two trees of tensors and plain values, equal to the bit."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_resume_after_every_step(make, tmp_path):
    search, curve, states = make(), [], []
    for step in search.steps():
        curve.append(numbers(step))
        save(tmp_path / str(step.step), step.step, search.state(), 0)
    end = copy.deepcopy(search.state())
    assert len(curve) == search.total == 9
    for k in range(1, len(curve) + 1):
        torch.manual_seed(k)
        random.seed(k)
        again = make()
        again.restore(load(tmp_path / str(k)).tree)
        states.append([numbers(step) for step in again.steps()])
        assert states[-1] == curve[k:]
        assert same(again.state(), end)
        assert again.derive() == search.derive()


def test_a_search_in_use_can_be_restored(make, tmp_path):
    """Also its counts: those of the steps that are taken back do not stay."""
    search = make()
    curve = []
    for step in search.steps():
        curve.append(numbers(step))
        if step.step == 4:
            save(tmp_path / "c", 4, search.state(), 0)
    search.restore(load(tmp_path / "c").tree)
    assert [numbers(step) for step in search.steps()] == curve[4:]


def test_a_restored_search_shares_no_memory_with_the_state(tiny):
    first, second = tiny.search(controller=DrNas()), tiny.search(controller=DrNas())
    next(first.steps())
    state = copy.deepcopy(first.state())
    second.restore(state)
    kept = copy.deepcopy(state)
    for _ in second.steps():
        pass
    assert same(state, kept)


def test_another_seed_is_another_search(tiny):
    curves = [[numbers(step) for step in tiny.search(seed=seed).steps()] for seed in (0, 0, 1)]
    assert curves[0] == curves[1] and curves[0][0] != curves[2][0]


def test_restore_refuses_what_does_not_fit_in_one_line(tiny):
    search = tiny.search()
    next(search.steps())
    good = copy.deepcopy(search.state())
    weight = next(iter(good["theta"]))

    def refused(state, *words):
        fresh = tiny.search()
        before = copy.deepcopy(fresh.state())
        with pytest.raises(CheckpointError) as caught:
            fresh.restore(state)
        message = str(caught.value)
        assert "\n" not in message and all(word in message for word in words)
        assert same(fresh.state()["theta"], before["theta"])

    short = {name: row[:-1] for name, row in good["omega"].items()}
    refused(good | {"omega": short}, "structure parameters", "1<-0 is (2,), needed (3,)", "2<-1")
    refused(good | {"omega": {"other": torch.ones(3)}}, "missing 1<-0", "unexpected other")
    refused(good | {"theta": {k: v for k, v in good["theta"].items() if k != weight}}, "weights", f"missing {weight}")


def test_an_optimizer_refuses_the_memory_of_another(tiny):
    search = tiny.search()
    next(search.steps())
    state = copy.deepcopy(optimizer_state(search.optimizer))
    for wrong in ({"0": {"momentum_buffer": torch.ones(7, 7)}}, {str(len(state)): state["0"]}):
        with pytest.raises(CheckpointError, match="the optimizer's memory of the checkpoint: "):
            restore_optimizer(search.optimizer, wrong)


def test_memory_takes_the_layout_of_its_parameter(tiny):
    """A checkpoint is contiguous and a supernet's weights are channels-last: fused kernels walk both in step."""
    network = supernet(tiny.space, (1, 6, 6), 3)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, fused=True)
    wide = [k for k, p in enumerate(network.parameters()) if not p.is_contiguous()]
    assert wide
    shapes = {str(k): {"momentum_buffer": torch.randn(p.shape)} for k, p in enumerate(network.parameters())}
    restore_optimizer(optimizer, shapes)
    for k, p in enumerate(network.parameters()):
        buffer = optimizer.state[p]["momentum_buffer"]
        assert buffer.stride() == p.stride() and torch.equal(buffer, shapes[str(k)]["momentum_buffer"])


def test_value_search_resumes_after_every_evaluation(tiny, tmp_path):
    value = lambda a: sum(map(len, a.to_json().values())) / 7 if a["1<-0"] != ("none",) else float("nan")  # noqa: E731
    make = lambda: ValueSearch(tiny.space, value, RandomSearch(), budget=8, seed=3)  # noqa: E731
    search, curve = make(), []
    for evaluation in search.steps():
        curve.append(repr(evaluation))
        save(tmp_path / str(evaluation.step), evaluation.step, search.state(), 0)
    for k in range(1, 9):
        again = make()
        again.restore(load(tmp_path / str(k)).tree)
        assert [repr(e) for e in again.steps()] == curve[k:]
        assert again.derive() == search.derive() and again.state() == search.state()


def test_every_tensor_of_an_optimizer_that_does_not_fit_is_listed() -> None:
    parameters = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    optimizer = torch.optim.Adam(parameters)
    memory = {"0": {"exp_avg": torch.ones(3), "step": torch.tensor(1.0)}, "1": {"exp_avg": torch.ones(3)}, "7": {}}
    with pytest.raises(CheckpointError, match=r"exp_avg of 0 is \(3,\), needed \(2,\); unexpected 7; was the space"):
        restore_optimizer(optimizer, memory)
    assert not optimizer.state
