"""What was found beside what it must beat: dots for the test scores and the sizes, and a table of all numbers."""

from __future__ import annotations

from functools import partial

from metanas.ui.page.dots import Dot, dot_plot
from metanas.ui.page.markup import safe, section, table, tag
from metanas.ui.page.scales import span
from metanas.ui.panels.timeline import label_text
from metanas.ui.points import Trained, Training, ValuePoint
from metanas.ui.state import RunState, verdict
from metanas.ui.units import count, duration, loss, score

MOST = 200  # rows of the table


def networks(state: RunState) -> str:
    """The section; before anything was trained from scratch, the best architectures that were evaluated."""
    if not state.networks and not state.training:
        return ""
    title = "trained" if state.how else "trained from scratch"
    return section(title, _plots(state), _table(state), _under_way(state), note=verdict(state))


def evaluated(state: RunState) -> str:
    """The best architectures of a controller that needs only values, or of a refinement."""
    rows = [
        (safe(rank), safe(loss(point.value)), safe(point.step), tag("code", safe(_architecture(point))))
        for rank, point in enumerate(state.best, start=1)
    ]
    note = f"{state.values[-1].step} evaluated" if state.values else ""
    return section("best evaluated", table(("", "value", "at", "architecture"), rows, (0, 1, 2)), note=note)


def _plots(state: RunState) -> str:
    first = state.planned[0]
    named = "start" if state.tuning else "mean of the others"
    scores = [Dot(net.network, net.test_score, net.network == first) for net in state.networks]
    plots = [dot_plot(f"test {state.metric}", scores, partial(score, metric=state.metric), named)]
    sizes = {net.parameters for net in state.networks}
    if len(sizes) > 1:
        dots = [Dot(net.network, net.parameters, net.network == first) for net in state.networks]
        plots.append(dot_plot("parameters", dots, _size, named))
    shown = [plot for plot in plots if plot]
    return tag("div", *shown, cls="figures") if shown else ""


def _table(state: RunState) -> str:
    rows: list[tuple[str, ...]] = [_result(net, state) for net in state.networks]
    heads: tuple[str, ...] = (
        "network",
        f"test {safe(state.metric)}",
        "test loss",
        "parameters",
        "multiply-adds",
        "time",
        "architecture",
    )
    if not any(_architecture(net) for net in state.networks):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return table(heads, rows[:MOST], range(1, 6))


def _under_way(state: RunState) -> str:
    """The trainings that are not over."""
    done = {net.network for net in state.networks}
    rows = [
        (safe(run.network), safe(f"{run.epoch} of {run.epochs or '?'}"), safe(loss(run.loss)), _score(run, state))
        for run in state.training
        if run.network not in done
    ]
    heads = ("in training", "epoch", "loss", f"training {safe(state.metric)}")
    return table(heads, rows[:MOST], range(1, 4))


def _score(run: Training, state: RunState) -> str:
    return safe(score(run.score, state.metric))


def _result(net: Trained, state: RunState) -> tuple[str, ...]:
    known = span(other.test_score for other in state.networks)
    best = known is not None and net.test_score == known[1]
    name = safe(net.network)
    return (
        tag("b", name) if net.network == state.planned[0] else name,
        safe(score(net.test_score, state.metric) + (" ★" if best else "")),
        safe(loss(net.test_loss)),
        safe(_size(net.parameters)),
        safe(_size(net.multiply_adds)),
        safe(duration(net.seconds)),
        tag("code", safe(_architecture(net))),
    )


def _size(number: float | None) -> str:
    """A count; what no network has is not written out digit by digit.

    >>> _size(73_412), _size(1e300), _size(None)
    ('73.4k', '1.0e+300', '-')
    """
    return count(number) if number is None or abs(number) < 1e18 else loss(number)


def _architecture(net: Trained | ValuePoint) -> str:
    return net.key or ", ".join(f"{name}: {label_text(label)}" for name, label in net.architecture.items())
