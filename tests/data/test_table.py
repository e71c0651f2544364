"""Tables: a CSV file to cells, the rule of each column fitted on the inner split alone, and the faults of a file."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from metanas.data import Data, load_data
from metanas.data.csv_file import read_csv, rows_of
from metanas.data.table import Column, Heading, Table, encode, fit
from metanas.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file from its text, or from rows and a header."""

    def file(text: str, name: str = "table.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return file


def made(rows: int = 60, seed: int = 0) -> str:
    """Age (some missing), town, a constant, a number of the row, and a quantity that depends on the first two."""
    draw = np.random.default_rng(seed)
    lines = ["age,town,same,id,y"]
    for k in range(rows):
        age, town = round(float(draw.uniform(20, 80)), 1), ("Ulm", "Bonn", "Köln")[k % 3]
        lines.append(f"{'' if k % 7 == 3 else age},{town},1,{k},{age * 2 + k % 3 + 0.5}")
    return "\n".join(lines) + "\n"


def refused(*arguments: object, **more: object) -> str:
    with pytest.raises(DataError) as error:
        load_data(*arguments, **more)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_regression(write: Write) -> None:
    data = load_data(write(made()), target="y", drop=["id"])
    assert (data.name, data.task.name, data.classes, data.outputs) == ("table", "regression", (), 1)
    assert sum(data.sizes.values()) == 60 and data.augment == ()
    assert [c.name for c in data.table.columns] == ["age", "town"]
    assert data.shape == (data.table.width,) == (5,), "a number, whether it is missing, three towns"
    assert data.notes == (
        "y: numbers, so a regression", "column 'same' is the same in the whole inner split: left out",
    )  # fmt: skip
    assert data.inner.targets.dtype == data.inner.inputs.dtype == torch.float32
    assert float(data.inner.targets.mean()) == pytest.approx(0, abs=1e-6)
    assert float(data.inner.targets.std(correction=0)) == pytest.approx(1, rel=1e-5)


def test_every_rule_is_fitted_on_the_inner_split_alone(write: Write) -> None:
    """By hand, from the rows that are in it."""
    data = load_data(write(made()), target="y", drop=["id"])
    rows = rows_of(write(made()))
    mean, std = data.scale
    places = {round(float(row["y"]), 4): row for row in rows}
    inner = [places[round(float(y) * std + mean, 4)] for y in data.inner.targets.double()]
    ages = [float(row["age"]) for row in inner if row["age"]]
    column = data.table.columns[0]
    assert column.mean == pytest.approx(statistics.fmean(ages)) and column.std == pytest.approx(statistics.pstdev(ages))
    assert column.median == statistics.median_low(ages)
    assert mean == pytest.approx(statistics.fmean(float(row["y"]) for row in inner))
    for row, x in zip(inner, data.inner.inputs, strict=True):
        age = float(row["age"]) if row["age"] else column.median
        expected = [(age - column.mean) / column.std, float(not row["age"])]
        expected += [float(row["town"] == town) for town in ("Bonn", "Köln", "Ulm")]
        assert x.tolist() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(data.table.encode(inner), data.inner.inputs), "rows that come later are read by the same rule"


def test_words_and_missing_cells_that_the_inner_split_does_not_have() -> None:
    headings = [Heading("size"), Heading("town", ("Bonn", "Köln", "Ulm"))]
    fitted = torch.tensor([[1.0, 0.0], [3.0, 2.0], [2.0, 0.0]]).double()
    table, notes = fit(headings, fitted)
    assert notes == () and table.columns[1] == Column("town", ("Bonn", "Ulm")) and table.width == 3
    later = torch.tensor([[math.nan, 1.0], [2.0, math.nan], [2.0, 2.0]]).double()
    assert encode(table, headings, later).tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    rows = [{"size": None, "town": "Köln"}, {"size": 2, "town": " "}, {"size": "2.0", "town": "Ulm "}]
    assert torch.equal(table.encode(rows), encode(table, headings, later))
    assert table.encode([]).shape == (0, 3)
    assert Table.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_a_deviation_that_is_only_rounding_scales_nothing() -> None:
    values = torch.tensor([[1e9], [1e9 + 1e-6], [1e9]], dtype=torch.float64)
    table, _ = fit([Heading("a")], values)
    assert table.columns[0].std == 1.0


@pytest.mark.parametrize(
    ("cells", "task", "name", "classes"),
    [
        (["1", "2", "10"], None, "classification", ("1", "2", "10")),
        (["1.0", "2", "2.0"], None, "classification", ("1", "2")),
        (["yes", "no"], None, "classification", ("no", "yes")),
        (["a", "1"], None, "classification", ("1", "a")),
        (["0.5", "1"], None, "regression", ()),
        ([str(k) for k in range(21)], None, "regression", ()),
        (["1", "2", "10"], "regression", "regression", ()),
        (["0.5", "1.5"], "classification", "classification", ("0.5", "1.5")),
    ],
    ids=["few", "same", "words", "mixed", "parts", "many", "asked", "asked-classes"],
)
def test_the_target_says_which_task_it_is(
    write: Write, cells: list[str], task: str | None, name: str, classes: tuple[str, ...]
) -> None:
    lines = [f"{k}.5,{cell}" for k, cell in enumerate(cells * 15)]
    data = load_data(write("\n".join(["a,y", *lines])), target="y", task=task)
    assert (data.task.name, data.classes) == (name, classes)
    if classes:
        assert data.inner.targets.dtype == torch.long and set(data.inner.targets.tolist()) == set(range(len(classes)))


def test_separators_quotes_byte_order_mark_and_empty_lines(write: Write) -> None:
    rows = "\n\n".join(f'"a, {k % 3}";{k};{k % 2}' for k in range(60))
    data = load_data(write("\ufeffname; size;y\r\n" + rows, "x.tsv"), target="y")
    assert [c.name for c in data.table.columns] == ["name", "size"] and data.shape == (4,)
    assert data.table.columns[0].words == ("a, 0", "a, 1", "a, 2")


def test_splits_of_a_regression_are_stratified_by_tenths() -> None:
    y = torch.arange(200).double()[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    data = load_data((torch.arange(400.0).view(200, 2), y), task="regression")
    mean, std = data.scale
    tenths = ((data.test.targets.double() * std + mean).round() // 20).long()
    assert torch.bincount(tenths).tolist() == [4] * 10


def test_rows_of_arrays_and_their_classes() -> None:
    x = np.random.default_rng(0).normal(3, 2, (90, 4))
    data = load_data((x, np.arange(90) % 3))
    assert (data.shape, data.outputs, data.task.name) == ((4,), 3, "classification")
    assert [c.name for c in data.table.columns] == ["x0", "x1", "x2", "x3"]
    torch.testing.assert_close(data.inner.inputs.mean(0), torch.zeros(4), atol=1e-6, rtol=0)
    fixed = load_data({"train": (x[:60], np.arange(60) % 3), "test": (x[60:], np.arange(30) % 3)})
    assert fixed.sizes == {"inner": 30, "outer": 30, "test": 30}


def test_identical_rows_never_stand_in_two_splits(write: Write) -> None:
    lines = [f"{k // 3},{'ab'[k % 2]},{k % 2}" for k in range(120)]
    data = load_data(write("\n".join(["a,b,y", *lines])), target="y")
    seen = [{tuple(row) for row in split.inputs.tolist()} for split in (data.inner, data.outer, data.test)]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    x = torch.arange(60.0).view(30, 2)
    source = {"train": (x, torch.arange(30) % 2), "test": (x[:6], torch.arange(6) % 2)}
    assert refused(source).startswith("leakage between splits: 6 of 6 test rows are also in train; each may stand in")


def test_the_fingerprint_is_of_cells_names_and_words(write: Write) -> None:
    def of(text: str, **more: object) -> Data:
        return load_data(write(text), target="y", drop=["id"], **more)

    text = made()
    first = of(text).fingerprint
    assert first == of(text.replace(",1,", ",1.0,")).fingerprint, "the same numbers written in another way"
    changed = [text.replace("town", "city"), text.replace("Ulm", "Hof"), text.replace(",1,2,", ",2,2,")]
    assert len({first, *(of(other).fingerprint for other in changed), of(text, seed=1).fingerprint}) == 5


SMALL = "a,b,y\n" + "".join(f"{k},u,{k % 2}\n" for k in range(20))


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (SMALL, {}, "table.csv: which column is the target? give target (--target): 'a', 'b', 'y'"),
        (SMALL, {"target": "Y"}, "table.csv has no column 'Y'; allowed: a, b, y"),
        (SMALL, {"target": "y", "drop": ["aa"]}, "table.csv has no column 'aa'; did you mean \"a\"?"),
        (SMALL, {"target": "y", "drop": ["y"]}, "table.csv: 'y' is the target, so it cannot be dropped"),
        (SMALL, {"target": "y", "drop": ["a", "b"]}, "table.csv has no column beside the target 'y'"),
        (SMALL, {"target": "y", "drop": ["a"]}, "table.csv: no column but the target differs from row to row"),
        (SMALL, {"target": "y", "augment": [1]}, "augmentations are for images, got 1 for rows: leave them out"),
        (SMALL, {"target": "b", "task": "regression"}, "target of a regression must be finite numbers, 'b' holds 'u'"),
        (SMALL, {"target": "b"}, "the target 'b' is 'u' in all rows: at least 2 classes are needed"),
        (SMALL, {"target": "y", "task": "regresion"}, "got 'regresion'; did you mean \"regression\"?"),
        (SMALL, {"target": "a", "classes": ["u", "v"], "task": "regression"}, "a regression has no classes"),
        ("", {"target": "y"}, "table.csv holds 0 lines: a header and a row for each split are needed"),
        ("1,2\n3,4\n", {"target": "y"}, "table.csv: the first line must name every column, got '1', '2'"),
        ("a,,y\n3,4,1\n", {"target": "y"}, "the first line must name every column, got 'a', '', 'y'"),
        ("a,y,a\n3,4,1\n", {"target": "y"}, "columns must have different names, got twice: 'a'"),
        ("a,y\n3,4\n1\n5,6,7\n", {"target": "y"}, "2 of 3 rows do not have 2 cells as the header has, the first"),
        (SMALL + "7,u,\n8,u,NA\n", {"target": "y"}, "2 of 22 rows have no target 'y', the first is row 21: fill it in"),
        (
            SMALL + "7x,u,1\ninf,u,1\n",
            {"target": "y"},
            "column 'a' has 20 numbers and 2 that are none, as '7x' in row 21: mend these, or leave them empty",
        ),
        (SMALL + "1e999,u,1\n", {"target": "y"}, "column 'a' has numbers beyond 2e+308; mend them"),
        (
            "n,y\n" + "".join(f"name{k},{k % 2}\n" for k in range(30)),
            {"target": "y"},
            "column 'n' has 30 different words in 30 rows, which say nothing of new rows: drop it (data.drop)",
        ),
        (
            "".join("n1,n2,n3,n4,n5,y\n" if k < 0 else ",".join([f"w{k}"] * 5) + f",{k % 2}\n" for k in range(-1, 30)),
            {"target": "y"},
            "; and 2 more columns",
        ),
        ('a,y\n"3,4\n', {"target": "y"}, "cannot be read as CSV (unexpected end of data); save it as CSV in UTF-8"),
        (SMALL, {"target": "y", "size": 8}, "size is for folders and zips of images"),
    ],
    ids=[str(k) for k in range(23)],
)  # fmt: skip
def test_faults_of_a_file(write: Write, text: str, arguments: dict[str, object], said: str) -> None:
    assert said in refused(write(text), **arguments)


def test_files_that_are_no_text_or_not_there(write: Write, tmp_path: Path) -> None:
    write(SMALL)
    assert "cannot be read as CSV (not UTF-8)" in refused(write("a,y\nä,1\n", "b.csv", "latin-1"), target="y")
    said = refused(tmp_path / "tabel.csv", target="y")
    assert said.startswith("there is no data file") and 'did you mean "' in said and "table.csv" in said


def test_what_is_asked_of_other_sources() -> None:
    images = (torch.rand(60, 4, 4), torch.arange(60) % 2)
    assert refused(images, target="y") == "target and drop are for tables (.csv, .tsv): leave them out"
    assert refused("digits", drop=["y"]) == "target and drop are for tables (.csv, .tsv): leave them out"
    rows = torch.rand(60, 4)
    assert refused((rows, torch.rand(60))) == (
        'train labels must be integers, got 60 of type float32: convert them to int64, or ask for task="regression"'
    )
    assert refused((rows, torch.ones(60)), task="regression") == (
        "all 60 targets are 1.0: numbers that differ are needed"
    )
    assert refused((rows, torch.rand(60, 2)), task="regression") == (
        "train targets must be (N,), got (60, 2): give one number for each"
    )
    holes = rows.clone()
    holes[3, 1] = math.nan
    assert refused((holes, torch.arange(60) % 2)) == (
        "train has 1 NaN and 0 infinite values in 1 of 60 rows: remove these rows or replace the values"
    )
    strange = torch.rand(60)
    strange[:2] = math.inf
    assert refused((rows, strange), task="regression") == (
        "2 of 60 train targets are not finite: remove these or mend them"
    )
    data = load_data((rows, torch.rand(60)), task="regression")
    assert refused(data, task="regression").startswith("a Data is taken as it is, got task as well")


def test_rows_of_the_same_images() -> None:
    """A regression on images: the targets are normalised, the images as ever."""
    x, y = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60)
    data = load_data((x, y), task="regression")
    assert (data.shape, data.classes, data.outputs) == ((1, 4, 4), (), 1) and data.augment == ()
    assert data.inner.targets.dtype == torch.float32 and data.scale[1] > 0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"age": "3"}, "row 1 has no column 'town'; the network needs all columns it was trained on"),
        ({"age": "old", "town": "Ulm"}, "row 1, column 'age': 'old' is not a finite number; mend the cell"),
        ({"age": math.inf, "town": "Ulm"}, "row 1, column 'age': 'inf' is not a finite number"),
    ],
    ids=["column", "word", "inf"],
)
def test_rows_that_cannot_be_read(row: dict[str, object], said: str) -> None:
    table = Table((Column("age"), Column("town", ("Ulm",))))
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        table.encode([row])


def test_cells_of_a_file_by_hand(write: Write) -> None:
    cells = read_csv(write("a,b,y\n1,u,no\n,v,yes\n-2.5e1,NA,no\n"), "y")
    assert cells.headings == (Heading("a"), Heading("b", ("u", "v"))) and cells.classes == ("no", "yes")
    torch.testing.assert_close(
        cells.x, torch.tensor([[1.0, 0.0], [math.nan, 1.0], [-25.0, math.nan]]).double(), equal_nan=True
    )
    assert cells.y.tolist() == [0, 1, 0] and cells.notes == ("y: 2 different words, so a classification",)
