"""`Result.transfer`: what is carried, what is new, what stays fixed; resume, files, the command, and every error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import metanas
from metanas.api import Result
from metanas.api.origin import read_origin, without_head
from metanas.api.parts import Parts
from metanas.cli.app import app
from metanas.controllers import RandomSearch
from metanas.errors import (
    DataError,
    InterruptedSearchError,
    MetanasError,
    RecipeError,
    RunError,
    ShapeError,
    SpaceError,
)
from metanas.evaluation import Carried, ScratchTraining, Training
from metanas.loop import GradientSearch
from metanas.network import OPS, bequeath, derived, supernet
from metanas.run import RunFolder, ask
from metanas.space import NEEDED, Space, chain, one_of, op

QUICK = {
    "search.epochs": 1, "search.batch_size": 32, "search.monitor": 32, "evaluation.epochs": 2,
    "evaluation.batch_size": 32, "evaluation.random": 0, "threads": 1, "device": "cpu",
}  # fmt: skip
BODY = op("conv", width=4, kernel=3, norm="batch", activation="relu")
SPACE = Space(
    chain(
        ("stem", op("conv", width=4, kernel=3, norm="batch")),
        ("body", one_of("body", {"conv": BODY, "skip": op("skip"), "pool": op("max_pool", kernel=3)})),
        ("head", op("classifier", width=NEEDED, norm="batch", activation="relu")),
    ),
    "tiny",
)
Pair = tuple[Tensor, Tensor]


def pictures(classes: int, *, channels: int = 1, side: int = 7, count: int = 120, seed: int = 5) -> Pair:
    """Images that differ in brightness."""
    labels = torch.arange(count) % classes
    noise = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))
    return noise + labels[:, None, None, None], labels


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The conv, trained on five classes; not to be changed."""

    class Conv(RandomSearch):
        def best(self, space: Space, memory: Any) -> metanas.Architecture:
            return space.architecture({"body": "conv"})

    return metanas.search(
        SPACE, pictures(5), controller=Conv(), run=tmp_path_factory.mktemp("source") / "run",
        settings={**QUICK, "search.budget": 1, "search.value_epochs": 1},
    )  # fmt: skip


def features(network: Any, inputs: Tensor) -> Tensor:
    """What stands before the head's linear map."""
    seen: list[Tensor] = []
    with network.head[-1].register_forward_pre_hook(lambda _, args: seen.append(args[0])), torch.no_grad():
        network(inputs)
    return seen[0]


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: x for name, x in network.state_dict().items() if not name.startswith("head.4")}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[bool]:
    assert a.keys() == b.keys()
    return [torch.equal(a[name], b[name]) for name in a]


def test_the_source_has_what_is_tested_here(source: Result) -> None:
    assert source.architecture["body"] == ("conv",) and len(source.classes) == 5
    assert any(name.endswith("running_mean") for name in source.network.state_dict())


