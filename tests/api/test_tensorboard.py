"""Event files of TensorBoard, read back by TensorBoard itself."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import metanas
from metanas.api.tensorboard import TensorBoardLog
from metanas.errors import MissingDependencyError

QUICK = {
    "space.options": {"channels": 4, "cells": 1},
    "search.batch_size": 256,
    "search.warmup": 0,
    "evaluation.epochs": 2,
    "evaluation.random": 1,
    "logs": ["tensorboard"],
}
BEGUN = {"kind": "begin", "at": 5.0, "step": 0, "resumed": False}


def accumulated(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag."""
    found = accumulated(folder)
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def texts(folder: Path, tag: str) -> list[tuple[int, str]]:
    events = accumulated(folder).Tensors(f"{tag}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in events]


def written(folder: Path, *events: dict[str, Any]) -> Path:
    log = TensorBoardLog(folder)
    for event in events:
        log.write(event)
    log.close()
    return folder


def step(number: int, loss: float, **more: Any) -> dict[str, Any]:
    return {"kind": "step", "at": 10.0 + number, "step": number, "inner_loss": loss, **more}


def train(network: str, epoch: int, loss: float) -> dict[str, Any]:
    return {"kind": "train", "at": 50.0, "network": network, "epoch": epoch, "epochs": 9, "loss": loss, "score": 0.5}


def test_a_search_can_be_opened_as_it_is(tmp_path: Path) -> None:
    result = metanas.search("nasbench201", "digits", epochs=2, settings=QUICK, run=tmp_path / "first")
    events = metanas.load_run(result.run).events()
    steps, epochs = ([event for event in events if event["kind"] == kind] for kind in ("step", "epoch"))
    found = scalars(result.run / "tensorboard")
    assert found["loss/inner"] == [(e["step"], pytest.approx(e["inner_loss"])) for e in steps]
    assert found["loss/outer"] == [(e["step"], pytest.approx(e["outer_loss"])) for e in steps]
    for tag, field in {"structure/entropy": "entropy", "structure/gap": "gap", "score/outer": "outer_score"}.items():
        assert found[tag] == [(e["step"], pytest.approx(e[field])) for e in epochs]
    assert set(found) == {
        "loss/inner", "loss/outer", "gradient_norm/inner", "gradient_norm/outer", "skipped updates", "lr",
        "epoch/inner_loss", "epoch/outer_loss", "score/outer", "score/derived", "structure/entropy", "structure/gap",
    }  # fmt: skip
    trained = scalars(result.run / "tensorboard" / "derived")
    assert [place for place, _ in trained["train/loss"]] == [1, 2]
    assert trained["test/score"] == [(2, pytest.approx(result.test_score))]
    assert trained["network/parameters"] == [(2, result.found.parameters)]
    other = scalars(result.run / "tensorboard" / "random 1")
    assert other["test/score"] == [(2, pytest.approx(result.random[0].test_score))]
    assert texts(result.run / "tensorboard", "derived")[-1][1].startswith("    |")


def test_the_time_of_a_point_is_that_of_its_event(tmp_path: Path) -> None:
    found = accumulated(written(tmp_path / "tb", BEGUN, step(3, 0.5)))
    assert [(e.wall_time, e.step, e.value) for e in found.Scalars("loss/inner")] == [(13.0, 3, 0.5)]


def test_what_a_resumed_run_repeats_is_taken_back(tmp_path: Path) -> None:
    folder = tmp_path / "tb"
    written(folder, BEGUN, *(step(n, n / 2) for n in range(1, 8)))
    written(folder, BEGUN | {"resumed": True, "step": 4}, *(step(n, n / 4) for n in range(5, 9)))
    first, second = sorted(path.name.split(".")[3] for path in folder.iterdir())  # a file for each time at work
    assert first < second  # TensorBoard reads them by name, and a name has whole seconds
    assert scalars(folder)["loss/inner"] == [
        (1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0), (5, 1.25), (6, 1.5), (7, 1.75), (8, 2.0)
    ]  # fmt: skip


def test_a_resumed_training_takes_back_its_own_epochs_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tb"
    trials = [{"kind": "trial", "trial": n, "value": n / 2, "best": 0.5, "state": "complete"} for n in (1, 2, 3)]
    done = {"kind": "network", "network": "derived", "test_score": 0.75, "parameters": 100}
    written(folder, BEGUN, *trials, step(1, 0.5), step(2, 0.5), train("derived", 1, 4.0), done)
    written(folder, *(train("random 1", n, 2.0) for n in (1, 2, 3)))
    again = BEGUN | {"resumed": True, "step": 5}
    written(folder, again, train("random 1", 2, 1.0), train("random 1", 3, 0.5), train("random 1", 4, 0.25))
    assert scalars(folder)["loss/inner"] == [(1, 0.5), (2, 0.5)]
    assert scalars(folder / "trials")["trial/value"] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert scalars(folder / "derived") == {
        "train/loss": [(1, 4.0)], "train/score": [(1, 0.5)], "test/score": [(1, 0.75)],
        "network/parameters": [(1, 100.0)],
    }  # fmt: skip
    assert scalars(folder / "random 1")["train/loss"] == [(1, 2.0), (2, 1.0), (3, 0.5), (4, 0.25)]


def test_the_result_of_a_training_that_was_over_before_the_resume_takes_nothing_back(tmp_path: Path) -> None:
    folder = tmp_path / "tb"
    written(folder, BEGUN, train("derived", 1, 4.0), train("derived", 2, 2.0))
    written(folder, BEGUN | {"resumed": True, "step": 3}, {"kind": "network", "network": "derived", "test_score": 0.5})
    assert scalars(folder / "derived")["train/loss"] == [(1, 4.0), (2, 2.0)]


def test_numbers_that_are_not_finite_stay_what_they_are(tmp_path: Path) -> None:
    lost = {"kind": "step", "step": 1, "inner_loss": None, "inner_loss_is": "nan", "outer_loss": None}
    found = scalars(written(tmp_path / "tb", BEGUN, lost, step(2, 1e300), step(3, -1e300), step(4, 0.5)))
    assert math.isnan(found["loss/inner"][0][1])
    assert found["loss/inner"][1:] == [(2, math.inf), (3, -math.inf), (4, 0.5)]
    assert "loss/outer" not in found


def test_a_tuning_and_a_few_shot_run(tmp_path: Path) -> None:
    validated = {"kind": "validation", "step": 1, "accuracy": 0.5, "interval": 0.25, "loss": 1.5, "episodes": 10}
    outer = step(1, 0.5, residual=0.125, curvature=None, learned={"decay, mean": 0.25, "lost": None, "\x1b[2J": 2})
    found = scalars(written(tmp_path / "tb", BEGUN, outer, validated))
    assert found == {
        "loss/inner": [(1, 0.5)], "hypergradient/residual": [(1, 0.125)], "learned/decay, mean": [(1, 0.25)],
        "learned/␛[2J": [(1, 2.0)], "validation/accuracy": [(1, 0.5)], "validation/interval": [(1, 0.25)],
        "validation/loss": [(1, 1.5)],
    }  # fmt: skip


def test_evaluations_and_derived_architectures(tmp_path: Path) -> None:
    taken = [{"op": "conv"}, {"op": "conv"}, {"op": "pool", "in": ["a", "b"]}]
    events = [
        {"kind": "epoch", "epoch": n, "step": 10 * n, "entropy": 0.5, "architecture": architecture, "key": None}
        for n, architecture in enumerate(taken, start=1)
    ]
    values = [{"kind": "value", "step": n, "value": n / 4, "best": 0.5, "key": "|conv|", "epochs": 3} for n in (1, 2)]
    folder = written(tmp_path / "tb", BEGUN, *events, *values)
    assert texts(folder, "derived") == [(10, "    op  conv"), (30, "    op  pool\n    in  ['a', 'b']")]
    assert scalars(folder / "evaluations") == {
        "value/value": [(1, 0.25), (2, 0.5)], "value/best": [(1, 0.5), (2, 0.5)], "value/epochs": [(1, 3), (2, 3)]
    }  # fmt: skip


def test_lines_of_the_log_are_text_that_nothing_reads_as_markup(tmp_path: Path) -> None:
    said = {"kind": "log", "level": "warning", "message": "<script>\n# \x1b[31mred\u202e"}
    folder = written(tmp_path / "tb", BEGUN, step(7, 0.5), said, {"kind": "log"})
    assert texts(folder, "log") == [(7, "    warning: <script>\n    # ␛[31mred<U+202E>"), (7, "    info: ")]


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "never heard of", "step": 1},
        {"kind": "step"},
        {"kind": "step", "step": "two", "inner_loss": 0.5},
        {"kind": "train", "epoch": 1, "loss": 0.5},
        {"kind": "network", "test_score": 0.5},
        {"kind": "epoch", "step": 1, "entropy": "high", "architecture": []},
        {"kind": "trial", "trial": None, "value": 0.5},
        {},
    ],
)
def test_an_event_that_says_nothing_writes_nothing(tmp_path: Path, event: dict[str, Any]) -> None:
    folder = written(tmp_path / "tb", BEGUN, event)
    assert scalars(folder) == {} and [path.is_file() for path in folder.iterdir()] == [True]


