"""From a space and an architecture to a picture: the network, then each of its cells once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanas.exporters.pictures.picture import Arrow, Group, Picture, Vertex, ranks_of, visible
from metanas.exporters.pictures.sketch import Drawn, Sketch, sketched
from metanas.space import Architecture, Content, Graph, OneOf, Scan, Space

TIMES = "\N{MULTIPLICATION SIGN}"
NETWORK = "network"

Shapes = Mapping[str, tuple[int, ...]]


def picture(space: Space, architecture: Mapping[str, Sequence[str]], shapes: Shapes | None = None) -> Picture:
    """The network of an architecture, and its cells.

    Args:
        shapes: of its values without the batch, as `Network.shapes` has them; they are written into the boxes of the
            network. Without them only widths are.

    Raises:
        SpaceError: the architecture is not one of the space.

    >>> from metanas.space import chain, one_of, op
    >>> steps = ("stem", op("conv", width=8, kernel=3)), ("pick", one_of("pick", {"skip": op("skip")}))
    >>> drawn = picture(Space(chain(*steps), "tiny"), {"pick": "skip"})
    >>> [vertex.label for vertex in drawn.nodes], drawn.description
    (['image', 'conv 3\N{MULTIPLICATION SIGN}3\\n8 wide', 'skip'], \
'network: image to conv 3\N{MULTIPLICATION SIGN}3 8 wide, conv 3\N{MULTIPLICATION SIGN}3 8 wide to skip')
    """
    checked = space.architecture(architecture)
    cells = _Cells(checked, space.graph)
    network = folded(_with_sizes(sketched(space.graph, checked, cells.drawn, inside=False), shapes or {}))
    titles = cells.titles()
    parts = [(NETWORK, network)]
    parts += [(title, cells.named(sketch)) for title, sketch in zip(titles, cells.sketches, strict=True)]
    groups: list[Group] = []
    nodes: list[Vertex] = []
    edges: list[Arrow] = []
    for k, (title, sketch) in enumerate(parts):
        groups.append(Group(f"g{k}", title))
        vertices, arrows = _numbered(sketch, f"g{k}", titles, len(nodes))
        nodes += vertices
        edges += arrows
    name = f"{visible(space.name)}: {visible(str(checked))}" if checked.key else visible(space.name)
    return Picture(name, tuple(groups), tuple(nodes), tuple(edges))


def _numbered(sketch: Sketch, group: str, titles: Sequence[str], first: int) -> tuple[list[Vertex], list[Arrow]]:
    """The boxes and arrows of a sketch as those of a picture that has `first` boxes before them."""
    sources: dict[int, list[int]] = {}
    for line in sketch.lines:
        sources.setdefault(line.target, []).append(line.source)
    ranks = ranks_of(len(sketch.boxes), sources)
    vertices = []
    for k, (box, rank) in enumerate(zip(sketch.boxes, ranks, strict=True)):
        rows = box.label.split("\n")
        if box.cell is not None:
            rows[0] = titles[box.cell]
        if box.times > 1:
            rows[0] += f" {TIMES} {box.times}"
        vertices.append(Vertex(f"n{first + k}", "\n".join(rows), box.kind, rank, group))
    arrows = [
        Arrow(f"n{first + a.source}", f"n{first + a.target}", a.label if a.cell is None else titles[a.cell], a.kind)
        for a in sketch.lines
    ]
    return vertices, arrows


# The network


@dataclass(frozen=True)
class Run:
    """Equal boxes in a row: positions of the first and the last."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def folded(sketch: Sketch) -> Sketch:
    """The sketch with equal boxes in a row as one that says how many.

    Only where each reads the one before, and nothing but their end is read from outside: cells that also read the one
    before the last (DARTS) may be read so.
    """
    runs = list(_runs(sketch))
    run_of = {k: n for n, run in enumerate(runs) for k in range(run.first, run.last + 1)}
    boxes = tuple(replace(sketch.boxes[run.last], times=run.length) for run in runs)
    lines = {
        replace(line, source=run_of[line.source], target=run_of[line.target]): None
        for line in sketch.lines
        if run_of[line.source] != run_of[line.target]
    }
    return Sketch(boxes, tuple(lines))


def _runs(sketch: Sketch) -> list[Run]:
    runs: list[Run] = []
    while not runs or runs[-1].last + 1 < len(sketch.boxes):
        first = last = runs[-1].last + 1 if runs else 0
        while last + 1 < len(sketch.boxes) and _follows(sketch, last + 1):
            last += 1
        while not _closed(sketch, first, last):
            last -= 1
        runs.append(Run(first, last))
    return runs


def _follows(sketch: Sketch, k: int) -> bool:
    """Whether box `k` is like the one before, and reads it."""
    alike = replace(sketch.boxes[k], value="") == replace(sketch.boxes[k - 1], value="")
    return alike and sketch.boxes[k].kind not in ("input", "node") and k - 1 in _sources(sketch, k)


def _closed(sketch: Sketch, first: int, last: int) -> bool:
    """Whether nothing behind a run reads into the middle of it: only its end, as many boxes as one of it reads."""
    inputs = max(1, max(len(_sources(sketch, k)) for k in range(first, last + 1)))
    middle = range(first, last - inputs + 1)
    return not any(line.source in middle and line.target > last for line in sketch.lines)


