"""A search that lets go of its weakest candidates: which, when, that they are gone, and that it resumes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import pytest
import torch

from metanas.controllers import Darts, DrNas, FairDarts, Gdas, GumbelSoftmax
from metanas.loop import Guard, Schedule, Verdict
from metanas.loop.relaxed import Relaxed
from metanas.loop.shrinking import left, masks_of, stage_after
from metanas.network import fused
from metanas.run.checkpoints import load, save
from metanas.space import Choice, Edge, Graph, Node, Space, chain, one_of, op

CONTROLLERS = (Darts(scale=1.0), DrNas(scale=1.0), GumbelSoftmax(scale=1.0), Gdas(scale=1.0), FairDarts(scale=1.0))


def schedule(to=2, stages=1, epochs=10, warmup=0):
    return Schedule(epochs=epochs, warmup=warmup, shrink_to=to, shrink_stages=stages)


def space_of(*labels, never=()):
    return Space(chain(("y", one_of("y", {label: op("conv", width=2) for label in labels}, never=never))))


def test_stages_lie_between_the_warm_up_and_the_end():
    assert [stage_after(schedule(), k) for k in (0, 4, 5, 10)] == [0, 0, 1, 1]
    assert [stage_after(schedule(stages=3, epochs=20, warmup=4), k) for k in (4, 7, 8, 12, 16, 20)] == [
        0,
        0,
        1,
        2,
        3,
        3,
    ]
    assert stage_after(Schedule(epochs=10), 10) == 0


def test_the_weakest_go_and_what_went_is_gone():
    space = space_of(*"abcde")
    weights = {"y": torch.tensor([0.1, 0.4, 0.2, 0.05, 0.25])}
    plan = schedule(to=1, stages=2)
    first = left(space, weights, {}, plan, 1)
    assert first == {"y": (1, 2, 4)}
    turned = {"y": torch.tensor([0.9, 0.0, 0.1, 0.9, 0.0])}
    assert left(space, turned, first, plan, 2) == {"y": (2,)}
    assert left(space, weights, {}, schedule(to=5), 1) == {} == left(space, weights, {}, schedule(to=9), 1)


def test_one_that_may_be_derived_is_always_left():
    space = space_of(*"abc", never=("a", "b"))
    weights = {"y": torch.tensor([0.5, 0.4, 0.1])}
    assert left(space, weights, {}, schedule(to=2), 1) == {"y": (0, 2)}
    assert left(space, weights, {}, schedule(to=1), 1) == {"y": (2,)}


def test_choices_of_inputs_and_what_stands_side_by_side_keep_all():
    wide = Node("w", (Edge("a"), Edge("b")), combine="concat", choice=Choice("beside", ("a", "b")))
    nodes = [Node(name, (Edge("image", one_of(name, {k: op("conv", width=2) for k in "xyz"})),)) for name in "ab"]
    two = Node(
        "t", (Edge("a"), Edge("b"), Edge("w", op("conv", width=2))), choice=Choice("two", ("a", "b", "w"), take=2)
    )
    space = Space(Graph(("image",), (*nodes, wide, two), "t"))
    weights = {c.name: torch.rand(len(c.candidates)) for c in space.choices}
    assert set(left(space, weights, {}, schedule(to=1), 1)) == {"a", "b"}


@pytest.mark.parametrize("controller", CONTROLLERS, ids=str)
def test_what_is_left_is_relaxed_as_if_there_were_nothing_else(controller):
    """Exactly 0, no gradient, and the others as a choice of their own would be (a Dirichlet's in distribution)."""
    row = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    relaxed = Relaxed(controller, {"y": row, "z": row}, torch.device("cpu"))
    relaxed.masks = masks_of({"y": (0, 2, 3)}, relaxed.omega)
    relaxed.begin(0.5, 3)
    mix = relaxed.draw()["mix"]
    mean = relaxed.expected()
    for w in (mix["y"], mean["y"]):
        assert w[1] == 0 == w[4] and (not controller.competing or float(w.detach().sum()) == pytest.approx(1.0))
    torch.testing.assert_close(mean["y"][[0, 2, 3]], controller.expected({"y": row[[0, 2, 3]]})["y"])
    torch.testing.assert_close(mean["z"], controller.expected({"y": row})["y"])
    push = torch.arange(5.0, dtype=torch.float64)
    relaxed.pull_back({"mix": {"y": push, "z": push}})
    moved = relaxed.omega["y"].detach() - row
    assert torch.isfinite(moved).all() and (moved[[0, 2, 3]] != 0).all()
    assert abs(moved[1]) < 0.05 > abs(moved[4]), "no more than a decay of its own"
    slopes = torch.autograd.grad((relaxed.draw()["mix"]["y"] * push).sum(), relaxed.omega["y"])[0]
    assert slopes[1] == 0 == slopes[4] and torch.isfinite(slopes).all()


@pytest.mark.parametrize("controller", CONTROLLERS[:2], ids=str)
def test_a_search_goes_on_with_what_is_left(tiny, controller):
    search = tiny.search(controller=controller, epochs=4, shrink_to=1)
    reports = [step.report for step in search.steps() if step.report]
    assert [r.kept is None for r in reports] == [True, False, True, True]
    kept = reports[1].kept
    assert {name: len(labels) for name, labels in kept.items()} == dict.fromkeys(("1<-0", "2<-0", "2<-1"), 1)
    for name, labels in kept.items():
        strongest = max(range(3), key=lambda k, name=name: reports[1].weights[name][k])
        assert labels == (("none", "skip", "conv")[strongest],)
    for r in reports[2:]:
        assert r.entropy == pytest.approx(0.0, abs=1e-9) and r.gap == pytest.approx(0.0, abs=1e-9)
        assert all(sorted(w) == pytest.approx([0.0, 0.0, 1.0]) for w in r.weights.values())
    assert search.derive() == tiny.space.architecture(kept) == reports[-1].architecture
    assert all(math.isfinite(float(p.detach().sum())) for p in search.theta.values())


def test_what_is_gone_learns_nothing_more(tiny):
    search = tiny.search(controller=Darts(scale=1.0), epochs=4, shrink_to=1)
    search.network = fused(search.network)  # of which the problem has the plain one: both let go
    edges, before, head = {"cell/1/conv": "1<-0", "cell/2/from_0": "2<-0", "cell/2/from_1": "2<-1"}, {}, None
    for step in search.steps():
        if step.report and step.report.kept:
            places = tuple(place for place, edge in edges.items() if step.report.kept[edge] != ("conv",))
            now = {name: x.detach().clone() for name, x in search.theta.items()}
            before, head = {name: x for name, x in now.items() if name.startswith(places)}, now["stem.0.weight"]
    assert before and not torch.equal(search.theta["stem.0.weight"], head)
    assert search.network.plain.kept == search.network.kept != {}
    assert all(torch.equal(search.theta[name], x) for name, x in before.items())


@dataclass(frozen=True)
class Ends(Guard):
    """Ends a search with its third epoch, back to `to`."""

    to: int

    def __call__(self, past):
        return Verdict(self.to, "so it was said") if past[-1].epoch == 3 else None


@pytest.mark.parametrize(("to", "left"), [(1, 0), (2, 0), (3, 3)])
def test_omega_that_goes_back_before_it_has_all_again(tiny, to, left):
    """After epoch 2 of 4 two of three went; the omega of epochs 1 and 2 is from before."""
    search = tiny.search(epochs=4, shrink_to=1, guards=(Ends(to),))
    list(search.steps())
    assert len(search.relaxed.masks) == len(search.network.kept) == left


def test_it_resumes_after_every_step(tiny, tmp_path):
    make = lambda: tiny.search(controller=DrNas(), epochs=4, shrink_to=1, shrink_stages=2)  # noqa: E731
    search, curve = make(), []
    for step in search.steps():
        curve.append((float(step.inner_loss), repr(step.report)))
        save(tmp_path / str(step.step), step.step, search.state(), 0)
    end = copy.deepcopy(search.state())
    assert [epochs for epochs, _ in search.shrunk] == [1, 3]
    for k in range(1, len(curve) + 1):
        again = make()
        again.restore(load(tmp_path / str(k)).tree)
        assert [(float(s.inner_loss), repr(s.report)) for s in again.steps()] == curve[k:]
        assert all(torch.equal(x, end["omega"][name]) for name, x in again.relaxed.omega.items())
        assert again.derive() == search.derive() and again.network.kept == search.network.kept


def test_a_search_in_use_that_is_restored_to_before_has_all_again(tiny):
    search = tiny.search(epochs=2, shrink_to=1)
    first = copy.deepcopy(search.state())
    list(search.steps())
    assert search.network.kept
    search.restore(first)
    assert search.network.kept == {} == search.relaxed.masks
