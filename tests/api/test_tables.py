"""Searches on the rows of a table: from a CSV file to a prediction, in classes and in quantities."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metanas
from metanas.errors import DataError, RecipeError, RunError, ShapeError
from metanas.space import NEEDED, Space, chain, one_of, op

LAYERS = {"linear": op("linear", width=8, activation="relu"), "skip": op("skip")}
SPACE = Space(
    chain(
        ("wide", op("linear", width=8, activation="relu")),
        ("body", one_of("body", LAYERS)),
        ("head", op("linear", width=NEEDED)),
    ),
    "rows",
)
Quick = Callable[..., Any]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """200 rows: y = 3 a - 2 b + 10, b missing now and then, a town that says nothing, and whether y is above 10."""
    draw = np.random.default_rng(0)
    lines = ["a,b,town,y,above"]
    for k in range(200):
        a, b = draw.normal(5, 2), draw.normal(8, 3)
        y = 3 * a - 2 * b + 10
        shown = "" if k % 20 == 7 else f"{b:.4f}"
        lines.append(f"{a:.4f},{shown},{('Ulm', 'Bonn')[k % 2]},{y:.4f},{'yes' if y > 10 else 'no'}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


LONGER = {"evaluation.epochs": 30, "evaluation.batch_size": 32, "evaluation.lr": 0.03}


def test_a_regression_from_the_file_to_a_prediction(quick: Quick, table: Path) -> None:
    result = quick(SPACE, table, target="y", settings={"data.drop": ["above"], **LONGER}, run="first")
    assert result.metric == "R2" and result.test_score > 0.8, "the rest of the variance is in the missing cells"
    assert result.classes == () and result.shape == (result.table.width,) and result.pixels == (0.0, 1.0)
    assert f"test R2 {result.test_score:.4f} (random networks {result.random_score:.4f})" in str(result)
    said = [e["message"] for e in metanas.load_run("first").events() if e["kind"] == "log"]
    assert said == ["y: numbers, so a regression"]

    rows = [{"a": 5.0, "b": 8.0, "town": "Ulm"}, {"a": "9", "b": "4", "town": "Hof"}]
    predicted = result.predict(rows)
    assert predicted == pytest.approx([9, 29], abs=8) and predicted[1] > predicted[0]
    Path("new.csv").write_text("town,b,a\nUlm,8.0,5.0\nHof,4,9\n")
    assert result.predict("new.csv") == predicted == metanas.load_run("first").result().predict(Path("new.csv"))

    spec = importlib.util.spec_from_file_location("exported", result.run / "network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.predict(module.read_rows("new.csv")) == pytest.approx(predicted, rel=1e-4)
    facts = json.loads((result.run / "architecture.json").read_text())
    assert [c["name"] for c in facts["table"]] == ["a", "b", "town"] and facts["scale"] == list(result.scale)

    data = metanas.load_data(table, target="y", drop=["above"])
    with torch.no_grad():
        outputs = result.network(data.test.inputs)[:, 0]
    left = (outputs - data.test.targets).square().sum()
    assert result.test_score == pytest.approx(
        1 - float(left / (data.test.targets - data.test.targets.mean()).square().sum())
    )


def test_classes(quick: Quick, table: Path) -> None:
    result = quick(SPACE, table, target="above", settings={"data.drop": ["y"], **LONGER})
    assert result.metric == "accuracy" and result.test_accuracy > 0.8 and result.classes == ("no", "yes")
    assert result.predict([{"a": 9, "b": 2, "town": "Ulm"}, {"a": 2, "b": 12, "town": None}]) == ["yes", "no"]
    with pytest.raises(DataError, match="row 1 has no column 'a'"):
        result.predict([{"b": 1}])


def test_resume_knows_the_task_and_the_target(quick: Quick, table: Path) -> None:
    settings = {"data.drop": ["above"], "checkpoint_seconds": 0}
    whole = quick(SPACE, table, target="y", settings=settings, run="whole")

    class StopError(Exception):
        pass

    def stop(*_: Any, **__: Any) -> Any:
        raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metanas.api.session.cost", stop)  # after the first training from scratch
        with pytest.raises(StopError):
            quick(SPACE, table, target="y", settings=settings, run="cut")
    again = metanas.resume("cut")
    assert (again.found, again.random) == (whole.found, whole.random)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metanas.api.session.cost", stop)
        with pytest.raises(StopError):
            quick(SPACE, table, target="y", settings=settings, run="changed")
    table.write_text(table.read_text().replace("Ulm", "Hof", 1))
    with pytest.raises(RunError, match="the data are not those of runs/changed: fingerprint was"):
        metanas.resume("changed")


def test_arrays_of_rows_and_of_images(quick: Quick, images: Any) -> None:
    x = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    result = quick(SPACE, (x, x @ torch.tensor([1.0, -2.0, 0.5])), settings={"data.task": "regression"})
    assert result.metric == "R2" and len(result.predict([{"x0": 1, "x1": 2, "x2": 3}])) == 1
    brightness = images[0].mean((1, 2, 3))
    result = quick(data=(images[0], brightness), settings={"data.task": "regression"})
    assert result.metric == "R2" and result.table is None
    with pytest.raises(DataError, match=re.escape("the network takes images (1, 6, 6), not rows")):
        result.predict([{"x0": 1}])


@pytest.mark.long
def test_the_shipped_space_and_what_its_file_says(table: Path) -> None:
    settings = {"data.drop": ["above"], "search.epochs": 2, "evaluation.epochs": 2, "evaluation.random": 0}
    result = metanas.search("mlp", table, target="y", settings=settings)
    recipe = metanas.load_run(result.run).recipe
    assert recipe["evaluation"]["weight_decay"] == 0.1 and recipe["evaluation"]["epochs"] == 2
    assert result.architecture.key.startswith(f"{result.architecture['depth'][0]}: ")
    paths = metanas.export(result, "out", formats=["python", "pt2"])
    rows = result.table.encode([{"a": 1, "b": 2, "town": "Ulm"}])
    with torch.no_grad():
        expected = result.network(rows)
        torch.testing.assert_close(torch.export.load(paths[1]).module()(rows), expected, rtol=1e-5, atol=1e-5)


def test_one_row_has_no_batch_statistics(table: Path) -> None:
    settings = {"data.drop": ["above"], "search.batch_size": 1, "evaluation.batch_size": 1}
    with pytest.raises(RecipeError, match=r"search.batch_size: one row has .*; evaluation.batch_size: one row has"):
        metanas.search("mlp", table, target="y", settings=settings)
    settings = {"data.drop": ["above"], "data.inner": 100, "data.outer": 1, "data.test": 50}
    with pytest.raises(DataError, match="outer has 1 row, which has no batch statistics; at least 2 are needed"):
        metanas.search("mlp", table, target="y", settings=settings)


def test_a_space_of_images_for_rows_says_what_would_fit(table: Path) -> None:
    with pytest.raises(ShapeError, match=r"for the rows of a table search mlp") as error:
        metanas.search("nasbench201", table, target="above")
    assert "\n" not in str(error.value) and not Path("runs").exists()


def test_a_space_of_rows_for_images_is_refused_before_a_run(images: Any) -> None:
    with pytest.raises(
        metanas.errors.ShapeError, match=r"rows gives \(1, 6, 2\) for inputs \(1, 6, 6\), the data need"
    ):
        metanas.search(SPACE, images)
    assert not Path("runs").exists()


def test_every_value_only_controller_and_refinement(quick: Quick, table: Path) -> None:
    settings = {"data.drop": ["above"], "search.budget": 2, "search.value_epochs": 1}
    assert quick(SPACE, table, target="y", controller="random", settings=settings).metric == "R2"
    refine = {"data.drop": ["above"], "search.refine": [{"candidates": 2, "epochs": 1}]}
    assert quick(SPACE, table, target="y", controller="darts", settings=refine).metric == "R2"
