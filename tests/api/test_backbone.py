"""A frozen module of the user's in a whole run: unchanged, resumed bit for bit, in every file that can hold it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import metanas
from metanas.errors import ExportError, InterruptedSearchError, RunError
from metanas.loop import GradientSearch
from metanas.network import OPS, frozen
from metanas.run import ask
from metanas.space import NEEDED, Space, chain, one_of, op

Quick = Callable[..., Any]


def pretrained(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        module(torch.randn(8, 1, 6, 6))
    return module


@pytest.fixture(scope="module")
def space() -> Space:
    cell = one_of("cell", {"conv": op("preact_conv", kernel=3, activation="relu", norm="batch"), "skip": op("skip")})
    return Space(
        chain(("features", op("backbone")), ("cell", cell), ("head", op("classifier", width=NEEDED))), "around"
    )


def ops(seed: int = 0) -> dict[str, Any]:
    return {**OPS, "backbone": frozen(pretrained(seed))}


def stop_at_once(folder: Path) -> Any:
    ask(folder, "stop")
    return nullcontext()


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("darts_pt", "random")]


@pytest.mark.parametrize("controller", ["drnas", *LONG])
def test_from_search_to_export(quick: Quick, space: Space, controller: str, tmp_path: Path) -> None:
    result = quick(space, ops=ops(), controller=controller, run="a", settings={"search.budget": 2})
    expected = pretrained().state_dict()
    found = result.network.get_submodule("features.module").state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    files = {path.name for path in result.run.iterdir()}
    assert {"architecture.json", "network.safetensors", "result.json"} <= files
    assert "network.py" not in files
    exported = metanas.export(result, tmp_path / "out", formats=["json", "safetensors", "pt2"])
    assert len(exported) == 3
    with pytest.raises(ExportError, match=r"operation 'backbone' is not one of .*\"safetensors\" and \"pt2\" hold it"):
        metanas.export(result, tmp_path / "python", formats=["python"])
    read = metanas.load_run("a").result(ops=ops())
    x = torch.ones(1, 1, 6, 6)
    assert torch.equal(read.network(x), result.network(x))


def test_only_what_is_trained_is_in_theta(quick: Quick, space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, seen = GradientSearch.steps, set[str]()

    def spy(self: GradientSearch) -> Any:
        seen.update(self.theta)
        return steps(self)

    monkeypatch.setattr(GradientSearch, "steps", spy)
    quick(space, ops=ops())
    assert {name.split(".")[0].split("/")[0] for name in seen} == {"cell", "head"}


def test_resumed_bit_for_bit(quick: Quick, space: Space, images: Any) -> None:
    whole = quick(space, ops=ops(), run="whole")
    with pytest.raises(InterruptedSearchError):
        quick(space, ops=ops(), run="cut", view=stop_at_once)
    resumed = metanas.resume("cut", data=images, ops=ops())
    assert resumed.architecture == whole.architecture
    assert resumed.found.test_loss == whole.found.test_loss
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_other_weights_are_not_resumed(quick: Quick, space: Space, images: Any) -> None:
    with pytest.raises(InterruptedSearchError):
        quick(space, ops=ops(), run="cut", view=stop_at_once)
    with pytest.raises(RunError, match=r"changed since its checkpoint: handed\.ops was"):
        metanas.resume("cut", data=images, ops=ops(seed=1))
    metanas.resume("cut", data=images, ops=ops())
