"""Searches for several objectives, and for an objective of the user's own, from the recipe to the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import metanas
from metanas.controllers import Nsga2
from metanas.errors import InterruptedSearchError, RecipeError, RunError
from metanas.evaluation import ScratchTraining
from metanas.loop import Hyperband, ValueSearch
from metanas.run import ask
from metanas.space import NEEDED, Architecture, Space, chain, one_of, op

TWO = {
    "search.objectives": ["score", "-parameters"],
    "search.budget": 8,
    "search.value_epochs": 1,
    "search.options": {"population": 3},
    "evaluation.random": 0,
}


@pytest.fixture(scope="module")
def wide() -> Space:
    """Sixteen networks: two choices of four widths."""
    widths = {f"w{n}": op("conv", width=n, kernel=3, norm="batch", activation="relu") for n in (1, 2, 4, 6)}
    layers = [(name, one_of(name, widths)) for name in ("first", "second")]
    return Space(chain(*layers, ("head", op("classifier", width=NEEDED))), "wide")


def test_the_front_is_in_the_log_and_in_the_result(quick: Any, wide: Space) -> None:
    result = quick(wide, controller="nsga2", settings=TWO, run="two")
    rows = [e for e in metanas.load_run("two").events() if e["kind"] == "value"]
    assert len(rows) == 8 and all(set(e["values"]) == {"score", "-parameters"} for e in rows)
    points = {json.dumps(e["architecture"]): (e["values"]["score"], -e["values"]["-parameters"]) for e in rows}
    best = {k for k, v in points.items() if not any(w != v and w[0] >= v[0] and w[1] >= v[1] for w in points.values())}
    assert {json.dumps(on.architecture.to_json()) for on in result.front} == best
    assert result.architecture in [on.architecture for on in result.front]
    assert [on.values["score"] for on in result.front] == sorted((v[0] for k, v in points.items() if k in best))[::-1]
    assert metanas.load_run("two").result().front == result.front


@pytest.mark.parametrize("controller", ["nsga2", "evolution"])
def test_a_run_that_goes_on_has_the_same_front(
    quick: Any, wide: Space, images: Any, controller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"population": 3}
    whole = quick(wide, controller=controller, settings=TWO | {"search.options": options}, run="whole")
    plain = ValueSearch.steps

    def steps(self: ValueSearch) -> Any:
        for row in plain(self):
            if row.step == 6 and not Path("runs/cut/stopped").exists():
                Path("runs/cut/stopped").touch()
                ask(Path("runs/cut"), "stop")
            yield row

    monkeypatch.setattr(ValueSearch, "steps", steps)
    with pytest.raises(InterruptedSearchError):
        quick(wide, controller=controller, settings=TWO | {"search.options": options}, run="cut")
    assert metanas.resume("cut", data=images).front == whole.front
    values = [
        [(e["step"], e["values"]) for e in metanas.load_run(run).events() if e["kind"] == "value"]
        for run in ("whole", "cut")
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("settings", [{}, {"search.eta": 2, "search.value_epochs": 2}], ids=["one by one", "halving"])
def test_what_was_trained_before_is_not_trained_again(
    quick: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two architectures, and six epochs of proposals or more."""
    trained, epochs = [], ScratchTraining.epochs

    def counted(training: ScratchTraining) -> Any:
        trained.append(training.settings.epochs)
        return epochs(training)

    monkeypatch.setattr(ScratchTraining, "epochs", counted)
    settings = {"search.budget": 6, "search.value_epochs": 1, "evaluation.random": 0, **settings}
    quick(controller="random", settings=settings, run="first")
    rows = [e for e in metanas.load_run("first").events() if e["kind"] == "value"]
    values = {(e["architecture"]["body"], e.get("epochs")): e["value"] for e in rows}
    assert all(e["value"] == values[e["architecture"]["body"], e.get("epochs")] for e in rows)
    assert sum(not e.get("repeated", False) for e in rows) == len(values) == len(trained) - 1 <= len(rows) / 2


