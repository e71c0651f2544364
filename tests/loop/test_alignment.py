"""Lambda-DARTS: the gradient against one written out with a second backward pass, who sees it, and what stays."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch.nn.functional import cosine_similarity

from metanas.bilevel import FirstOrder
from metanas.controllers import Darts, DrNas, FairDarts, Gdas
from metanas.errors import SpaceError
from metanas.loop import PLAIN, Alignment, GradientSearch, Schedule
from metanas.loop.alignment import alignment_of, directions
from metanas.modes import meta_network
from metanas.network import apart, fused, spread, supernet
from metanas.run.checkpoints import load, save
from metanas.space import NEEDED, Edge, Graph, Kind, Node, Space, chain, kinds_of, one_of, op

CELLS = ("cell0", "cell1", "cell2")


def space_of(activation: str) -> Space:
    """Three cells of two edges, and two of another kind."""

    def pick(name, width):
        conv = op("preact_conv", width=width, kernel=3, norm="batch_cell", activation=activation)
        return one_of(name, {"none": op("none"), "skip": op("skip"), "conv": conv, "pool": op("avg_pool", kernel=3)})

    def cell(kind):
        nodes = (Node("1", (Edge("0", pick(f"{kind}1", 2)),)), Node("2", (Edge("0", pick(f"{kind}2", 2)), Edge("1"))))
        return Graph(("0",), nodes, "2")

    stem = op("conv", width=2, kernel=3, norm="batch")
    cells = [("cell0", cell("n")), ("a", cell("r")), ("cell1", cell("n")), ("b", cell("r")), ("cell2", cell("n"))]
    head = op("classifier", width=NEEDED, norm="batch", activation=activation)
    return Space(chain(("stem", stem), *cells, ("head", head)), "cells")


def setting(tiny, activation="relu", *, strength=0.125, epsilon=0.0, fuse=False, **schedule):
    """A search whose cells are aligned."""
    space, data = space_of(activation), tiny.data()
    network = supernet(space, data.shape, tiny.classes, seed=0)
    network = fused(network) if fuse else network
    controller = schedule.pop("controller", None) or Darts()
    twin = apart(network)
    problem, of_twin = (meta_network(each, single_path=controller.single_path) for each in (network, twin))
    alignment = Alignment(twin, of_twin.inner_loss, kinds_of(space.program), strength, epsilon) if strength else None
    settings = Schedule(**{"epochs": 3, "batch_size": 9, "lr": 0.1, "monitor": 9} | schedule)
    return GradientSearch(
        space, network, problem, FirstOrder(), controller, data, settings, seed=0, trained=alignment or PLAIN
    )


def batch_of(search):
    return search.data.inner.inputs[:9], search.data.inner.targets[:9]


def mixed(search, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {c.name: torch.softmax(torch.randn(4, generator=generator), -1) for c in search.space.choices}


def written_out(search, mix, batch):
    """The Lambdas of both kinds, pair by pair, from the twin's loss: with a graph."""
    theta, loss = search.theta, search.trained.apart
    own = {name: w.clone().requires_grad_() for name, w in spread(mix, search.trained.kinds).items()}
    rows = torch.autograd.grad(loss(theta, {"mix": own}, batch), own.values(), create_graph=True)
    slopes = dict(zip(own, rows, strict=True))
    total = torch.zeros(())
    for cells, choices in ((CELLS, ("n1", "n2")), (("a", "b"), ("r1", "r2"))):
        g = [torch.cat([slopes[f"{choice}@{cell}"] for choice in choices]) for cell in cells]
        pairs = [cosine_similarity(x, y, dim=0) for x, y in itertools.combinations(g, 2)]
        total = total + torch.stack(pairs).mean()
    return total


def flat(loss, theta):
    """The gradient of a loss in theta, as one vector."""
    rows = torch.autograd.grad(loss, theta.values(), allow_unused=True)
    return torch.cat(
        [(p * 0 if g is None else g).detach().flatten() for p, g in zip(theta.values(), rows, strict=True)]
    )


def apart_by(search, epsilon):
    """How far the gradient of an aligned loss is off the one that is written out, relative to it; and the losses."""
    mix, batch = mixed(search), batch_of(search)
    alignment = Alignment(search.trained.network, search.trained.apart, search.trained.kinds, 1.0, epsilon)
    loss = alignment.aligned(search.theta, {"mix": mix}, batch, 0.3)
    plain = search.problem.inner_loss(search.theta, {"mix": mix}, batch)
    torch.testing.assert_close(loss, plain, rtol=1e-13, atol=0)
    found = flat(plain, search.theta) - flat(loss, search.theta)
    wanted = flat(written_out(search, mix, batch), search.theta)
    assert wanted.norm() > 0.1
    return float((found - 0.3 * wanted).norm() / (0.3 * wanted).norm())


@pytest.mark.parametrize("fuse", [False, True])
def test_the_gradient_is_that_of_lambda_by_a_second_backward_pass(tiny, fuse):
    assert apart_by(setting(tiny, fuse=fuse), 0.0) < 1e-10