def test_a_network_cannot_name_a_place_outside_the_folder(tmp_path: Path) -> None:
    written(tmp_path / "run" / "tb", BEGUN, train("../../up", 1, 0.5), train("..", 1, 0.5))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_dir()) == ["__", "______up", "run", "tb"]


def test_the_inspector_of_tensorboard_opens_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing import event_file_inspector

    folder = written(tmp_path / "runs" / "first" / "tensorboard", BEGUN, step(1, 0.5), train("derived", 1, 0.5))
    event_file_inspector.inspect(str(tmp_path / "runs"))
    said = capsys.readouterr().out
    assert f"Processing event files... (this can take a few minutes)\n{'=' * 70}" in said
    assert f"Found event files in:\n{folder}\n{folder / 'derived'}\n" in said
    assert f"These tags are in {folder}:\naudio -\nhistograms -\nimages -\nscalars\n   loss/inner\n" in said


def test_a_missing_package_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "metanas\[tensorboard\]"'):
        TensorBoardLog(tmp_path / "tb")
    assert not (tmp_path / "tb").exists()


def test_a_folder_that_cannot_be_written_to_is_an_error_at_once(tmp_path: Path) -> None:
    run = tmp_path / "first"
    log = TensorBoardLog(run / "tensorboard")
    run.write_text("a file is in the way")
    with pytest.raises(OSError):
        log.write(BEGUN)
    log.close()
