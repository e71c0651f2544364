"""A search by the sandwich rule on a small mobile space: it draws, goes on from any step, and derives."""

from __future__ import annotations

import copy

import pytest
import torch

import metanas
from metanas.bilevel import FirstOrder
from metanas.controllers import Darts, Gdas, Spos
from metanas.errors import SpaceError
from metanas.loop import PLAIN, GradientSearch, Sandwich, Schedule
from metanas.modes import meta_network, sandwich
from metanas.network import fused, supernet
from metanas.run.checkpoints import load, save

QUICK = Spos(evaluations=6, population=3)


def searched(tiny, random=2, controller=QUICK, **schedule):
    space, data = metanas.load_space("mobile", stages=1, depth=2, head=4), tiny.data()
    network = fused(supernet(space, data.shape, tiny.classes, seed=0))
    problem = meta_network(network, single_path=True)
    trained = Sandwich(sandwich(network), random) if random else PLAIN
    settings = Schedule(**{"epochs": 2, "batch_size": 6, "lr": 0.05, "monitor": 9} | schedule)
    return GradientSearch(space, network, problem, FirstOrder(), controller, data, settings, seed=0, trained=trained)


@pytest.mark.parametrize("random", [1, 3])
def test_so_many_are_drawn_for_each_step_and_the_first_is_the_usual_one(tiny, random):
    usual, search = searched(tiny, 0), searched(tiny, random)
    seen = []
    for each in (usual, search):
        each.relaxed.begin(0.5, 7)
        seen.append(each._constant())
    drawn = [seen[1]["mix"], *seen[1].get("others", [])]
    assert len(drawn) == random and "others" not in seen[0]
    assert all(torch.equal(drawn[0][name], w) for name, w in seen[0]["mix"].items())
    assert len({tuple(int(w.argmax()) for w in mix.values()) for mix in drawn}) == random


def test_it_resumes_bit_for_bit_and_derives(tiny, tmp_path):
    search, curve = searched(tiny), []
    for step in search.steps():
        curve.append((float(step.inner_loss), repr(step.report)))
        save(tmp_path / str(step.step), step.step, search.state(), 0)
    end, found = copy.deepcopy(search.state()), search.derive()
    assert len(curve) == 4 and set(found) <= {c.name for c in search.space.choices}
    again = searched(tiny)
    again.restore(load(tmp_path / "1").tree)
    assert [(float(s.inner_loss), repr(s.report)) for s in again.steps()] == curve[1:]
    assert all(torch.equal(x, end["theta"][name]) for name, x in again.theta.items()) and again.derive() == found


def test_a_controller_that_learns_its_paths_may_shrink(tiny):
    """Nothing runs that is gone: the largest and the smallest are among those that are left."""
    search = searched(tiny, controller=Gdas(lr=1.0), epochs=2, shrink_to=1)
    before = {name: x.detach().clone() for name, x in search.relaxed.omega.items()}
    steps = search.steps()
    while not search.network.kept:
        assert torch.isfinite(next(steps).inner_loss)
    ran, labels = set(), {f"{k}": [] for k in (3, 5, 7)}
    for name, module in search.network.named_modules():
        if name.split("/")[-1] in labels:
            labels[name.split("/")[-1]].append(name)
            module.register_forward_hook(lambda *_, name=name: ran.add(name))
    assert torch.isfinite(next(steps).inner_loss)
    left = {f"stage1/block{k}/across/{(3, 5, 7)[search.network.kept[f'kernel1.{k}'][0]]}" for k in (1, 2)}
    assert sum(map(len, labels.values())) == 6 and ran == left
    assert any(not torch.equal(x, before[name]) for name, x in search.relaxed.omega.items())


def test_a_mixture_is_no_path(tiny):
    with pytest.raises(SpaceError, match="sandwich: Darts mixes all candidates; take a controller that runs one path"):
        searched(tiny, controller=Darts())
