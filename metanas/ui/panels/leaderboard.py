"""The best architectures so far: what each came to in the search, when that was, and its test where it was trained.

    rank      test  supernet  seen        network     architecture
       1     98.4%★    95.8%  epoch 9     derived     |nor_conv_3x3~0|+...
    ┄┄┄┄     96.2%   mean of 3 random
       2     95.6%         -  -           random 2    |avg_pool_3x3~0|+...
       3         -     93.1%  epoch 5     -           |skip_connect~0|+...

A transfer without a search has one line, and in place of the mean the same network from scratch. Of a controller that
mixes, the column in the middle is the score of a derived architecture with the weights of the
supernet, which says less than a training from scratch; of one that needs only values, it is what is maximised. What was
tested comes first. Where some were trained longer than others (Hyperband, a refinement), a column says for how many
epochs, and the longest trained come first: values of trainings of different length do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from rich.text import Text

from metanas.ui.fields import Label
from metanas.ui.panels.timeline import label_text
from metanas.ui.paper import DIM, GOOD, OUTER, Paper
from metanas.ui.state import BEST, RunState
from metanas.ui.units import loss, score
from metanas.ui.verdict import called, rivals

RANDOM = "random "  # what the names of the networks of the baseline begin with
SCORE, EPOCHS, SEEN, NAME = 8, 6, 10, 10  # cells of a column


@dataclass(frozen=True)
class Entry:
    """One architecture: what the search made of it, and the network that was trained."""

    architecture: Mapping[str, Label]
    key: str | None
    value: float | None = None
    seen: str = "-"
    network: str | None = None
    test: float | None = None
    epochs: int | None = None  # of the training that the value is from, where some are longer than others


def leaderboard(state: RunState, paper: Paper) -> list[Text]:
    """A headline with how many were seen, and a line per architecture; the mean of the random ones stands where it
    belongs.

    >>> from metanas.ui.state import fold
    >>> state = RunState("first")
    >>> for step, value in ((1, 0.5), (2, 0.75)):
    ...     state = fold(state, {"kind": "value", "step": step, "value": value, "architecture": {"a": str(step)}})
    >>> for line in leaderboard(state, Paper(width=60)): print(line.plain.rstrip())
    ── leaderboard ────────────────────────────── 2 evaluated ──
    rank      test     value  seen        network     architect…
       1         -    0.7500  step 2      -           a: 2
       2         -    0.5000  step 1      -           a: 1
    """
    if state.tuning or state.few_shot:
        return []
    entries = ranked(state)
    if not entries:
        return []
    lengths = any(entry.epochs is not None for entry in entries)
    lines = [paper.rule("leaderboard", _note(state)), _head(state, lengths)]
    rival, words = _rival(state)
    tests = [entry.test for entry in entries if entry.test is not None and entry.test == entry.test]
    best = max(tests if state.searches or rival is None else [*tests, rival], default=None)
    marked = rival is None
    for rank, entry in enumerate(entries, start=1):
        if not marked and rival is not None and (entry.test is None or not entry.test >= rival):
            lines.append(_mark(rival, words, state, paper))
            marked = True
        lines.append(_line(rank, entry, best, lengths, state, paper))
    if not marked and rival is not None:
        lines.append(_mark(rival, words, state, paper))
    return paper.rows(lines)


def ranked(state: RunState) -> list[Entry]:
    """At most BEST architectures, each once: those that were tested by their test, the others by their value."""
    found: dict[tuple[tuple[str, Label], ...], Entry] = {}
    for net in state.networks:
        at = _place(net.architecture)
        if at and at not in found:
            found[at] = Entry(net.architecture, net.key, network=net.network, test=net.test_score)
    for entry in _seen(state):
        at = _place(entry.architecture)
        trained = found.get(at)
        if trained:
            found[at] = replace(trained, value=entry.value, seen=entry.seen, epochs=entry.epochs)
        elif at:
            found[at] = entry
    return sorted(found.values(), key=_order)[:BEST]


def baseline(state: RunState) -> tuple[float | None, int]:
    """The mean test score of the random networks, and how many there are."""
    scores = [net.test_score for net in state.networks if net.network.startswith(RANDOM) and net.test_score is not None]
    finite = [value for value in scores if value == value]
    return (sum(finite) / len(finite), len(finite)) if finite else (None, 0)


def _seen(state: RunState) -> list[Entry]:
    """What the search evaluated or derived; of one that was derived again and again, its best score and that epoch.

    Of a transfer without a search, what it carries over.
    """
    if not state.searches and state.carried:
        return [Entry(state.carried, None, network=state.planned[0])]
    if state.best:
        return [Entry(p.architecture, p.key, p.value, f"step {p.step}", epochs=p.epochs) for p in state.best]
    found: dict[tuple[tuple[str, Label], ...], Entry] = {}
    for point in state.history:
        at = _place(point.architecture)
        before = found.get(at)
        if not at or (before and _rank(before.value) >= _rank(point.derived_score)):
            continue
        found[at] = Entry(point.architecture, point.key, point.derived_score, f"epoch {point.epoch}")
    return list(found.values())


def _derived_count(state: RunState) -> int:
    return len({_place(point.architecture) for point in state.history if point.architecture})


def _place(architecture: Mapping[str, Label]) -> tuple[tuple[str, Label], ...]:
    return tuple(sorted(architecture.items(), key=lambda pair: pair[0]))


def _order(entry: Entry) -> tuple[bool, float, bool, int, float]:
    value = _rank(entry.value)
    return entry.test is None, -_rank(entry.test), value == -math.inf, -(entry.epochs or 0), -value


def _rank(value: float | None) -> float:
    return value if value is not None and value == value else float("-inf")


def _note(state: RunState) -> str:
    if not state.searches:
        return "carried over"
    return f"{state.values[-1].step} evaluated" if state.values else f"{_derived_count(state)} derived"


def _head(state: RunState, lengths: bool) -> Text:
    column = "value" if _shown(state) is loss else "supernet"
    after = f"{'epochs':>{EPOCHS}}  " if lengths else ""
    search = f"{column:>{SCORE}}  {after}{'seen':<{SEEN}}  " if state.searches else ""
    return Text(f"rank  {'test':>{SCORE}}  {search}{'network':<{NAME}}  architecture", style=DIM)


def _shown(state: RunState) -> Callable[[float | None], str]:
    """How the value of an architecture is written; those of a refinement after a search are its own."""
    return partial(score, metric=state.metric) if state.history and not state.values else loss


def _line(rank: int, entry: Entry, best: float | None, lengths: bool, state: RunState, paper: Paper) -> Text:
    won = best is not None and entry.test == best
    test = score(entry.test, state.metric) + (paper.glyph("★", "*") if won else " ")
    line = Text(f"{rank:>4}  ", style=DIM).append(f"{test:>{SCORE + 1}} ", style=f"not dim {GOOD if won else ''}")
    if state.searches:
        after = f"{'-' if entry.epochs is None else entry.epochs:>{EPOCHS}}  " if lengths else ""
        line.append(f"{_shown(state)(entry.value):>{SCORE}}  {after}{entry.seen:<{SEEN}}  ", style="not dim")
    line.append(f"{paper.cell(entry.network or '-', NAME)}  ", style="not dim bold" if entry.network else "not dim")
    told = entry.key or ", ".join(f"{name}: {label_text(label)}" for name, label in entry.architecture.items())
    return line.append(paper.safe(told), style=DIM)


def _rival(state: RunState) -> tuple[float | None, str]:
    """The score that is to be beaten, and whose it is."""
    if not state.searches:
        return next(((net.test_score, called(state, [net])) for net in rivals(state)), (None, ""))
    mean, count = baseline(state)
    return mean, f"mean of {count} random"


def _mark(value: float, words: str, state: RunState, paper: Paper) -> Text:
    dash = paper.glyph("┄", "-") * 4
    return Text(f"{dash}  {score(value, state.metric):>{SCORE}}   {words}", style=OUTER)
