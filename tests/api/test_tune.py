"""`metanas.tune` from its arguments to its files: what is learned, what is written, what is refused, and its resume."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import metanas
from metanas.bilevel import Unrolled
from metanas.errors import (
    BilevelError,
    DivergedError,
    ExportError,
    InterruptedSearchError,
    MetanasError,
    RecipeError,
    RunError,
    ShapeError,
)
from metanas.modes import Part
from metanas.recipe import TuneRecipe, read_tuning
from metanas.run import EventWriter, ask, latest, read_events
from metanas.run.checkpoints import load, save

TINY = {
    "network.options": {"kind": "linear"},
    "data.inner": 60,
    "data.outer": 60,
    "data.test": 40,
    "inner.steps": 3,
    "outer.steps": 4,
    "evaluation.steps": 40,
    "threads": 1,
    "device": "cpu",
    "checkpoint_seconds": 1000.0,
}
FILES = ["architecture.json", "checkpoints", "events.jsonl", "learned.json", "learned.safetensors", "lock",
         "network.py", "network.safetensors", "recipe.json", "result.json", "space.json"]  # fmt: skip


def quick(*arguments: Any, **named: Any) -> Any:
    """`metanas.tune` with `settings` on top of TINY."""
    return metanas.tune(*arguments, **{**named, "settings": {**TINY, **named.get("settings", {})}})


def small(*, outputs: int = 10, inputs: int = 64, hidden: int = 6) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [e for e in read_events(run / "events.jsonl").events if e["kind"] == kind]


# What is learned, and what is written


LEARNED = {
    "example_weights": ({}, {"example_weights.logit": (60,)}),
    "decay": ({}, {"decay.log.head.0.bias": (), "decay.log.head.0.weight": ()}),
    "rate": ({"inner.restart": True, "learn.rate.per": "layer and step"},
             {"rate.log.head.0.bias": (3,), "rate.log.head.0.weight": (3,)}),
    "label_smoothing": ({}, {"label_smoothing.logit": ()}),
    "augmentation": ({"learn.augmentation.names": ["shift", "brightness"]}, None),
    "loss": ({"learn.loss.terms": 3}, {"loss.log_scale": (), "loss.offset": (10,), "loss.poly": (3,)}),
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNED)
def test_everything_that_can_be_learned(name: str) -> None:
    settings, shapes = LEARNED[name]
    result = quick(learn=[name], settings={"inner.rule": "adam", "inner.lr": 0.05, **settings}, run="first")
    assert sorted(p.name for p in result.run.iterdir()) == FILES
    assert all(key.startswith(f"{name}.") for key in result.learned)
    if shapes is not None:
        assert {key: tuple(x.shape) for key, x in result.learned.items()} == shapes
    assert result.shown != result.shown_at_start and result.shown.keys() == result.shown_at_start.keys()
    steps = events(result.run, "step")
    assert [e["step"] for e in steps] == [1, 2, 3, 4]
    assert all(e["outer_gradient_norm"] > 0 and e["skipped"] == 0 and e["converged"] for e in steps)
    assert steps[-1]["learned"] == pytest.approx(dict(result.shown))
    assert [e["network"] for e in events(result.run, "network")] == ["learned", "start"]
    assert 0.4 < result.test_score <= 1 and 0.4 < result.start_score <= 1
    assert str(result).endswith(f": test accuracy {result.test_score:.2%}, {result.start_score:.2%} before")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run on digits; not to be changed."""
    settings = {"network.options": {"kind": "conv", "width": 3, "depth": 2}, "data.wrong_labels": 0.1}
    return quick(seed=3, settings=settings, run=tmp_path_factory.mktemp("tune") / "first")


