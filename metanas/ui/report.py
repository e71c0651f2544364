"""The static views: one run (`metanas show`) and all runs (`metanas runs`), for terminals, pipes and files alike.

matching(runs, "digits drnas", "finished")     those of which every word tells, in that status
ordered(runs, "score")                         the best first; what has no score comes last
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from metanas.errors import RunError, nearest
from metanas.run import RunSummary
from metanas.ui.panels.header import STATUSES
from metanas.ui.paper import DIM, WARN, Paper
from metanas.ui.screen import Sheet
from metanas.ui.state import RunState
from metanas.ui.units import ACCURACY, duration, score

STATES = ("new", "running", "finished", "interrupted", "failed", "killed", "damaged")
ORDERS: Mapping[str, tuple[Callable[[RunSummary], Any], bool]] = {  # what is compared, and whether it falls
    "started": (lambda run: run.created, False),
    "name": (lambda run: run.name, False),
    "score": (lambda run: run.test_score, True),
    "time": (lambda run: run.elapsed, True),
}


def show(state: RunState) -> Sheet:
    """The report of a run, running or over: all panels, as high as they need."""
    return Sheet(state, now=time.time())


class Table:
    """Runs, one line each, as a value that draws itself."""

    def __init__(self, runs: Iterable[RunSummary], of: int | None = None) -> None:
        self.runs = tuple(runs)
        self.of = of

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        paper = Paper(width=options.max_width, ascii_only=options.ascii_only)
        yield from paper.rows(table(self.runs, paper, self.of))


def runs_table(runs: Iterable[RunSummary], of: int | None = None) -> Table:
    """The runs of `metanas.run.list_runs`: name, status, how far, test score, time, and what was searched.

    Args:
        of: how many runs there are, where these are not all of them; a last line says so.
    """
    return Table(runs, of)


def matching(runs: Iterable[RunSummary], words: str = "", status: str | None = None) -> tuple[RunSummary, ...]:
    """The runs of which every word tells (by name, space, network, task, data, controller, estimator or status), in
    whatever case.

    Args:
        status: one of STATES; None: any. "running" is also what runs on another host.

    Raises:
        RunError: there is no such status.

    >>> from pathlib import Path
    >>> runs = [RunSummary(name, Path(name), state, data="digits") for name, state in (("a", "finished"), ("b", "new"))]
    >>> [run.name for run in matching(runs, "DIG fin")], [run.name for run in matching(runs, status="new")]
    (['a'], ['b'])
    """
    if status is not None and status not in STATES:
        raise RunError(f"there is no status {status!a}{nearest(status, STATES)}")
    wanted = words.casefold().split()
    found = (run for run in runs if all(word in _told(run) for word in wanted))
    return tuple(run for run in found if status in (None, _state(run)))


def ordered(runs: Iterable[RunSummary], order: str = "started", *, reverse: bool = False) -> tuple[RunSummary, ...]:
    """The runs by name, by score (the best first), by time of work (the longest first) or as they were started.

    Args:
        order: one of ORDERS.
        reverse: the other way round; runs that say nothing of it come last in either.

    Raises:
        RunError: there is no such order.

    >>> from pathlib import Path
    >>> runs = [RunSummary(name, Path(name), "new", test_score=s) for name, s in (("b", None), ("c", 0.9), ("a", 0.5))]
    >>> [[run.name for run in ordered(runs, "score", reverse=reverse)] for reverse in (False, True)]
    [['c', 'a', 'b'], ['a', 'c', 'b']]
    """
    if order not in ORDERS:
        raise RunError(f"runs cannot be sorted by {order!a}{nearest(order, ORDERS)}")
    told, falls = ORDERS[order]
    named = sorted(runs, key=lambda run: run.name)
    known = [(told(run), run) for run in named if _says(told(run))]
    known.sort(key=lambda pair: pair[0], reverse=falls is not reverse)
    return (*(run for _, run in known), *(run for run in named if not _says(told(run))))


def _says(value: Any) -> bool:
    return value is not None and value == value  # nan: neither better nor worse than anything


def _state(run: RunSummary) -> str:
    """The status without what stands behind it."""
    return run.status.partition(" ")[0].rstrip(":")


def _told(run: RunSummary) -> str:
    parts = (run.name, run.space, run.network, run.task, run.data, run.controller, run.estimator, run.status)
    return "\n".join(part for part in parts if part).casefold()


def table(runs: tuple[RunSummary, ...], paper: Paper, of: int | None = None) -> list[Text]:
    """A heading and a line per run, or one line that says that there are none; at the end, of how many these are."""
    if not runs:
        none = f"none of the {of} runs is like that" if of else "no runs yet; metanas search makes one"
        return [Text(none, style=DIM)]
    name = min(max(len(paper.safe(run.name)) for run in runs), 32)
    words = (run.status for run in runs if not run.status.startswith("damaged"))
    status = min(max((len(paper.safe(word)) + 2 for word in words), default=10), 24)
    far = max([9, *(len(_far(run)) for run in runs)])
    head = f"{'run':<{name}}  {'status':<{status}}  {'epoch':>{far}}  {'test':>8}  {'elapsed':>7}  search"
    lines = [Text(head, style=DIM), *(_line(run, name, status, far, paper) for run in runs)]
    if of is not None and of > len(runs):
        lines.append(Text(f"{len(runs)} of {of} runs", style=DIM))
    return lines


def _far(run: RunSummary) -> str:
    """Epochs of a search; outer steps of a tuning or a few-shot run, or the trials before them."""
    if run.kind == "search":
        return "-" if run.epoch is None else f"{run.epoch}/{run.epochs or '?'}"
    if run.step is not None:
        return f"step {run.step}/{run.steps or '?'}"
    return "-" if run.trial is None else f"trial {run.trial}/{run.trials or '?'}"


def _line(run: RunSummary, name: int, wide: int, far: int, paper: Paper) -> Text:
    word = _state(run)
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
