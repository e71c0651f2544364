"""A module of the user's own, from marks to files: every controller, resume bit for bit, what is refused."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

import metanas
from metanas.errors import ExportError, InterruptedSearchError, RecipeError, RunError, ShapeError, SpaceError
from metanas.run import ask
from metanas.space import draw_space
from metanas.ui import read, show
from metanas.ui.page import write_page

Quick = Callable[..., Any]


class Own(nn.Module):
    """A width, a choice inside a block that a depth may leave out, dropout, a tracked norm."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        width = metanas.choose.size("width", (2, 4))
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        kernels = {"3x3": nn.Conv2d(width, width, 3, padding=1), "1x1": nn.Conv2d(width, width, 1)}
        self.blocks = metanas.choose.repeat("depth", (0, 1), [metanas.choose("kernel", kernels)])
        self.pick = metanas.choose.inputs("pick", ("stem", "blocks", "both"), take=2)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.norm(self.stem(x)))
        blocks = self.blocks(stem)
        x = self.pick([stem, blocks, stem * blocks])
        return self.head(self.drop(x.mean((-2, -1))))


def own(seed: int = 0, classes: int = 2) -> Own:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Own(classes)


def stop_at_once(folder: Path) -> Any:
    ask(folder, "stop")
    return nullcontext()


def same(one: nn.Module, two: nn.Module) -> bool:
    rows = zip(one.state_dict().items(), two.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in rows)


CONTROLLERS = ("darts", "drnas", "gdas", "gumbel", "darts_pt", "random", "evolution", "local_search", "predictor")


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_every_controller_searches_it(quick: Quick, controller: str) -> None:
    module = own()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    settings = {"search.budget": 3, "evaluation.random": 0, "search.epochs": 1}
    result = quick(module, controller=controller, settings=settings, run="a")
    assert type(result.network) is Own and result.space == metanas.space_of(module)
    assert result.space.architecture(result.architecture) == result.architecture
    assert 0 <= result.test_accuracy <= 1
    assert not any(type(inner).__module__.startswith("metanas.") for inner in result.network.modules())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


