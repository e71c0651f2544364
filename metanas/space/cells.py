"""Which choices stand in several cells, and the same program in which every cell has choices of its own.

    cell     a node of the outermost graph in which a choice is met more than once: `stage0_cell1`, `cell4`
    kind     the choices that stand in the same cells: DARTS has two, normal and reduction cells

A shared choice is one decision in all of its cells. With choices of its own, each cell can be set to mixing weights of
its own; at equal ones it computes what the shared program does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanas.space.graph import Size
from metanas.space.program import Apply, Combine, Program, every_step


@dataclass(frozen=True)
class Kind:
    """Cells that share their choices.

    >>> kind = Kind(("cell0", "cell1"), ("1<-0", "2<-0"))
    >>> kind.own("1<-0"), kind.of("cell1")
    (('1<-0@cell0', '1<-0@cell1'), ('1<-0@cell1', '2<-0@cell1'))
    """

    cells: tuple[str, ...]
    choices: tuple[str, ...]

    def own(self, choice: str) -> tuple[str, ...]:
        """What a shared choice is called in each of the cells."""
        return tuple(own_name(choice, cell) for cell in self.cells)

    def of(self, cell: str) -> tuple[str, ...]:
        """What the shared choices are called in one cell."""
        return tuple(own_name(choice, cell) for choice in self.choices)


def own_name(choice: str, cell: str) -> str:
    """What a choice is called in one of its cells.

    >>> own_name("1<-0", "cell1")
    '1<-0@cell1'
    """
    return f"{choice}@{cell}"


def kinds_of(program: Program) -> tuple[Kind, ...]:
    """The kinds of cells, each with two cells or more; none where no choice is shared.

    A choice that sets a size, or that stands inside a loop, is left out.

    >>> from metanas.space.graph import chain, one_of, op
    >>> from metanas.space.space import Space
    >>> pick = one_of("y", {"conv": op("conv", width=2), "skip": op("skip")})
    >>> kinds_of(Space(chain(("one", pick), ("two", pick), ("head", op("classifier", width=2)))).program)
    (Kind(cells=('one', 'two'), choices=('y',)),)
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for choice, places in _places(program).items():
        cells = tuple(dict.fromkeys(_cells(places).values()))
        if len(cells) > 1:
            found.setdefault(cells, []).append(choice)
    return tuple(Kind(cells, tuple(choices)) for cells, choices in found.items())


def with_own_choices(program: Program) -> Program:
    """The program in which every shared choice of `kinds_of` is one choice for each cell, called as `own_name` says.

    It is for supernets: the conditions, which only a derivation asks for, are gone.
    """
    shared = {choice for kind in kinds_of(program) for choice in kind.choices}
    cell_at = {out: cell for choice, places in _places(program).items() if choice in shared
               for out, cell in _cells(places).items()}  # fmt: skip
    steps = tuple(
        replace(step, choice=own_name(step.choice, cell_at[step.out]))
        if isinstance(step, Combine) and step.choice in shared
        else step
        for step in program.steps
    )
    owners = {choice: kind for kind in kinds_of(program) for choice in kind.choices}
    choices = tuple(
        replace(choice, name=name)
        for choice in program.choices
        for name in (owners[choice.name].own(choice.name) if choice.name in owners else (choice.name,))
    )
    return replace(program, steps=steps, choices=choices, conditions=())


def _places(program: Program) -> dict[str, list[str]]:
    """Choice -> the values that it makes, of those that are met among the program's own steps and nowhere else."""
    found: dict[str, list[str]] = {}
    own = set(map(id, program.steps))
    others: set[str] = set()
    for step in every_step(program):
        if isinstance(step, Apply) and isinstance(step.op.width, Size):
            others.add(step.op.width.choice)
        elif isinstance(step, Combine) and step.choice:
            found.setdefault(step.choice, []).append(step.out)
            others |= set() if id(step) in own else {step.choice}
    return {choice: places for choice, places in found.items() if choice not in others}


def _cells(places: list[str]) -> dict[str, str]:
    """Value -> the cell that it is in, of all the values that one choice makes."""
    paths = {place: place.split(".") for place in places}
    depth = 0
    while len({tuple(path[: depth + 1]) for path in paths.values()}) == 1 and depth < max(map(len, paths.values())):
        depth += 1
    return {place: ".".join(path[: depth + 1]) for place, path in paths.items()}
