"""Runs side by side (`metanas compare`): facts, losses in one plot, what they were asked for, and what was derived.

                    a first           b second          c third
    status          finished          finished        * running
    test score      98.6%           * 97.2%           * -
    1<-0            nor_conv_3x3    * skip_connect      nor_conv_3x3

A star marks what differs from the first run. In the plot each run is drawn in its letter, so that no colour is needed.
Runs that do not fit beside each other come in groups below each other. Of runs of different kinds (a search beside a
tuning), only what all the kinds have is compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from metanas.ui.fields import Label
from metanas.ui.panels.curves import drawn
from metanas.ui.panels.leaderboard import baseline
from metanas.ui.panels.timeline import label_text
from metanas.ui.paper import DIM, WARN, Paper
from metanas.ui.plot import Series, Values, finite
from metanas.ui.points import Trained
from metanas.ui.state import RunState, status_at
from metanas.ui.units import count, duration, loss, score
from metanas.ui.verdict import verdict

FEWEST, MOST = 2, 8  # runs side by side
LETTERS = "abcdefgh"
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#f0e442", "#999999")  # Okabe and Ito
ROWS = 9  # of a plot
LABEL, LONGEST, NARROWEST, WIDEST = 14, 30, 17, 44  # cells of the names of the facts, and of the column of a run
NAMED = 16  # cells of the name of a run in the legend of a plot
LISTED = 80  # settings that differ, and choices, that are listed
NOTHING = Trained("", None, {}, None, None, None, None)
KINDS = SEARCH, TRANSFER, TUNING, FEW_SHOT = ("search", "transfer", "tuning", "few-shot run")
LEARNS = (SEARCH, TUNING, FEW_SHOT)
Fact = tuple[str, Callable[[RunState], str], tuple[str, ...]]
FACTS: tuple[Fact, ...] = (  # name, what a run says of it, and the kinds between which it can be compared
    ("space", lambda state: state.space or (state.tuning.network if state.tuning else None) or "-", KINDS),
    ("data", lambda state: state.data or "-", KINDS),
    ("controller", lambda state: state.controller or "-", (SEARCH, TRANSFER)),
    (
        "estimator",
        lambda state: state.estimator or (state.tuning.method if state.tuning else None) or "-",
        (SEARCH, TUNING),
    ),
    ("seed", lambda state: "-" if state.seed is None else str(state.seed), KINDS),
    ("search", lambda state: _far(state), LEARNS),
    ("outer loss", lambda state: _last_of(state, "outer loss"), LEARNS),
    ("best value", lambda state: _last_of(state, "best value"), ()),
    ("test score", lambda state: score(_found(state).test_score, state.metric), KINDS),
    ("random, mean", lambda state: score(baseline(state)[0], state.metric), ()),
    ("margin", lambda state: verdict(state).partition(" against")[0].partition(" ")[2] or "-", ()),  # against another
    ("test loss", lambda state: loss(_found(state).test_loss), KINDS),
    ("parameters", lambda state: count(_found(state).parameters), KINDS),
    ("multiply-adds", lambda state: count(_found(state).multiply_adds), (SEARCH, TRANSFER)),
    ("search time", lambda state: duration(state.found_at or None), LEARNS),
)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, as a value that draws itself."""

    states: tuple[RunState, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from comparison(self.states, Paper(options.max_width, now=time.time(), ascii_only=options.ascii_only))


def comparison(states: Sequence[RunState], paper: Paper) -> list[Text]:
    """All lines, as wide as the paper.

    Args:
        states: at most MOST runs; the first is what the others are compared with.

    >>> lines = comparison([RunState("first"), RunState("second", data="digits")], Paper(width=60))
    >>> for line in lines[:4]: print(line.plain.rstrip())
    ── facts ─────────────────────── * differs from the first ──
                    a first                b second
    status          waiting                waiting
    data            -                    * digits
    """
    shown = list(states[:MOST])
    kinds = {kind_of(state) for state in shown}
    facts = [("status", [status_at(state, paper.now) for state in shown])]
    facts += [(name, [tell(s) for s in shown]) for name, tell, of in FACTS if len(kinds) < 2 or kinds <= {*of}]
    known = [(name, told) for name, told in facts if set(told) != {"-"}]
    lines = [paper.rule("facts", "* differs from the first"), *_kinds(shown), *_table(shown, known, paper)]
    return paper.rows([*lines, *_curves(shown, paper), *_settings(shown, paper), *_derived(shown, paper)])


def kind_of(state: RunState) -> str:
    """One of KINDS; a transfer that searches is a search.

    >>> kind_of(RunState("first")), kind_of(RunState("first", how="frozen"))
    ('search', 'transfer')
    """
    return FEW_SHOT if state.few_shot else TUNING if state.tuning else SEARCH if state.searches else TRANSFER


def differing(recipes: Sequence[Mapping[str, str]], kinds: Sequence[str] | None = None) -> list[tuple[str, list[str]]]:
    """The dotted paths on which not all recipes agree, with what each holds; "-" where one does not say.

    A recipe without a section at all ("", as of an older version) is not compared in it.

    Args:
        recipes: flat, {dotted path: value}.
        kinds: of the runs; a path that some kind never has is left out. None: they are all of one.

    >>> differing([{"seed": "0", "search.lr": "0.1"}, {"seed": "1", "search.lr": "0.1"}, {"seed": "0", "x.lr": "1"}])
    [('seed', ['0', '1', '0'])]
    >>> differing([{"search.lr": "0.1"}, {"search.budget": "4"}])
    [('search.lr', ['0.1', '-']), ('search.budget', ['-', '4'])]
    >>> differing([{"seed": "0", "search.lr": "0.1"}, {"seed": "1", "search.budget": "4"}], ["search", "tuning"])
    [('seed', ['0', '1'])]
    """
    rows = []
    kinds = kinds or [""] * len(recipes)
    sections = [{path.partition(".")[0] for path in recipe} for recipe in recipes]
    for path in dict.fromkeys(path for recipe in recipes for path in recipe):
        section = path.partition(".")[0]
        told = [r.get(path, "-" if section in has else "") for r, has in zip(recipes, sections, strict=True)]
        owners = {kind for kind, recipe in zip(kinds, recipes, strict=True) if path in recipe}
        if owners == {*kinds} and len(set(told) - {""}) > 1:
            rows.append((path, told))
    return rows


def _kinds(states: Sequence[RunState]) -> list[Text]:
    """A line that says where the runs are not all of one kind."""
    kinds = list(dict.fromkeys(map(kind_of, states)))
    words = f"the kinds differ ({', '.join(kinds)}): only what they have in common is shown"
    return [Text(words, style=WARN)] if len(kinds) > 1 else []


def _last_of(state: RunState, name: str) -> str:
    kind, values = _losses(state)
    return loss(finite(values)[-1] if finite(values) else None) if kind.startswith(name) else "-"


def _found(state: RunState) -> Trained:
    return next((net for net in state.networks if net.network == state.planned[0]), NOTHING)


def _far(state: RunState) -> str:
    if kind_of(state) == TRANSFER:
        return "-"
    if state.tuning:
        return f"{state.tuning.last.step if state.tuning.last else 0}/{state.tuning.steps or '?'} steps"
    if state.values and not state.history:
        return f"{state.values[-1].step}/{state.budget or '?'} networks"
    return f"{state.last.epoch if state.last else 0}/{state.epochs or '?'} epochs"


def _losses(state: RunState) -> tuple[str, Values]:
    """What goes up or down over the search, by its name, and its unit of time."""
    if state.tuning:
        return "outer loss by step", [point.outer_loss for point in state.tuning.trace]
    if state.values and not state.history:
        return "best value by network", [point.best for point in state.values]
    if len(state.history) > 1:
        return "outer loss by epoch", [point.outer_loss for point in state.history]
    return "outer loss by step", [point.outer_loss for point in state.steps]


def _architecture(state: RunState) -> Mapping[str, Label]:
    """What was derived: of the network that was trained, else the newest of the search; or what is carried over."""
    if _found(state).architecture:
        return _found(state).architecture
    if state.last and state.last.architecture:
        return state.last.architecture
    return state.best[0].architecture if state.best else state.carried


def _settings(states: Sequence[RunState], paper: Paper) -> list[Text]:
    """What differs in the recipes."""
    kinds = [kind_of(state) for state in states]
    rows = differing([state.recipe for state in states], kinds)
    if not any(state.recipe for state in states):
        return []
    note = f"{len(rows)} setting{'s' * (len(rows) != 1)} differ{'s' * (len(rows) == 1)}"
    note = note if rows else "the same" if len({*kinds}) < 2 else "the same in what they have in common"
    return [paper.rule("recipes", note), *(_table(states, rows[:LISTED], paper) if rows else [])]


def _derived(states: Sequence[RunState], paper: Paper) -> list[Text]:
    """The choices that can be compared: of a space that two runs have, or with a name in both."""
    found = [_architecture(state) for state in states]
    spaces = [state.space for state, one in zip(states, found, strict=True) if one]
    rows = []
    for name in dict.fromkeys(name for one in found for name in one):
        owners = [state.space for state, one in zip(states, found, strict=True) if name in one]
        if len(owners) > 1 or spaces.count(owners[0]) > 1:
            pairs = zip(states, found, strict=True)
            has = [bool(one) and (name in one or state.space in owners) for state, one in pairs]
            rows.append((name, [label_text(one.get(name)) if h else "" for one, h in zip(found, has, strict=True)]))
    if not rows:
        none = paper.rule("derived architectures", "no choice in common")
        return [none] if sum(map(bool, found)) > 1 else []
    differ = sum(len(set(told) - {""}) > 1 for _, told in rows)
    title = paper.rule("derived architectures", f"{differ} of {len(rows)} choices differ")
    return [title, *_table(states, rows[:LISTED], paper)]


def _table(states: Sequence[RunState], rows: Sequence[tuple[str, list[str]]], paper: Paper) -> list[Text]:
    """A heading with the names of the runs, and a row per fact; the runs that do not fit follow below."""
    longest = max((len(paper.safe(name)) for name, _ in rows), default=0)
    label = min(max(longest + 1, LABEL), LONGEST, max(paper.width // 2, 1))
    room = paper.width - label
    columns = min(max(room // NARROWEST, 1), len(states))
    wide = max(min(room // columns, WIDEST), 5)
    lines: list[Text] = []
    for first in range(0, len(states), columns):
        places = range(first, min(first + columns, len(states)))
        head = Text(" " * label)
        for place in places:
            head.append(f"  {LETTERS[place]} ", style=f"bold {COLOURS[place]}")
            head.append(paper.cell(states[place].name, wide - 4), style="bold")
        head.rstrip()
        lines += [Text()] * bool(first) + [head]
        lines += [_row(paper.cell(name, label), told, places, wide, paper) for name, told in rows]
    return lines


def _row(name: str, told: list[str], places: range, wide: int, paper: Paper) -> Text:
    line = Text(name, style=DIM)
    first = next((one for one in told if one), "")
    for place in places:
        other = told[place] not in (first, "")
        style = f"not dim bold {WARN}" if other else "not dim"
        line.append("* " if other else "  ", style=style).append(paper.cell(told[place], wide - 2), style=style)
    line.rstrip()
    return line


def _curves(states: Sequence[RunState], paper: Paper) -> list[Text]:
    """A plot for each kind of curve that the runs have, over the longest of them; of runs of different kinds, for those
    that two have.
    """
    lines: list[Text] = []
    fewest = 2 if len({kind_of(state) for state in states}) > 1 else 1
    told = [_losses(state) for state in states]
    for name in dict.fromkeys(name for name, values in told if finite(values)):
        longest = max(len(values) for kind, values in told if kind == name)
        shown = tuple(
            Series(_short(state, paper), [*values, *[None] * (longest - len(values))], colour, letter)
            for state, letter, colour, (kind, values) in zip(states, LETTERS, COLOURS, told, strict=False)
            if kind == name and finite(values)
        )
        if len(shown) >= fewest:
            lines += [paper.rule(name), *drawn(("", loss, shown), paper.width, ROWS, paper, marks=True)]
    return lines


def _short(state: RunState, paper: Paper) -> str:
    return paper.cell(state.name, NAMED).rstrip()
