"""The structure that was learned: mixing weights by choice and candidate as a heat map, with a slider over the epochs.

Choices with the same candidates share a table; a choice with more candidates than a table has room for has a row with
the heaviest by name. What the slider needs is data beside the tables: hundredths of each weight, the cells that were
taken, and words. Without scripts the last epoch is shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from metanas.ui.fields import Label
from metanas.ui.page.markup import safe, section, table, tag
from metanas.ui.panels.timeline import label_text
from metanas.ui.points import Choice, EpochPoint
from metanas.ui.state import RunState
from metanas.ui.text import inert
from metanas.ui.units import lasting, loss

LEVELS = 10  # shades of cividis
WIDEST = 12  # candidates that a table has columns for
HEAVIEST = 4  # candidates named of a choice that is too wide for a table
FRAMES, NUMBERS = 240, 150_000  # epochs that can be replayed, and weights in all of them
ROWS = 400  # choices shown

Group = tuple[tuple[str, ...], list[Choice]]


@dataclass
class Words:
    """Every text once, by its number."""

    known: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))


def structure(state: RunState) -> str:
    """The section; of a controller that needs only values, the architecture that is the best so far; of a transfer
    without a search, the one that is carried over.
    """
    last = state.last
    if last is None:
        return _evaluated(state)
    groups = _groups(state, last)
    points = _frames(state, groups)
    tables = [_table(group, last, _top(group, points)) for group in groups]
    foot = tag("p", tag("code", safe(last.key or ""), data_text=""), cls="key") if last.key else ""
    replay = _replay(groups, points, bool(last.key)) if len(points) > 1 and last.weights else ""
    return section("structure", replay, *tables, foot, note=f"epoch {last.epoch}: {_numbers(last)}".rstrip(": "))


def _numbers(point: EpochPoint) -> str:
    named = (("entropy", point.entropy), ("gap", point.gap))
    return ", ".join(f"{name} {loss(value)}" for name, value in named if value is not None)


def _groups(state: RunState, last: EpochPoint) -> list[Group]:
    """The choices by their candidates, in order; what the space does not list is shown with numbered candidates.

    Those without weights are one group, without candidates.
    """
    known = {choice.name: choice for choice in state.choices}
    groups: dict[tuple[str, ...], list[Choice]] = {}
    for name in list(dict.fromkeys([*known, *last.weights, *last.architecture]))[:ROWS]:
        numbered = tuple(str(place) for place in range(len(last.weights.get(name, ()))))
        choice = known.get(name) or Choice(name, numbered)
        choice = choice if name in last.weights else Choice(name, ())
        groups.setdefault(choice.candidates, []).append(choice)
    return list(groups.items())


def _frames(state: RunState, groups: Sequence[Group]) -> list[EpochPoint]:
    """The epochs that can be replayed, evenly chosen, the last among them."""
    cells = sum(len(candidates) * len(choices) for candidates, choices in groups) or 1
    most = max(min(FRAMES, NUMBERS // cells), 1)
    every = -(-len(state.history) // most)
    return list(state.history[::-1][:: max(every, 1)])[::-1]


def hundredths(weight: float) -> int:
    """
    >>> hundredths(0.714), hundredths(math.nan), hundredths(math.inf)
    (71, -1, -1)
    """
    return round(100 * weight) if math.isfinite(weight) and 0 <= weight < 1e6 else -1


def level(weight: int, top: int) -> int:
    """The shade of a weight, both in hundredths.

    >>> level(0, 70), level(35, 70), level(70, 70), level(-1, 70)
    (0, 5, 9, -1)
    """
    return min(weight * LEVELS // max(top, 1), LEVELS - 1) if weight >= 0 else -1


def _top(group: Group, points: Sequence[EpochPoint]) -> int:
    """The weight of the brightest shade, for all epochs: the largest, at least twice the uniform one."""
    candidates, choices = group
    found = (hundredths(w) for point in points for choice in choices for w in point.weights.get(choice.name, ()))
    return max([*found, 200 // max(len(candidates), 1), 1])


def _taken(label: Label | None) -> tuple[str, ...]:
    return () if label is None else (label,) if isinstance(label, str) else label


def _weights(choice: Choice, point: EpochPoint) -> list[int]:
    values = point.weights.get(choice.name, ())
    return [hundredths(values[n]) if n < len(values) else -1 for n in range(len(choice.candidates))]


def _is_table(group: Group) -> bool:
    return 0 < len(group[0]) <= WIDEST


def _table(group: Group, point: EpochPoint, top: int) -> str:
    candidates, choices = group
    if not _is_table(group):
        return _named_table(group, point)
    rows = []
    for choice in choices:
        taken = _taken(point.architecture.get(choice.name))
        cells = [
            _cell(weight, candidate in taken, top, f"{choice.name}: {candidate}")
            for candidate, weight in zip(candidates, _weights(choice, point), strict=True)
        ]
        rows.append([tag("b", safe(choice.name)), *cells, _text_cell(_derived(choice, point))])
    heads = ["choice", *map(safe, candidates), "derived"]
    return table(heads, rows, range(1, len(candidates) + 1), cls="heat") + _legend(top)


def _named_table(group: Group, point: EpochPoint) -> str:
    """Rows in words, of choices without weights or with too many."""
    rows = []
    for choice in group[1]:
        heaviest = [_text_cell(_heaviest(choice, point))] if group[0] else []
        rows.append([tag("b", safe(choice.name)), *heaviest, _text_cell(_derived(choice, point))])
    return table(("choice", "heaviest", "derived") if group[0] else ("choice", "derived"), rows, cls="heat")


def _cell(weight: int, taken: bool, top: int, about: str) -> str:
    shade = level(weight, top)
    cls = f"w{'none' if shade < 0 else shade}{' taken' if taken else ''}"
    return tag("td", weight_text(weight, taken), cls=cls, data_top=top, title=about)


def weight_text(weight: int, taken: bool) -> str:
    """
    >>> weight_text(71, True), weight_text(5, False), weight_text(-1, False)
    ('▸0.71', '0.05', '-')
    """
    return f"{'▸' if taken else ''}{weight / 100:.2f}" if weight >= 0 else f"{'▸' if taken else ''}-"


def _text_cell(text: str) -> str:
    return tag("td", safe(text), data_text="")


def _derived(choice: Choice, point: EpochPoint) -> str:
    shown = label_text(point.architecture.get(choice.name))
    return f"{shown}, was {label_text(point.before.get(choice.name))}" if choice.name in point.changed else shown


def _heaviest(choice: Choice, point: EpochPoint) -> str:
    taken = _taken(point.architecture.get(choice.name))
    pairs = [(c, w) for c, w in zip(choice.candidates, point.weights.get(choice.name, ()), strict=False) if w == w]
    first = sorted(pairs, key=lambda pair: (pair[0] not in taken, -pair[1]))[:HEAVIEST]
    return ", ".join(f"{'▸' if name in taken else ''}{name} {weight:.2f}" for name, weight in first)


def _legend(top: int) -> str:
    steps = (tag("span", cls=f"w{shade}") for shade in range(LEVELS))
    words = tag("span", f"▸ derived, weight 0 to {top / 100:.2f}")
    return tag("p", tag("span", *steps, cls="scale", aria_hidden="true"), " ", words, cls="legend")


def _replay(groups: Sequence[Group], points: Sequence[EpochPoint], keyed: bool) -> str:
    """The slider, hidden until a script shows it, and its data."""
    words, frames = Words(), []
    for point in points:
        weights: list[int] = []
        taken: list[int] = []
        texts: list[str] = []
        for group in groups:
            for choice in group[1]:
                if _is_table(group):
                    chosen = _taken(point.architecture.get(choice.name))
                    taken += [len(weights) + n for n, name in enumerate(group[0]) if name in chosen]
                    weights += _weights(choice, point)
                elif group[0]:
                    texts.append(_heaviest(choice, point))
                texts.append(_derived(choice, point))
        texts += [point.key or ""] if keyed else []
        numbers = [words.number(inert(text)) for text in texts]
        frames.append({"e": point.epoch, "n": words.number(_numbers(point)), "w": weights, "k": taken, "t": numbers})
    data = json.dumps({"words": list(words.known), "frames": frames}, separators=(",", ":")).replace("<", "\\u003c")
    last = len(points) - 1
    slider = tag("input", type="range", min=0, max=last, value=last, step=1, aria_label="epoch")
    play = tag("button", "play", type="button")
    controls = tag("p", play, slider, tag("output", safe(f"epoch {points[-1].epoch}")), id="replay", hidden="")
    return controls + tag("script", data, type="application/json", id="frames")


def _evaluated(state: RunState) -> str:
    first = next((net for net in state.networks if net.network == state.planned[0]), None)
    best = state.best[0] if state.best else None
    found = best.architecture if best else first.architecture if first else state.carried
    key = best.key if best else first.key if first else None
    note = (
        f"value {loss(best.value)}{lasting(best.epochs)}"
        if best
        else "as trained"
        if state.searches
        else "as carried over"
    )
    rows = [[tag("b", safe(name)), safe(label_text(label))] for name, label in found.items()]
    foot = tag("p", tag("code", safe(key)), cls="key") if key and rows else ""
    return section("structure", table(("choice", "taken"), rows[:ROWS]), foot, note=note)
