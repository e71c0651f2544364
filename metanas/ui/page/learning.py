"""What a tuning or a few-shot run learns, and how far its hypergradients are to be trusted.

Of a search, the norm of the last hypergradients is all that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from metanas.ui.few_shot import FewShot, Score, plus_minus
from metanas.ui.page.chart import Chart, Curve, figures
from metanas.ui.page.markup import safe, section, table, tag
from metanas.ui.panels.header import spaced
from metanas.ui.panels.timeline import label_text
from metanas.ui.state import RunState
from metanas.ui.tuning import OuterPoint, Tuning, chosen, counted, doubts
from metanas.ui.units import loss, percent
from metanas.ui.verdict import verdict

MEASURES = ("norm", "stationarity", "residual", "curvature")
LOGARITHMIC = ("norm", "stationarity", "residual")
CHARTS = 24  # learned numbers that are drawn; more are in the table alone


def hypergradient(state: RunState) -> str:
    """The section: in words what is wrong, then each number that was measured, and which were not."""
    tuning = state.tuning
    if tuning is None:
        points = tuple((float(point.step), point.outer_gradient_norm) for point in state.steps)
        chart = Chart("norm", (Curve("norm", points, "second"),), "step", log=True)
        return section("hypergradient", figures(chart), note=spaced(state.estimator or ""))
    if not tuning.trace:
        return ""
    measured = {name: tuple((float(point.step), getattr(point, name)) for point in tuning.trace) for name in MEASURES}
    known = {name: points for name, points in measured.items() if any(y is not None for _, y in points)}
    absent = [name for name in MEASURES if name not in known]
    return section(
        "hypergradient",
        _wrong(tuning),
        figures(*(_measure(name, points, tuning) for name, points in known.items())),
        tag("p", safe(f"not measured: {', '.join(absent)}"), cls="quiet") if absent else "",
        note=_note(tuning, tuning.trace[-1]),
    )


def _measure(name: str, points: tuple[tuple[float, float | None], ...], tuning: Tuning) -> Chart:
    allowed = {"stationarity": tuning.stationary, "residual": tuning.tolerance, "norm": tuning.clip}.get(name)
    if name == "residual" or name == "stationarity":
        solved = any(point.residual is not None for point in tuning.trace)  # without a linear solve nothing is asked
        allowed = allowed if solved else None
    words = "clipped to" if name == "norm" else "allowed"
    level = None if allowed is None else (f"{words} {loss(allowed)}", allowed)
    level = ("positive above", 0.0) if name == "curvature" else level
    return Chart(name, (Curve(name, points, "second"),), "outer step", log=name in LOGARITHMIC, level=level)


def _note(tuning: Tuning, last: OuterPoint) -> str:
    name = f"{spaced(tuning.method)}, " if tuning.method else ""
    if not last.told:
        return f"{name}convergence not told"
    share = f" ({percent(last.sound / last.told)})" if last.sound < last.told else ""
    return f"{name}{last.sound} of {last.told} steps converged{share}"


def _wrong(tuning: Tuning) -> str:
    """The last step that had not converged, and why."""
    if tuning.failed is None:
        return ""
    now = tuning.failed is tuning.last
    reasons = "; ".join(doubts(tuning.failed, tuning)) or "its numbers do not say why"
    text = f"▲ step {tuning.failed.step} {'has' if now else 'had'} not converged: {reasons}"
    return tag("p", safe(text), cls=f"notice {'bad' if now else 'warn'}")


def learned(state: RunState) -> str:
    """The section: a figure for each learned number, from its start to now."""
    tuning = state.tuning
    if tuning is None or not tuning.trace:
        return ""
    first, last = tuning.trace[0], tuning.trace[-1]
    names = list(dict.fromkeys(name for point in (first, last) for name in point.learned))
    charts, rows = [], []
    for name in names:
        before = [(float(first.step - 1), tuning.start[name])] if name in tuning.start else []
        points = (*before, *((float(point.step), point.learned.get(name)) for point in tuning.trace))
        charts.append(Chart(name, (Curve(name, points, "second"),), "outer step"))
        known = [y for _, y in points if y is not None]
        ends = (loss(known[0]), loss(known[-1])) if known else ("-", "-")
        rows.append((safe(name), *map(safe, ends)))
    begin = "the start" if tuning.start else f"step {first.step}"
    listed = table(("learned", safe(begin), safe(f"step {last.step}")), rows, (1, 2))
    return section("learned", figures(*charts[:CHARTS]), listed, note=f"from {begin} to step {last.step}")


def trials(state: RunState) -> str:
    """The section: the best trials first."""
    tuning = state.tuning
    if tuning is None or not tuning.best:
        return ""
    paths = {path for trial in tuning.best for path in trial.values}
    rows = [
        (
            safe(trial.trial),
            tag("b", safe(loss(trial.value))) if trial is tuning.winner else safe(loss(trial.value)),
            safe(trial.state),
            safe(chosen(trial, paths)),
            safe(trial.reason or ""),
        )
        for trial in tuning.best
    ]
    heads = ("trial", "outer loss", "state", "chosen", "why")
    if not any(row[-1] for row in rows):
        return section("trials", table(heads[:-1], (row[:-1] for row in rows), (0, 1)), note=counted(tuning))
    return section("trials", table(heads, rows, (0, 1)), note=counted(tuning))


def episodes(state: RunState) -> str:
    """The section of a few-shot run: its validations, its test, and the structure that was found."""
    few_shot = state.few_shot
    if few_shot is None:
        return ""
    chance = "" if few_shot.chance is None else f", a guess {percent(few_shot.chance)}"
    body = (figures(_validations(few_shot)), _scores(few_shot, verdict(state)), _found(state))
    return section("episodes", *body, note=f"{few_shot.task}{chance}")


def _validations(few_shot: FewShot) -> Chart:
    shown, best = few_shot.validations, few_shot.best
    points = tuple((float(one.step), one.score.accuracy) for one in shown)
    spread = tuple(one.score.interval for one in shown)
    level = None if few_shot.chance is None else ("a guess", few_shot.chance)
    star = None
    if best is not None and best in shown and best.score.accuracy is not None:
        star = (float(best.step), best.score.accuracy, f"best at step {best.step}")
    curve = Curve("validation", points, "second", spread=spread)
    return Chart("validation accuracy", (curve,), "outer step", percent, level=level, star=star)


def _scores(few_shot: FewShot, won: str) -> str:
    """The test, and what stands beside it."""
    listed: Iterable[tuple[str, Score, str]] = (
        ("test, each by itself", few_shot.test, won.removeprefix("learned ")),
        ("test, all together", few_shot.transductive, ""),
        ("before it learned", few_shot.start, ""),
    )
    shown: Callable[[object], str] = safe
    rows = [(shown(name), shown(plus_minus(s)), shown(about)) for name, s, about in listed if s.accuracy is not None]
    heads = ("", f"over {few_shot.episodes or '?'} episodes", "")
    return table(heads, rows)


def _found(state: RunState) -> str:
    """The structure that was derived, of a finished run."""
    found = next((net.architecture for net in state.networks if net.architecture), None) or {}
    return table(("structure", "taken"), [(safe(name), safe(label_text(label))) for name, label in found.items()])
