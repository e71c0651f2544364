"""SDARTS: how far the weights' own mixing weights go, which way, and what stays as it was."""

from __future__ import annotations

import copy

import pytest
import torch

from metanas.controllers import Darts, DrNas, FairDarts, Gdas
from metanas.errors import SpaceError
from metanas.loop.perturbation import put_back, shaken, worst
from metanas.run.checkpoints import load, save


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_is_uniform_and_no_larger_than_it_may_be():
    """20,000 numbers that are put back nowhere: mean 0, deviation epsilon / sqrt 3; five standard errors."""
    mix = {str(k): torch.full((4,), 0.5) for k in range(5_000)}
    moved = torch.stack(list(shaken(mix, 0.3, competing=False, generator=seeded()).values())) - 0.5
    assert moved.abs().max() <= 0.3 and moved.min() < -0.299 and moved.max() > 0.299
    assert abs(moved.mean()) < 5 * 0.3 / 3**0.5 / 20_000**0.5
    assert moved.std() == pytest.approx(0.3 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("epsilon", [0.03, 0.3, 5.0])
def test_what_competes_stays_on_the_simplex(epsilon):
    mix = {str(k): torch.softmax(torch.randn(5, generator=seeded(k)), -1) for k in range(200)}
    for w in shaken(mix, epsilon, competing=True, generator=seeded()).values():
        assert (w >= 0).all() and float(w.sum()) == pytest.approx(1.0)


def test_what_is_gone_stays_away():
    mix = {"y": torch.tensor([0.6, 0.0, 0.4])}
    how = {"competing": True, "generator": seeded()}
    for moved in (shaken(mix, 0.3, **how), worst(lambda mix: -mix["y"][0], mix, 0.3, 3, **how)):
        assert moved["y"][1] == 0 and float(moved["y"].sum()) == pytest.approx(1.0) and moved["y"][0] != 0.6


def test_nothing_left_is_the_largest_alone():
    assert put_back(torch.tensor([-0.3, -0.1, -0.2]), competing=True).tolist() == [0.0, 1.0, 0.0]
    assert put_back(torch.tensor([-0.3, 1.5]), competing=False).tolist() == [0.0, 1.0]


def test_the_worst_is_the_corner_of_the_box_where_the_loss_is_linear():
    """Each number goes to the end of its interval that the slope points to; then over the sum."""
    slope = torch.tensor([1.0, -2.0, 0.5, -0.1], dtype=torch.float64)
    mix = {"y": torch.full((4,), 0.25, dtype=torch.float64), "unread": torch.full((2,), 0.5, dtype=torch.float64)}
    loss = lambda mix: slope @ mix["y"]  # noqa: E731
    free = worst(loss, mix, 0.2, 7, competing=False, generator=seeded())
    torch.testing.assert_close(free["y"], mix["y"] + 0.2 * slope.sign())
    assert all(not w.requires_grad for w in free.values())
    bound = worst(loss, mix, 0.2, 7, competing=True, generator=seeded())
    assert float(loss(bound)) > float(loss(mix)) and float(bound["y"].sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("controller", [Darts(scale=1.0), DrNas(scale=1.0), FairDarts(scale=1.0)], ids=str)
def test_the_ascent_makes_the_training_harder_than_noise_does(tiny, controller):
    """The same draw, the same weights, the same batch."""
    losses = []
    for steps in (None, 0, 7):
        search = tiny.search(controller=controller, perturb=0.0 if steps is None else 0.3, perturb_steps=steps or 0)
        seen = []
        plain = search.advance.inner_loss
        search.advance.inner_loss = lambda theta, outer, batch, seen=seen, plain=plain: (
            seen.append(outer["mix"]) or plain(theta, outer, batch)
        )
        search.relaxed.begin(1.0, 7)
        batch = (search.data.inner.inputs[:6], search.data.inner.targets[:6])
        search._train(None, [batch])
        ((mix,), usual) = seen, search.relaxed.mix
        moved = max(float((mix[name] - usual[name]).abs().max()) for name in mix)
        assert (moved == 0.0) == (steps is None)
        losses.append(float(search.advance.report.loss))
    assert losses[2] > max(losses[:2])


def test_it_grows_from_nothing_with_the_search(tiny):
    search, moved = tiny.search(epochs=4, perturb=0.1), []
    plain = search._constant

    def watched():
        outer = plain()
        usual = search.relaxed.mix
        moved.append(max(float((outer["mix"][name] - usual[name]).abs().max()) for name in usual))
        return outer

    search.advance.outer = watched
    list(search.steps())
    assert moved[0] == 0.0 and all(moved[1:])
    assert max(moved[1:4]) < max(moved[-3:]) < 0.2


def test_omega_sees_the_weights_themselves(tiny):
    """Its gradient is taken at the draw, so that the first step, whose noise is none, is that of a plain search."""
    firsts = []
    for perturb in (0.0, 0.3):
        search = tiny.search(perturb=perturb)
        next(search.steps())
        firsts.append({name: x.detach().clone() for name, x in search.relaxed.omega.items()})
    assert all(torch.equal(firsts[0][name], x) for name, x in firsts[1].items())


@pytest.mark.parametrize("steps", [0, 2])
def test_a_perturbed_search_resumes_after_every_step(tiny, tmp_path, steps):
    make = lambda: tiny.search(controller=DrNas(), epochs=2, perturb=0.3, perturb_steps=steps)  # noqa: E731
    search, curve = make(), []
    for step in search.steps():
        curve.append((float(step.inner_loss), repr(step.report)))
        save(tmp_path / str(step.step), step.step, search.state(), 0)
    end = copy.deepcopy(search.state())
    for k in range(1, len(curve), 2):
        again = make()
        again.restore(load(tmp_path / str(k)).tree)
        assert [(float(s.inner_loss), repr(s.report)) for s in again.steps()] == curve[k:]
        assert all(torch.equal(x, end["theta"][name]) for name, x in again.theta.items())


def test_one_hot_weights_are_not_perturbed(tiny):
    with pytest.raises(SpaceError, match="perturb: Gdas runs one candidate of each choice"):
        tiny.search(controller=Gdas(), perturb=0.1)
