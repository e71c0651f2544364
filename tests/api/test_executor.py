"""Searches run on the fused executor, once it has been seen to compute what the plain one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import metanas.api
from metanas.api.executor import fused_if_equal
from metanas.api.handed import Handed
from metanas.api.work import prepare
from metanas.errors import RecipeError
from metanas.network import OPS, FusedNetwork, Network, fused, supernet
from metanas.recipe import Recipe
from metanas.run import read_events
from metanas.space import NEEDED, Space, chain, one_of, op

MIX = {"body": torch.tensor([0.3, 0.6])}
Quick = Callable[..., metanas.api.Result]


def test_a_search_is_fused_unless_its_recipe_says_otherwise() -> None:
    small = {"space": {"options": {"channels": 2}}}
    assert isinstance(prepare(Recipe.model_validate(small), None, None, Handed()).search().network, FusedNetwork)  # type: ignore[union-attr]
    plain = Recipe.model_validate({**small, "search": {"executor": "plain"}})
    assert not isinstance(prepare(plain, None, None, Handed()).search().network, FusedNetwork)  # type: ignore[union-attr]


def test_an_unknown_executor_is_refused(quick: Quick) -> None:
    with pytest.raises(RecipeError, match=r"search\.executor: .*'fused' or 'plain'.*fast"):
        quick(settings={"search.executor": "fast"})


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) if self.training else x


def test_an_operation_that_draws_random_numbers_is_told_of_and_runs_plainly(quick: Quick) -> None:
    body = one_of("body", {"mine": op("mine"), "skip": op("skip")})
    space = Space(chain(("body", body), ("head", op("classifier", width=NEEDED))), "own")
    result = quick(space, ops={**OPS, "mine": lambda op, shape, phase: Noise()})
    told = [e["message"] for e in read_events(result.run / "events.jsonl").events if e["kind"] == "log"]
    assert sum("draws random numbers; the plain one does its work" in message for message in told) == 1


def test_what_does_not_run_is_told_of(monkeypatch: pytest.MonkeyPatch, tiny: Space) -> None:
    def broken(self: FusedNetwork, *inputs: Tensor, **arguments: Any) -> Tensor:
        raise RuntimeError("no kernel\nof that kind")

    network = supernet(tiny, (1, 6, 6), 2)
    monkeypatch.setattr(FusedNetwork, "forward", broken)
    told: list[str] = []
    found = fused_if_equal(network, torch.rand(4, 1, 6, 6), MIX, ops=OPS, warn=told.append)
    assert found is network and told == ["the fused executor does not run (no kernel); the plain one does its work"]


def test_a_wrong_number_is_found_in_outputs_and_in_gradients(monkeypatch: pytest.MonkeyPatch, tiny: Space) -> None:
    network, images = supernet(tiny, (1, 6, 6), 2), torch.rand(4, 1, 6, 6)
    right = FusedNetwork.forward

    def outputs(self: FusedNetwork, *inputs: Tensor, **arguments: Any) -> Tensor:
        return right(self, *inputs, **arguments) * 1.1

    def gradients(self: FusedNetwork, *inputs: Tensor, **arguments: Any) -> Tensor:
        found = right(self, *inputs, **arguments)
        return found.detach() + 2 * (found - found.detach())

    for wrong in (outputs, gradients):
        monkeypatch.setattr(FusedNetwork, "forward", wrong)
        told: list[str] = []
        assert fused_if_equal(network, images, MIX, ops=OPS, warn=told.append) is network and len(told) == 1
    monkeypatch.setattr(FusedNetwork, "forward", right)
    assert fused_if_equal(network, images, MIX, ops=OPS, warn=told.append) is not network and len(told) == 1


def test_comparing_leaves_the_network_and_the_generators_as_they_were(tiny: Space) -> None:
    network: Network = supernet(tiny, (1, 6, 6), 2)
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    fused_if_equal(network, torch.rand(4, 1, 6, 6, generator=torch.Generator()), MIX, ops=OPS, warn=print)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in fused(network).parameters())


def test_the_comparison_is_on_smaller_images_where_the_network_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    right = FusedNetwork.forward

    def forward(self: FusedNetwork, *inputs: Tensor, **arguments: Any) -> Tensor:
        seen.append(tuple(inputs[0].shape))
        return right(self, *inputs, **arguments)

    monkeypatch.setattr(FusedNetwork, "forward", forward)
    body = one_of("body", {"conv": op("conv", width=3, norm="batch"), "skip": op("skip")})
    for tail in (
        (("head", op("classifier", width=NEEDED)),),
        (("flat", op("flatten")), ("head", op("linear", width=NEEDED))),
    ):
        network = supernet(Space(chain(("stem", op("conv", width=3)), ("body", body), *tail)), (1, 16, 16), 2)
        before = torch.get_num_threads()
        assert fused_if_equal(network, torch.rand(4, 1, 16, 16), MIX, ops=OPS, warn=print) is not network
        assert torch.get_num_threads() == before
    small, whole = (4, 1, 4, 4), (4, 1, 16, 16)
    assert seen == [small, small, whole]  # a linear layer on all positions knows how many there are


def test_modules_that_keep_nothing_are_not_copied_for_the_comparison() -> None:
    body = one_of("body", {"mine": op("mine"), "skip": op("skip")})
    ops = {**OPS, "mine": lambda op, shape, phase: nn.BatchNorm2d(shape[0])}
    space = Space(chain(("stem", op("conv", width=2)), ("body", body), ("head", op("classifier", width=NEEDED))), "own")
    network = supernet(space, (1, 6, 6), 2, ops=ops)
    twin = fused(network, ops=ops).copied()
    assert twin.get_submodule("stem") is network.get_submodule("stem")
    assert twin.get_submodule("body/mine") is not network.get_submodule("body/mine")
