"""A run goes on only as what it was: changed files and other objects are refused, with the difference."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import metanas
from metanas.api import Run
from metanas.bilevel import FirstOrder
from metanas.controllers import Darts
from metanas.errors import CheckpointError, InterruptedSearchError, MetanasError, RunError
from metanas.network import OPS
from metanas.run import ask
from metanas.run.checkpoints import load, save

Quick = Callable[..., Any]


@contextmanager
def stopping(folder: Path) -> Iterator[None]:
    """A view that asks the run to stop as soon as it has begun."""
    ask(folder, "stop")
    yield


def smooth(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs, targets, label_smoothing=0.1)


class Mine(Darts):
    pass


@pytest.fixture
def stopped(quick: Quick) -> Callable[..., Run]:
    """A run with a checkpoint after its first step."""

    def start(name: str = "first", **arguments: Any) -> Run:
        with pytest.raises(InterruptedSearchError):
            quick(run=name, view=stopping, **arguments)
        return metanas.load_run(name)

    return start


def change(run: Run, name: str, edit: Callable[[Any], None]) -> None:
    path = run.folder.file(name)
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def content(run: Run) -> dict[Path, bytes]:
    """Every file but the lock, and the request that the next writer takes back."""
    files = (p for p in run.path.rglob("*") if p.is_file() and p.name not in ("lock", "request.stop"))
    return {path: path.read_bytes() for path in files}


def refusal(run: Run, images: Any, **handed: Any) -> str:
    """What is said, in one line; the run stays as it is."""
    before = content(run)
    with pytest.raises(RunError) as caught:
        run.resume(**{"data": images, **handed})
    assert "\n" not in str(caught.value)
    assert content(run) == before
    return str(caught.value)


def test_nothing_changed(stopped: Any, images: Any, quick: Quick) -> None:
    run = stopped()
    assert run.status == "interrupted"
    result = run.resume(data=images)
    straight = quick(run="straight")
    assert result.found == straight.found
    assert all(
        torch.equal(a, b) for a, b in zip(result.network.parameters(), straight.network.parameters(), strict=True)
    )


def test_a_changed_recipe(stopped: Any, images: Any) -> None:
    run = stopped()
    change(run, "recipe.json", lambda data: data["recipe"]["search"].update(epochs=5, lr=0.2))
    said = refusal(run, images)
    assert "was changed since its checkpoint: search.epochs was 2, is 5; search.lr was 0.1, is 0.2; undo that" in said


def test_a_run_that_did_not_know_a_setting_goes_on(stopped: Any, images: Any) -> None:
    run = stopped()
    found = load(run.folder.checkpoints)
    search = found.tree["identity"]["search"]
    del search["guard"]["then"], search["capture"], found.tree["identity"]["evaluation"]["capture"]
    save(run.folder.checkpoints, found.step, found.tree, found.event_offset)
    assert run.resume(data=images).test_score > 0


@pytest.mark.parametrize("key", ["threads", "checkpoint_seconds"])
def test_what_may_change(stopped: Any, images: Any, key: str) -> None:
    run = stopped()
    change(run, "recipe.json", lambda data: data["recipe"].update({key: 2}))
    assert run.resume(data=images).found


def test_a_changed_space(stopped: Any, images: Any) -> None:
    run = stopped()

    def wider(data: Any) -> None:
        text = json.dumps(data["graph"])
        data["graph"] = json.loads(text.replace('"kernel": 3', '"kernel": 5'))

    def other_labels(data: Any) -> None:
        data["graph"] = json.loads(json.dumps(data["graph"]).replace('"skip", {', '"skip2", {'))

    change(run, "space.json", wider)
    assert "space.json.graph was " in refusal(run, images)
    change(run, "space.json", other_labels)
    assert 'space.json.choices.body.candidates was ["conv","skip"], is ["conv","skip2"]' in refusal(run, images)


def test_a_space_or_recipe_that_cannot_be(stopped: Any, images: Any) -> None:
    run = stopped()
    change(run, "recipe.json", lambda data: data["recipe"]["search"].update(epohcs=5))
    with pytest.raises(MetanasError, match=r'recipe\.json: search\.epohcs: unknown key; did you mean "epochs"'):
        run.resume(data=images)
    change(run, "recipe.json", lambda data: data.pop("recipe"))
    assert "recipe.json is damaged: 'recipe' is missing" in refusal(run, images)


def test_other_data(stopped: Any, images: Any) -> None:
    run = stopped()
    labels = images[1].roll(1)
    said = refusal(run, (images[0], labels))
    assert "the data are not those of runs/first: fingerprint was " in said and "give the same data" in said
    assert "shape was [1,6,6], is [1,8,8]" in refusal(run, "digits")
    other = metanas.load_data(images)
    assert "augment" in refusal(run, replace(other, augment=(metanas.data.Flip(),)))
    change(run, "recipe.json", lambda data: data["data"].update(fingerprint="0" * 64))
    assert "fingerprint was 0000" in refusal(run, images)


def test_the_same_data_in_another_form(stopped: Any, images: Any) -> None:
    run = stopped()
    assert run.resume(data=(images[0].numpy(), images[1].tolist())).found


def test_what_was_handed_over_is_missing(stopped: Any, images: Any) -> None:
    run = stopped(controller=Mine(), loss=smooth, estimator=FirstOrder(0), ops={**OPS, "mine": OPS["skip"]})
    said = refusal(run, None)
    assert said == (
        "runs/first was started with your own controller, estimator, loss, ops, data; hand it over again to resume()"
    )
    whole = {"controller": Mine(), "loss": smooth, "estimator": FirstOrder(0), "ops": {**OPS, "mine": OPS["skip"]}}
    assert run.resume(data=images, **whole).found


@pytest.mark.parametrize(
    ("handed", "said"),
    [
        ({"controller": Mine(lr=0.5)}, "handed.controller was "),
        ({"loss": F.cross_entropy}, "handed.loss was smooth, is cross_entropy"),
        ({"metric": F.mse_loss}, "handed.metric is new"),
        ({"estimator": FirstOrder(0)}, "handed.estimator is new"),
        ({"ops": OPS}, "handed.ops is new"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_other_objects(stopped: Any, images: Any, handed: dict[str, Any], said: str) -> None:
    run = stopped(controller=Mine(), loss=smooth)
    assert said in refusal(run, images, **({"controller": Mine(), "loss": smooth} | handed))


def test_two_trainers(stopped: Any, images: Any) -> None:
    run = stopped()
    with run.folder.lock():
        assert f"runs/first is in use by pid {os.getpid()} on " in refusal(run, images)


def test_a_copied_run_goes_on_in_its_new_place(stopped: Any, images: Any, quick: Quick) -> None:
    run = stopped()
    shutil.copytree(run.path, "runs/copy")
    shutil.move("runs/copy", "elsewhere")
    result = metanas.load_run(Path("elsewhere")).resume(data=images)
    assert result.run == Path("elsewhere").absolute() and result.found == quick(run="straight").found


def test_no_checkpoint_can_be_used(stopped: Any, images: Any) -> None:
    run = stopped()
    for path in run.folder.checkpoints.iterdir():
        path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"no usable checkpoint in runs/first/checkpoints: .*; start a new run"):
        run.resume(data=images)


def test_another_number_of_threads_is_said(stopped: Any, images: Any) -> None:
    run = stopped()
    change(run, "recipe.json", lambda data: data["recipe"].update(threads=2))
    change(run, "recipe.json", lambda data: data["versions"].update(torch="2.11.0"))
    run.resume(data=images)
    said = [e["message"] for e in run.events() if e["kind"] == "log"]
    assert "threads was 1, is 2: the result need not be bit-exact" in said
    assert f"torch was 2.11.0, is {torch.__version__}: the result need not be bit-exact" in said


def test_a_run_without_a_result(stopped: Any) -> None:
    run = stopped()
    with pytest.raises(
        RunError, match=r"runs/first has no result yet \(interrupted\); resume it: metanas resume first"
    ):
        run.result()
    with pytest.raises(RunError, match="has no result yet"):
        metanas.export("first", "out")


def test_a_damaged_result(quick: Quick) -> None:
    run = metanas.load_run(quick(epochs=1).run)
    change(run, "result.json", lambda data: data.pop("test_loss"))
    with pytest.raises(RunError, match=r"result\.json is damaged: KeyError\('test_loss'\)"):
        run.result()
    run.folder.file("network.safetensors").unlink()
    change(run, "result.json", lambda data: data.update(test_loss=1.0))
    with pytest.raises(CheckpointError, match="cannot read"):
        run.result()
