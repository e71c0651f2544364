"""Updates that are not finite: left out, counted, and the end of a search that has nothing else."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import torch.nn.functional as F

from metanas.bilevel import FiniteDifference, FirstOrder
from metanas.controllers import Darts, DrNas
from metanas.errors import DivergedError
from metanas.run.checkpoints import save


class Faulty:
    """Cross-entropy that fails in the `place` ("inner" or "outer") of steps `when`, as a search of order "advance"
    with a first-order estimator calls it: inner, outer, inner, outer.
    """

    def __init__(self, place, when, how):
        self.place, self.when, self.how, self.calls = place, when, how, 0

    def __call__(self, outputs, targets):
        step, outer = divmod(self.calls, 2)
        self.calls += 1
        loss = F.cross_entropy(outputs, targets)
        if step + 1 in self.when and outer == (self.place == "outer"):
            return self.how(loss)
        return loss


HOW = {
    "nan": lambda loss: loss * torch.nan,
    "nan with a finite gradient": lambda loss: loss + torch.nan,
    "inf with a finite gradient": lambda loss: loss + torch.inf,
    "a gradient of nan": lambda loss: loss + (loss - loss.detach()).sqrt() * 0,
}


def parts(search):
    """Copies of (weights and their momentum, omega and its memory)."""
    state = copy.deepcopy(search.state())
    return (state["theta"], state["optimizer"]), (state["omega"], state["omega_optimizer"])


def same(a, b):
    if isinstance(a, dict | tuple):
        keys = a if isinstance(a, dict) else range(len(a))
        return len(a) == len(b) and all(same(a[key], b[key]) for key in keys)
    return torch.equal(a, b)


@pytest.mark.parametrize("controller", [Darts(), DrNas()], ids=str)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("place", ["inner", "outer"])
@pytest.mark.parametrize("k", [1, 3])
def test_an_update_that_is_not_finite_is_left_out_and_counted(tiny, tmp_path, controller, how, place, k):
    search = tiny.search(controller=controller, loss=Faulty(place, {k}, HOW[how]))
    running = search.steps()
    for step in range(1, k):
        assert int(next(running).skipped) == 0 and search.step == step
    weights, omega = parts(search)
    step = next(running)
    assert int(step.skipped) == 1
    save(tmp_path / "c", k, search.state(), 0)  # refuses a number that is not finite
    now_weights, now_omega = parts(search)
    if k > 1:  # before the first step there is no memory to compare
        assert same(weights, now_weights) == (place == "inner")
        assert same(omega, now_omega) == (place == "outer")
    else:
        assert same(weights[0], now_weights[0]) == (place == "inner")
        assert same(omega[0], now_omega[0]) == (place == "outer")
    *_, last = running
    assert int(last.skipped) == 1
    save(tmp_path / "c", 9, search.state(), 0)
    assert last.report.inner_loss is not None and last.report.outer_loss is not None


@pytest.mark.parametrize("estimator", [FirstOrder(), FiniteDifference()], ids=str)
@pytest.mark.parametrize("place", ["inner", "outer"])
def test_an_image_that_is_not_finite(tiny, tmp_path, place, estimator):
    """It meets one batch in most epochs; the second-order estimator meets an inner one, too."""
    data = tiny.data(12, 12)
    getattr(data, place).inputs[5] = torch.nan
    search = tiny.search(data=data, estimator=estimator, order="outer")
    for step in search.steps():
        save(tmp_path / "c", step.step, search.state(), 0)
        if step.report:
            assert torch.isfinite(torch.tensor([step.report.inner_loss, step.report.outer_loss])).all()
    both = place == "inner" and estimator == FiniteDifference()
    assert int(step.skipped) == 3 * (1 + both)


def test_means_are_of_the_finite_losses(tiny):
    search = tiny.search(epochs=1, data=tiny.data(16, 16), loss=Faulty("inner", {2}, HOW["nan"]))
    steps = list(search.steps())
    losses = [float(s.inner_loss) for k, s in enumerate(steps) if k != 1]
    assert steps[-1].report.inner_loss == pytest.approx(sum(losses) / 3, rel=1e-6)


@pytest.mark.parametrize("how", ["nan", "inf with a finite gradient"])
@pytest.mark.parametrize("place", ["inner", "outer"])
def test_a_loss_that_is_never_finite_ends_the_search(tiny, tmp_path, place, how):
    loss = Faulty(place, range(3, 100), HOW[how])
    search = tiny.search(epochs=9, patience=5, loss=loss, data=tiny.data(36, 36))
    with pytest.raises(DivergedError) as caught:
        for _ in search.steps():
            save(tmp_path / "c", search.step, search.state(), 0)
    message = str(caught.value)
    value = "inf" if place == "inner" and how.startswith("inf") else "nan"  # an infinite outer loss is told as nan
    assert re.match(r"step 9: the last 7 steps had updates that were not finite \(inner loss [-.\w]+, outer", message)
    assert f"{place} loss {value}" in message and "\n" not in message
    assert "all layers are finite, the loss or a gradient is not" in message and "lower lr (0.1)" in message


def test_a_search_shorter_than_the_patience_does_not_pass_for_a_result(tiny):
    search = tiny.search(epochs=1, patience=20, loss=Faulty("outer", range(100), HOW["nan"]))
    with pytest.raises(DivergedError, match=f"step {search.total}: the last {search.total} steps"):
        list(search.steps())


def test_failures_with_successes_between_them_do_not_end_a_search(tiny):
    search = tiny.search(epochs=4, patience=3, loss=Faulty("inner", set(range(100)) - {3, 6, 9, 12}, HOW["nan"]))
    assert int(list(search.steps())[-1].skipped) == search.total - 4


def test_failures_that_are_not_in_a_row_of_both_kinds(tiny):
    """A step in which either update was left out counts; one with two of them counts once."""
    loss = Faulty("inner", {1, 2}, HOW["nan"])
    search = tiny.search(data=tiny.data(16, 16), patience=4, loss=loss)
    steps = list(search.steps())
    assert [int(s.skipped) for s in steps[:4]] == [1, 2, 2, 2] and int(search.lost) == 0


@pytest.mark.parametrize("where", ["cell/2/from_0/conv", "head"])
def test_the_first_layer_that_is_not_finite_is_named(tiny, where):
    search = tiny.search(epochs=2, patience=2)
    (name, weight), *_ = [(n, p) for n, p in search.theta.items() if n.startswith(where) and p.dim() > 1]
    with torch.no_grad():
        weight[0] = torch.inf
    with pytest.raises(DivergedError) as caught:
        list(search.steps())
    layer = name.removesuffix(".weight").replace("/", ".")
    assert f"the first layer that is not finite is {layer} (" in str(caught.value)


@pytest.mark.parametrize("place", ["inner", "outer"])
def test_data_that_is_not_finite_is_named(tiny, place):
    data = tiny.data(8, 8)
    getattr(data, place).inputs[:] = torch.nan
    with pytest.raises(DivergedError, match="the input is not finite"):
        list(tiny.search(data=data, patience=2).steps())


def test_the_warm_up_ends_too(tiny):
    class Broken:
        def __call__(self, outputs, targets):
            return F.cross_entropy(outputs, targets) * torch.nan

    with pytest.raises(DivergedError, match=r"inner loss nan, outer loss nan"):
        list(tiny.search(warmup=3, patience=2, loss=Broken()).steps())
