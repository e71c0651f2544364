"""Few-shot runs that are stopped and resumed: bit for bit the run that nobody stopped; what is refused on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import metanas
from metanas.errors import CheckpointError, InterruptedSearchError, RecipeError, RunError
from metanas.run import EventWriter, ask, latest, read_events
from metanas.run.checkpoints import load, save

TINY = {
    "network.options": {"width": 4, "depth": 2},
    "network.embedding": 6,
    "episodes.ways": 2,
    "episodes.queries": 3,
    "episodes.tasks": 2,
    "outer.steps": 4,
    "evaluation.ways": 2,
    "evaluation.queries": 4,
    "evaluation.validation": 4,
    "evaluation.episodes": 12,
    "evaluation.every": 2,
    "evaluation.pooled": 2,
    "threads": 1,
    "device": "cpu",
    "checkpoint_seconds": 1000.0,
}
SEARCHED = {"network.options": {"width": 3, "depth": 2, "search": True}, "structure.steps": 3}
KINDS: dict[str, dict[str, Any]] = {
    "prototypical": {},
    "turns": {"learner.options": {"loss": "turns"}, "episodes.tasks": 1, "episodes.ways": 4},
    "maml": {"learner": "maml", "learner.options": {"steps": 2}},
    "meta_sgd": {"learner": "meta_sgd", "learner.options": {"lr": 0.5}},
    "shared": {"learner": "maml", "learner.options": {"steps": 1}, "structure.mode": "shared", **SEARCHED},
    "adapts": {"learner": "maml", "learner.options": {"steps": 1}, "structure.mode": "adapts", **SEARCHED},
    "told": {"learner": "zero_shot", "episodes.tasks": 1},
}
TOLD = {str(k): [float(k % 2), float(k > 4), k / 9] for k in range(10)}
"""Of the digits."""


def quick(*arguments: Any, kind: str = "prototypical", **named: Any) -> Any:
    """`metanas.fewshot` with `settings` on top of TINY and those of a kind."""
    own = dict(KINDS[kind])
    named.setdefault("learner", own.pop("learner", None))
    return metanas.fewshot(*arguments, **{**named, "settings": {**TINY, **own, **named.get("settings", {})}})


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [e for e in read_events(run / "events.jsonl").events if e["kind"] == kind]


def own_network(outputs: int = 2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 8), nn.Linear(8, outputs)
        )


def arrays(seed: int = 0, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Bytes as images, (examples, 8, 8), of classes that differ in where they are bright."""
    draw = np.random.default_rng(seed)
    labels = np.arange(classes * 12) % classes
    patterns = draw.integers(0, 200, (classes, 8, 8))
    return (patterns[labels] + draw.integers(0, 56, (len(labels), 8, 8))).astype(np.uint8), labels


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


PHASES = {
    "the first step": lambda kind, row: kind == "step" and row["step"] == 1,
    "before a validation": lambda kind, row: kind == "step" and row["step"] == 5,
    "at a validation": lambda kind, row: kind == "validation" and row["step"] == 6,
    "the last step": lambda kind, row: kind == "step" and row["step"] == 9,
}  # fmt: skip
LONG = {
    "shared": {"kind": "shared", "settings": {"outer.steps": 6, "evaluation.every": 3, "episodes.affine": 0.5}},
    "rates": {"kind": "meta_sgd", "settings": {"outer.steps": 9, "evaluation.every": 3, "data.rotations": True}},
    "adapts": {"kind": "adapts", "settings": {"outer.steps": 9, "evaluation.every": 3}},
    "turns": {"kind": "turns", "settings": {"outer.steps": 9, "evaluation.every": 3}},
    "told": {"kind": "told", "descriptions": TOLD, "settings": {"outer.steps": 9, "evaluation.every": 3}},
}  # fmt: skip
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
    """Every step, validation and network as it counts in the end, without what a clock measured."""
    found = [e for e in latest(read_events(run / "events.jsonl").events) if e["kind"] not in ("begin", "log", "end")]
    return [{k: v for k, v in event.items() if k not in MEASURED} for event in found]


def outcome(run: Path) -> dict[str, Any]:
    result = json.loads((run / "result.json").read_text())
    return {k: v for k, v in result.items() if not k.endswith("seconds")}


