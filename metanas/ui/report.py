"""The static views: one run (`metanas show`) and all runs (`metanas runs`), for terminals, pipes and files alike."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from metanas.run import RunSummary
from metanas.ui.panels.header import STATUSES
from metanas.ui.paper import DIM, WARN, Paper
from metanas.ui.screen import Sheet
from metanas.ui.state import RunState
from metanas.ui.units import ACCURACY, duration, score


def show(state: RunState) -> Sheet:
    """The report of a run, running or over: all panels, as high as they need."""
    return Sheet(state, now=time.time())


class Table:
    """Runs, one line each, as a value that draws itself."""

    def __init__(self, runs: Iterable[RunSummary]) -> None:
        self.runs = tuple(runs)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        paper = Paper(width=options.max_width, ascii_only=options.ascii_only)
        yield from paper.rows(table(self.runs, paper))


def runs_table(runs: Iterable[RunSummary]) -> Table:
    """The runs of `metanas.run.list_runs`: name, status, how far, test score, time, and what was searched."""
    return Table(runs)


def table(runs: tuple[RunSummary, ...], paper: Paper) -> list[Text]:
    """A heading and a line per run, or one line that says that there are none."""
    if not runs:
        return [Text("no runs yet; metanas search makes one", style=DIM)]
    name = min(max(len(paper.safe(run.name)) for run in runs), 32)
    words = (run.status for run in runs if not run.status.startswith("damaged"))
    status = min(max((len(paper.safe(word)) + 2 for word in words), default=10), 24)
    far = max([9, *(len(_far(run)) for run in runs)])
    head = f"{'run':<{name}}  {'status':<{status}}  {'epoch':>{far}}  {'test':>8}  {'elapsed':>7}  search"
    return [Text(head, style=DIM), *(_line(run, name, status, far, paper) for run in runs)]


def _far(run: RunSummary) -> str:
    """Epochs of a search; outer steps of a tuning or a few-shot run, or the trials before them."""
    if run.kind == "search":
        return "-" if run.epoch is None else f"{run.epoch}/{run.epochs or '?'}"
    if run.step is not None:
        return f"step {run.step}/{run.steps or '?'}"
    return "-" if run.trial is None else f"trial {run.trial}/{run.trials or '?'}"


def _line(run: RunSummary, name: int, wide: int, far: int, paper: Paper) -> Text:
    word = run.status.partition(" ")[0].rstrip(":")
    fine, plain, style = STATUSES.get(word, ("?", "?", WARN))
    status = f"{paper.glyph(fine, plain)} {run.status}"
    line = Text(paper.cell(run.name, name), style="bold")
    if word == "damaged":  # the reason takes the place of the numbers
        return line.append(f"  {paper.safe(status)}", style=f"not bold {style}")
    line.append(f"  {paper.cell(status, wide)}", style=f"not bold {style}")
    line.append(
        f"  {_far(run):>{far}}  {score(run.test_score, run.metric or ACCURACY):>8}  {duration(run.elapsed):>7}",
        style="not bold",
    )
    what = (run.space, run.data, run.controller)
    if run.kind == "tune":
        what = (f"tune {run.network or '?'}", run.data, run.estimator)
    if run.kind == "fewshot":
        what = (run.task, run.data, f"{run.controller or '?'} {run.network or ''}".strip())
    about = " ".join(paper.safe(part) for part in what if part)
    return line.append(f"  {about}", style=f"not bold {DIM}")