def _sources(sketch: Sketch, box: int) -> set[int]:
    return {line.source for line in sketch.lines if line.target == box}


def _with_sizes(sketch: Sketch, shapes: Shapes) -> Sketch:
    """The network with the shape of every value, or its width where that is all that is known."""
    boxes = []
    for box in sketch.boxes:
        shape = shape_of(box.value, shapes)
        if shape is not None:
            row = f"\n{TIMES.join(map(str, shape))}"
        else:
            row = f"\n{box.width} wide" if box.width else ""
        boxes.append(replace(box, label=f"{box.label}{row}"))
    return Sketch(tuple(boxes), sketch.lines)


def shape_of(path: str, shapes: Shapes) -> tuple[int, ...] | None:
    """The shape of the value at a path of the network; None where it is not known.

    A cell's value has the name of the step that gives it: the last one whose path begins with the cell's.

    >>> shape_of("cell0", {"image": (3, 8, 8), "cell0.2": (4, 8, 8), "cell0.out": (16, 8, 8), "cell01": (1,)})
    (16, 8, 8)
    """
    found = None
    for value, shape in shapes.items():
        if value == path or value.startswith(f"{path}."):
            found = shape
    return found


# The cells


@dataclass
class _Cells:
    """The different cells of a network, in the order met; owns their sketches and where each stands."""

    taken: Architecture
    graph: Graph
    sketches: list[Sketch] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    nodes: list[list[str]] = field(default_factory=list)
    looks: dict[tuple[object, ...], int] = field(default_factory=dict)

    def drawn(self, graph: Graph, label: str, node: str) -> Drawn:
        """How the graph is drawn: as a cell, the number of that which looks so; one operation alone as itself."""
        sketch = sketched(graph, self.taken, self.drawn, inside=True)
        alone = [box for box in sketch.boxes if box.kind != "input"]
        if len(alone) == 1 and alone[0].kind not in ("node", "output", "none") and len(graph.inputs) == 1:
            return Drawn(alone[0].label, alone[0].kind, alone[0].cell)
        if sketch.look not in self.looks:
            self.looks[sketch.look] = len(self.sketches)
            self.sketches.append(sketch)
            self.graphs.append(graph)
            self.labels.append(label)
            self.nodes.append([])
        number = self.looks[sketch.look]
        self.nodes[number].append(node)
        return Drawn("", "cell", number)

    def titles(self) -> list[str]:
        """A title for each: different ones."""
        titles = [self._title(k) for k in range(len(self.sketches))]
        shown = []
        for k, title in enumerate(titles):
            same = [j for j, other in enumerate(titles) if other == title]
            shown.append(title if len(same) == 1 else f"{title} {same.index(k) + 1}")
        return shown

    def _title(self, k: int) -> str:
        """What chose it, else what its choices have in common, else what its nodes do."""
        if self.labels[k]:
            return visible(self.labels[k])
        nodes = list(dict.fromkeys(self.nodes[k]))
        prefixes = {name.partition(".")[0] if "." in name else "" for name in choices_in(self.graphs[k])}
        if len(prefixes) == 1 and (prefix := prefixes.pop()):
            return visible(prefix if prefix in nodes else f"{prefix} cell")
        if len(nodes) == 1:
            return visible(nodes[0])
        stems = {found[1] if (found := re.fullmatch(r"(\D+)\d+", node)) else "" for node in nodes}
        stem = stems.pop().rstrip("_- ") if len(stems) == 1 else ""
        return visible(stem) or "cell"

    def named(self, sketch: Sketch) -> Sketch:
        """A cell with its inputs named after the cells that they come from, where it has several."""
        names = tuple(box.label for box in sketch.boxes if box.kind == "input")
        back = self._back().get(tuple(box.value for box in sketch.boxes if box.kind == "input"), {})
        if len(names) < 2 or len(set(back.values())) < len(names):
            return sketch
        boxes = [
            replace(box, label=f"c_{{k-{back[box.value]}}}") if box.kind == "input" else box for box in sketch.boxes
        ]
        return replace(sketch, boxes=tuple(boxes))

    def _back(self) -> dict[tuple[str, ...], dict[str, int]]:
        """Names of the inputs of a cell -> how many nodes of the network each comes from before it, at most."""
        position = {node.name: k for k, node in enumerate(self.graph.order)}
        back: dict[tuple[str, ...], dict[str, int]] = {}
        for node in self.graph.order:
            if isinstance(node.body, Graph) and node.combine == "each":
                for name, edge in zip(node.body.inputs, node.edges, strict=True):
                    far = position[node.name] - position.get(edge.source, -1)
                    row = back.setdefault(node.body.inputs, {})
                    row[name] = max(far, row.get(name, 0))
        return back


def choices_in(content: Content) -> list[str]:
    """The names of all choices in a content."""
    match content:
        case OneOf():
            return [content.choice, *itertools.chain(*(choices_in(c) for _, c in content.contents))]
        case Scan():
            return choices_in(content.body)
        case Graph():
            inner = [c for node in content.nodes for c in (*(e.content for e in node.edges), node.body)]
            own = [node.choice.name for node in content.nodes if node.choice]
            return [*own, *itertools.chain(*map(choices_in, inner))]
    return []
