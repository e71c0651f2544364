"""The classes of the written file: blocks, cells (one class for a cell at several widths), and the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanas.exporters.blocks import Part
from metanas.exporters.code import bracketed, camel
from metanas.exporters.forward import Body, Item
from metanas.exporters.plan import Group, groups, parts, zero_values
from metanas.exporters.templates import Block
from metanas.network import Network, module_name
from metanas.space import Combine, Loop, Step, sources_of


@dataclass
class Book:
    """The classes written so far. `owner` of all names in the file."""

    blocks: dict[Block, str] = field(default_factory=dict)
    used: dict[Block, set[str]] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)

    def free(self, name: str) -> str:
        taken = {*self.blocks.values(), *self.classes, "Network", "Tensor", "Path"}
        return name if name not in taken else next(n for k in range(2, 10**6) if (n := f"{name}{k}") not in taken)

    def block(self, block: Block, call: str = "{}") -> str:
        """`call` with the block's own name in place of the one it asks for."""
        if block not in self.blocks:
            self.blocks[block] = self.free(block.name)
        self.used.setdefault(block, set()).update(block.used)
        return call.replace(f"{block.name}(", f"{self.blocks[block]}(")

    def lines(self) -> list[str]:
        """All definitions, two blank lines between them."""
        rows = [block.lines(name, frozenset(self.used[block])) for block, name in self.blocks.items()]
        return [line for row in (*rows, *self.classes.values()) for line in (*row, "", "")]


def network_class(network: Network, name: str, book: Book, inputs: Sequence[str]) -> str:
    """Writes the class of a network (and those of its cells) into the book; returns its name."""
    made = written(network, book)
    every = groups(network.program)
    calls = cells(network, [g for g in every if g.is_cell], made, book)
    items: list[Item] = []
    for group in every:
        shape = f"(batch, {', '.join(map(str, network.shapes[group.output]))})"
        if group.is_cell:
            items.append(replace(calls[group.attribute], comment=shape))
        else:
            step = group.steps[0]
            items.append(replace(item(step, group.attribute, made, sources_of(step), network), comment=shape))
    zero = zero_values(g.steps[0] for g in every if not g.is_cell)
    body = Body(items, dict(zip(network.program.inputs, inputs, strict=True)), network.program.output, zero)
    arguments = [f"{x}: Tensor" for x in inputs]
    shapes = ", ".join(f"(batch, {', '.join(map(str, network.shapes[x]))})" for x in network.program.inputs)
    result = f"(batch, {', '.join(map(str, network.shapes[network.program.output]))})"
    book.classes[name] = _class_lines(
        name, f"{shapes} -> {result}.", [], body.made(), arguments, body.computed(reuse=True)
    )
    return name


def written(network: Network, book: Book) -> dict[str, Part]:
    """The parts of a network, under the names that the book gives; loops are parts, too."""
    made = parts(network)
    for value, each in made.items():
        if each.block is not None:
            made[value] = replace(each, call=book.block(each.block, each.call), use=book.block(each.block, each.use))
    for step in network.program.steps:
        if isinstance(step, Loop):
            inner = network.get_submodule(module_name(step.out))
            assert isinstance(inner, Network)
            wanted = book.free(camel(step.out.split(".")[0]) + "Cell")
            cell = network_class(inner, wanted, book, ["state", "value"])
            call = book.block(Block("scan"), f"Scan({cell}(), {step.width})")
            made[step.out] = Part(call, block=Block("scan"))
    return made


def item(
    step: Step, name: str, made: Mapping[str, Part], sources: Sequence[str], network: Network,
    widths: Sequence[str] | None = None,
) -> Item:  # fmt: skip
    """One step as a line of a class. `widths`: the texts of its numbers of channels."""
    if isinstance(step, Combine):
        how = "concat" if step.how == "split" else step.how
        return Item(step.out, tuple(sources), name, how)
    each = made[step.out]
    numbers = list(widths) if widths is not None else [str(w) for w in each.widths]
    call, use = each.call, each.use
    for k, number in enumerate(numbers):
        call = call.replace(f"{{{k}}}", number)
        use = use.replace(f":{{{k}}}", f": {number}" if " " in number else f":{number}").replace(f"{{{k}}}", number)
    weighs = bool(network.get_submodule(module_name(step.out)).state_dict())
    return Item(step.out, tuple(sources), name, "apply", call, use, weighs)


def cells(network: Network, found: Sequence[Group], made: Mapping[str, Part], book: Book) -> dict[str, Item]:
    """Writes one class for each kind of cell; group -> the line that uses it."""
    kinds: dict[object, list[Group]] = {}
    for group in found:
        kinds.setdefault(_signature(group, made), []).append(group)
    lines: dict[str, Item] = {}
    for same in kinds.values():
        lines.update(_cell(network, same, made, book))
    return lines


def _signature(group: Group, made: Mapping[str, Part]) -> object:
    """What two groups must share to be one class: all but the values that come in and the numbers of channels."""
    rows: list[object] = []
    for step in group.steps:
        how = (step.how,) if isinstance(step, Combine) else (made[step.out].call, made[step.out].use)
        rows.append((group.names[step.out], how, *(group.names.get(s, "") for s in sources_of(step))))
    return tuple(rows)


