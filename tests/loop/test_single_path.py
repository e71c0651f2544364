"""Supernets of which one path runs: every weight is pulled (GDAS), none is (uniform paths), or the path's score is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metanas.bilevel import FiniteDifference, FirstOrder, ScoreFunction, Unrolled
from metanas.controllers import Gdas, Reinforce, Rsps, Spos
from metanas.controllers.uniform_path import path_of
from metanas.loop import GradientSearch, Schedule
from metanas.modes import meta_network
from metanas.network import Taken, fused, one_path, supernet


def test_the_loss_is_that_of_the_path_and_every_weight_has_its_gradient(tiny: Any) -> None:
    space, data = tiny.space, tiny.data()
    network = supernet(space, data.shape, 3)
    problem = meta_network(network, single_path=True)
    theta = {name: p.detach() for name, p in network.named_parameters()}
    weights = {c.name: torch.eye(3)[k].requires_grad_() for (c, k) in zip(space.choices, (2, 2, 0), strict=True)}
    batch = (data.inner.inputs[:6], data.inner.targets[:6])
    loss = problem.outer_loss(theta, {"mix": weights}, batch)
    path = one_path(space.choices, {c.name: (c.candidates[k],) for c, k in zip(space.choices, (2, 2, 0), strict=True)})
    logits = network(batch[0], mix=path)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, batch[1]))
    rows = torch.autograd.grad(loss, list(weights.values()))
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    taken = {name: Taken(int(w.argmax()), w) for name, w in leaves.items()}
    again = torch.nn.functional.cross_entropy(network(batch[0], mix=taken), batch[1])
    wanted = torch.autograd.grad(again, list(leaves.values()), allow_unused=True)
    for row, want in zip(rows, wanted, strict=True):
        torch.testing.assert_close(row, torch.zeros_like(row) if want is None else want)
    assert [want is None for want in wanted] == [True, False, False]  # the second edge is taken, the third is `none`


def test_only_what_is_drawn_runs(tiny: Any) -> None:
    space, data = tiny.space, tiny.data()
    network = supernet(space, data.shape, 3)
    ran: list[str] = []
    for name, module in network.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    problem = meta_network(fused(network), single_path=True)
    weights = {c.name: torch.tensor([0.0, 1.0, 0.0]) for c in space.choices}  # all skip
    problem.inner_loss(
        dict(network.named_parameters()), {"mix": weights}, (data.inner.inputs[:6], data.inner.targets[:6])
    )
    assert not any("conv" in name for name in ran) and sum("skip" in name for name in ran) == 3


@pytest.mark.parametrize("estimator", [FirstOrder(), FiniteDifference(), Unrolled(1)], ids=lambda e: type(e).__name__)
def test_a_search_learns_the_structure(tiny: Any, estimator: Any) -> None:
    space, data = tiny.space, tiny.data()
    network = fused(supernet(space, data.shape, 3))
    problem, settings = meta_network(network, single_path=True), Schedule(epochs=4, batch_size=4, lr=0.1, monitor=9)
    search = GradientSearch(space, network, problem, estimator, Gdas(lr=0.1), data, settings, seed=0)
    before = {name: x.detach().clone() for name, x in search.relaxed.omega.items()}
    losses = [float(step.inner_loss) for step in search.steps()]
    assert all(not torch.equal(before[name], x) for name, x in search.relaxed.omega.items())
    assert all(x == x for x in losses) and int(search.skipped) == 0
    assert set(search.derive()) == {c.name for c in space.choices}


def searched(tiny: Any, controller: Any, estimator: Any, epochs: int = 3) -> GradientSearch:
    space, data = tiny.space, tiny.data()
    network = fused(supernet(space, data.shape, 3))
    settings = Schedule(epochs=epochs, batch_size=4, lr=0.1, monitor=9)
    problem = meta_network(network, single_path=True)
    return GradientSearch(space, network, problem, estimator, controller, data, settings, seed=0)


def test_a_step_on_a_random_path_moves_that_path_and_nothing_else(tiny: Any) -> None:
    """Of the convolutions, those that are drawn and whose value reaches the output, in step after step."""
    search = searched(tiny, Rsps(evaluations=3), FirstOrder(), epochs=12)
    search.optimizer.param_groups[0].update(weight_decay=0.0, momentum=0.0, nesterov=False)
    met, places = set(), {"1<-0": "1", "2<-0": "2/from_0", "2<-1": "2/from_1"}
    before = {name: p.detach().clone() for name, p in search.theta.items()}
    for _ in search.steps():
        taken = {n: tiny.space.program.choice(n).candidates[int(w.argmax())] for n, w in search.relaxed.mix.items()}
        convs = {n for n, label in taken.items() if label == "conv"}
        convs -= {"1<-0"} if taken["2<-1"] == "none" else set()
        convs -= {"2<-1"} if taken["1<-0"] == "none" else set()  # a convolution of nothing has no gradient
        moved = {name for name, p in search.theta.items() if not torch.equal(before[name], p)}
        edges = {edge for edge, place in places.items() if f"cell/{place}/conv.1.weight" in moved}
        assert edges == convs
        met.add(frozenset(convs))
        before = {name: p.detach().clone() for name, p in search.theta.items()}
    assert len(met) > 3


@pytest.mark.parametrize("controller", [Rsps(evaluations=27), Spos(evaluations=40, population=5)], ids=str)
def test_the_architecture_is_the_one_that_the_supernet_finds_best(tiny: Any, controller: Any) -> None:
    search = searched(tiny, controller, FirstOrder())
    steps = list(search.steps())
    assert all(step.outer_loss != step.outer_loss for step in steps) and steps[-1].report.architecture is None
    found = search.score(path_of(tiny.space, search.derive()))[0]
    every = [tiny.space.sample(np.random.default_rng(k)) for k in range(100)]
    losses = sorted(search.score(path_of(tiny.space, a))[0] for a in set(every))
    assert len(losses) > 20 and found <= losses[3]
    one_hot = {name: torch.eye(3)[k] for name, k in path_of(tiny.space, search.derive()).items()}
    assert search.score(one_hot)[0] == pytest.approx(found)


@pytest.mark.parametrize("controller", [Rsps(evaluations=27), Spos(evaluations=40, population=5)], ids=str)
def test_a_derivation_that_was_stopped_comes_to_the_same_when_it_begins_again(tiny: Any, controller: Any) -> None:
    whole, stopped = searched(tiny, controller, FirstOrder()), searched(tiny, controller, FirstOrder())
    list(whole.steps()), list(stopped.steps())
    told: list[int] = []

    def stopping(done: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.derive(stopping)
    assert stopped.derive(told.append) == whole.derive()
    assert told == list(range(1, len(told) + 1)) and 7 < len(told) <= controller.evaluates(tiny.space) == 27


def test_a_policy_learns_from_the_loss_of_its_draws(tiny: Any) -> None:
    """A loss that one candidate of each choice lowers, whatever the weights: the policy finds these."""
    search = searched(tiny, Reinforce(lr=0.2, entropy=0.0), ScoreFunction(0.9), epochs=25)
    plain = search.problem.outer_loss
    object.__setattr__(
        search.problem, "outer_loss", lambda theta, outer, batch: 0 * plain(theta, outer, batch) + cost(outer["mix"])
    )

    def cost(mix: Any) -> Any:
        return 3.0 - sum(w[2] for w in mix.values())

    list(search.steps())
    assert {label for labels in search.derive().values() for label in labels} == {"conv"}
    assert all(w[2] > 0.8 for w in search.controller.expected(search.relaxed.omega).values())
    assert 0 <= float(search.carry["baseline"]) < 1.0


def test_a_policy_goes_on_where_it_stopped_with_its_baseline(tiny: Any) -> None:
    whole, first, second = (searched(tiny, Reinforce(), ScoreFunction()) for _ in range(3))
    list(whole.steps())
    for _, _ in zip(range(5), first.steps(), strict=False):
        pass
    state = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in first.state().items()}
    second.restore(state)
    list(second.steps())
    assert all(torch.equal(whole.relaxed.omega[name], x) for name, x in second.relaxed.omega.items())
    assert torch.equal(whole.carry["baseline"], second.carry["baseline"])