def test_the_files_say_what_the_result_says(digits: Any) -> None:
    stored = load_file(digits.run / "learned.safetensors")
    assert stored.keys() == digits.learned.keys()
    assert all(torch.equal(stored[name], x) for name, x in digits.learned.items())
    facts = json.loads((digits.run / "learned.json").read_text())
    assert facts["shown"] == digits.shown and facts["shown_at_start"] == digits.shown_at_start
    assert facts["chosen"] == {} and facts["wrong_labels"] == digits.wrong_labels
    result = json.loads((digits.run / "result.json").read_text())
    assert result["kind"] == "tune" and result["test_score"] == digits.test_score
    assert result["start"]["test_score"] == digits.start_score and result["steps"] == 4
    recipe = read_tuning(json.loads((digits.run / "recipe.json").read_text())["recipe"])
    assert recipe.seed == 3 and recipe.network.options["kind"] == "conv"


def test_the_result_is_read_back(digits: Any) -> None:
    again = metanas.load_run(digits.run).result()
    assert again.shown == digits.shown and again.test_score == digits.test_score
    assert again.learned.keys() == digits.learned.keys()
    assert all(torch.equal(x, digits.learned[name]) for name, x in again.learned.items())
    batch = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not again.network.training
    with torch.no_grad():
        assert torch.equal(again.network(batch), digits.network(batch))
    torch.testing.assert_close(again.wrong_labels, digits.wrong_labels)


