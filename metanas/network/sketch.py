"""The space of a module whose choices are marked: the choices and what depends on what; nothing of it has to run.

A graph that lists the marks in the order in which the module holds them stands for the module:

    conv = inputs --[conv: 3x3 | 5x5]                   a choice among modules, or among inputs
    blocks = blocks_1, blocks_2  (1 of 2: depth)        a depth, after the blocks
    stem = conv --[Conv2d]                              a layer whose size is chosen

What the module computes between them it does not know. Choices inside a candidate, or inside a block that a smaller
depth leaves out, matter only where that is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from metanas.errors import SpaceError
from metanas.network.marks import ChosenDepth, ChosenInputs, ChosenModule, Mark
from metanas.network.sizes import check_layer, sizes_of
from metanas.space import Choice, Content, Edge, Graph, Node, OneOf, Op, Space, one_of

INPUT = "inputs"


def space_of(module: nn.Module, name: str | None = None) -> Space:
    """The search space that is marked inside a module with `metanas.choose`.

    Args:
        name: of the space; default: the module's class.

    Raises:
        SpaceError: no marks; a choice that is used twice with different options; a size of what cannot be narrower.

    >>> from metanas.network.marks import choose
    >>> width = choose.size("width", (4, 8))
    >>> act = choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})
    >>> space = space_of(nn.Sequential(nn.Linear(2, width), act, nn.Linear(width, 1)))
    >>> space.size, [choice.name for choice in space.choices]
    (4, ['width', 'act'])
    """
    if not isinstance(module, nn.Module):
        raise SpaceError(f"space_of takes a module, got {type(module).__name__}; give an nn.Module with marks in it")
    _check_names(module)
    sketch = _Sketch(INPUT)
    sketch.add(module, "")
    if not sketch.nodes:
        raise SpaceError(f"{type(module).__name__} has no choices; mark some with metanas.choose, or give a space")
    return Space(sketch.graph(), name or type(module).__name__)


def decisions(module: nn.Module) -> Iterator[tuple[str, Choice]]:
    """Every mark and every size of a module: where it is, and its choice."""
    for path, inner in module.named_modules():
        if isinstance(inner, Mark):
            yield path, inner.choice
        for _, size in sizes_of(inner):
            yield path, size.decision().decision()


def _check_names(module: nn.Module) -> None:
    known: dict[str, tuple[str, Choice]] = {}
    for path, choice in decisions(module):
        where, before = known.setdefault(choice.name, (path, choice))
        if before != choice:
            first, second = (", ".join(c.candidates) for c in (before, choice))
            raise SpaceError(
                f"choice {choice.name!r} is used twice with different options: {first} (in {where or 'the module'}) "
                f"and {second} (in {path or 'the module'}); give one of them another name"
            )
    for path, inner in module.named_modules():
        check_layer(path, inner)


@dataclass
class _Sketch:
    """A row of nodes that grows; owns the names that are used, and the modules that were met."""

    last: str
    nodes: list[Node] = field(default_factory=list)

    def graph(self) -> Graph:
        return Graph((self.nodes[0].edges[0].source,), tuple(self.nodes), self.last)

    def add(self, module: nn.Module, path: str) -> None:
        """The marks of a module, one after another."""
        match module:
            case ChosenModule():
                self.append(path, self.choice(module))
            case ChosenInputs():
                self.append(path, one_of(module.choice.name, dict.fromkeys(module.choice.candidates)))
            case ChosenDepth():
                self.depth(path, module)
            case _:
                for content in _sized(module):
                    self.append(path, content)
                for name, child in module.named_children():
                    self.add(child, f"{path}.{name}" if path else name)

    def append(self, path: str, content: Content) -> None:
        name = self.free(path)
        self.nodes.append(Node(name, (Edge(self.last, content),)))
        self.last = name

    def free(self, path: str) -> str:
        """A name for what stands there: a part of a path of values."""
        name = path.replace(".", "_").replace("/", "_") or "module"
        used = {node.name for node in self.nodes} | {node.edges[0].source for node in self.nodes[:1]} | {self.last}
        while name in used:
            name += "_"
        return name

    def choice(self, mark: ChosenModule) -> OneOf:
        contents = {label: _content(mark.plain(label)) for label in mark.choice.candidates}
        return one_of(mark.choice.name, contents, mark.choice.never)

    def depth(self, path: str, mark: ChosenDepth) -> None:
        ends = [self.last]
        for k, block in enumerate(mark.children_in_row()):
            self.append(f"{path}.{k}" if path else str(k), _content(block))
            ends.append(self.last)
        edges = tuple(Edge(ends[depth]) for depth in mark.depths)
        name = self.free(path)
        self.nodes.append(Node(name, edges, choice=mark.choice))
        self.last = name


def _content(module: nn.Module) -> Content:
    """What stands for one candidate."""
    inner = _Sketch("x")
    inner.add(module, "")
    if not inner.nodes:
        return None if isinstance(module, nn.Identity) else Op(type(module).__name__)
    if len(inner.nodes) == 1 and len(inner.nodes[0].edges) == 1:
        return inner.nodes[0].edges[0].content
    return inner.graph()


def _sized(module: nn.Module) -> list[Op]:
    """An operation for each size that a module itself holds."""
    sizes = {size.choice: size.decision() for _, size in sizes_of(module)}
    return [Op(type(module).__name__, width=size) for size in sizes.values()]
