"""Tables of architectures: what a search may see, what it pays, and what a report may read."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from metanas import load_space
from metanas.controllers import LocalSearch, Predictor, RandomSearch, RegularisedEvolution
from metanas.errors import DataError, SpaceError
from metanas.evaluation.tables import ArchitectureTable
from metanas.loop import ValueSearch
from metanas.space import Space, chain, one_of, op

TEXT = "name,valid,test,seconds,word\ny=conv,0.5,0.9,10,a\ny=pool,0.7,0.6,20,b\ny=skip,0.6,0.8,30,c\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TEXT)
    return path


@pytest.fixture
def space() -> Space:
    return Space(chain(("y", one_of("y", {"conv": op("conv"), "pool": op("avg_pool"), "skip": op("skip")}))))


def test_choose_by_one_column_pay_by_another_report_a_third(file: Path, space: Space) -> None:
    table = ArchitectureTable.read(file, key="name", test=["test"])
    assert len(table) == 3 and set(table.columns) == {"valid", "test", "seconds"}  # words are left out
    objective = table.objective("valid", seconds=lambda row: row["seconds"] / 2)
    conv, pool = (space.architecture({"y": label}) for label in ("conv", "pool"))
    assert (objective(conv), objective(pool), objective(conv)) == (0.5, 0.7, 0.5)
    assert objective.spent == 5 + 10 + 5
    assert table.test(pool, "test") == 0.6


def test_a_search_cannot_see_a_test(file: Path, space: Space) -> None:
    table = ArchitectureTable.read(file, key="name", test=["test"])
    with pytest.raises(DataError, match="'test' is a test: a search chooses by one of seconds, valid"):
        table.objective("test")
    seen = []
    objective = table.objective("valid", seconds=lambda row: seen.append(set(row)) or 1.0)
    objective(space.architecture({"y": "conv"}))
    assert seen == [{"valid", "seconds"}]


def test_gzip_is_the_same(file: Path) -> None:
    packed = file.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(TEXT.encode()))
    one, two = (ArchitectureTable.read(path, key="name") for path in (file, packed))
    assert one.places == two.places and all(np.array_equal(one.columns[c], two.columns[c]) for c in one.columns)


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (TEXT, {"key": "nmae"}, r'no column \'nmae\'; did you mean "name"\?'),
        (TEXT, {"key": "name", "test": ["tset"]}, r'no column \'tset\'; did you mean "test"\?'),
        (TEXT, {"key": "name", "test": ["word"]}, "column 'word' holds something that is no number"),
        ("name,valid\n", {"key": "name"}, "has no rows"),
        ("", {"key": "name"}, "is no table"),
        ("name,valid\na,1\nb\n", {"key": "name"}, "line 3: 1 values for 2 names"),
        ("name,valid\na,1\na,2\n", {"key": "name"}, "'a' stands in 'name' more than once"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, arguments: dict[str, object], message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        ArchitectureTable.read(path, **arguments)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.csv: No such file"):
        ArchitectureTable.read(tmp_path / "none.csv", key="name")
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(TEXT.encode())[:-12])
    with pytest.raises(DataError, match=r"cannot read .*torn\.csv\.gz"):
        ArchitectureTable.read(tmp_path / "torn.csv.gz", key="name")


def test_an_architecture_that_it_lacks_and_a_column_with_a_typo(file: Path) -> None:
    table = ArchitectureTable.read(file, key="name")
    other = Space(chain(("y", one_of("y", {"conv": op("conv"), "tanh": op("activation")}))))
    with pytest.raises(DataError, match="the table has no row for y=tanh, of 3; is it of another space"):
        table.objective("valid")(other.architecture({"y": "tanh"}))
    with pytest.raises(DataError, match=r"no column 'vlaid' of numbers; did you mean \"valid\""):
        table.objective("vlaid")


def test_a_search_ends_when_its_seconds_are_spent_and_goes_on_where_it_was(file: Path, space: Space) -> None:
    table = ArchitectureTable.read(file, key="name")

    def search() -> ValueSearch:
        objective = table.objective("valid", seconds=lambda row: 10.0)
        return ValueSearch(space, objective, RandomSearch(), budget=100, seed=0, seconds=45.0)

    whole = search()
    rows = list(whole.steps())
    assert len(rows) == 5 and whole.objective.spent == 50.0  # the fifth began at 40
    half = search()
    steps = half.steps()
    next(steps), next(steps)
    other = search()
    other.restore(half.state())
    assert list(other.steps()) == rows[2:] and other.objective.spent == 50.0


def test_seconds_of_an_objective_that_charges_nothing(space: Space) -> None:
    with pytest.raises(SpaceError, match="seconds: the objective does not say what it has spent"):
        ValueSearch(space, lambda architecture: 0.0, RandomSearch(), budget=1, seed=0, seconds=1.0)


@pytest.mark.skipif("METANAS_DATA" not in os.environ, reason="METANAS_DATA names no folder")
@pytest.mark.long
def test_on_nasbench201_by_the_papers_protocol() -> None:
    """A few seeds; the benchmark has the many that the published figures take."""
    path = Path(os.environ["METANAS_DATA"]) / "nasbench201.csv.gz"
    table = ArchitectureTable.read(path, key="arch", test=("cifar10_test", "cifar100_test", "imagenet16_test"))
    space = load_space("nasbench201", channels=16, cells=5)
    means = {}
    for controller in (RandomSearch(), RegularisedEvolution(), LocalSearch(), Predictor()):
        scores = []
        for seed in range(12):
            objective = table.objective(
                "cifar10_valid_12_epochs",
                seconds=lambda r: r["cifar10_valid_train_seconds"] * 12 / 200 + r["cifar10_valid_eval_seconds"],
            )
            search = ValueSearch(space, objective, controller, budget=10**6, seed=seed, seconds=12_000.0)
            for _ in search.steps():
                pass
            scores.append(table.test(search.derive(), "cifar10_test"))
        means[type(controller).__name__] = float(np.mean(scores))
    assert 93.4 < means["RandomSearch"] < 94.1 and means["Predictor"] > means["RandomSearch"] + 0.15
    assert means["LocalSearch"] > means["RandomSearch"] and means["RegularisedEvolution"] > 93.5
