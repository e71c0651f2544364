"""What was found beside what it must beat: dots for the test scores and the sizes, and a table of all numbers.

Of a few-shot run, what it learned beside its start; what their tests give is told by the episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from metanas.ui.page.dots import Dot, dot_plot
from metanas.ui.page.markup import safe, section, table, tag
from metanas.ui.page.scales import drawable, span
from metanas.ui.panels.timeline import label_text
from metanas.ui.points import Trained, Training, ValuePoint
from metanas.ui.state import RunState
from metanas.ui.units import count, duration, loss, score
from metanas.ui.verdict import called, rivals, verdict

MOST = 200  # rows of the table
UNTOLD = ("-", tag("code", ""))  # what a network that does not say has in a column


def networks(state: RunState) -> str:
    """The section; before anything was trained from scratch, the best architectures that were evaluated."""
    if not state.networks and not state.training:
        return ""
    title = "networks" if state.few_shot else "trained" if state.how else "trained from scratch"
    return section(title, _plots(state), _table(state), _under_way(state), note=verdict(state))


def evaluated(state: RunState) -> str:
    """The best architectures of a controller that needs only values, or of a refinement."""
    rows = [
        (safe(rank), safe(loss(p.value)), safe("-" if p.epochs is None else p.epochs), safe(p.step), _code(p))
        for rank, p in enumerate(state.best, start=1)
    ]
    heads = ("", "value", "epochs", "at", "architecture")
    told = [0, 1, *([2] if any(point.epochs is not None for point in state.best) else []), 3, 4]
    shown = table([heads[k] for k in told], [[row[k] for k in told] for row in rows], range(len(told) - 1))
    note = f"{state.values[-1].step} evaluated" if state.values else ""
    return section("best evaluated", shown, note=note)


def _code(net: Trained | ValuePoint) -> str:
    return tag("code", safe(_architecture(net)))


def _plots(state: RunState) -> str:
    show = partial(score, metric=state.metric)
    plots = [_dots(state, f"test {state.metric}", [net.test_score for net in state.networks], show)]
    sizes = [net.parameters for net in state.networks]
    if len({*sizes}) > 1:
        plots.append(_dots(state, "parameters", sizes, _size))
    shown = [plot for plot in plots if plot]
    return tag("div", *shown, cls="figures") if shown else ""


def _dots(state: RunState, title: str, values: Sequence[float | None], show: Callable[[float | None], str]) -> str:
    """One value of every network, and a line at what the first must beat."""
    beaten = {net.network for net in rivals(state)}
    pairs = list(zip(state.networks, values, strict=True))
    dots = [Dot(net.network, x, net.network == state.planned[0], net.network in beaten) for net, x in pairs]
    named = called(state, [net for net, x in pairs if net.network in beaten and drawable(x)])
    return dot_plot(title, dots, show, named.removeprefix("the "))


def _table(state: RunState) -> str:
    """The columns of which some network tells."""
    test = f"test {safe(state.metric)}"
    heads = ("network", test, "test loss", "parameters", "multiply-adds", "time", "architecture")
    rows = [_result(net, state) for net in state.networks]
    told = [k for k in range(len(heads)) if k < 2 or any(row[k] not in UNTOLD for row in rows)]
    shown = [[row[k] for k in told] for row in rows[:MOST]]
    return table([heads[k] for k in told], shown, [place for place, k in enumerate(told) if 1 <= k <= 5])


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
        _code(net),
    )


def _size(number: float | None) -> str:
    """A count; what no network has is not written out digit by digit.

    >>> _size(73_412), _size(1e300), _size(None)
    ('73.4k', '1.0e+300', '-')
    """
    return count(number) if number is None or abs(number) < 1e18 else loss(number)


def _architecture(net: Trained | ValuePoint) -> str:
    return net.key or ", ".join(f"{name}: {label_text(label)}" for name, label in net.architecture.items())
