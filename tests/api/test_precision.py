"""The recipe's `precision`: what it reaches, what it leaves alone, what it is refused with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import metanas
from metanas.api import Result
from metanas.bilevel import FiniteDifference
from metanas.errors import InterruptedSearchError, RecipeError
from metanas.recipe import read
from metanas.recipe.tables import check_precision

Quick = Callable[..., Result]
HALF = {"precision": "bfloat16"}


def test_default_is_float32_bit_for_bit(quick: Quick) -> None:
    plain, said = quick(run="a"), quick(run="b", settings={"precision": "float32"})
    assert plain.found.test_loss == said.found.test_loss
    for name, value in plain.network.state_dict().items():
        assert torch.equal(value, said.network.state_dict()[name])


def test_bfloat16_from_search_to_test(quick: Quick) -> None:
    plain, half = quick(run="a"), quick(run="b", settings=HALF)
    assert {p.dtype for p in half.network.parameters()} == {torch.float32}
    assert half.found.test_loss != plain.found.test_loss
    assert math.isfinite(half.found.test_loss)


def test_tests_are_float32(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is what is exported: no network in evaluation mode runs under autocast."""
    from metanas.network import FusedNetwork, Network

    seen = set()

    def spied(forward: Any) -> Any:
        def spy(self: Any, *inputs: Any, **mix: Any) -> Any:
            seen.add((self.training, self.phase, torch.is_autocast_enabled("cpu")))
            return forward(self, *inputs, **mix)

        return spy

    for kind in (Network, FusedNetwork):
        monkeypatch.setattr(kind, "forward", spied(kind.forward))
    quick(settings=HALF)
    assert (True, "scratch", True) in seen
    assert (False, "scratch", False) in seen
    assert (False, "scratch", True) not in seen
    assert (True, "search", True) in seen


@pytest.mark.parametrize("which", ["name", "object"])
def test_finite_differences_are_refused(quick: Quick, runs: Any, which: str) -> None:
    chosen = "finite_difference" if which == "name" else FiniteDifference()
    with pytest.raises(RecipeError, match=r"precision: bfloat16 does not go with finite_difference, .* take float32"):
        quick(estimator=chosen, settings=HALF)
    assert not runs.exists()


def test_finite_differences_that_are_never_taken_are_no_matter(quick: Quick) -> None:
    quick(controller="random", estimator="finite_difference", settings={**HALF, "search.budget": 1})


def test_a_gpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.raises(RecipeError, match="precision: this GPU does not compute in bfloat16; take float32"):
        check_precision("bfloat16", torch.device("cuda"), None)
    check_precision("float32", torch.device("cuda"), None)


def test_float16_is_refused_with_what_there_is() -> None:
    with pytest.raises(RecipeError, match="precision: should be 'float32' or 'bfloat16', got 'float16'"):
        read({"precision": "float16"})


def test_resumed_bit_for_bit(quick: Quick, tiny: Any, images: Any) -> None:
    from contextlib import nullcontext

    from metanas.run import ask

    def stop_at_once(folder: Any) -> Any:
        ask(folder, "stop")
        return nullcontext()

    whole = quick(run="whole", settings=HALF)
    with pytest.raises(InterruptedSearchError):
        quick(run="cut", settings=HALF, view=stop_at_once)
    resumed = metanas.resume("cut", data=images)
    assert resumed.found.test_loss == whole.found.test_loss
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
