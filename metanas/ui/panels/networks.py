"""What was found, beside what it must beat, trained in the same way: progress, then the result table.

Beside the derived network of a search stand random ones of its space; beside the network that was trained with what a
tuning learned, the one trained with the values at its start.
"""

from __future__ import annotations

from rich.text import Text

from metanas.ui.panels.header import progress_bar
from metanas.ui.panels.timeline import label_text
from metanas.ui.paper import DIM, GOOD, Paper
from metanas.ui.points import Trained, Training, ValuePoint
from metanas.ui.state import RunState
from metanas.ui.units import count, duration, lasting, loss, score
from metanas.ui.verdict import verdict

HEAD = ("test loss", "parameters", "multiply-adds")
NAME, SCORE = 12, 13  # cells of a network's name and of its score


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
        names += [name for name in state.planned if name not in names]
    lines = [paper.rule("trained" if state.how else "trained from scratch", verdict(state)), _heading(state, paper)]
    best = max((net.test_score for net in state.networks if net.test_score is not None), default=None)
    for name in names:
        if name in results:
            lines.append(_result(results[name], state, best, paper))
        elif name in progress:
            lines.append(_running(progress[name], state, paper))
        else:
            lines.append(Text(f"{paper.cell(name, NAME)} waiting", style=DIM))
    return paper.rows(lines)


def _heads(state: RunState, paper: Paper) -> tuple[str, ...]:
    return (paper.cell(f"test {paper.safe(state.metric)}", SCORE).rjust(SCORE), *HEAD)


def _heading(state: RunState, paper: Paper) -> Text:
    columns = "".join(f"  {title}" for title in _heads(state, paper))
    return Text(f"{'network':<{NAME}}{columns}  {'time' if state.tuning else 'architecture'}", style=DIM)


def _result(net: Trained, state: RunState, best: float | None, paper: Paper) -> Text:
    won = best is not None and net.test_score == best
    first = score(net.test_score, state.metric) + (paper.glyph("★", "*") if won else " ")
    line = Text(paper.cell(net.network, NAME), style="bold" if net.network == state.planned[0] else "")
    line.append(f"  {first:>{SCORE}}", style=GOOD if won else "")
    for title, value in zip(HEAD, (loss(net.test_loss), count(net.parameters), count(net.multiply_adds)), strict=True):
        line.append(f"  {value:>{len(title)}}")
    about = duration(net.seconds) if state.tuning else paper.safe(_architecture(net))
    return line.append(f"  {about}", style=f"not bold {DIM}")


def _running(run: Training, state: RunState, paper: Paper) -> Text:
    total = run.epochs or 0
    line = Text(f"{paper.cell(run.network, NAME)}  ", style="bold")
    line.append_text(progress_bar(run.epoch / total if total else 0.0, 20, paper))
    far = f"{run.epoch}/{total or '?'} epochs"
    if state.tuning and state.tuning.retrain and total:  # it tells of parts
        far = f"{min(run.epoch, total) * state.tuning.retrain // total}/{state.tuning.retrain} steps"
    line.append(f"  {far}", style="not bold")
    now = f"training {paper.safe(state.metric)} {score(run.score, state.metric)}"
    return line.append(f"  loss {loss(run.loss)}  {now}", style="not bold")


def _evaluated(state: RunState, paper: Paper) -> list[Text]:
    if not state.best:
        return []
    lines = [paper.rule("best evaluated", f"{state.values[-1].step} evaluated")]
    for rank, point in enumerate(state.best, start=1):
        line = Text(f"{rank:>3}  ", style=DIM).append(f"{loss(point.value):>8}", style="not dim bold")
        line.append(f"{lasting(point.epochs)}  ", style="not dim")
        lines.append(line.append(paper.safe(_architecture(point)), style="not dim"))
    return paper.rows(lines)


def _architecture(net: Trained | ValuePoint) -> str:
    return net.key or ", ".join(f"{name}: {label_text(label)}" for name, label in net.architecture.items())
