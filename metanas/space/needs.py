"""When the derived network needs a value: as a disjunction of conjunctions over what choices take.

    the output                 always
    what a step reads          when the step's own value is needed
    candidate c of a choice    when that, and the choice takes c

A term is a set of pairs (choice, label) that are all taken; a value is needed where one of its terms holds. Terms that
name every option of a choice of one are joined, so a value that is read whatever is taken has the term {}, always. The
value of a step in a `Loop` is needed where the loop's is, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from metanas.errors import SpaceError
from metanas.space.counting import selections
from metanas.space.graph import Choice
from metanas.space.program import Combine, Loop, Program, sources_of

Pair: TypeAlias = tuple[str, str]
Term: TypeAlias = frozenset[Pair]
ALWAYS: Term = frozenset()
MOST_TERMS = 256


def needs(program: Program) -> dict[str, frozenset[Term]]:
    """Value -> its terms, for every step of a program and of the programs inside it; a value that nothing can need has
    none.

    Raises:
        SpaceError: more than 256 terms for one value.

    >>> from metanas.space.graph import chain, one_of, op
    >>> from metanas.space.program import compile_graph
    >>> program = compile_graph(chain(("stem", op("conv")), ("y", one_of("y", {"conv": op("conv"), "skip": None}))))
    >>> sorted((value, [sorted(t) for t in terms]) for value, terms in needs(program).items())
    [('stem', [[]]), ('y', [[]]), ('y.conv', [[('y', 'conv')]])]
    """
    return _needs(program, {c.name: c for c in program.choices}, frozenset({ALWAYS}))


def _needs(program: Program, choices: Mapping[str, Choice], when: frozenset[Term]) -> dict[str, frozenset[Term]]:
    read: dict[str, set[Term]] = {program.output: set(when)}
    found: dict[str, frozenset[Term]] = {}
    for step in reversed(program.steps):
        ways = read.get(step.out, set())
        if len(ways) > MOST_TERMS:
            raise SpaceError(f"{step.out} is needed in more than {MOST_TERMS} ways; its cost cannot be summed")
        terms = found[step.out] = joined(ways, choices)
        if isinstance(step, Combine) and step.choice:
            choice = choices[step.choice]
            for label, source in zip(choice.candidates, step.sources, strict=True):
                read.setdefault(source, set()).update(_with(terms, choice, label))
        else:
            for source in sources_of(step):
                read.setdefault(source, set()).update(terms)
        if isinstance(step, Loop):
            found |= {f"{step.out}/{k}": v for k, v in _needs(step.program, choices, terms).items()}
    return found


def _with(terms: frozenset[Term], choice: Choice, label: str) -> Iterator[Term]:
    """The terms with one more pair; those that a choice of one cannot keep, or that are never derived, are left out."""
    if label not in choice.options:
        return
    if choice.take == len(choice.options):  # it takes them all, whatever happens
        yield from terms
        return
    for term in terms:
        others = {other for name, other in term if name == choice.name} - {label}
        if len(others) + 1 <= (choice.take or len(choice.options)):
            yield term | {(choice.name, label)}


def joined(terms: set[Term], choices: Mapping[str, Choice]) -> frozenset[Term]:
    """The same condition in fewer terms: what another term says already goes, all options of a choice make none."""
    kept = set(terms)
    while True:
        kept = {t for t in kept if not any(u < t for u in kept)}
        whole = next(_complete(kept, choices), None)
        if whole is None:
            return frozenset(kept)
        kept.add(whole)


def _complete(terms: set[Term], choices: Mapping[str, Choice]) -> Iterator[Term]:
    """Terms that are not there and follow from those that differ in one choice alone."""
    labels: dict[tuple[str, Term], set[str]] = {}
    for term in terms:
        for name, label in term:
            if choices[name].take == 1:
                labels.setdefault((name, term - {(name, label)}), set()).add(label)
    for (name, rest), taken in labels.items():
        if taken.issuperset(choices[name].options):
            yield rest


def disjoint(terms: frozenset[Term], choices: Mapping[str, Choice]) -> Iterator[Term]:
    """The same condition as terms of which at most one holds: of several, every way to take what they name.

    Raises:
        SpaceError: that are too many, or one of the choices takes any subset.
    """
    if len(terms) <= 1:
        yield from terms
        return
    names = sorted({name for term in terms for name, _ in term})
    for name in names:
        if choices[name].take is None:
            raise SpaceError(f"a value depends on {name}, which takes any subset; its cost cannot be summed")
    ways = [[frozenset((name, label) for label in row) for row in selections(choices[name])] for name in names]
    count = 1
    for rows in ways:
        count *= len(rows)
    if count > MOST_TERMS * 16:
        raise SpaceError(f"a value depends on {', '.join(names)} in {count} ways; its cost cannot be summed")
    for picked in itertools.product(*ways):
        everything = frozenset().union(*picked)
        if any(term <= everything for term in terms):
            yield everything