@pytest.mark.parametrize("classes", [2, 5, 9])
def test_frozen_features_are_those_of_the_source_bit_for_bit(source: Result, classes: int) -> None:
    result = source.transfer(pictures(classes, seed=8), how="frozen")
    assert result.run == Path("runs/frozen-tiny-tensors-1").absolute()
    inputs = torch.randn(6, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(features(result.network, inputs), features(source.network, inputs))
    assert all(same(state(result.network), state(source.network))), "norm statistics as well"
    assert result.network(inputs).shape == (6, classes)
    new, old = result.network.head[-1].weight, source.network.head[-1].weight
    assert new.shape != old.shape or not torch.equal(new, old), "the head is new, also where it is as wide"
    assert result.how == "frozen" and result.architecture == source.architecture
    assert all(p.requires_grad for p in result.network.parameters()), "it can be trained on"


def test_finetuning_starts_there(source: Result) -> None:
    folder = RunFolder.open(source.transfer(pictures(3, side=9), settings={"evaluation.epochs": 1}, lr=1e-12).run)
    result = metanas.load_run(folder.path).result()
    parameters = {name for name, _ in source.network.named_parameters()}
    now, before = state(result.network), state(source.network)
    for name in now.keys() & parameters:
        torch.testing.assert_close(now[name], before[name], rtol=0, atol=1e-8)
    assert not torch.equal(now["stem.1.running_mean"], before["stem.1.running_mean"]), "statistics follow the new data"
    moved = source.transfer(pictures(3, side=9), settings={"evaluation.epochs": 1})
    assert not any(torch.equal(state(moved.network)[name], before[name]) for name in now.keys() & parameters)
    assert moved.how == "finetune" and moved.shape == (1, 9, 9) and moved.classes == ("0", "1", "2")
    assert metanas.load_run(moved.run).recipe["evaluation"]["lr"] == 0.1


def test_beside_it_stands_the_same_from_scratch(source: Result) -> None:
    data = pictures(3)
    first, second = source.transfer(data, how="frozen", seed=4), source.transfer(data, how="finetune", seed=4)
    assert first.scratch == second.scratch and first.scratch is not None, "it knows nothing of what was carried"
    assert first.scratch.architecture == source.architecture and first.scratch.parameters == first.found.parameters
    assert first.scratch_score == first.scratch_accuracy == first.scratch.test_score and first.random == ()
    assert first.seconds == first.search_seconds + first.train_seconds > 0
    assert f"(from scratch {first.scratch_score:.2%}), " in str(first) and source.scratch_score is source.how is None
    beside = source.transfer(data, how="frozen", seed=4, settings={"evaluation.random": 2})
    assert len(beside.random) == 2 and beside.found == first.found
    names = [e["network"] for e in metanas.load_run(beside.run).events() if e["kind"] == "network"]
    assert names == ["derived", "scratch", "random 1", "random 2"]


def test_a_new_search_starts_from_the_weights(source: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    original = Parts.search

    def search(self: Any, *words: Any) -> Any:
        found = original(self, *words)
        assert isinstance(found, GradientSearch)
        seen.append(found.theta["body/conv.0.weight"].detach().clone())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "search", search)
        result = source.transfer(pictures(3), how="search", settings={"search.controller": "drnas"})
    (weight,) = [x for name, x in source.network.named_parameters() if name.endswith("0.weight") and "body" in name]
    assert torch.equal(seen[0], weight) and result.how == "search" and result.scratch is not None
    assert result.scratch.architecture == result.architecture
    kinds = {event["kind"] for event in metanas.load_run(result.run).events()}
    assert {"step", "epoch", "train", "network"} <= kinds
    by_value = {"search.controller": "random", "search.budget": 2, "search.value_epochs": 1}
    assert source.transfer(pictures(3), how="search", settings=by_value).how == "search", "also without a supernet"


def test_bequeath_is_the_other_way_round_of_inherit() -> None:
    architecture = SPACE.architecture({"body": "conv"})
    small = derived(SPACE, architecture, (1, 7, 7), 5)
    whole = supernet(SPACE, (1, 7, 7), 3, seed=9)
    before = {name: x.clone() for name, x in whole.state_dict().items()}
    bequeath(whole, without_head(small, SPACE, architecture, OPS))
    after = whole.state_dict()
    common = [name for name in after if not name.startswith("head.4")]
    assert all(torch.equal(after[name], small.state_dict()[name]) for name in common)
    assert all(torch.equal(after[name], before[name]) for name in after if name not in common)


def test_carried_parameters_move_by_their_share_and_none_where_it_is_zero(source: Result) -> None:
    data = metanas.load_data(pictures(5))
    start = {name: p.detach().clone() for name, p in source.network.named_parameters()}
    names = frozenset(name for name in start if not name.startswith("head.4"))

    def moved(rate: float) -> dict[str, Tensor]:
        network = derived(SPACE, source.architecture, (1, 7, 7), 5)
        network.load_state_dict(source.network.state_dict())
        settings = Training(epochs=1, batch_size=1000, momentum=0.0, weight_decay=0.0, clip=1e9)  # a single step
        list(ScratchTraining(network, data.train, settings, seed=0, carried=Carried(names, rate)).epochs())
        return {name: p.detach() - start[name] for name, p in network.named_parameters()}

    whole, tenth, none = moved(1.0), moved(0.1), moved(0.0)
    for name in start:
        if name in names:
            torch.testing.assert_close(tenth[name], whole[name] / 10, rtol=1e-3, atol=1e-7)
            assert not none[name].any()
        else:
            torch.testing.assert_close(tenth[name], whole[name], rtol=1e-5, atol=1e-7)
            assert none[name].any()


@pytest.mark.parametrize("how", ["finetune", "frozen", "search"])
def test_a_resumed_transfer_is_the_same_bit_for_bit(source: Result, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, settings = pictures(3), {"search.controller": "drnas", "checkpoint_seconds": 0.0}
    settings = settings if how == "search" else {"checkpoint_seconds": 0.0}
    whole = source.transfer(data, how=how, settings=settings, run="whole")

    @contextlib.contextmanager
    def stopping(folder: Path) -> Iterator[None]:
        ask(folder, "stop")
        yield

    with pytest.raises(InterruptedSearchError):
        source.transfer(data, how=how, settings=settings, run="again", view=stopping)
    assert metanas.load_run("again").status == "interrupted"
    with pytest.raises(RunError, match="was started with your own data; hand it over again"):
        metanas.resume("again")
    with pytest.raises(InterruptedSearchError):
        metanas.resume("again", data=data, view=stopping)
    again = metanas.resume("again", data=data)
    assert isinstance(again, Result)
    assert (again.found, again.scratch, again.how) == (whole.found, whole.scratch, how)
    assert all(same(dict(again.network.state_dict()), dict(whole.network.state_dict())))
    assert metanas.resume("again").found == whole.found, "finished: it is returned as it is"
    assert metanas.load_run("again").recipe == metanas.load_run("whole").recipe


def test_a_run_is_not_resumed_with_other_weights(source: Result) -> None:
    @contextlib.contextmanager
    def stopping(folder: Path) -> Iterator[None]:
        ask(folder, "stop")
        yield

    with pytest.raises(InterruptedSearchError):
        source.transfer(pictures(3), run="first", view=stopping)
    folder = RunFolder.open("first")
    origin = read_origin(folder, folder.read_recipe())
    assert origin is not None and origin.run == str(source.run)
    replace(origin, weights={name: x + 1 for name, x in origin.weights.items()}).write(folder)
    with pytest.raises(RunError, match=r"was changed since its checkpoint: transfer\.weights was "):
        metanas.resume("first", data=pictures(3))
    folder.file("source.safetensors").unlink()
    with pytest.raises(RunError, match=r"source\.safetensors: No such file"):
        metanas.resume("first", data=pictures(3))


@pytest.mark.long
def test_export_and_a_second_transfer(source: Result) -> None:
    first = source.transfer(pictures(3), how="frozen", run="first")
    document = json.loads((first.run / "recipe.json").read_text())
    assert document["kind"] == "transfer" and document["transfer"]["how"] == "frozen"
    assert [path.name for path in metanas.export("first", "out")] == [
        "architecture.json", "network.safetensors", "network.py",
    ] and [p.name for p in metanas.export(first, "out2", ["json"])] == ["architecture.json"]  # fmt: skip
    inputs = torch.randn(4, 1, 7, 7)
    second = first.transfer(pictures(2), how="frozen")
    assert torch.equal(features(second.network, inputs), features(source.network, inputs))


def test_rows_and_quantities() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(80, 3, generator=generator)
    plan: Any = {"data.task": "regression", **QUICK, "evaluation.batch_size": 16, "search.batch_size": 16}
    first = metanas.search("mlp", (rows, rows.sum(1)), epochs=1, settings=plan)
    second = first.transfer((rows, rows @ torch.tensor([1.0, 1.0, 0.5])), settings={"data.task": "regression"})
    assert second.metric == "R2" and second.scratch is not None and second.table is not None
    with pytest.raises(AttributeError, match="not accuracy; use scratch_score"):
        second.scratch_accuracy  # noqa: B018
    with pytest.raises(DataError, match="trained for a regression, the data are for classes"):
        first.transfer((rows, torch.arange(80) % 2))
    with pytest.raises(DataError, match="the columns of the table are not those"):
        first.transfer((rows[:, :2], rows.sum(1)), settings={"data.task": "regression"})
    with pytest.raises(DataError, match=r"takes inputs \(3,\), the data have \(1, 7, 7\)"):
        first.transfer((pictures(3)[0], torch.rand(120)), settings={"data.task": "regression"})


FLAT = Space(
    chain(("flat", op("flatten")), ("one", op("linear", width=4)), ("head", op("linear", width=NEEDED))), "flat"
)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"how": "finetun"}, RecipeError, "how: unknown name 'finetun'; did you mean \"finetune\"?"),
        ({"how": "forzen"}, RecipeError, "how: unknown name 'forzen'; did you mean \"frozen\"?"),
        ({"lr": 0.0}, RecipeError, "lr: must be > 0, got 0.0"),
        ({"lr": float("nan")}, RecipeError, "lr: must be > 0, got nan"),
        ({"how": "frozen", "lr": 0.1}, RecipeError, "lr: what is frozen has none, got 0.1; the head's "),
        ({"settings": {"evaluation.epoch": 1}}, RecipeError, 'evaluation.epoch: unknown key; did you mean "epochs"?'),
        (
            {"settings": {"evaluation.space": {"channels": 2}}},
            RecipeError,
            "evaluation.space: a transfer keeps the space of its network; leave it out",
        ),
        (
            {"data": pictures(3, channels=3)},
            DataError,
            "the network takes images of 1 channel, the data have 3 channels; convert them, or search on them anew",
        ),
        ({"data": (torch.rand(40, 5), torch.arange(40) % 2)}, DataError, "the network takes inputs (1, 7, 7), "),
        ({"settings": {"data.task": "regression"}}, DataError, "trained for classes, the data are for a regression"),
        ({"data": "digit"}, DataError, "digit"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line_before_a_folder_is_made(
    source: Result, arguments: dict[str, Any], error: type[MetanasError], message: str, tmp_path: Path
) -> None:
    given = {"data": pictures(3), **arguments}
    with pytest.raises(error) as caught:
        source.transfer(given.pop("data"), **given)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_other_things_that_cannot_be(source: Result, tmp_path: Path) -> None:
    flat = metanas.search(FLAT, pictures(3), settings=QUICK, controller="random", run="flat")
    with pytest.raises(
        ShapeError, match=r"one\.0\.weight is \(4, 81\) for inputs \(1, 9, 9\), and \(4, 49\) in the one"
    ):
        flat.transfer(pictures(3, side=9))
    with pytest.raises(RunError, match="has no network, so there is nothing to be carried"):
        replace(source, network=None).transfer(pictures(3))
    with pytest.raises(RunError, match="there is no run at"):
        replace(source, run=tmp_path / "gone").transfer(pictures(3))
    own = replace(source, space=Space(chain(("stem", op("mine")), ("head", op("classifier", width=NEEDED)))))
    with pytest.raises(SpaceError):
        own.transfer(pictures(3))


def test_the_command(source: Result, tmp_path: Path) -> None:
    metanas.search("nasbench201", epochs=1, run="first", settings={
        **QUICK, "space.options.channels": 2, "data.inner": 64, "data.outer": 64, "data.test": 50,
    })  # fmt: skip
    runner = CliRunner()
    words = ["transfer", "first", "--data", "digits", "--set", "data.inner=50", "--set", "data.outer=50", "--plain"]
    done = runner.invoke(app, [*words, "--set", "data.test=50", "--how", "frozen", "--run", "second", "--threads", "1"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "second: transfer nasbench201 to digits, frozen"
    assert lines[-4].startswith("found     |") and ", from scratch " in lines[-3]
    assert lines[-1] == "files     runs/second/network.py, network.safetensors, architecture.json"
    shown = runner.invoke(app, ["show", "second"]).output
    assert "against the same from scratch" in shown and "trained from scratch" not in shown
    assert "frozen" in runner.invoke(app, ["runs"]).output
    assert ", from scratch " in runner.invoke(app, ["resume", "second"]).output
    for arguments, text in (
        (["first"], "error: which data? --data takes digits, or a path"),
        (["first", "--data", "digits", "--how", "froze"], 'did you mean "frozen"?'),
        (["frist", "--data", "digits"], 'did you mean "first"?'),
    ):
        done = runner.invoke(app, ["transfer", *arguments])
        assert done.exit_code == 1 and text in done.output