ALONE = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("exported", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert not any(name.split(".")[0] in ("metanas", "safetensors") for name in sys.modules), sorted(sys.modules)
batch = torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    torch.save(module.load()(batch), sys.argv[3])
"""


@pytest.mark.long
def test_the_module_stands_alone(digits: Any, tmp_path: Path) -> None:
    perceptron = quick(learn=["decay"], settings={"network.options": {"width": 5, "depth": 2}, "outer.steps": 1})
    for result, name in ((digits, "conv"), (perceptron, "flat")):
        batch = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
        torch.save(batch, tmp_path / "in.pt")
        command = [sys.executable, "-I", "-W", "error", "-c", ALONE, result.run / "network.py", tmp_path / "in.pt"]
        done = subprocess.run([*command, tmp_path / f"{name}.pt"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with torch.no_grad():
            theirs = torch.load(tmp_path / f"{name}.pt")
            torch.testing.assert_close(theirs, result.network(batch), rtol=1e-5, atol=1e-6)


def test_export(digits: Any, tmp_path: Path) -> None:
    names = ["architecture.json", "network.safetensors", "network.py", "learned.safetensors", "learned.json"]
    written = metanas.export(digits.run, tmp_path / "out")
    assert [p.name for p in written] == names and all(p.exists() for p in written)
    assert (tmp_path / "out/learned.safetensors").read_bytes() == (digits.run / "learned.safetensors").read_bytes()
    with pytest.raises(ExportError, match=r"already there: .*learned\.safetensors, .*learned\.json; choose another"):
        metanas.export(digits, tmp_path / "out")
    (tmp_path / "out/learned.json").write_text("mine")
    metanas.export(digits, tmp_path / "out", force=True)
    assert json.loads((tmp_path / "out/learned.json").read_text())["shown"] == digits.shown
    with pytest.raises(ExportError, match="unknown format 'onx'"):
        metanas.export(digits, tmp_path / "other", formats=["onx"])
    assert not (tmp_path / "other").exists()


def test_wrong_labels_are_found() -> None:
    """Three clouds far apart, a fifth of the labels wrong: a weight below one half means wrong."""
    draw = np.random.default_rng(0)
    labels = np.arange(600) % 3
    points = 4.0 * np.eye(3)[labels] + 0.4 * draw.standard_normal((600, 3))
    settings = {"data.inner": 240, "data.outer": 240, "data.test": 120, "data.wrong_labels": 0.2, "inner.steps": 10}
    data = (points.astype(np.float32), labels)
    result = quick(data=data, learn=["example_weights"], steps=30, settings={**settings, "outer.lr": 0.3}, run="clean")
    found = result.wrong_labels
    assert found["wrong"] == 48 and found["f1"] > 0.9, found
    hits, said = found["found"], found["suspected"]
    assert (found["precision"], found["recall"]) == (hits / said, hits / 48)
    assert found["f1"] == pytest.approx(2 * hits / (48 + said))
    logs = [e["message"] for e in events(result.run, "log")]
    assert f"of 48 wrong labels {hits} were found, F1 {found['f1']:.3f}" in logs
    assert result.test_score > 0.95, "trained with the weights it is right"


def test_a_regression() -> None:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    data = (x.astype(np.float32), y.astype(np.float32))
    settings = {"data.inner": 100, "data.outer": 100, "data.test": 100, "data.task": "regression", "inner.lr": 0.02}
    result = quick(data=data, learn=["decay", "rate"], settings=settings, run="rows")
    assert result.metric == "R2" and 0.3 < result.test_score < 0.7 and 0.3 < result.start_score < 0.7
    assert str(result).endswith(f": test R2 {result.test_score:.4f}, {result.start_score:.4f} before")
    with torch.no_grad():
        assert result.network(torch.zeros(4, 10)).shape == (4, 1)
    with pytest.raises(RecipeError, match=r"learn\.loss: needs classes, and the data are a regression"):
        quick(data=data, learn=["loss"], settings=settings)
    with pytest.raises(RecipeError, match=r"data\.wrong_labels: needs classes, and the data are a regression"):
        quick(data=data, settings={**settings, "data.wrong_labels": 0.1})


# What the arguments say


def test_arguments_override_the_recipe() -> None:
    recipe = read_tuning({"outer": {"steps": 9, "lr": 0.5}, "learn": {"decay": {"per": "all", "start": 0.01}}})
    result = quick(recipe, learn=["decay"], steps=2, seed=7, estimator="forward", settings={"inner.lr": 0.2,
        "learn.rate.per": "all", "outer.steps": 3})  # fmt: skip
    document = json.loads((result.run / "recipe.json").read_text())
    found = read_tuning(document["recipe"])
    assert (found.outer.steps, found.outer.lr, found.outer.estimator, found.seed) == (2, 0.5, "forward", 7)
    assert found.inner.lr == 0.2 and found.learn.decay.per == "all" and found.learn.decay.start == 0.01
    assert result.run.name == "tune-digits-1"


def test_a_shipped_recipe_by_name() -> None:
    result = quick("clean", settings={"data.inner": 100, "data.outer": 100, "outer.steps": 2})
    assert list(result.learned) == ["example_weights.logit"] and result.wrong_labels["wrong"] == 40


def test_a_start_outside_the_recipe_is_kept() -> None:
    result = quick(learn=["decay"], settings={"learn.decay.start": 0.5, "learn.decay.per": "all"}, steps=1)
    assert result.shown_at_start["decay"] == pytest.approx(0.5)


def pull() -> Part:
    """A part of a user's own: everything is drawn towards 0, strongly, as much as is learned."""
    return Part(
        "pull",
        {"log": torch.tensor(-3.0)},
        shown=lambda own: {"pull": float(own["log"].detach().exp())},
        penalty=lambda theta, own: own["log"].exp() * sum(p.abs().sum() for p in theta.values()),
    )


def hinge(outputs: Tensor, targets: Tensor) -> Tensor:
    """The squared hinge: twice differentiable, but for its kink."""
    right = outputs.gather(1, targets[:, None])
    return (1 + outputs - right).relu().square().sum(1) - 1


def top_two(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.topk(2).indices == targets[:, None]).any(1).float().mean()


def test_own_objects_everywhere() -> None:
    net = small()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    result = quick(network=net, learn=["decay", pull()], losses=hinge, metric=top_two, estimator=Unrolled(2), run="own")
    assert sorted(p.name for p in result.run.iterdir()) == [
        name for name in FILES if name not in ("architecture.json", "network.py", "space.json")
    ]
    assert sorted(key.split(".")[0] for key in result.learned) == ["decay"] * 4 + ["pull"]
    assert result.metric == "top_two" and result.shown["pull"] != pytest.approx(result.shown_at_start["pull"])
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items()), "the module itself is not trained"
    assert all(not torch.equal(x, before[name]) for name, x in result.network.state_dict().items())
    document = json.loads((result.run / "recipe.json").read_text())
    assert document["handed"] == {
        "network": "Sequential",
        "estimator": "Unrolled(steps=2, truncate=None, checkpoint=None, stationary=None)",
        "losses": "hinge",
        "metric": "top_two",
        "parts": "pull",
    }
    alone = metanas.load_run("own").result()
    assert alone.network is None and alone.learned.keys() == result.learned.keys()
    again = metanas.resume("own", network=small())
    batch = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(again.network(batch), result.network(batch))
    written = metanas.export(result, "out")
    assert [p.name for p in written] == ["network.safetensors", "learned.safetensors", "learned.json"]
    assert all(torch.equal(x, result.network.state_dict()[name]) for name, x in load_file(written[0]).items())
    with pytest.raises(ExportError, match="already there"):
        metanas.export(result, "out")
    with pytest.raises(ExportError, match="already there"):
        (Path("out") / "learned.json").unlink(), (Path("out") / "learned.safetensors").unlink()
        metanas.export(result, "out")