def test_an_objective_of_ones_own_is_asked_each_time(quick: Any) -> None:
    asked: list[Architecture] = []
    quick(controller="random", objective=lambda a: asked.append(a) or 1.0, settings={"search.budget": 6}, run="first")
    assert len(asked) == 6 and len(set(asked)) == 2


def test_an_objective_of_ones_own(quick: Any, wide: Space, images: Any) -> None:
    def gain_and_price(architecture: Architecture) -> tuple[float, float]:
        sizes = [int(labels[0][1:]) for labels in architecture.values()]
        return sum(sizes) ** 0.5, sum(sizes)

    settings = {"search.objectives": ["gain", "-price"], "search.budget": 30, "evaluation.random": 0}
    result = quick(wide, controller=Nsga2(population=4), objective=gain_and_price, settings=settings, run="own")
    assert {on.values["-price"] for on in result.front} <= {*range(2, 13)} and len(result.front) > 3
    assert json.loads(Path("runs/own/recipe.json").read_text())["handed"]["objective"].endswith("gain_and_price")
    single = quick(wide, controller="random", objective=lambda a: -gain_and_price(a)[1], settings={"search.budget": 90})
    assert single.architecture.to_json() == {"first": "w1", "second": "w1"} and single.front == ()


HALVED = {"search.eta": 2, "search.value_epochs": 2, "search.budget": 3, "evaluation.random": 0}


def test_hyperband_by_its_recipe(quick: Any, wide: Space, images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = quick(wide, controller="evolution", settings=HALVED, run="whole")
    rows = [e for e in metanas.load_run("whole").events() if e["kind"] == "value"]
    assert [e["epochs"] for e in rows] == [1, 1, 2, 2] and rows[0]["budget"] == 4
    longest = max((e for e in rows if e["epochs"] == 2), key=lambda e: e["value"])
    assert whole.architecture.to_json() == longest["architecture"]
    plain = Hyperband.steps

    def steps(self: Hyperband) -> Any:
        for row in plain(self):
            if row.step == 2 and not Path("runs/cut/stopped").exists():
                Path("runs/cut/stopped").touch()
                ask(Path("runs/cut"), "stop")
            yield row

    monkeypatch.setattr(Hyperband, "steps", steps)
    with pytest.raises(InterruptedSearchError):
        quick(wide, controller="evolution", settings=HALVED, run="cut")
    assert metanas.resume("cut", data=images).found == whole.found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"controller": "nsga2", "settings": {}}, 'search.objectives: Nsga2 needs two or more, as in \\["score"'),
        ({"controller": "nsga2", "settings": {"search.objectives": ["score"]}}, "Nsga2 needs two or more"),
        ({"settings": TWO | {"search.options": {}}}, "search.objectives: DrNas learns from gradients"),
        ({"objective": len, "settings": {}}, "search.objectives: DrNas learns from gradients"),
        ({"settings": HALVED}, "search.eta: needs a controller by values and short trainings"),
        ({"controller": "random", "settings": HALVED | {"search.eta": 3}}, "search.eta: should be at most"),
        (
            {"controller": "nsga2", "settings": TWO | {"search.eta": 2, "search.value_epochs": 2}},
            "search.eta: judges by",
        ),
        (
            {"controller": "nsga2", "settings": {"search.objectives": ["score", "-latncy"]}},
            "search.objectives: unknown name '-latncy'",
        ),
        (
            {"controller": "nsga2", "settings": TWO | {"search.refine": [{"candidates": 2, "epochs": 1}]}},
            "search.refine: judges by the loss alone",
        ),
        (
            {"controller": "nsga2", "settings": TWO | {"search.objectives": ["loss", "-loss"]}},
            "search.objectives: should each be named once",
        ),
    ],
)
def test_objectives_that_cannot_be(
    quick: Any, wide: Space, arguments: dict[str, Any], message: str, runs: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        quick(wide, **arguments)
    assert not runs.exists()


def test_an_objective_is_handed_over_again(quick: Any, wide: Space, images: Any) -> None:
    def broken(architecture: Architecture) -> float:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        quick(wide, controller="random", objective=broken, run="own")
    with pytest.raises(RunError, match="was started with your own objective"):
        metanas.resume("own", data=images)
