"""Costs, limits and scores of a whole run: what the recipe sets is kept, recorded, and refused in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metanas
from metanas.api.scoring import useless
from metanas.errors import RecipeError
from metanas.evaluation import OperationTable, additive, cost
from metanas.run import read_events
from metanas.space import NEEDED, Architecture, Space, chain, one_of, op

SHAPE, CLASSES = (1, 6, 6), 2
CONV, SKIP = 202, 50  # parameters of the two architectures
Search = Callable[..., Any]


def events(result: Any, kind: str) -> list[dict[str, Any]]:
    return [e for e in read_events(result.run / "events.jsonl").events if e["kind"] == kind]


def parameters_of(result: Any) -> list[int]:
    """Of the derived network and of the random ones beside it."""
    return [result.found.parameters, *(row.parameters for row in result.random)]


@pytest.mark.parametrize("controller", ["darts", "random", "evolution"])
def test_a_limit_is_kept_by_what_is_found_refined_and_drawn(quick: Search, controller: str) -> None:
    settings = {
        "search.limits.parameters": 100,
        "search.budget": 3,
        "search.value_epochs": 1,
        "search.refine": [{"candidates": 2, "epochs": 1}],
        "evaluation.random": 2,
    }
    found = quick(controller=controller, settings=settings)
    assert parameters_of(found) == [SKIP] * 3
    assert {e["architecture"]["body"] for e in events(found, "value")} == {"skip"}


def test_a_cost_is_reported_for_each_epoch_and_shown(quick: Search) -> None:
    found = quick(controller="darts", settings={"search.cost": "parameters", "search.cost_weight": 0.0})
    costs = [e["cost"] for e in events(found, "epoch")]
    assert len(costs) == 2 and all(SKIP < value < CONV for value in costs)
    plain = quick(controller="darts")
    assert "cost" not in events(plain, "epoch")[0]
    losses = [[e["outer_loss"] for e in events(run, "step")] for run in (found, plain)]
    assert losses[0] == losses[1], "a weight of 0 changes nothing"


def test_a_dear_cost_decides(quick: Search) -> None:
    settings = {"search.cost": "multiply_adds", "search.cost_weight": 1000.0, "search.options": {"lr": 0.5}}
    assert quick(controller="darts", settings=settings).found.parameters == SKIP


def table_of(space: Space, path: Path) -> OperationTable:
    """Latencies that are parameters, in milliseconds."""
    counted = OperationTable.counted("parameters")
    additive(space, SHAPE, CLASSES, counted)
    table = OperationTable("latency_ms", rows=counted.rows)
    table.save(path)
    return table


def test_latencies_stay_with_the_run(quick: Search, tiny: Space, tmp_path: Path) -> None:
    table = table_of(tiny, tmp_path / "table.json")
    settings = {"search.latency_table": str(tmp_path / "table.json"), "search.limits.latency_ms": 100.0}
    found = quick(controller="darts", settings=settings)
    assert found.found.parameters == SKIP
    kept = json.loads((found.run / "recipe.json").read_text())["latencies"]
    assert OperationTable.from_json(kept).rows == table.rows
    measured = quick(controller="darts", settings={"search.cost": "latency_ms"})
    kept = json.loads((measured.run / "recipe.json").read_text())["latencies"]
    assert kept["device"] == "cpu" and len(kept["rows"]) == 4 and all(e["cost"] > 0 for e in events(measured, "epoch"))


def test_a_run_goes_on_with_the_latencies_that_it_began_with(
    quick: Search, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metanas.api.recorder import Recorder
    from metanas.errors import InterruptedSearchError

    ask, calls = Recorder.pause_point, []

    def stop_early(self: Recorder, place: int, tree: Any) -> None:
        calls.append(place)
        if len(calls) == 3:
            self.checkpoint(place, tree())
            raise InterruptedSearchError("stopped")
        ask(self, place, tree)

    monkeypatch.setattr(Recorder, "pause_point", stop_early)
    with pytest.raises(InterruptedSearchError):
        quick(controller="darts", settings={"search.cost": "latency_ms"}, run="first")
    monkeypatch.setattr(OperationTable, "measured", classmethod(lambda cls, **how: OperationTable("latency_ms")))
    found = metanas.resume("first", data=images)
    assert len({e["epoch"] for e in events(found, "epoch")}) == 2


def test_a_score_is_the_objective_of_a_search(quick: Search) -> None:
    """synflow sees more paths through a convolution."""
    found = quick(controller="random", settings={"search.objective": "parameters", "search.budget": 8})
    rows = events(found, "value")
    assert {row["value"] for row in rows} == {float(CONV), float(SKIP)} and found.found.parameters == CONV
    screen = {"search.screen": {"score": "parameters", "candidates": 12}, "search.objective": "synflow"}
    screened = quick(controller="random", settings={**screen, "search.budget": 2})
    assert {e["architecture"]["body"] for e in events(screened, "value")} == {"conv"}


@pytest.fixture
def silent() -> Space:
    """No activation that naswot has a code for."""
    body = one_of("body", {"conv": op("conv", width=2, kernel=3, activation="tanh"), "skip": op("skip")})
    return Space(chain(("body", body), ("head", op("classifier", width=NEEDED))), "silent")


NO_CODE = "naswot is -inf on 3 random architectures; take another"
FEW = "zico compares two halves of a batch: give at least 4 examples, got 3"


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        ({"search.objective": "naswot"}, [f"search.objective: {NO_CODE}"]),
        ({"search.screen.score": "naswot"}, [f"search.screen.score: {NO_CODE}"]),
        (
            {"search.objective": "zico", "search.screen.score": "naswot", "search.batch_size": 3},
            [f"search.objective: {FEW}", f"search.screen.score: {NO_CODE}"],
        ),
    ],
)
def test_a_score_that_tells_nothing_is_refused_before_there_is_a_folder(
    quick: Search, silent: Space, runs: Path, settings: dict[str, Any], problems: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        quick(silent, controller="random", settings=settings)
    assert list(caught.value.problems) == problems and not runs.exists()


def test_a_score_is_tried_once_where_it_is_finite_and_again_where_a_network_is_blind() -> None:
    tried: list[Architecture] = []
    some = [Architecture({"body": (label,)}) for label in ("none", "conv", "skip")]

    def score(architecture: Architecture) -> float:
        tried.append(architecture)
        return math.nan if architecture["body"] == ("none",) else 1.0

    assert useless("jacob_cov", score, some) == "" and tried == some[:2]
    line = useless("snip", lambda architecture: 1 / 0, some)
    assert line == "snip fails (ZeroDivisionError: division by zero) on 3 random architectures; take another"


def test_limits_are_those_of_the_network_that_is_trained(images: Any) -> None:
    """evaluation.space makes it wider, and so the limit cuts earlier."""
    settings = {
        "space.options.channels": 2, "evaluation.space.channels": 4, "search.epochs": 1, "search.warmup": 0,
        "evaluation.epochs": 1, "evaluation.random": 1, "search.limits.multiply_adds": 100_000, "threads": 1,
    }  # fmt: skip
    found = metanas.search("nasbench201", images, controller="darts", settings=settings, device="cpu")
    assert all(row <= 100_000 for row in [found.found.multiply_adds, *(r.multiply_adds for r in found.random)])
    assert cost(found.network, SHAPE).multiply_adds == found.found.multiply_adds


def test_an_architecture_that_is_carried_over_has_to_keep_them(quick: Search, images: Any) -> None:
    found = quick(controller="random", settings={"search.objective": "parameters", "search.budget": 6})
    with pytest.raises(RecipeError, match=r"search\.limits: the architecture that is carried over is beyond them"):
        found.transfer(images, settings={"search.limits.parameters": 100, "evaluation.epochs": 1})


def test_rows_of_a_table_are_limited_too() -> None:
    rng = np.random.default_rng(0)
    rows = {"x": rng.normal(size=(120, 4)).astype(np.float32), "y": rng.integers(0, 2, 120)}
    settings = {"search.limits.parameters": 300, "space.options.width": 8, "search.budget": 2, "search.value_epochs": 1,
                "evaluation.epochs": 1, "evaluation.random": 2, "threads": 1}  # fmt: skip
    found = metanas.search("mlp", (rows["x"], rows["y"]), controller="random", settings=settings, device="cpu")
    assert max(parameters_of(found)) <= 300


INSTEAD = "set limits in its place: search.limits"
BY_VALUES = "goes with a controller by values; darts learns from gradients"
REFUSED: list[tuple[str, str, Any, str]] = [
    ("darts", "limits.parameters", 40, "no architecture has at most 40; the smallest found has 50"),
    ("darts", "limits.parameters", -1, "should be greater than 0, got -1"),
    ("darts", "limits.parametres", 1, 'unknown key; did you mean "parameters"?'),
    ("darts", "cost", "flops", "unknown name 'flops'; allowed: parameters, multiply_adds, latency_ms"),
    ("darts", "cost_weight", -1.0, "should be greater than or equal to 0, got -1.0"),
    ("darts", "objective", "synflow", BY_VALUES),
    ("darts", "screen.score", "snip", BY_VALUES),
    ("random", "objective", "snyflow", "unknown name 'snyflow'; did you mean \"synflow\"?"),
    ("random", "screen.score", "snop", "unknown name 'snop'; did you mean \"snip\"?"),
    ("random", "screen.candidates", 0, "should be greater than or equal to 1, got 0"),
    ("random", "cost", "parameters", f"random takes no gradient of it; {INSTEAD}"),
    ("darts_pt", "cost", "parameters", f"darts_pt takes no gradient of it; {INSTEAD}"),
]


@pytest.mark.parametrize(("controller", "key", "value", "line"), REFUSED)
def test_what_cannot_be_is_a_line_before_there_is_a_folder(
    quick: Search, runs: Path, controller: str, key: str, value: Any, line: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        quick(controller=controller, settings={f"search.{key}": value})
    assert str(caught.value) == f"search.{key}: {line}" and not runs.exists()


def test_a_latency_table_that_does_not_fit(quick: Search, tiny: Space, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    settings = {"search.latency_table": str(path), "search.limits.latency_ms": 100.0}
    with pytest.raises(RecipeError, match=r"search\.latency_table: .*No such file"):
        quick(controller="darts", settings=settings)
    OperationTable.counted("parameters").save(path)
    with pytest.raises(RecipeError, match=r"search\.latency_table: holds parameters; give a table of latency_ms"):
        quick(controller="darts", settings=settings)
    OperationTable("latency_ms").save(path)
    with pytest.raises(metanas.MetanasError, match=r"has no row for conv\(width=4, kernel=3\) at \(1, 6, 6\), of 0"):
        quick(controller="darts", settings=settings)
