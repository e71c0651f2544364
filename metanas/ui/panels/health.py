"""Whether the search is well: how much of it skips, how much is decided, and what deciding costs.

    skip share   0.75  ▁▂▃▅▆▇█    6 of 8 choices
    entropy    0.5658  ██▇▇▆▆▅    1 at first: every candidate weighs the same
    gap        0.2889  ▁▁▂▃▄▆▇    derived loss minus that of the mixture
    ▲ skip share 0.75: the search may be collapsing to skip connections; ...

A differentiable search is known to collapse to operations without parameters, skip connections above all: Zela et al.
(ICLR 2020, arXiv:1909.09656) find degenerate architectures where the minimum is sharp and discretising costs much, and
Chu et al. (Fair DARTS, ECCV 2020, arXiv:1911.12126) trace them to the advantage that a skip connection has where
candidates compete for one weight. Neither gives a share that is too much. The alarm here is at a half (COLLAPSED): a
blind choice among DARTS's seven operations skips once in seven, and the rule of DARTS+ (Liang et al.,
arXiv:1909.06035), to stop when two of the eight edges of a cell skip, is at a quarter. A search that is over with
weights that are nearly equal (UNDECIDED, a bound of ours) is told of as well.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from rich.text import Text

from metanas.ui.cells import taken
from metanas.ui.paper import BAD, DIM, OUTER, WARN, Paper
from metanas.ui.plot import sparkline
from metanas.ui.points import Choice, EpochPoint
from metanas.ui.state import RunState
from metanas.ui.units import loss

SKIPS = {"skip", "skip_connect", "identity"}  # what skips are called, in runs whose space does not tell them
COLLAPSED = 0.5  # share of skips that is an alarm
FEWEST = 2  # choices that could skip, below which a share says nothing
UNDECIDED = 0.95  # mean entropy, as a share of the highest, at the end of a search
WIDEST = 60  # cells of a sparkline
REMARK = 36  # cells left for a remark


def health(state: RunState, paper: Paper) -> list[Text]:
    """A headline that says whether all is well, a line for each number over the epochs, and what is wrong in words.

    >>> from metanas.ui.state import fold
    >>> space = Choice("a", ("skip_connect", "conv")), Choice("b", ("skip_connect", "conv"))
    >>> state = fold(RunState("first", choices=space), {"kind": "epoch", "epoch": 1, "entropy": 0.5, "gap": 0.125,
    ...     "architecture": {"a": "conv", "b": "conv"}})
    >>> for line in health(state, Paper(width=64)): print(line.plain.rstrip())
    ── health ────────────────────────────────────────── no alarm ──
    skip share      0.00  ▁  0 of 2 choices that could
    entropy       0.5000  ▅  1: nothing is decided, 0: all is
    gap           0.1250  ▅  derived loss minus the mixture's
    """
    if not state.history or state.tuning or state.few_shot:
        return []
    shares = [skip_share(point, state.choices) for point in state.history]
    rows = [
        ("skip share", shares, _share, _skips(state.history[-1], state.choices)),
        ("entropy", [point.entropy for point in state.history], loss, "1: nothing is decided, 0: all is"),
        ("gap", [point.gap for point in state.history], loss, "derived loss minus the mixture's"),
        ("cost", [point.cost for point in state.history], _cost, "expected, of the mixture"),
    ]
    if any(point.eigenvalue is not None for point in state.history):
        steep = [point.eigenvalue for point in state.history]
        rows.append(("eigenvalue", steep, loss, "largest, of the outer loss in omega"))
    known = [row for row in rows if any(value is not None for value in row[1])]
    if not known:
        return []
    wrong = alarms(state)
    note = "no alarm" if not wrong else f"{len(wrong)} alarm{'s' * (len(wrong) > 1)}"
    lines = [paper.rule("health", note), *(line for words in wrong for line in _alarm(words, paper))]
    for name, values, show, remark in known:
        line = Text(f"{name:<11}", style="bold").append(f"{show(values[-1]):>9}  ", style="not bold")
        room = max(min(paper.width - line.cell_len - REMARK, WIDEST, len(values)), 1)
        spark = sparkline(
            values,
            room,
            low=0.0 if name in ("skip share", "entropy") else None,
            high=_top(name),
            ascii_only=paper.ascii_only,
        )
        line.append(f"{spark}  " if spark else "", style=f"not bold {OUTER}")
        lines.append(line.append(remark, style=f"not bold {DIM}"))
    return paper.rows(lines)


def skip_share(point: EpochPoint, choices: Iterable[Choice]) -> float | None:
    """Of the derived choices that could skip, those that do; None where none could.

    >>> ops = ("skip_connect", "conv")
    >>> point = EpochPoint(1, *[None] * 9, {}, {"a": "conv", "b": "skip_connect"}, {}, ())
    >>> skip_share(point, [Choice("a", ops), Choice("b", ops), Choice("c", ("conv",))]), skip_share(point, [])
    (0.5, None)
    """
    skips, could = _counted(point, choices)
    return skips / could if could else None


def alarms(state: RunState) -> list[str]:
    """What is wrong, in words, with what may be done about it; [] where nothing is known to be."""
    if not state.history:
        return []
    last, found = state.history[-1], list[str]()
    if state.guard:
        found.append(state.guard)
    skips, could = _counted(last, state.choices)
    if could >= FEWEST and skips / could >= COLLAPSED:
        share = f"skip share {skips / could:.2f}: the search may be collapsing to skip connections"
        found.append(f"{share}; derivation by perturbation (controller darts_pt) may help")
    over = state.epochs is not None and last.epoch >= state.epochs and not state.guard
    if over and last.entropy is not None and last.entropy >= UNDECIDED:
        found.append(
            f"entropy {loss(last.entropy)} at the end: the weights are nearly equal, so what was derived may be "
            "chance; more epochs may help"
        )
    return found


def _counted(point: EpochPoint, choices: Iterable[Choice]) -> tuple[int, int]:
    """The derived choices that skip, and those that could. An operation fused with its edge (`edge3/skip`) counts."""
    skips = could = 0
    for choice in choices:
        those = _skipping(choice)
        if choice.name in point.architecture and those:
            could += 1
            skips += not those.isdisjoint(taken(point.architecture[choice.name]))
    return skips, could


def _skipping(choice: Choice) -> set[str]:
    """The candidates that skip, as the space of the run says, and by their names where it does not."""
    if choice.skips is not None:
        return set(choice.skips)
    return {label for label in choice.candidates if label.rpartition("/")[2] in SKIPS}


def _skips(point: EpochPoint, choices: Iterable[Choice]) -> str:
    skips, could = _counted(point, choices)
    return f"{skips} of {could} choices that could"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _cost(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _top(name: str) -> float | None:
    return 1.0 if name in ("skip share", "entropy") else None


def _alarm(words: str, paper: Paper) -> list[Text]:
    mark = paper.glyph("▲", "!")
    wrapped = textwrap.wrap(f"{mark} {words}", max(paper.width, 8), subsequent_indent="  ")
    return [Text(line, style=f"bold {WARN if words.startswith(('entropy', 'a guard')) else BAD}") for line in wrapped]
