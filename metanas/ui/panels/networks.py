"""What was found, beside random networks of the same space trained in the same way: progress, then the result table."""

from __future__ import annotations

from rich.text import Text

from metanas.ui.panels.header import progress_bar
from metanas.ui.panels.timeline import label_text
from metanas.ui.paper import DIM, GOOD, Paper
from metanas.ui.state import RunState, Trained, Training, ValuePoint
from metanas.ui.units import count, loss, percent

HEAD = ("test accuracy", "test loss", "parameters", "multiply-adds")
NAME = 12


def networks(state: RunState, paper: Paper) -> list[Text]:
    """One row per network: its results, or how far its training is, or that it waits.

    Before anything was trained from scratch, a controller that needs only values has its best architectures here.
    """
    if not state.networks and not state.training:
        return _evaluated(state, paper)
    results = {net.network: net for net in state.networks}
    progress = {run.network: run for run in state.training}
    names = list(dict.fromkeys([*progress, *results]))
    if state.status in ("running", "waiting"):
        planned = ["derived", *(f"random {n + 1}" for n in range(state.random_networks or 0))]
        names += [name for name in planned if name not in names]
    lines = [paper.rule("trained from scratch", _verdict(state)), _heading(paper)]
    best = max((net.test_accuracy for net in state.networks if net.test_accuracy is not None), default=None)
    for name in names:
        if name in results:
            lines.append(_result(results[name], best, paper))
        elif name in progress:
            lines.append(_running(progress[name], paper))
        else:
            lines.append(Text(f"{paper.cell(name, NAME)} waiting", style=DIM))
    return paper.rows(lines)


def _verdict(state: RunState) -> str:
    """The derived network against the random ones, in words."""
    found = {net.network: net.test_accuracy for net in state.networks}
    derived = found.pop("derived", None)
    others = [accuracy for accuracy in found.values() if accuracy is not None]
    if derived is None or not others:
        return ""
    margin = 100 * (derived - sum(others) / len(others))
    return f"derived {margin:+.1f} points against the mean of {len(others)} random"


def _heading(paper: Paper) -> Text:
    columns = "".join(f"  {title:>{len(title)}}" for title in HEAD)
    return Text(f"{'network':<{NAME}}{columns}  architecture", style=DIM)


def _result(net: Trained, best: float | None, paper: Paper) -> Text:
    won = best is not None and net.test_accuracy == best
    values = (
        percent(net.test_accuracy) + (paper.glyph("★", "*") if won else " "),
        loss(net.test_loss),
        count(net.parameters),
        count(net.multiply_adds),
    )
    line = Text(paper.cell(net.network, NAME), style="bold" if net.network == "derived" else "")
    for title, value in zip(HEAD, values, strict=True):
        line.append(f"  {value:>{len(title)}}", style=GOOD if won and title == HEAD[0] else "")
    return line.append(f"  {paper.safe(_architecture(net))}", style=f"not bold {DIM}")


def _running(run: Training, paper: Paper) -> Text:
    total = run.epochs or 0
    line = Text(f"{paper.cell(run.network, NAME)}  ", style="bold")
    line.append_text(progress_bar(run.epoch / total if total else 0.0, 20, paper))
    line.append(f"  {run.epoch}/{total or '?'} epochs", style="not bold")
    return line.append(f"  loss {loss(run.loss)}  training accuracy {percent(run.accuracy)}", style="not bold")


def _evaluated(state: RunState, paper: Paper) -> list[Text]:
    if not state.best:
        return []
    lines = [paper.rule("best evaluated", f"{state.values[-1].step} evaluated")]
    for rank, point in enumerate(state.best, start=1):
        line = Text(f"{rank:>3}  ", style=DIM).append(f"{loss(point.value):>8}  ", style="not dim bold")
        lines.append(line.append(paper.safe(_architecture(point)), style="not dim"))
    return paper.rows(lines)


def _architecture(net: Trained | ValuePoint) -> str:
    return net.key or ", ".join(f"{name}: {label_text(label)}" for name, label in net.architecture.items())
