"""From a program and an architecture to the program of the derived network.

Three passes: fix the choices, drop what nothing reads, resolve the sizes (chosen ones from the architecture, needed
ones backwards from their readers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from metanas.errors import SpaceError
from metanas.space.graph import NEEDED, Choice, Needed, Op, Size
from metanas.space.program import Apply, Combine, Loop, Program, Step, sources_of

Taken = Mapping[str, tuple[str, ...]]
"""An assignment: the labels taken, by choice."""


def derive(program: Program, taken: Taken, outputs: int | None = None) -> Program:
    """The program with every choice fixed: no choices left, dead branches gone, sizes resolved.

    Args:
        taken: the labels taken by every choice that matters.
        outputs: width that the reader of the output needs (classes); it resolves a `NEEDED` at the end.

    Raises:
        SpaceError: a choice that matters is missing, or a `NEEDED` width has no reader that says how much.
    """
    return resolve(pruned(fix(program, taken)), taken, outputs)


def fix(program: Program, taken: Taken) -> Program:
    """Every Combine reads only what was taken; one value alone is passed on under its own name.

    A value none of whose sources were taken is absent, and so is what is made of absent values alone. Where that
    reaches the output, the last Combine that the choices emptied gives zeros instead: the network is valid, and blind.
    """
    choices = {c.name: c for c in program.choices}
    grounded: frozenset[str] = frozenset()
    while True:
        fixed, absent = _fix(program, taken, choices, grounded)
        if program.output not in absent:
            return fixed
        grounded |= {_culprit(program, absent)}


def _fix(
    program: Program, taken: Taken, choices: Mapping[str, Choice], grounded: frozenset[str]
) -> tuple[Program, set[str]]:
    alias: dict[str, str] = {}
    absent: set[str] = set()
    steps: list[Step] = []
    for step in program.steps:
        sources = tuple(alias.get(s, s) for s in _taken_sources(step, taken, choices) if s not in absent)
        if not sources and step.out in grounded:
            steps.append(Apply(step.out, _present(program, step, absent, alias), Op("none", width=_width(step))))
        elif not sources:
            absent.add(step.out)
        elif isinstance(step, Combine):
            if len(sources) == 1 and step.how != "split":
                alias[step.out] = sources[0]
            else:
                steps.append(replace(step, sources=sources, choice=None))
        elif isinstance(step, Loop):
            body = fix(replace(step.program, choices=program.choices), taken)
            steps.append(replace(step, source=sources[0], program=body))
        else:
            steps.append(replace(step, source=sources[0]))
    output = alias.get(program.output, program.output)
    return Program(program.inputs, tuple(steps), output), absent


def _taken_sources(step: Step, taken: Taken, choices: Mapping[str, Choice]) -> tuple[str, ...]:
    if not isinstance(step, Combine) or step.choice is None:
        return sources_of(step)
    if step.choice not in taken:  # it does not matter: nothing that is taken reads this value
        return ()
    choice = choices[step.choice]
    return tuple(step.sources[choice.index(label)] for label in taken[step.choice])


def _culprit(program: Program, absent: set[str]) -> str:
    """The Combine with a choice that is nearest to the absent output."""
    made = {s.out: s for s in program.steps}
    value = program.output
    while not (isinstance(step := made[value], Combine) and step.choice is not None):
        value = next(s for s in sources_of(step) if s in absent)
    return value


def _present(program: Program, step: Step, absent: set[str], alias: Mapping[str, str]) -> str:
    """The nearest value before an emptied Combine that is there: the zeros take its height and width."""
    made = {s.out: s for s in program.steps}
    waiting = list(sources_of(step))
    while waiting:
        value = waiting.pop(0)
        maker = made.get(value)
        if value not in absent and not (isinstance(maker, Apply) and isinstance(maker.op.width, Needed)):
            return alias.get(value, value)
        if maker is not None:
            waiting += sources_of(maker)
    raise SpaceError(f"{step.out}: no value leads to it from the inputs; connect it")


def _width(step: Step) -> int | Needed | None:
    return step.width if isinstance(step, Combine) and step.how == "split" else NEEDED


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
            if width is None and step.out in wanted:  # gives what it takes: ask its source
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
