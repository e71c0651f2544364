"""From a program and an architecture to the program of the derived network.

Three passes: fix the choices, drop what nothing reads, resolve the sizes (chosen ones from the architecture, needed
ones backwards from their readers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from metanas.errors import SpaceError
from metanas.space.graph import Choice, Needed, Op, Size
from metanas.space.program import Apply, Combine, Loop, Program, Step, main_sources_of, sources_of

GIVES_AT_MOST_WHAT_COMES = frozenset({"narrow"})
"""Kinds with a width of their own that still need a source as wide."""

Taken = Mapping[str, tuple[str, ...]]
"""An assignment: the labels taken, by choice."""


def derive(program: Program, taken: Taken, outputs: int | None = None) -> Program:
    """The program with every choice fixed: no choices left, dead branches gone, sizes resolved.

    Args:
        taken: the labels taken by every choice that matters (`Space.derive` checks it).
        outputs: width that the reader of the output needs (classes); it resolves a `NEEDED` at the end.

    Raises:
        SpaceError: a `NEEDED` width has no reader that says how much.
    """
    return resolve(pruned(fix(program, taken)), taken, outputs)


def fix(program: Program, taken: Taken) -> Program:
    """Every Combine reads only what was taken; one value alone is passed on under its own name.

    A value none of whose sources were taken is absent, and so is what is made of absent values alone. Where that
    reaches the output, the last Combine that the choices emptied gives zeros instead: the network is valid, and blind.
    """
    choices = {c.name: c for c in program.choices}
    sources = {step.out: _taken_sources(step, taken, choices) for step in program.steps}
    absent, grounded = presence(program, sources)
    alias: dict[str, str] = {}
    steps: list[Step] = []
    for step in program.steps:
        if step.out in grounded:
            steps.append(_zeros(program, step, absent, alias))
        elif step.out not in absent:
            present = tuple(alias.get(s, s) for s in sources[step.out] if s not in absent)
            if not isinstance(step, Combine):
                if isinstance(step, Loop):
                    body = replace(step.program, choices=program.choices)
                    step = replace(step, program=pruned(fix(body, taken)))
                steps.append(replace(step, source=present[0]))
            elif len(present) == 1 and step.how != "split":
                alias[step.out] = present[0]
            else:
                steps.append(replace(step, sources=present, choice=None))
    return Program(program.inputs, tuple(steps), alias.get(program.output, program.output))


def _taken_sources(step: Step, taken: Taken, choices: Mapping[str, Choice]) -> tuple[str, ...]:
    if not isinstance(step, Combine) or step.choice is None:
        return main_sources_of(step)
    if step.choice not in taken:  # it does not matter: nothing that is taken reads this value
        return ()
    choice = choices[step.choice]
    return tuple(step.sources[choice.index(label)] for label in taken[step.choice])


def presence(program: Program, sources: Mapping[str, tuple[str, ...]]) -> tuple[frozenset[str], frozenset[str]]:
    """What is not there when every step reads `sources[step.out]`: absent values, and those that give zeros instead.

    Zeros stand in for the last Combine that its choice emptied, where the output would be absent otherwise.
    """
    made = {step.out: step for step in program.steps}
    grounded: set[str] = set()
    while True:
        absent: set[str] = set()
        for step in program.steps:
            if step.out not in grounded and all(s in absent for s in sources[step.out]):
                absent.add(step.out)
        if program.output not in absent:
            return frozenset(absent), frozenset(grounded)
        value = program.output
        while not (isinstance(step := made[value], Combine) and step.choice is not None):
            value = next(s for s in sources_of(step) if s in absent)
        grounded.add(value)


def _zeros(program: Program, emptied: Step, absent: frozenset[str], alias: Mapping[str, str]) -> Apply:
    """Zeros as wide and as large as what `emptied` would give: the way back to a value that is there says how much."""
    made = {step.out: step for step in program.steps}
    value, stride = emptied.out, 1
    while value in absent or value == emptied.out or isinstance(_width_of(value, made), Needed):
        step = made[value]
        stride *= step.op.stride if isinstance(step, Apply) else 1
        value = sources_of(step)[0]
    return Apply(emptied.out, alias.get(value, value), Op("none", width=_width_of(emptied.out, made), stride=stride))


def _width_of(value: str, made: Mapping[str, Step]) -> int | Size | Needed | None:
    """The width that a value has by specification alone; None: as wide as what comes into the program."""
    if value not in made:
        return None
    step = made[value]
    if isinstance(step, Combine) and step.how == "concat":
        widths = [_width_of(s, made) for s in step.sources]
        return sum(w for w in widths if isinstance(w, int)) if all(isinstance(w, int) for w in widths) else None
    width = step.op.width if isinstance(step, Apply) else step.width
    return _width_of(sources_of(step)[0], made) if width is None else width


def pruned(program: Program) -> Program:
    """The program without the steps that nothing reads."""
    live = {program.output}
    kept: list[Step] = []
    for step in reversed(program.steps):
        if step.out in live:
            kept.append(step)
            live.update(sources_of(step))
    kept.reverse()
    return replace(program, steps=tuple(kept))


def resolve(program: Program, taken: Taken | None, outputs: int | None = None) -> Program:
    """Every width a number or None: chosen ones from `taken`, needed ones from the widest reader.

    Without `taken` chosen widths stay open: a supernet is as wide as the widest.
    """
    wanted: dict[str, int] = {} if outputs is None else {program.output: outputs}

    def want(value: str, width: int) -> None:
        wanted[value] = max(wanted.get(value, 0), width)

    steps: list[Step] = []
    for step in reversed(program.steps):
        if isinstance(step, Loop):
            inner = resolve(step.program, taken, step.width)
            step = replace(step, program=inner)
        elif isinstance(step, Combine):
            for k, source in enumerate(step.sources):
                if step.width is not None:  # a split: the remainder goes to the first
                    share, rest = divmod(step.width, len(step.sources))
                    want(source, share + (k < rest))
                elif step.out in wanted and step.how != "concat":
                    want(source, wanted[step.out])
        else:
            width = _resolved(step, taken, wanted)
            step = replace(step, op=replace(step.op, width=width))
            if step.out in wanted and (width is None or step.op.kind in GIVES_AT_MOST_WHAT_COMES):
                want(step.source, wanted[step.out])
        steps.append(step)
    steps.reverse()
    return replace(program, steps=tuple(steps))


def _resolved(step: Apply, taken: Taken | None, wanted: Mapping[str, int]) -> int | Size | None:
    width = step.op.width
    if isinstance(width, Size):
        return width if taken is None else int(taken[width.choice][0])
    if isinstance(width, Needed):
        if step.out not in wanted:
            raise SpaceError(
                f"{step.out}: {step.op.kind} is as wide as its readers need, but none says how wide; "
                "give outputs= or a width"
            )
        return wanted[step.out]
    return width
