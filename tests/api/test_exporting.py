"""`metanas.export` of a run: what the model card tells of it, and what a lower precision is measured on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import metanas
from metanas.api import FewShotResult, Result
from metanas.api.telling import measure_of, story_of
from metanas.errors import ExportError, RunError
from metanas.exporters import Source, write
from metanas.run import RunFolder
from metanas.space import Architecture

QUICK = {"search.batch_size": 256, "search.warmup": 0, "evaluation.epochs": 1, "evaluation.random": 2}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    run = tmp_path_factory.mktemp("runs") / "first"
    return metanas.search("nasbench201", "digits", epochs=1, seed=3, settings=QUICK, run=run)


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> FewShotResult:
    settings = {"evaluation.episodes": 4, "evaluation.validation": 4}
    return metanas.fewshot("prototypes", steps=2, settings=settings, run=tmp_path_factory.mktemp("runs") / "few")


def test_a_story_holds_what_the_run_says(result: Result) -> None:
    story = story_of(RunFolder.open(result.run))
    assert story.method | {"Begun": "", "Seconds of the search": 0} == {
        "Controller": "drnas",
        "Estimator": "first_order",
        "Epochs": 1,
        "Epochs of the training from scratch": 1,
        "Seed": 3,
        "Seconds of the search": 0,
        "Device": "cpu",
        "Begun": "",
    }
    assert story.space_size == 5**6 and story.tested == 359 and story.metric == "accuracy"
    assert story.score == result.test_score and story.random == tuple(r.test_score for r in result.random)
    assert story.multiply_adds == result.found.multiply_adds
    assert story.data["Name"] == "digits" and story.data["Test split"] == 359


def test_the_measure_is_the_runs_own_test(result: Result) -> None:
    measure = measure_of(RunFolder.open(result.run), None)
    assert measure is not None
    assert measure(result.network) == pytest.approx(result.test_score)
    zeros = (metanas.load_data("digits", seed=3).test.targets == 0).double().mean().item()
    assert measure(lambda x: torch.eye(10)[torch.zeros(len(x), dtype=torch.long)]) == pytest.approx(zeros)


def test_half_precision_says_what_it_costs_on_the_test_split(result: Result, tmp_path: Path) -> None:
    formats = ["json", "safetensors", "card"]
    paths = metanas.export(result, tmp_path, formats, precision="float16", verify="here")
    losses = json.loads(paths[0].read_text())["losses"]
    assert losses["safetensors"]["score"] == pytest.approx(result.test_score)
    assert abs(losses["safetensors"]["reduced"] - result.test_score) < 0.02
    assert f"test {result.test_score:.4f} ->" in paths[2].read_text()
    assert paths.losses["safetensors"].score == pytest.approx(result.test_score)
    full = metanas.export(result, tmp_path / "full", ["safetensors"], verify="here")[0].stat().st_size
    assert paths[1].stat().st_size < 0.6 * full


def test_other_data_than_the_runs_are_refused(result: Result, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = (rng.random((60, 1, 8, 8), dtype=np.float32), np.arange(60) % 10)
    with pytest.raises(RunError, match="the data are not those of"):
        metanas.export(result, tmp_path, ["safetensors"], precision="float16", data=data)
    assert not (tmp_path / "network.safetensors").exists()


def test_data_that_are_gone_leave_random_inputs(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    rng = np.random.default_rng(0)
    np.savez(file, x=rng.random((80, 1, 8, 8), dtype=np.float32), y=np.arange(80) % 2)
    settings = {**QUICK, "evaluation.random": 0, "search.batch_size": 16}
    found = metanas.search("nasbench201", file, epochs=1, settings=settings, run=tmp_path / "run")
    moved = file.rename(tmp_path / "moved.npz")
    paths = metanas.export(found, tmp_path / "gone", ["json", "safetensors"], precision="bfloat16", verify="here")
    assert json.loads(paths[0].read_text())["losses"]["safetensors"]["score"] is None
    paths = metanas.export(
        found, tmp_path / "given", ["json", "safetensors"], precision="bfloat16", verify="here", data=str(moved)
    )
    assert json.loads(paths[0].read_text())["losses"]["safetensors"]["score"] == pytest.approx(found.test_score)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"precision": "float61"}, "unknown precision 'float61'; did you mean \"float16\"?"),
        ({"verify": "twice"}, "verify must be one of here, process, got 'twice'"),
        ({"precision": "int8"}, 'int8 is for "onnx" only'),
    ],
    ids=["precision", "verify", "int8"],
)
def test_wrong_words_are_refused_before_anything_is_written(
    result: Result, tmp_path: Path, more: dict[str, str], message: str
) -> None:
    with pytest.raises(ExportError) as caught:
        metanas.export(result, tmp_path / "out", **more)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_tuning_tells_what_was_learned(tmp_path: Path) -> None:
    settings = {"evaluation.steps": 5, "outer.steps": 2}
    tuned = metanas.tune(None, "digits", learn=["decay"], settings=settings, run=tmp_path / "run")
    paths = metanas.export(tuned, tmp_path / "out", ["card"], verify="here")
    page = paths[0].read_text()
    assert "- Learned by hypergradients: `decay`" in page and "- Outer steps: 2" in page
    assert [path.name for path in paths] == ["network.md", "learned.safetensors", "learned.json"]
    assert "parameters, trained with what a tuning learned." in page and "architecture search" not in page
    assert f"- The same network, trained with the values at the start: {tuned.start_score:.2%}" in page
    assert "looked at once for this network and the one beside it" in page
    assert "FLOPs (2 to a multiply-add)" in page and "- Architecture:" not in page


def test_the_card_says_what_the_weights_were_trained_on(result: Result, tmp_path: Path) -> None:
    (path,) = metanas.export(result, tmp_path, "card", verify="here")
    page = path.read_text()
    assert "- Weights were trained on: `inner and outer split, 1438 examples`" in page
    assert "looked at once for this network and each of the 2 beside it" in page


def test_a_transfers_card_tells_of_no_search(result: Result, tmp_path: Path) -> None:
    data = (np.random.default_rng(0).random((60, 1, 8, 8), dtype=np.float32), np.arange(60) % 2)
    settings = {"evaluation.epochs": 1}
    moved = result.transfer(data, how="frozen", settings=settings, run=tmp_path / "moved")
    (path,) = metanas.export(moved, tmp_path / "out", ["card"], verify="here")
    page = path.read_text()
    assert "parameters, carried over from another run, with a new head." in page
    assert "- Epochs of the training: 1" in page
    assert "- Carried from: `first`" in page and str(result.run.parent) not in page, "no path of this machine"
    assert "Controller" not in page and "Seconds of the search" not in page
    assert "The same architecture, trained from nothing" in page


def test_an_export_needs_the_run_for_a_card_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METANAS_RUNS", "runs")
    settings = {**QUICK, "evaluation.random": 0}
    found = metanas.search("nasbench201", "digits", epochs=1, settings=settings, run="first")
    assert found.run == tmp_path / "runs" / "first"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(metanas.export(found, "with", ["json", "card"], verify="here")) == 2
    found.run.rename(tmp_path / "gone")
    assert len(metanas.export(found, "without", "json", verify="here")) == 1
    with pytest.raises(RunError, match="there is no run"):
        metanas.export(found, "card", "card", verify="here")


@pytest.mark.long
def test_all_is_all_that_have_the_precision(result: Result, tmp_path: Path) -> None:
    paths = metanas.export(result, tmp_path, "all", precision="int8", verify="here")
    assert [path.suffix for path in paths] == [".json", ".onnx", ".svg", ".dot", ".mmd", ".md"]


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="export takes a result, the name of a run or its Path, got int"):
        metanas.export(3, tmp_path)  # type: ignore[arg-type]  # on purpose
    (tmp_path / "file").touch()
    network = metanas.build("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", classes=2, channels=2, cells=1)
    source = Source(Architecture({}), "nasbench201", ("a", "b"))
    with pytest.raises(ExportError, match="file is a file; choose a folder"):
        write(network, source, folder=tmp_path / "file")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"precision": "float17"}, "unknown precision 'float17'"),
        ({"precision": "float16"}, "a learner is written in float32"),
        ({"data": "digits"}, "a learner is written in float32 and not measured"),
        ({"verify": "twice"}, "verify must be one of here, process"),
    ],
    ids=["unknown", "half", "data", "verify"],
)
def test_a_learner_takes_no_option_silently(
    more: dict[str, str], said: str, learner: FewShotResult, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=said):
        metanas.export(learner, tmp_path / "out", **more)
    assert [path.name for path in metanas.export(learner, tmp_path / "all", "all")] == [
        "learned.safetensors",
        "learned.json",
    ]


def test_a_classifiers_card_says_that_it_is_untested(learner: FewShotResult, tmp_path: Path) -> None:
    images = torch.rand(6, 1, 8, 8)
    classifier = learner.learner.adapt(images, ["a", "a", "b", "b", "c", "c"])
    page = classifier.export(tmp_path, ["card"], verify="here")[0].read_text()
    assert "parameters, adapted to its classes by a few-shot learner." in page
    assert "- Learned from: `2 examples of each of 3 classes`" in page
    assert "This network was not tested" in page and "FLOPs" in page
