"""What each controller that needs values does that the others do not."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from metanas.controllers import LocalSearch, Predictor, RegularisedEvolution, ValueController
from metanas.controllers.predictor import normal_scores
from metanas.errors import SpaceError
from metanas.loop import ValueSearch
from metanas.space import Architecture, Space, chain, one_of, op

CHOICES, LABELS = 6, ("a", "b", "c", "d")


def ladder() -> Space:
    """Six choices of four: 4,096 architectures."""
    operations = {label: op("activation", activation="relu") for label in LABELS}
    return Space(chain(*((f"e{k}", one_of(f"e{k}", operations)) for k in range(CHOICES))))


def height(architecture: Architecture) -> float:
    """1 at a single top; each choice counts by itself, and one pair together."""
    marks = [LABELS.index(labels[0]) for labels in architecture.values()]
    return sum(marks) / 3 / CHOICES - 0.05 * (marks[0] != marks[1])


def run(controller: ValueController, budget: int, objective: Callable[[Architecture], float] = height, seed: int = 0):
    search = ValueSearch(ladder(), objective, controller, budget=budget, seed=seed)
    return search, list(search.steps())


def apart(one: Architecture, two: Architecture) -> int:
    return sum(one[name] != two[name] for name in one)


@pytest.mark.parametrize(
    "controller",
    [RegularisedEvolution(), LocalSearch(), pytest.param(Predictor(), marks=pytest.mark.long)],
    ids=lambda controller: type(controller).__name__,
)
def test_they_find_more_than_chance(controller: ValueController) -> None:
    found = [run(controller, 80, seed=seed)[1][-1].best_value for seed in range(5)]
    rng = np.random.default_rng(0)
    space = ladder()
    chance = [max(height(space.sample(rng)) for _ in range(80)) for _ in range(20)]
    assert np.mean(found) > np.mean(chance) + np.std(chance)


def test_evolution_breeds_from_those_alive_and_buries_the_oldest() -> None:
    controller = RegularisedEvolution(population=4, sample=2)
    search, rows = run(controller, 40)
    told = [row.architecture for row in rows]
    for k in range(4, 40):
        assert any(apart(told[k], parent) == 1 for parent in told[k - 4 : k])
    alive = [Architecture(taken) for taken, _ in search.memory["population"]]
    assert alive == told[-4:]


def test_the_whole_population_as_a_tournament_breeds_from_its_best() -> None:
    _, rows = run(RegularisedEvolution(population=5, sample=5), 30)
    for k in range(5, 30):
        best = max(row.value for row in rows[k - 5 : k])
        parents = [row.architecture for row in rows[k - 5 : k] if row.value == best]
        assert any(apart(parent, rows[k].architecture) == 1 for parent in parents)


def test_local_search_climbs_moves_at_once_and_begins_anew_at_a_top() -> None:
    _, rows = run(LocalSearch(), 200)
    current, starts = rows[0], 1
    seen: set[Architecture] = set()
    for row in rows[1:]:
        if apart(row.architecture, current.architecture) == 1:
            assert row.architecture not in seen  # no neighbour is told twice
            seen.add(row.architecture)
            if row.value > current.value:
                current, seen = row, set()
        else:
            assert len(seen) == CHOICES * (len(LABELS) - 1)  # none was left
            current, seen, starts = row, set(), starts + 1
    assert starts > 1 and max(row.value for row in rows) == 1.0


def test_the_predictor_tells_nothing_twice_and_learns_what_counts() -> None:
    _, rows = run(Predictor(start_with=5), 120)
    assert len({row.architecture for row in rows}) == 120
    late = [row.value for row in rows[60:]]
    assert np.mean(late) > np.mean([row.value for row in rows[:5]]) + 0.2
    assert max(row.value for row in rows) == 1.0


def test_its_posterior_is_that_of_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    x, at, y = rng.integers(0, 2, (7, 5)).astype(float), rng.integers(0, 2, (3, 5)).astype(float), rng.normal(size=7)
    model = Predictor(length=1.5, noise=0.3)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([[math.exp(-((p - q) ** 2).sum() / 3.0) for q in b] for p in a])

    inverse = np.linalg.inv(kernel(x, x) + 0.3 * np.eye(7))
    mean, deviation = model._posterior(x, y, at)
    np.testing.assert_allclose(mean, kernel(at, x) @ inverse @ y, rtol=1e-10)
    variance = np.diag(kernel(at, at) - kernel(at, x) @ inverse @ kernel(x, at))
    np.testing.assert_allclose(deviation**2, variance, atol=1e-10)


def test_scores_do_not_depend_on_scale_or_outliers() -> None:
    values = np.array([0.1, 0.5, 0.2, 0.9])
    assert np.array_equal(normal_scores(values), normal_scores(np.exp(50 * values)))
    assert normal_scores(values).mean() == pytest.approx(0)


@pytest.mark.parametrize(
    "controller", [RegularisedEvolution(population=3), LocalSearch(), Predictor(start_with=3)], ids=str
)
def test_values_that_are_not_finite_lead_nowhere(controller: ValueController) -> None:
    def sick(architecture: Architecture) -> float:
        return (
            math.inf
            if architecture["e0"] == ("a",)
            else math.nan
            if architecture["e0"] == ("b",)
            else height(architecture)
        )

    search, rows = run(controller, 60, sick)
    assert search.derive()["e0"] not in (("a",), ("b",)) and math.isfinite(rows[-1].best_value or math.nan)


def test_when_all_is_told_it_goes_on() -> None:
    small = Space(
        chain(("y", one_of("y", {"a": op("activation", activation="relu"), "b": op("activation", activation="tanh")})))
    )
    for controller in (RegularisedEvolution(), LocalSearch(), Predictor()):
        search = ValueSearch(small, lambda a: float(a["y"] == ("b",)), controller, budget=30, seed=0)
        assert len(list(search.steps())) == 30 and search.derive()["y"] == ("b",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RegularisedEvolution(population=0), "population and sample must be >= 1, got 0 and 3"),
        (lambda: Predictor(noise=0.0), "noise must be > 0, got 0.0"),
    ],
)
def test_numbers_that_cannot_be(make: Callable[[], ValueController], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()
