"""What Optuna tried before the tuning itself: the best trials first, and how many were pruned or failed.

1    0.2900  complete  rule adam, width 64
2    0.3100  complete  rule sgd, width 32
3    0.8100  pruned    rule sgd, width 16
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from metanas.ui.paper import BAD, DIM, GOOD, WARN, Paper
from metanas.ui.state import RunState
from metanas.ui.tuning import Trial, chosen, counted
from metanas.ui.units import loss

STYLES = {"pruned": WARN, "failed": BAD}


def trials(state: RunState, paper: Paper) -> list[Text]:
    """A headline with the counts, and a line per trial: its number, its outer loss, its state, and what was chosen.

    >>> from metanas.ui.state import fold
    >>> event = {"kind": "trial", "trial": 3, "trials": 9, "value": 0.5, "state": "complete"}
    >>> state = fold(RunState("first"), {**event, "values": {"inner.lr": 0.1}})
    >>> for line in trials(state, Paper(width=50)): print(line.plain.rstrip())
    ── trials ────────────────── 1 of 9: 1 complete ──
      3    0.5000  complete  lr 0.1
    """
    tuning = state.tuning
    if tuning is None or not tuning.best:
        return []
    paths = {path for trial in tuning.best for path in trial.values}
    lines = [paper.rule("trials", counted(tuning))]
    lines += [_line(trial, trial is tuning.winner, paths, paper) for trial in tuning.best]
    return paper.rows(lines)


def _line(trial: Trial, best: bool, paths: Iterable[str], paper: Paper) -> Text:
    line = Text(f"{trial.trial:>3}  ", style=DIM)
    line.append(f"{loss(trial.value):>8}  ", style=f"not dim bold {GOOD if best else ''}")
    line.append(f"{trial.state:<8}  ", style=f"not dim {STYLES.get(trial.state, '')}")
    line.append(paper.safe(chosen(trial, paths)), style="not dim")
    if trial.reason:
        line.append(f"  {paper.safe(trial.reason)}", style=f"not dim {STYLES.get(trial.state, '')}")
    return line