def test_own_losses_are_those_of_the_training_too() -> None:
    """The hinge of a network that is sure is 0: the cross entropy never is."""
    settings = {"evaluation.steps": 400, "learn.decay.start": 1e-9, "inner.lr": 0.005}
    result = quick(learn=["decay"], losses=hinge, settings=settings, steps=1)
    assert events(result.run, "train")[-1]["loss"] < 1e-3


# What is refused, before anything is made


class Plain(nn.Module):
    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def no_norms(width: int) -> nn.Module:
    net = Plain(width)
    net.body[1] = nn.BatchNorm2d(3, track_running_stats=False)
    return net


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"network": Plain()}, RecipeError, "network: body.1 keeps statistics, which no hypergradient goes through"),
        ({"network": no_norms(7)}, ShapeError, "the network gives (7,) for inputs (1, 8, 8), the data need (10,)"),
        ({"network": nn.Linear(3, 10)}, ShapeError, "the network does not take inputs (1, 8, 8): "),
        ({"learn": []}, RecipeError, "learn: should name something that is learned: example_weights"),
        ({"learn": ["decays"]}, RecipeError, 'learn.decays: unknown key; did you mean "decay"?'),
        ({"estimator": "unroled"}, RecipeError, 'outer.estimator: unknown name \'unroled\'; did you mean "unrolled"?'),
        ({"settings": {"outer.options.trunkate": 3}}, RecipeError, "outer.options.trunkate: unrolled has no such opt"),
        ({"settings": {"network.name": "plane"}}, MetanasError, 'no space named \'plane\'; did you mean "plain"?'),
        ({"settings": {"network.options": {"kind": "cnn"}}}, MetanasError, "kind must be one of linear, perceptron"),
        ({"settings": {"network.name": "nasbench201"}}, MetanasError, ""),
        ({"recipe": "clena"}, RecipeError, "no tuning recipe named 'clena'; did you mean \"clean\"?"),
        ({"data": "digitz"}, MetanasError, "unknown data 'digitz'; did you mean \"digits\"?"),
        ({"learn": [pull(), pull()]}, BilevelError, "two parts are called 'pull'"),
        ({"data": (torch.zeros(9, 3), torch.arange(9) % 3), "learn": ["augmentation"],
          "settings": {"data.inner": 3, "data.outer": 3, "data.test": 3}}, MetanasError, ""),
        ({"run": "../x"}, RunError, "run name '../x' is not allowed"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, dict) else getattr(x, "__name__", str(x)),
)  # fmt: skip
def test_mistakes_are_found_before_a_folder_is_made(
    runs: Path, arguments: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as caught:
        quick(**arguments, view=lambda _: pytest.fail("it began"))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not runs.exists()


def test_a_norm_without_statistics_is_taken() -> None:
    assert quick(network=no_norms(10), learn=["decay"], steps=1).test_score > 0.2


def test_augmentation_needs_images(runs: Path) -> None:
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RecipeError, match=r"learn\.augmentation: needs images, and an input of the data is \(3,\)"):
        quick(data=(x, torch.arange(90) % 3), learn=["augmentation"], settings={"data.inner": 30, "data.outer": 30,
              "data.test": 30})  # fmt: skip
    assert not runs.exists()