def _cell(network: Network, same: Sequence[Group], made: Mapping[str, Part], book: Book) -> dict[str, Item]:
    ports = _ports(same)
    distinct = list(dict.fromkeys(ports.values()))  # one row of values (one for each group) for each input
    variables = ["x"] if len(distinct) == 1 else [f"x{k}" for k in range(len(distinct))]
    channels = [tuple(network.shapes[v][0] for v in row) for row in distinct]
    numbers = _Numbers(channels)
    first = same[0]
    items = []
    for at, step in enumerate(first.steps):
        sources = [s if s in first.names else variables[distinct.index(ports[at, k])]
                   for k, s in enumerate(sources_of(step))]  # fmt: skip
        widths = [] if isinstance(step, Combine) else [
            numbers.text(tuple(made[g.steps[at].out].widths[k] for g in same))
            for k in range(len(made[step.out].widths))
        ]  # fmt: skip
        items.append(item(step, first.names[step.out], made, sources, network, widths))
    body = Body(items, {v: v for v in variables}, first.output, zero_values(first.steps))
    name = book.free(_class_name(network, same, book))
    parameters = [f"{p}: int" for p in numbers.parameters]
    book.classes[name] = _class_lines(
        name, _doc(network, same, distinct, channels, numbers), parameters, body.made(),
        [f"{v}: Tensor" for v in variables], body.computed(),
    )  # fmt: skip
    return {
        g.attribute: Item(
            g.output, tuple(row[k] for row in distinct), g.attribute, "apply",
            f"{name}({', '.join(str(row[k]) for row in numbers.parameters.values())})",
        )
        for k, g in enumerate(same)
    }  # fmt: skip


def _ports(same: Sequence[Group]) -> dict[tuple[int, int], tuple[str, ...]]:
    """(step, source) -> the value that comes in there, for each group."""
    return {
        (at, k): tuple(sources_of(g.steps[at])[k] for g in same)
        for at, step in enumerate(same[0].steps)
        for k, s in enumerate(sources_of(step))
        if s not in same[0].names
    }


class _Numbers:
    """Numbers of channels of the same cell at several widths: those that differ are parameters of its class."""

    def __init__(self, channels: Sequence[tuple[int, ...]]) -> None:
        self.channels = list(channels)
        self.parameters: dict[str, tuple[int, ...]] = {}

    def text(self, row: tuple[int, ...]) -> str:
        if len(set(row)) == 1:
            return str(row[0])
        for name, known in self.parameters.items():
            if known == row:
                return name
        if row not in self.channels:
            for name, known in self.parameters.items():
                ratio = row[0] // known[0]
                if ratio > 1 and all(a == ratio * b for a, b in zip(row, known, strict=True)):
                    return f"{ratio} * {name}"
        name = self._name(row)
        self.parameters[name] = row
        return name

    def _name(self, row: tuple[int, ...]) -> str:
        if row in self.channels:
            return "channels" if len(self.channels) == 1 else f"channels{self.channels.index(row)}"
        number = sum(p.startswith("width") for p in self.parameters)
        return f"width{number + 1}" if number else "width"


def _class_name(network: Network, same: Sequence[Group], book: Book) -> str:
    """From `stage0_cell1` to Cell; a cell that makes its image smaller beside one that does not: ReductionCell."""
    word = "".join(c for c in same[0].attribute if not c.isdigit()).strip("_").split("_")[-1]
    name = camel(word) if word else "Cell"
    smaller = _smaller(network, same[0])
    return f"Reduction{name}" if smaller else name


def _smaller(network: Network, group: Group) -> bool:
    out = network.shapes[group.output]
    sources = {s for step in group.steps for s in sources_of(step)} - set(group.names)
    sizes = [network.shapes[s][1:] for s in sources if len(network.shapes[s]) == len(out) > 1]
    return bool(sizes) and min(max(s) for s in sizes) > max(out[1:])


def _doc(
    network: Network, same: Sequence[Group], distinct: Sequence[tuple[str, ...]],
    channels: Sequence[tuple[int, ...]], numbers: _Numbers,
) -> str:  # fmt: skip
    out = [network.shapes[g.output] for g in same]
    uses = "once" if len(same) == 1 else f"{len(same)} times"
    sequences = all(len(o) == 2 for o in out)
    given = _word(tuple(o[-1] if sequences else o[0] for o in out), numbers)
    takes = [_word(row, numbers) for row in channels]
    kept = len(distinct) == 1 and all(network.shapes[v] == o for v, o in zip(distinct[0], out, strict=True))
    if kept and sequences:
        return f"A cell, used {uses}; it keeps the shape: (batch, time, {given})."
    if kept:
        size = ", height, width" if len(out[0]) == 3 else ""
        return f"A cell, used {uses}; it keeps the shape: (batch, {given}{size})."
    smaller = "; height and width become smaller" if _smaller(network, same[0]) else ""
    return f"A cell, used {uses}. Channels: {' and '.join(takes)} -> {given}{smaller}."


def _word(row: tuple[int, ...], numbers: _Numbers) -> str:
    known = next((name for name, other in numbers.parameters.items() if other == row), None)
    if known:
        return known
    if len(set(row)) == 1:
        return str(row[0])
    for name, other in numbers.parameters.items():
        if all(a % b == 0 and a // b == row[0] // other[0] for a, b in zip(row, other, strict=True)):
            return f"{row[0] // other[0]} * {name}"
    return "channels"


def _class_lines(
    name: str, doc: str, parameters: Sequence[str], made: Sequence[str], arguments: Sequence[str],
    computed: Sequence[str],
) -> list[str]:  # fmt: skip
    init = bracketed("def __init__", ["self", *parameters], indent=4, tail=" -> None:")
    constructor = [*init, "        super().__init__()", *made, ""] if made or parameters else []
    return [
        f"class {name}(nn.Module):",
        f'    """{doc}"""',
        "",
        *constructor,
        *bracketed("def forward", ["self", *arguments], indent=4, tail=" -> Tensor:"),
        *computed,
    ]
