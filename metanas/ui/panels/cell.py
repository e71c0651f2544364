"""The derived cell as a graph: a column a node, a row an edge, and what changed since the derivation before.

    0
    ├──▶1           nor_conv_3x3
    ├╌╌╌│╌╌▶2       none  ◆ was skip_connect
    │   ├──▶│       nor_conv_3x3
    └───│───│──▶3   skip_connect
        └───│──▶│   nor_conv_3x3
            └──▶┘   nor_conv_3x3

A line goes down from each node to the edges that read it; an edge that crosses it passes behind. Edges that pass
nothing on are dotted. A cell that is wider than the paper is written as a list.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len
from rich.text import Text

from metanas.ui.cells import Edge, edges
from metanas.ui.fields import Label
from metanas.ui.panels.timeline import label_text
from metanas.ui.paper import DIM, WARN, Paper
from metanas.ui.points import Cell
from metanas.ui.state import RunState

APART = 3  # cells between two columns of nodes, at least: a line, an arrow
NAME = 8  # cells of the name of a node
SPARE = 14  # cells for what is on an edge, below which a graph is not drawn
NOTHING = ("none", "zero")  # operations that pass nothing on

Shown = Mapping[str, Label]
Places = Mapping[tuple[str, str], Edge]


def cell(state: RunState, paper: Paper) -> list[Text]:
    """A headline that says of when it is and how much changed, and the cells, side by side where there is room.

    >>> from metanas.ui.points import Link, Vertex
    >>> vertices = Vertex("1", (Link("0", "1<-0"),)), Vertex("2", (Link("0", "2<-0"), Link("1", "2<-1")))
    >>> state = RunState("first", cells=(Cell("", vertices),))
    >>> from metanas.ui.state import fold
    >>> for epoch, label in ((1, "none"), (2, "skip")):
    ...     state = fold(state, {"kind": "epoch", "epoch": epoch, "architecture":
    ...         {"1<-0": "conv", "2<-0": label, "2<-1": "conv"}})
    >>> for line in cell(state, Paper(width=50)): print(line.plain.rstrip())
    ── cell ─────────────── epoch 2: 1 edge changed ──
    0
    ├──▶1       conv
    └───│──▶2   skip  ◆ was none
        └──▶┘   conv
    """
    architecture, before, when = _of(state)
    found = [(one, edges(one, architecture), _places(edges(one, before) if before else ())) for one in state.cells]
    drawn = [(one, row, was) for one, row, was in found if row]
    if not drawn:
        return []
    named = len(drawn) > 1
    blocks = [_block(one, row, was, named, paper) for one, row, was in drawn]
    count = sum(_changed(edge, was) != "" for _, row, was in drawn for edge in row)
    note = f"{when}{f': {count} edge' + 's' * (count > 1) + ' changed' if count else ''}"
    title = paper.rule("cells" if named else "cell", note)
    lines = _beside(blocks, paper) or [line for block in blocks for line in block]
    rows = None if paper.height is None else paper.height - 1
    if rows is not None and len(lines) > rows:
        hidden = len(lines) - max(rows - 1, 0)
        lines = [*lines[: max(rows - 1, 0)], Text(f"{paper.glyph('⋮', ':')} {hidden} more rows", style=DIM)]
    return paper.rows([title, *lines])


def _of(state: RunState) -> tuple[Shown, Shown, str]:
    """The architecture, the one before it, and when it was derived; of a transfer without a search, what it carries."""
    last = state.last
    final = next((net for net in state.networks if net.network == state.planned[0] and net.architecture), None)
    if last is None and state.best:
        return state.best[0].architecture, {}, f"best of {state.values[-1].step} evaluated"
    if last is None:
        found = final.architecture if final else state.carried
        return found, {}, "as trained" if state.searches else "as carried over"
    if final is not None and final.architecture != last.architecture and last.architecture:
        return final.architecture, last.architecture, "as trained"  # refined after the search
    return last.architecture, last.before, f"epoch {last.epoch}"


def _places(row: tuple[Edge, ...]) -> Places:
    return {(edge.source, edge.target): edge for edge in row}


def _changed(edge: Edge, was: Places) -> str:
    """What an edge was before, in words; "" where it is the same, or nothing was before."""
    old = was.get((edge.source, edge.target))
    if old is None:
        return "new" if was else ""
    if (old.label, old.body) == (edge.label, edge.body):
        return ""
    return f"was {(old.body if old.label == edge.label else old.label) or label_text(())}"


def _block(of: Cell, row: tuple[Edge, ...], was: Places, named: bool, paper: Paper) -> list[Text]:
    """One cell: its name where there are several, its inputs, and its edges."""
    columns = _columns(of, row, paper)
    wide = max(place + cell_len(_short(name, paper)) for name, place in columns.items())
    head = [Text(paper.safe(of.name), style="bold")] if named else []
    if wide + SPARE > paper.width:
        return [*head, *_listed(of, row, was, paper)]
    targets = {edge.target for edge in row}
    first = Text(no_wrap=True)
    for name, place in columns.items():
        if name not in targets:
            first.append(" " * (place - first.cell_len)).append(_short(name, paper), style="bold")
    lines, lanes = [*head, first], _lanes(row)
    for number, edge in enumerate(row):
        line = _edge(number, edge, lanes, columns, paper)
        line.pad_right(wide + APART - line.cell_len)
        line.append(paper.safe(_told(edge)), style=f"not bold {DIM if edge.label in NOTHING else ''}")
        lines.append(_mark(line, edge, was, paper))
    return lines


def _told(edge: Edge) -> str:
    """What is on an edge, and at the last of a node what the node does."""
    return edge.label + (f"{' ' * bool(edge.label)}then {edge.body}" if edge.body else "")


def _mark(line: Text, edge: Edge, was: Places, paper: Paper) -> Text:
    words = _changed(edge, was)
    if words:
        line.append(f"  {paper.glyph('◆', '*')} ", style=f"bold {WARN}").append(paper.safe(words), style=WARN)
    return line


def _columns(of: Cell, row: tuple[Edge, ...], paper: Paper) -> dict[str, int]:
    """The place of each node: what is no target first, then the nodes in their order."""
    targets = {edge.target for edge in row}
    names = [edge.source for edge in row if edge.source not in targets]
    names += [vertex.name for vertex in of.vertices if vertex.name in targets]
    columns, place = {}, 0
    for name in dict.fromkeys(names):
        columns[name] = place
        place += max(cell_len(_short(name, paper)), 1) + APART
    return columns


def _short(name: str, paper: Paper) -> str:
    return paper.cell(name, NAME).rstrip() or "?"


def _lanes(row: tuple[Edge, ...]) -> dict[str, tuple[int, int]]:
    """The first edge that reaches each node (-1: an input), and the last that touches it."""
    lanes: dict[str, tuple[int, int]] = {}
    for number, edge in enumerate(row):
        lanes[edge.source] = (lanes.get(edge.source, (-1, 0))[0], number)
        lanes[edge.target] = (lanes.get(edge.target, (number, 0))[0], number)
    return lanes


def _edge(
    number: int, edge: Edge, lanes: Mapping[str, tuple[int, int]], columns: Mapping[str, int], paper: Paper
) -> Text:
    """The row of one edge: the lines of all nodes that are read later, and the arrow from its source to its target."""
    begin, end = columns[edge.source], columns[edge.target]
    dash = paper.glyph(*("╌", ".") if edge.label in NOTHING else ("─", "-"))
    letters = [" "] * begin + [dash] * (end - begin)
    letters[begin] = paper.glyph(*("├", "+") if lanes[edge.source][1] > number else ("└", "+"))
    letters[end - 1] = paper.glyph("▶", ">")
    for name, place in columns.items():
        if place != begin and place < end and lanes[name][0] < number <= lanes[name][1]:
            letters[place] = paper.glyph("│", "|")
    line = Text("".join(letters), style=DIM, no_wrap=True)
    if lanes[edge.target][0] == number:
        return line.append(_short(edge.target, paper), style="not dim bold")
    return line.append(paper.glyph(*("│", "|") if lanes[edge.target][1] > number else ("┘", "+")), style=DIM)


def _listed(of: Cell, row: tuple[Edge, ...], was: Places, paper: Paper) -> list[Text]:
    """A line per node: its name, and what it reads."""
    lines = []
    for vertex in of.vertices:
        inside = [edge for edge in row if edge.target == vertex.name]
        line = Text(f"{_short(vertex.name, paper)} <- ", style="bold")
        for place, edge in enumerate(inside):
            told = f"{', ' if place else ''}{edge.source} {_told(edge)}"
            _mark(line.append(paper.safe(told), style="not bold"), edge, was, paper)
        lines += [line] if inside else []
    return lines


def _beside(blocks: list[list[Text]], paper: Paper) -> list[Text]:
    """The blocks side by side; [] where they do not fit."""
    widths = [max(line.cell_len for line in block) + APART for block in blocks]
    if len(blocks) == 1 or sum(widths) - APART > paper.width:
        return []
    lines = []
    for number in range(max(map(len, blocks))):
        line = Text(no_wrap=True)
        for place, block in enumerate(blocks):
            line.pad_right(sum(widths[:place]) - line.cell_len)
            line.append_text(block[number] if number < len(block) else Text())
        lines.append(line)
    return lines