# Faults


def test_a_hypergradient_that_explodes_is_clipped_and_its_norm_is_in_the_log() -> None:
    def huge(outputs: Tensor, targets: Tensor) -> Tensor:
        return 1e6 * F.cross_entropy(outputs, targets, reduction="none")

    settings = {"outer.clip": 0.5, "inner.lr": 1e-7, "outer.optimizer": "sgd", "outer.lr": 0.1,
                "outer.schedule": "constant", "learn.decay.start": 1e3}  # fmt: skip
    result = quick(learn=["decay"], losses=huge, settings=settings, steps=1)
    (step,) = events(result.run, "step")
    assert step["outer_gradient_norm"] > 10
    moved = sum((float(x) - float(np.log(1e3))) ** 2 for x in result.learned.values()) ** 0.5
    assert moved == pytest.approx(0.05, rel=1e-3)


def test_a_tuning_that_diverges_says_why_and_keeps_no_nan() -> None:
    calls = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        return F.cross_entropy(outputs, targets, reduction="none") * (torch.nan if len(calls) > 12 else 1.0)

    with pytest.raises(DivergedError, match=r"^outer step \d+: the last 10 hypergradients were not finite: the outer"):
        quick(learn=["decay"], losses=loss, steps=40, settings={"checkpoint_seconds": 0.0}, run="nan")
    run = metanas.load_run("nan")
    assert run.status == "failed" and run.events()[-1]["message"].startswith("outer step ")
    steps = [e for e in run.events() if e["kind"] == "step"]
    assert steps[-1]["skipped"] > 0 and steps[-1]["outer_loss_is"] == "nan" and not steps[-1]["converged"]
    state = load(run.folder.checkpoints).tree["state"]["tuning"]
    assert all(bool(x.isfinite().all()) for part in ("theta", "outer") for x in state[part].values())


def test_a_baseline_that_diverges_does_not_cost_the_result() -> None:
    """The rate at the start is far too large for the squares of a regression; what was learned is smaller."""
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    result = quick(
        data=(x, x.sum(1)),
        learn=["rate"],
        settings={"data.inner": 30, "data.outer": 30, "data.test": 30, "data.task": "regression", "inner.lr": 1.3,
                  "inner.momentum": 0.0, "inner.steps": 6, "inner.restart": True, "outer.lr": 0.6, "outer.steps": 12,
                  "learn.rate.per": "all", "evaluation.steps": 400},
    )  # fmt: skip
    assert result.shown["rate"] < 0.4 and result.test_score > 0.99
    assert np.isnan(result.start_score) and str(result).endswith("nan before")
    said = [e for e in events(result.run, "log") if e["level"] == "warning"]
    assert [e["message"].partition(" is ")[0] for e in said] == ["start: training from scratch: the loss"]


# Resume


PHASES = {
    "choose": lambda kind, row: kind == "trial" and row["trial"] == 2,
    "tune": lambda kind, row: kind == "step" and row["step"] == 3,
    "the last step": lambda kind, row: kind == "step" and row["step"] == 6,
    "trained with what was learned": lambda kind, row: kind == "train" and row["network"] == "learned"
    and row["epoch"] == 5,
    "trained with the start": lambda kind, row: kind == "train" and row["network"] == "start" and row["epoch"] == 5,
}  # fmt: skip
LONG: dict[str, Any] = {
    "settings": {
        "choose.values": {"inner.lr": {"low": 0.01, "high": 0.5, "log": True}, "network.options.width": [3, 5, 7]},
        "choose.trials": 4,
        "choose.steps": 3,
        "network.options": {"kind": "perceptron"},
        "inner.batch_size": 30,
        "outer.batch_size": 20,
    },
    "learn": ["decay", "augmentation"],
    "steps": 6,
}
MEASURED = ("at", "elapsed", "seconds", "memory", "host_memory")


