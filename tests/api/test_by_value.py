"""Searches by values: a table or a function in place of trainings, in a run folder, stopped and gone on with."""

from __future__ import annotations

import contextlib
import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import metanas
from metanas.controllers import Darts, RandomSearch, RegularisedEvolution
from metanas.errors import DataError, ExportError, InterruptedSearchError, RecipeError, RunError
from metanas.loop import ValueSearch
from metanas.recipe import ValueRecipe, read_values
from metanas.run import ask, read_events
from metanas.space import Architecture, Space, chain, one_of, op

LABELS = ("none", "skip", "conv")
SECONDS = {"train": 0.5, "eval": 1.0}


@pytest.fixture
def space() -> Space:
    """Three choices of three: 27 architectures."""
    contents = {"none": op("none"), "skip": op("skip"), "conv": op("conv", width=2)}
    return Space(chain(*((f"n{k}", one_of(f"n{k}", contents)) for k in range(3))), "small", template="{n0}|{n1}|{n2}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A table in which more convolutions are better on validation, and every other row is better in the test."""
    rows = ["arch,valid,test,train,eval"]
    for k, labels in enumerate(itertools.product(LABELS, repeat=3)):
        valid = sum(LABELS.index(label) * 3**n for n, label in enumerate(labels))
        rows.append(f"{'|'.join(labels)},{valid},{100 + k},{10 + k},1")
    path = tmp_path / "small.csv.gz"
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    return path


def search(space: Space, file: Any, **changes: Any) -> metanas.api.ValueResult:
    given = {"choose": "valid", "report": ["test"], "charge": SECONDS, "budget": 30, "seed": 3, "run": "first"}
    return metanas.search_by_value(space, file, **{**given, **changes})


@contextlib.contextmanager
def stopping(folder: Path) -> Iterator[None]:
    ask(folder, "stop")
    yield


def test_it_is_the_search_without_a_folder(runs: Path, space: Space, file: Path) -> None:
    result = search(space, file)
    table = metanas.evaluation.tables.ArchitectureTable.read(file, key="arch", test=["test"])  # type: ignore[attr-defined]
    objective = table.objective("valid", seconds=lambda row: row["train"] / 2 + row["eval"])
    plain = ValueSearch(space, objective, RegularisedEvolution(), budget=30, seed=3)
    values = [e.value for e in plain.steps()]
    assert (result.architecture, result.value) == (plain.derive(), max(values))
    assert result.spent == objective.spent and result.evaluations == 30
    assert result.report == {"test": table.test(result.architecture, "test")}
    events = read_events(runs / "first/events.jsonl").events
    assert [e["value"] for e in events if e["kind"] == "value"] == values
    assert str(result).endswith(f"after 30 evaluations, test {result.report['test']:.6g}")
    again = metanas.load_run("first").result()
    assert isinstance(again, metanas.api.ValueResult) and str(again) == str(result)


def test_charged_seconds_end_it(runs: Path, space: Space, file: Path) -> None:
    result = search(space, file, seconds=60.0, budget=1000)
    assert result.spent is not None and 60 <= result.spent < 60 + 36 / 2 + 1 and result.evaluations < 30
    assert search(space, file, charge=None, run="free").spent is None


def test_stopped_and_gone_on_with_it_is_the_same(runs: Path, space: Space, file: Path) -> None:
    whole = search(space, file)
    with pytest.raises(InterruptedSearchError):
        search(space, file, run="cut", view=stopping)
    assert metanas.load_run("cut").status == "interrupted"
    result = metanas.resume("cut")
    assert str(result) == str(whole) and result.spent == whole.spent  # type: ignore[union-attr]
    assert str(metanas.resume("cut")) == str(whole)  # finished: given as it is


def test_a_function_of_ones_own_is_handed_over_again(runs: Path, space: Space) -> None:
    def convolutions(architecture: Architecture) -> float:
        return float(sum(label == ("conv",) for label in architecture.values()))

    result = metanas.search_by_value(space, convolutions, controller=RandomSearch(), budget=200, run="whole")
    assert (result.value, result.report, result.spent) == (3.0, {}, None)
    with pytest.raises(InterruptedSearchError):
        metanas.search_by_value(space, convolutions, budget=20, run="cut", view=stopping)
    with pytest.raises(RunError, match="was started with your own objective; hand it over again to resume"):
        metanas.resume("cut")
    with pytest.raises(RunError, match="takes no network; leave it out"):
        metanas.resume("cut", network=None)
    found = metanas.resume("cut", objective=convolutions)
    assert isinstance(found, metanas.api.ValueResult) and found.evaluations == 20


def test_what_goes_with_a_table_does_not_with_a_function(runs: Path, space: Space) -> None:
    with pytest.raises(RecipeError, match=r"table\.choose: goes with a table, and a function was handed over"):
        metanas.search_by_value(space, lambda a: 1.0, choose="valid")


def test_a_module_and_one_column_in_words(runs: Path, space: Space, file: Path) -> None:
    module = nn.Sequential(metanas.choose("act", {"plain": nn.ReLU(), "default": nn.Tanh()}))
    found = metanas.search_by_value(module, lambda a: float(a["act"] == ("default",)), budget=20)
    assert dict(found.architecture) == {"act": ("default",)} and module(torch.ones(1)) == 1.0
    assert set(search(space, file, report="test").report) == {"test"}


def test_a_changed_table_is_refused(runs: Path, space: Space, file: Path) -> None:
    with pytest.raises(InterruptedSearchError):
        search(space, file, view=stopping)
    file.write_bytes(
        gzip.compress(gzip.decompress(file.read_bytes()).replace(b"conv|conv|conv,26", b"conv|conv|conv,1"))
    )
    with pytest.raises(RunError, match=r"the table is not that of .*first: fingerprint was .*; give the same table"):
        metanas.resume("first")


def test_there_is_no_network_to_export(runs: Path, space: Space, file: Path, tmp_path: Path) -> None:
    search(space, file)
    with pytest.raises(ExportError, match=r"first has no network, it only looked values up; metanas\.build makes"):
        metanas.export("first", tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"choose": "vaild"}, DataError, "no column 'vaild' of numbers; did you mean \"valid\"?"),
        ({"choose": "train", "report": ["train"]}, RecipeError, "'train' is what the search chooses by"),
        ({"choose": None}, RecipeError, "which column is maximised"),
        ({"charge": {"test": 1.0}}, DataError, "'test' is a test: a search chooses by one of eval, train, valid"),
        ({"charge": None, "seconds": 5.0}, RecipeError, "nothing is charged"),
        ({"charge": {"train": -1.0}}, RecipeError, "greater than or equal to 0, got -1.0"),
        ({"controller": "darts"}, RecipeError, "darts does not go with one value; take random, evolution, local_"),
        ({"controller": Darts()}, RecipeError, "Darts does not go with one value"),
        ({"controller": "nsga2"}, RecipeError, "nsga2 does not go with one value"),
        ({"charge": {"train": 0.0}}, DataError, "charge: train come to 0 to 0 seconds an evaluation; they must be"),
        ({"budget": 0}, RecipeError, "search.budget: should be greater than or equal to 1, got 0"),
        ({"space": "nasbench201"}, DataError, "the table has no row for .*, of 27; is it of another space?"),
        ({"settings": {"space.options": {"cells": 1}}}, RecipeError, "a Space was handed over"),
    ],
)
def test_what_cannot_be_is_said_before_a_folder_is_made(
    runs: Path, space: Space, file: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    where = changes.pop("space", space)
    with pytest.raises(error, match=message):
        search(where, file, **changes)
    assert not runs.exists()


def test_no_table_at_all(runs: Path, space: Space) -> None:
    with pytest.raises(RecipeError, match=r"table\.source: which table\? give a CSV file, or an objective"):
        metanas.search_by_value(space)


def test_a_recipe_says_all_of_it(runs: Path, file: Path, tmp_path: Path, space: Space) -> None:
    recipe = read_values({"table": {"source": str(file), "choose": "valid"}, "search": {"controller": "local_search"}})
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml())
    assert metanas.search_by_value(space, recipe=path, budget=40).value == 26.0
    assert isinstance(recipe, ValueRecipe) and (runs / "small-small-1/result.json").exists()