def assert_same(run: Path, whole: Path) -> None:
    assert curve(run) == curve(whole)
    assert outcome(run) == outcome(whole)
    for name in ("learned.safetensors", "learned.json", "space.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The runs that nobody interrupted."""
    found: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in found:
            found[name] = quick(**LONG[name], run=tmp_path_factory.mktemp("whole") / "whole").run
        return found[name]

    return of


@pytest.mark.parametrize(
    ("name", "phase"),
    [*(("shared", phase) for phase in PHASES), ("rates", "before a validation"), ("adapts", "at a validation"),
     ("turns", "before a validation"), ("turns", "the last step"), ("told", "at a validation"),
     ("told", "the last step")],
)  # fmt: skip
def test_stopped_and_resumed_is_the_uninterrupted_run(
    wholes: Any, monkeypatch: pytest.MonkeyPatch, name: str, phase: str
) -> None:
    with monkeypatch.context() as patch:
        stopping_when(patch, PHASES[phase])
        with pytest.raises(InterruptedSearchError, match="stopped with a checkpoint; go on with: metanas resume first"):
            quick(**LONG[name], run="first")
    run = metanas.load_run("first")
    state = load(run.folder.checkpoints).tree["state"]
    first = name == "shared" and phase == "the first step"
    assert state["phase"] == ("structure" if first else "learn")
    assert run.status == "interrupted" and not run.folder.file("result.json").exists()
    torch.manual_seed(99)
    result = run.resume(**({"descriptions": TOLD} if name == "told" else {}))
    assert_same(result.run, wholes(name))
    assert [e["resumed"] for e in events(result.run, "begin")] == [False, True]
    steps = [e["step"] for e in events(result.run, "step")]
    assert steps == list(range(1, 10)), "nothing that was finished is made again"


def stopped(**arguments: Any) -> metanas.api.Run:
    """A run with a checkpoint after its first step."""

    def view(folder: Path) -> Any:
        ask(folder, "stop")
        return torch.no_grad()  # any context

    with pytest.raises(InterruptedSearchError):
        quick(run="first", view=view, **arguments)
    return metanas.load_run("first")


def refusal(kind: type[Exception] = RunError, **handed: Any) -> str:
    with pytest.raises(kind) as caught:
        metanas.resume("first", **handed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_changed_recipe_is_refused_with_the_difference() -> None:
    run = stopped()
    recipe = run.folder.file("recipe.json")
    edit(recipe, lambda data: data["recipe"]["outer"].update(steps=9, lr=0.2))
    assert (
        "was changed since its checkpoint: outer.lr was 0.003, is 0.2; outer.steps was 4, is 9; undo that" in refusal()
    )
    edit(recipe, lambda data: data["recipe"]["outer"].update(steps=4, lr=0.003))
    edit(recipe, lambda data: data["recipe"].update(checkpoint_seconds=0.0))
    assert run.resume().accuracy > 0.3, "what may change does not stop it"


def test_a_recipe_that_cannot_be_is_refused_with_its_file() -> None:
    run = stopped()
    edit(run.folder.file("recipe.json"), lambda data: data["recipe"]["episodes"].update(wayz=9))
    assert 'runs/first/recipe.json: episodes.wayz: unknown key; did you mean "ways"?' in refusal(RecipeError)


def test_other_data_and_missing_objects_are_refused() -> None:
    data = arrays(classes=10)
    arguments = {"data": data, "network": own_network(), "learner": "maml", "kind": "maml"}
    stopped(**arguments)
    assert refusal() == "runs/first was started with your own network, data; hand it over again to resume()"
    assert refusal(data=data) == "runs/first was started with your own network; hand it over again to resume()"
    assert refusal(network=own_network()) == "runs/first was started with your own data; hand it over again to resume()"
    other = refusal(network=own_network(), data=arrays(1, classes=10))
    assert "the data are not those of runs/first: fingerprint was " in other
    assert "is a few-shot run, which takes no losses; leave it out" in refusal(losses=abs)
    result = metanas.resume("first", network=own_network(), data=data)
    shutil.rmtree("runs/first")
    whole = quick(**{**arguments, "network": own_network()}, run="first")
    assert str(result) == str(whole)
    weights = whole.learner.outer["weights"]
    assert all(torch.equal(x, weights[name]) for name, x in result.learner.outer["weights"].items())


def test_a_run_without_a_result_says_how_to_go_on() -> None:
    run = stopped()
    with pytest.raises(RunError, match="runs/first has no result yet; resume it: metanas resume first"):
        run.result()
    with pytest.raises(RunError, match="resume it"):
        metanas.export("first", "out")
    with pytest.raises(RunError, match=r"there is no learner in runs/first: learned\.json is missing"):
        metanas.load_learner("runs/first")
    assert not Path("out").exists()


def test_a_checkpoint_of_another_kind_is_refused() -> None:
    run = stopped()
    found = load(run.folder.checkpoints)
    found.tree["state"]["phase"] = "tune"
    save(run.folder.checkpoints, found.step, found.tree, found.event_offset)
    assert "the checkpoint is one of another version than" in refusal(CheckpointError)
