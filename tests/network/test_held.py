"""A module in the place of a network: norms, work in place and dropout in a search; shapes; steady draws."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metanas.bilevel import FiniteDifference, FirstOrder, Unrolled
from metanas.errors import ShapeError, SpaceError
from metanas.modes import meta_network
from metanas.network import choose, own_derived, own_supernet, space_of, whole
from metanas.network.held import given_shape, steady


def images(seed: int = 0) -> Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_search_writes_nothing_and_the_derived_network_keeps_its_statistics(problems: Any) -> None:
    module = problems.marked()
    network = own_supernet(space_of(module), module, (3, 8, 8))
    before = copy.deepcopy(network.state_dict())
    network(images(), mix={"act": torch.tensor([0.5, 0.5])})
    assert not any("running" in name for name in before)
    assert all(torch.equal(v, before[n]) for n, v in network.state_dict().items())
    space = space_of(module)
    derived = own_derived(space, module, space.sample(np.random.default_rng(0)), (3, 8, 8))
    derived.train()(images())
    assert any("running_mean" in name and bool(v.any()) for name, v in derived.state_dict().items())


@pytest.mark.parametrize("estimator", [FirstOrder(0), Unrolled(1), FiniteDifference()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("single_path", [False, True])
def test_hypergradients(problems: Any, estimator: Any, single_path: bool) -> None:
    module = problems.marked()
    space = space_of(module)
    network = own_supernet(space, module, (3, 8, 8))
    theta = {name: p.detach() for name, p in network.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    mix = {c.name: torch.softmax(torch.randn(len(c.candidates), generator=generator), -1) for c in space.choices}
    if single_path:
        mix = {name: torch.eye(len(w))[int(w.argmax())] for name, w in mix.items()}
    batch = images(1), torch.arange(6)
    h = estimator(meta_network(network, single_path=single_path), theta, {"mix": mix}, batch, batch)
    for name, slope in h.gradient["mix"].items():
        matters = not single_path or name not in ("kernel1", "pool") or _on(space, mix, name)
        assert slope.isfinite().all() and (not matters or bool(slope.any())), name


def _on(space: Any, mix: Any, name: str) -> bool:
    [(other, label)] = dict(space.program.conditions)[name]
    choice = space.program.choice(other)
    return choice.candidates[int(mix[other].argmax())] == label


def test_what_works_in_place_does_not_reach_the_other_candidates() -> None:
    module = choose("y", {"relu": nn.ReLU(inplace=True), "neg": nn.Threshold(0.0, -1.0, inplace=True)})
    network = own_supernet(space_of(module), module, (2,))
    x = torch.tensor([[-2.0, 3.0]])
    assert network(x, mix={"y": torch.tensor([0.5, 0.5])}).tolist() == [[-0.5, 3.0]]
    assert x.tolist() == [[-2.0, 3.0]]
    assert module.relu.inplace  # the user's own is as it was


def test_nothing_is_dropped_in_a_search() -> None:
    module = nn.Sequential(nn.Dropout(0.5), choose("y", [nn.ReLU(), nn.Tanh()]))
    network = own_supernet(space_of(module), module, (40,))
    x = torch.ones(3, 40)
    assert torch.equal(network(x, mix={"y": 0}), x)
    assert module.training


def test_draws_of_a_training_are_a_function_of_the_seed() -> None:
    network, x = whole(nn.Dropout(0.5), (40,)), torch.ones(3, 40)
    before = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with steady(network, seed):
            drawn.append(network(x))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), before)
    with steady(nn.Dropout(0.5), 1):
        torch.rand(1)
    assert not torch.equal(torch.get_rng_state(), before)  # a network of metanas draws from nothing global


def test_an_unknown_choice_is_refused() -> None:
    module = choose("act", [nn.ReLU(), nn.Tanh()])
    network = own_supernet(space_of(module), module, (2,))
    with pytest.raises(SpaceError, match="mix: no choice 'akt'; did you mean \"act\""):
        network(torch.ones(1, 2), mix={"akt": 0})


class Looks(nn.Module):
    """It looks at numbers, which a tensor without memory does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2] if float(x.sum()) == 0 else x


def test_shapes_are_found_without_memory_and_else_on_zeros() -> None:
    assert given_shape(nn.Linear(3, 4), (3,)) == (4,)
    assert given_shape(Looks(), (5,)) == (2,)
    norm = nn.BatchNorm1d(3)
    assert given_shape(norm, (3,)) == (3,)
    assert int(norm.num_batches_tracked) == 0
    with pytest.raises(ShapeError, match=r"^Linear does not take inputs \(5,\) \(mat1 and mat2 shapes cannot be mult"):
        given_shape(nn.Linear(3, 4), (5,))
    with pytest.raises(ShapeError, match="LSTM gives a tuple for a batch of 2; it must give one tensor with a row"):
        given_shape(nn.LSTM(3, 4), (3,))


def test_on_the_meta_device_no_memory_is_taken(problems: Any) -> None:
    with torch.device("meta"):
        module = problems.Marked()
    assert own_supernet(space_of(module), module, (3, 8, 8)).shapes["head"] == (10,)
