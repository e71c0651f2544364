"""From a flat derived program back to what a person would write: groups of steps that are cells, names, numbers.

A value of a derived program is called after its path, `stage0_cell1.2.from_0.conv`. Steps under one top-level name
are a *group*: a graph is a cell, other steps are blocks of the network. Inside a cell, a value gets the shortest
beginning of its path that no other step shares. Names are a function of the program alone, so that a weights file
written today fits the network that is built from the same architecture next year.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from metanas.errors import ExportError
from metanas.exporters.blocks import Part, part
from metanas.exporters.code import identifier
from metanas.network import Held, Network, module_name
from metanas.space import Apply, Combine, Loop, Op, Program, Size, Step, sources_of
from metanas.space.program import every_step


@dataclass(frozen=True)
class Group:
    """A cell, or one step alone. `names`: value -> name inside the cell."""

    attribute: str
    steps: tuple[Step, ...]
    names: Mapping[str, str]

    @property
    def is_cell(self) -> bool:
        return len(self.steps) > 1

    @property
    def output(self) -> str:
        return self.steps[-1].out


def check(program: Program) -> None:
    """Raises ExportError for a program that still holds choices."""
    for step in every_step(program):
        if isinstance(step, Combine) and step.choice is not None:
            raise ExportError(
                f"the network still holds the choice {step.choice!r}; derive an architecture, then export that network"
            )
        if isinstance(step, Apply) and isinstance(step.op.width, Size):
            raise ExportError(
                f"the network still holds the size {step.op.width.choice!r}; derive an architecture, then export that"
            )


def groups(program: Program) -> list[Group]:
    """The groups, in order."""
    found: dict[str, list[Step]] = {}
    for step in program.steps:
        found.setdefault(step.out.split(".")[0], []).append(step)
    used = {identifier(name) for name in program.inputs}
    result = []
    for name, steps in found.items():
        inner = _inner_names(steps)
        split = [steps] if _is_graph(steps) else [[step] for step in steps]
        for chunk in split:
            path = name if chunk is steps or inner[chunk[0].out] == "out" else f"{name}_{inner[chunk[0].out]}"
            attribute = identifier(path, used)
            used.add(attribute)
            result.append(Group(attribute, tuple(chunk), inner))
    return result


def _is_graph(steps: Sequence[Step]) -> bool:
    """Whether a node holds a graph, not only operations on its edges."""
    inner = [step.out.split(".")[1] for step in steps if "." in step.out]
    return len(steps) > 1 and any(name != "in" and not name.startswith("from_") for name in inner)


def _inner_names(steps: Sequence[Step]) -> dict[str, str]:
    paths = {step.out: tuple(step.out.split(".")[1:]) or ("out",) for step in steps}
    names: dict[str, str] = {}
    for value, path in paths.items():
        others = [other for v, other in paths.items() if v != value]
        length = next((n for n in range(1, len(path)) if all(o[:n] != path[:n] for o in others)), len(path))
        names[value] = identifier("_".join(path[:length]), names.values())
    return names


def parts(network: Network) -> dict[str, Part]:
    """What each operation becomes, by value. Raises ExportError where one cannot be written as Python."""
    return {
        step.out: part(
            step.op, network.shapes[step.source], network.phase, network.get_submodule(module_name(step.out))
        )
        for step in network.program.steps
        if isinstance(step, Apply)
    }


def weight_names(network: Network) -> dict[str, str]:
    """Name in `network.state_dict()` -> name in the weights file and in the Python module.

    An operation of the user's own keeps the names it has inside itself, and a module that is the whole network has its
    own alone.
    """
    if isinstance(network, Held):
        return {name: name.partition(".")[2] for name in network.state_dict()}
    return dict(_weight_names(network))


def _weight_names(network: Network) -> Iterator[tuple[str, str]]:
    for group in groups(network.program):
        for step in group.steps:
            if isinstance(step, Combine):
                continue
            prefix = f"{group.attribute}.{group.names[step.out]}." if group.is_cell else f"{group.attribute}."
            module = network.get_submodule(module_name(step.out))
            if isinstance(step, Loop):
                assert isinstance(module, Network)
                renamed = {name: f"cell.{new}" for name, new in _weight_names(module)}
            else:
                renamed = _inside(network, step, module.state_dict().keys())
            for name, new in renamed.items():
                yield f"{module_name(step.out)}.{name}", prefix + new


def _inside(network: Network, step: Apply, names: Iterable[str]) -> dict[str, str]:
    try:
        made = part(step.op, network.shapes[step.source], network.phase, network.get_submodule(module_name(step.out)))
    except ExportError:
        return {name: name for name in names}
    return {name: made.renamed(name) for name in names}


def zero_values(steps: Iterable[Step]) -> frozenset[str]:
    """Values that are zero whatever comes into these steps: a sum may leave them out."""
    zero: set[str] = set()
    for step in steps:
        sources = sources_of(step)
        if isinstance(step, Combine):
            if all(s in zero for s in sources):
                zero.add(step.out)
        elif isinstance(step, Apply) and (step.op.kind == "none" or (sources[0] in zero and _keeps(step.op))):
            zero.add(step.out)
    return frozenset(zero)


def _keeps(op: Op) -> bool:
    """Whether zeros stay zeros, of the same shape."""
    pool = op.kind in ("avg_pool", "max_pool") and not op.norm and op.stride == 1 and op.kernel % 2 == 1
    return pool or (op.kind == "skip" and op.stride == 1)