@pytest.fixture(scope="module")
def found(images: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run that the tests only read."""
    settings = {
        "search.epochs": 2,
        "search.batch_size": 32,
        "evaluation.epochs": 1,
        "evaluation.random": 1,
        "threads": 1,
    }
    folder = tmp_path_factory.mktemp("own") / "a"
    return metanas.search(own(), images, controller="drnas", settings=settings, run=folder)


def test_the_network_that_is_found_is_bit_for_bit_the_one_by_hand(found: Any) -> None:
    """Written for the architecture that this search gives, with the weights of the run's own file."""
    taken = {name: labels[0] for name, labels in found.architecture.items()}
    width = int(taken["width"])

    class Hand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
            kernels = {"3x3": (3, 1), "1x1": (1, 0)}
            self.blocks = nn.Sequential()
            if taken["depth"] == "1":
                kernel, padding = kernels[taken["kernel"]]
                self.blocks.append(nn.Conv2d(width, width, kernel, padding=padding))
            self.head = nn.Linear(width, 2)

        def forward(self, x: Tensor) -> Tensor:
            stem = torch.relu(self.norm(self.stem(x)))
            blocks = self.blocks(stem)
            values = {"stem": stem, "blocks": blocks, "both": stem * blocks}
            first, second = taken["pick"].split("+")
            return self.head((values[first] + values[second]).mean((-2, -1)))

    hand = Hand().eval()
    hand.load_state_dict(load_file(found.run / "network.safetensors"))
    x = torch.randn(7, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hand(x), found.network(x))
    assert hand.state_dict().keys() == found.network.state_dict().keys()


def test_files_of_the_run_and_of_an_export(found: Any, tmp_path: Path) -> None:
    files = {path.name for path in found.run.iterdir()}
    assert {"architecture.json", "network.safetensors", "module.safetensors", "space.json"} <= files
    assert "network.py" not in files
    written = metanas.export(
        found, "out", formats=["json", "safetensors", "pt2", "svg", "dot", "mermaid"], verify="here"
    )
    assert len(written) == 6
    assert load_file("out/network.safetensors").keys() == found.network.state_dict().keys()
    x = torch.randn(3, 1, 6, 6)
    torch.testing.assert_close(torch.export.load("out/network.pt2").module()(x), found.network(x), rtol=0, atol=1e-6)
    with pytest.raises(
        ExportError, match=r"operation 'Own' is not one of metanas's own.*\"safetensors\" and \"pt2\" hold"
    ):
        metanas.export(found, "python", formats=["python"])


def test_a_run_is_shown_and_read_without_the_module(found: Any) -> None:
    assert "blocks = norm + blocks_0  (1 of 2: depth)" in draw_space(metanas.load_run(found.run).space)
    stream = io.StringIO()
    Console(file=stream, width=100).print(show(read(found.run)))
    assert all(word in stream.getvalue() for word in ("kernel", "stem+blocks", "depth", "finished"))
    assert "stem+blocks" in write_page(found.run, found.run.parent / "page.html").read_text(encoding="utf-8")


def test_read_again_with_a_module_built_alike(found: Any) -> None:
    run = metanas.load_run(found.run)
    again = run.result(module=own(seed=3))
    assert again.architecture == found.architecture and same(again.network, found.network)
    with pytest.raises(RunError, match=r"own module; hand it over again: .*result\(module=...\), or --module FILE$"):
        run.result()
    with pytest.raises(RunError, match="your own module, which was built in another way than this Own; hand it over"):
        run.result(module=own(classes=3))
    with pytest.raises(RunError, match=r"is of a module of your own, which build\(\) does not have"):
        metanas.build(found.run)
    with pytest.raises(RunError, match="Own is a module of your own, whose head metanas does not know"):
        again.transfer("digits")


@pytest.mark.parametrize(
    ("controller", "settings"),
    [("gdas", {"search.refine": [{"candidates": 3, "epochs": 1}]}), ("evolution", {})],
    ids=["gdas, refined", "evolution"],
)
def test_resumed_bit_for_bit(quick: Quick, images: Any, controller: str, settings: Any) -> None:
    """Whatever the weights of the module that is handed over again, and with dropout in the training."""
    settings = {"search.budget": 2, "evaluation.random": 0, **settings}
    straight = quick(own(), controller=controller, settings=settings, run="whole")
    with pytest.raises(InterruptedSearchError):
        quick(own(), controller=controller, settings=settings, run="cut", view=stop_at_once)
    torch.rand(3)
    resumed = metanas.resume("cut", data=images, module=own(seed=9))
    assert resumed.architecture == straight.architecture
    assert resumed.found.test_loss == straight.found.test_loss and same(resumed.network, straight.network)


def test_what_is_resumed_must_be_the_same_module(quick: Quick, images: Any) -> None:
    with pytest.raises(InterruptedSearchError):
        quick(own(), run="cut", view=stop_at_once)
    with pytest.raises(RunError, match="was started with your own module; hand it over again to resume"):
        metanas.resume("cut", data=images)
    with pytest.raises(
        RunError, match=r"module.safetensors does not fit the network: head.weight is \(2, 4\) .* \(3, 4\)"
    ):
        metanas.resume("cut", data=images, module=own(classes=3))
    other = own()
    other.drop = metanas.choose("act", [nn.ReLU(), nn.Tanh()])
    with pytest.raises(RunError, match="runs/cut searches other choices than Own has; give the same module"):
        metanas.resume("cut", data=images, module=other)
    other = own()
    other.stem = nn.Conv2d(1, metanas.choose.size("width", (2, 4)), 3, padding=1, padding_mode="reflect")
    with pytest.raises(RunError, match=r"changed since its checkpoint: handed\.module was"):
        metanas.resume("cut", data=images, module=other)


@pytest.mark.parametrize(
    ("make", "arguments", "error", "message"),
    [
        (lambda: nn.Linear(2, 2), {}, SpaceError, "Linear has no choices; mark some with metanas.choose"),
        (lambda: own(classes=3), {}, ShapeError, r"Own gives \(3,\) for inputs \(1, 6, 6\), the data need \(2,\)"),
        (own, {"settings": {"evaluation.drop_path": 0.1}}, RecipeError, "evaluation.drop_path: a module of your own"),
        (own, {"settings": {"search.checkpoint": True}}, RecipeError, "search.checkpoint: a module of your own does"),
        (own, {"settings": {"evaluation.space": {"width": 3}}}, RecipeError, "evaluation.space: needs a space by name"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_before_there_is_a_folder(
    quick: Quick, make: Any, arguments: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        quick(make(), **arguments)
    assert "\n" not in str(caught.value)
    assert not os.path.exists("runs")
