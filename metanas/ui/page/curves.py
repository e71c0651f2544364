"""How the run went, as figures: losses, scores, entropy, discretisation gap, skip share; values and trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from metanas.ui.page.chart import Chart, Curve, figures
from metanas.ui.page.markup import section
from metanas.ui.panels.health import skip_share
from metanas.ui.points import by_length
from metanas.ui.state import RunState
from metanas.ui.tuning import Tuning
from metanas.ui.units import percent, score


def curves(state: RunState) -> str:
    """The section; "" for a run that has said nothing yet."""
    if state.tuning:
        return section("curves", figures(*_of_steps(state.tuning)))
    return section("curves", figures(*_of_search(state), *_of_values(state)))


def _of_search(state: RunState) -> Iterable[Chart]:
    """Over the epochs; over the steps while there are not two epochs."""
    show = partial(score, metric=state.metric)
    if len(state.history) > 1:
        over, points, name = [float(point.epoch) for point in state.history], state.history, "epoch"
        pair = partial(_pair, points, over)
        yield Chart("loss", pair("inner_loss", "outer_loss"), name)
        yield Chart(state.metric, pair("inner_score", "outer_score"), name, show)
        yield Chart(
            "entropy of the mixture", (_one("entropy", points, over, "entropy", "third"),), name, within=(0.0, 1.0)
        )
        yield Chart("discretisation gap", (_one("gap", points, over, "gap", "third"),), name)
        shares = tuple((float(point.epoch), skip_share(point, state.choices)) for point in points)
        yield Chart("skip share", (Curve("of the derived", shares, "third"),), name, percent, within=(0.0, 1.0))
    elif state.steps:
        steps = state.steps
        yield Chart("loss", _pair(steps, [float(point.step) for point in steps], "inner_loss", "outer_loss"), "step")


def _pair(points: Sequence[object], over: Sequence[float], inner: str, outer: str) -> tuple[Curve, ...]:
    return (_one("inner", points, over, inner), _one("outer", points, over, outer, "second"))


def _one(name: str, points: Sequence[object], over: Sequence[float], field: str, look: str = "first") -> Curve:
    return Curve(name, tuple(zip(over, (getattr(point, field) for point in points), strict=True)), look)


def _of_values(state: RunState) -> Iterable[Chart]:
    if state.values:
        over = [float(point.step) for point in state.values]
        values = {name: tuple(zip(over, series, strict=True)) for name, series in by_length(state.values).items()}
        best = Curve("best", tuple(zip(over, (point.best for point in state.values), strict=True)), "second")
        looks = ("fourth", "first")[-len(values) :]
        dots = (Curve(name, values[name], look, joined=False) for name, look in zip(values, looks, strict=True))
        yield Chart("value of the evaluated", (*dots, best), "evaluation")


def _of_steps(tuning: Tuning) -> Iterable[Chart]:
    trace = tuning.trace
    over = [float(point.step) for point in trace]
    yield Chart("loss", _pair(trace, over, "inner_loss", "outer_loss"), "outer step")
    if tuning.recent:
        rows = sorted((trial.trial, trial.value, trial.best) for trial in tuning.recent)
        values = Curve("value", tuple((float(n), value) for n, value, _ in rows), joined=False)
        best = Curve("best", tuple((float(n), best) for n, _, best in rows), "second")
        yield Chart("outer loss of the trials", (values, best), "trial")