def test_the_difference_is_of_second_order_where_the_loss_is_smooth(tiny):
    smooth = setting(tiny, "tanh")
    wide, narrow = apart_by(smooth, 1e-2), apart_by(smooth, 1e-3)
    assert narrow < 1e-3 and 90 < wide / narrow < 110


def test_lambda_and_its_slope_by_hand():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4, 5, generator=generator).requires_grad_()
    pairs = [cosine_similarity(rows[i], rows[j], dim=0) for i, j in itertools.combinations(range(4), 2)]
    torch.testing.assert_close(alignment_of(rows.unbind()), torch.stack(pairs).mean())
    (slope,) = torch.autograd.grad(torch.stack(pairs).mean(), rows)
    kind = Kind(("a", "b", "c", "d"), ("y", "z"))
    slopes = {}
    for cell, row in zip(kind.cells, rows.detach(), strict=True):
        slopes |= {f"y@{cell}": row[:2], f"z@{cell}": row[2:]}
    found = directions(slopes, [kind])
    torch.testing.assert_close(torch.stack([torch.cat([found[n] for n in kind.of(c)]) for c in kind.cells]), slope)


def test_a_cell_without_a_gradient_takes_no_part():
    kind = Kind(("a", "b", "c"), ("y",))
    slopes = {"y@a": torch.zeros(2), "y@b": torch.tensor([1.0, 0.0]), "y@c": torch.tensor([0.0, 1.0])}
    found = directions(slopes, [kind])
    assert found["y@a"].tolist() == [0.0, 0.0]
    torch.testing.assert_close(found["y@b"], torch.tensor([0.0, 1 / 3]))
    assert float(alignment_of(list(slopes.values()))) == 0.0
    assert directions({"other": torch.ones(2)}, [kind]) == {}


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_cells_that_agree_are_left_alone(tiny, epsilon):
    """Two cells that are one in two places: their cosine is 1, its slope 0, and nothing is divided by it."""
    loss = lambda theta, outer, batch: theta["w"] * (outer["mix"]["y@a"] + outer["mix"]["y@b"])[0]  # noqa: E731
    alignment = Alignment(None, loss, (Kind(("a", "b"), ("y",)),), 1.0, epsilon)
    theta = {"w": torch.tensor(2.0, requires_grad=True)}
    found = alignment.aligned(theta, {"mix": {"y": torch.tensor([0.25, 0.75])}}, None, 1.0)
    assert torch.autograd.grad(found, theta["w"])[0] == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("controller", [DrNas(scale=1.0), FairDarts(scale=1.0)], ids=str)
def test_training_with_it_aligns_the_cells(tiny, controller):
    """The same start, batch and draws of the mixing weights, six steps of the weights."""
    reached = []
    for strength in (0.0, 1.0):
        search = setting(tiny, "tanh", strength=strength, controller=controller, momentum=0.0)
        batch = batch_of(search)
        for k in range(6):
            search.relaxed.begin(1.0, k)
            search._train(None, [batch])
        search.relaxed.begin(1.0, 99)
        other = setting(tiny, "tanh")
        other.theta.update(search.theta)
        reached.append(float(written_out(other, search.relaxed.constant()["mix"], batch).detach()))
    assert reached[1] > reached[0] + 0.1


def test_it_grows_from_nothing_and_omega_sees_nothing_of_it(tiny):
    firsts = []
    for strength in (0.0, 10.0):
        search = setting(tiny, strength=strength)
        steps = search.steps()
        next(steps)
        firsts.append(copy.deepcopy(search.state()))
        next(steps)
        firsts.append(copy.deepcopy(search.state()))
    plain, _, aligned, _ = firsts
    for name in ("theta", "omega"):
        assert all(torch.equal(x, aligned[name][key]) for key, x in plain[name].items())
    assert any(not torch.equal(x, firsts[3]["theta"][key]) for key, x in firsts[1]["theta"].items())


@pytest.mark.parametrize("fuse", [False, True])
def test_it_resumes_bit_for_bit_where_the_space_shrinks(tiny, tmp_path, fuse):
    make = lambda: setting(tiny, controller=DrNas(), fuse=fuse, shrink_to=2)  # noqa: E731
    search, curve = make(), []
    for step in search.steps():
        curve.append((float(step.inner_loss), repr(step.report)))
        save(tmp_path / str(step.step), step.step, search.state(), 0)
    kept = search.trained.network.kept
    assert kept and all(kept[f"n1@{cell}"] == search.network.kept["n1"] for cell in CELLS)
    end = copy.deepcopy(search.state())
    for k in (1, len(curve) - 1):
        again = make()
        again.restore(load(tmp_path / str(k)).tree)
        assert [(float(s.inner_loss), repr(s.report)) for s in again.steps()] == curve[k:]
        assert all(torch.equal(x, end["theta"][name]) for name, x in again.theta.items())


def test_one_hot_weights_are_not_aligned(tiny):
    with pytest.raises(SpaceError, match="align: Gdas runs one candidate of each choice"):
        setting(tiny, controller=Gdas())