def stopping_when(monkeypatch: pytest.MonkeyPatch, condition: Callable[[str, Any], bool]) -> None:
    """The run is asked to stop, once, as soon as it has written an event of that kind."""
    write, asked = EventWriter.write, []

    def watched(self: EventWriter, kind: str, **fields: Any) -> None:
        write(self, kind, **fields)
        if not asked and condition(kind, fields):
            asked.append(kind)
            ask(self.path.parent, "stop")

    monkeypatch.setattr(EventWriter, "write", watched)


def curve(run: Path) -> list[dict[str, Any]]:
    """Every trial, step, part of a training and network as it counts in the end, without what a clock measured."""
    found = [e for e in latest(read_events(run / "events.jsonl").events) if e["kind"] not in ("begin", "log", "end")]
    return [{k: v for k, v in event.items() if k not in MEASURED} for event in found]


def outcome(run: Path) -> dict[str, Any]:
    result = json.loads((run / "result.json").read_text())
    for row in (result, result["start"]):
        del row["seconds"]
    return {k: v for k, v in result.items() if not k.endswith("_seconds")}


def assert_same(run: Path, whole: Path) -> None:
    assert curve(run) == curve(whole)
    assert outcome(run) == outcome(whole)
    for name in ("learned.safetensors", "network.safetensors", "learned.json", "space.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody interrupted."""
    return quick(**LONG, run=tmp_path_factory.mktemp("whole") / "whole").run


def test_the_uninterrupted_run_is_whole(whole: Path) -> None:
    rows = curve(whole)
    assert [e["step"] for e in rows if e["kind"] == "step"] == list(range(1, 7))
    assert [e["trial"] for e in rows if e["kind"] == "trial"] == [1, 2, 3, 4]
    assert len({str(e["values"]) for e in rows if e["kind"] == "trial"}) == 4
    assert [e["network"] for e in rows if e["kind"] == "train"] == ["learned"] * 20 + ["start"] * 20
    assert len({e["outer_loss"] for e in rows if e["kind"] == "step"}) == 6


@pytest.mark.parametrize("phase", PHASES)
def test_stopped_and_resumed_is_the_uninterrupted_run(whole: Path, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    with monkeypatch.context() as patch:
        stopping_when(patch, PHASES[phase])
        with pytest.raises(InterruptedSearchError, match="stopped with a checkpoint; go on with: metanas resume first"):
            quick(**LONG, run="first")
    run = metanas.load_run("first")
    state = load(run.folder.checkpoints).tree["state"]
    assert state["phase"] == {"choose": "choose", "tune": "tune", "the last step": "tune"}.get(phase, "training")
    assert run.status == "interrupted" and not run.folder.file("result.json").exists()
    torch.manual_seed(99)
    result = run.resume()
    assert_same(result.run, whole)
    assert [e["resumed"] for e in events(result.run, "begin")] == [False, True]
    trained = sum(e["kind"] == "train" for e in read_events(result.run / "events.jsonl").events)
    assert trained == 40, "nothing that was finished is made again"


def test_a_renamed_run_goes_on(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a run is a run as well: its trials are in its journal, whatever it is called."""
    with monkeypatch.context() as patch:
        stopping_when(patch, PHASES["choose"])
        with pytest.raises(InterruptedSearchError):
            quick(**LONG, run="first")
    shutil.move("runs/first", "runs/second")
    result = metanas.resume("second")
    assert_same(result.run, whole)
    assert len(events(result.run, "trial")) == 4


def stopped(**arguments: Any) -> metanas.api.Run:
    """A run with a checkpoint after its first step."""

    def view(folder: Path) -> Any:
        ask(folder, "stop")
        return torch.no_grad()  # any context

    with pytest.raises(InterruptedSearchError):
        quick(run="first", view=view, **arguments)
    return metanas.load_run("first")


def change(run: metanas.api.Run, edit: Callable[[Any], None]) -> None:
    path = run.folder.file("recipe.json")
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def refusal(kind: type[Exception] = RunError, **handed: Any) -> str:
    with pytest.raises(kind) as caught:
        metanas.resume("first", **handed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_changed_recipe_is_refused_with_the_difference() -> None:
    run = stopped()
    change(run, lambda data: data["recipe"]["outer"].update(steps=9, lr=0.2))
    said = refusal()
    assert "was changed since its checkpoint: outer.lr was 0.1, is 0.2; outer.steps was 4, is 9; undo that" in said
    change(run, lambda data: data["recipe"]["outer"].update(steps=4, lr=0.1))
    change(run, lambda data: data["recipe"].update(checkpoint_seconds=0.0, threads=1))
    assert run.resume().test_score > 0.4, "what may change does not stop it"


@pytest.mark.parametrize(("clip", "said"), [(10.0, None), (3.0, "outer.clip was 10.0, is 3.0; undo that")])
def test_a_setting_that_the_run_did_not_know_worked_as_its_default(clip: float, said: str | None) -> None:
    run = stopped(settings={"outer.clip": clip})
    found = load(run.folder.checkpoints)
    del found.tree["identity"]["outer"]["clip"]
    save(run.folder.checkpoints, found.step, found.tree, found.event_offset)
    if said is None:
        assert run.resume().test_score > 0.4
    else:
        assert said in refusal()


def test_a_recipe_that_cannot_be_is_refused_with_its_file() -> None:
    run = stopped()
    change(run, lambda data: data["recipe"]["outer"].update(stpes=9))
    assert 'runs/first/recipe.json: outer.stpes: unknown key; did you mean "steps"?' in refusal(RecipeError)


def arrays(seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(200) % 10


def test_other_data_and_missing_objects_are_refused() -> None:
    data = arrays()
    objects = {"network": small(), "losses": hinge, "metric": top_two, "estimator": Unrolled(2)}
    stopped(data=data, learn=[pull()], **objects)
    handed = {**objects, "network": small(), "parts": [pull()], "data": data}
    for name in handed:
        said = refusal(**{key: value for key, value in handed.items() if key != name})
        assert said == f"runs/first was started with your own {name}; hand it over again to resume()"
    assert "was started with your own network, estimator, losses, metric, parts, data; hand it" in refusal()
    assert "the data are not those of runs/first: fingerprint was " in refusal(**{**handed, "data": arrays(1)})
    other = {**handed, "estimator": Unrolled(3)}
    assert "handed.estimator was Unrolled(steps=2, truncate=None, " in refusal(**other)
    result = metanas.resume("first", **handed)
    shutil.rmtree("runs/first")
    whole = quick(data=data, learn=[pull()], **{**objects, "network": small()}, run="first")
    assert all(torch.equal(x, whole.learned[name]) for name, x in result.learned.items())
    assert result.test_score == whole.test_score


def test_own_parts_alone_can_be_chosen_around() -> None:
    values = {"choose.values": {"inner.lr": [0.05, 0.1]}, "choose.trials": 2, "choose.steps": 1}
    result = quick(learn=[pull()], settings=values, steps=2)
    assert list(result.learned) == ["pull.log"] and result.chosen["inner.lr"] in (0.05, 0.1)


def test_a_finished_run_is_not_touched(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "runs/whole")

    def content() -> dict[Path, tuple[bytes, int]]:
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}

    before = content()
    result = metanas.resume("whole")
    assert content() == before and result.test_score == json.loads((whole / "result.json").read_text())["test_score"]


def test_what_only_the_other_kind_of_run_takes() -> None:
    stopped()
    with pytest.raises(TypeError, match=r"resume\(\) got an unexpected keyword argument 'netwrok'"):
        metanas.resume("first", netwrok=small())


def test_a_run_without_a_result_says_how_to_go_on() -> None:
    run = stopped()
    with pytest.raises(RunError, match="runs/first has no result yet; resume it: metanas resume first"):
        run.result()
    with pytest.raises(RunError, match="has no result yet"):
        metanas.export("first", "out")


def test_the_default_recipe_is_the_recipes() -> None:
    assert TuneRecipe().to_json() == read_tuning({}).to_json()
