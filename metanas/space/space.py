"""A search space: a graph with choices, what binds the choices, and the benchmark's own way to write an architecture
down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from metanas.errors import SpaceError, nearest
from metanas.space.architecture import Architecture
from metanas.space.bounds import Bounds, draw_within
from metanas.space.counting import Counting, Limit, draw, selections, ways
from metanas.space.derive import derive
from metanas.space.graph import Choice, Graph
from metanas.space.kinds import NONE, SKIP, labels_of
from metanas.space.program import Program, compile_graph

MOST_TRIES = 10_000
BOUNDED_TRIES = 200
DOES_NOT_MATTER = "-"
"""What a template holds for a choice that does not matter."""


@dataclass(frozen=True)
class Space:
    """A search space; see `metanas.space` for how one is built.

    Args:
        graph: operations and choices.
        name: a short name.
        limits: joint constraints over choices.
        template: how the benchmark writes an architecture, with a choice's name in braces where its label stands:
            `"|{1<-0}~0|+|{2<-0}~0|{2<-1}~1|"`.
        settings: the numbers that the space was built with, for the record.
        auxiliary: the node of the graph whose value an auxiliary head may read in a training from scratch.
        bounds: what draws, mutants, children and neighbours keep beside the limits, as a number of parameters; `size`
            does not count it, `architecture` does not ask for it, and JSON does not hold it.

    Raises:
        SpaceError: a graph that cannot be compiled; a limit or a template that names what the space does not have.

    >>> from metanas.space import Graph, Node, Edge, one_of, op
    >>> ops = {"none": op("none"), "skip": op("skip")}
    >>> graph = Graph(("x",), (Node("y", (Edge("x", one_of("y<-x", ops)),)),), "y")
    >>> space = Space(graph, "tiny", template="{y<-x}!")
    >>> space.size, str(space.parse("skip!")), [str(a) for a in space.neighbours(space.parse("skip!"))]
    (2, 'skip!', ['none!'])
    """

    graph: Graph
    name: str = "space"
    limits: tuple[Limit, ...] = ()
    template: str | None = None
    settings: Mapping[str, int | float | str] = field(default_factory=dict)
    auxiliary: str | None = None
    bounds: Bounds | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        names = {c.name: c for c in self.program.choices}
        for limit in self.limits:
            for name in limit.choices:
                if name not in names:
                    raise SpaceError(f"limit over {name!r}: no such choice{nearest(name, names)}")
            labels = {label: None for name in limit.choices for label in names[name].candidates}
            for label in limit.labels or ():
                if label not in labels:
                    raise SpaceError(f"limit of {label!r}: no such candidate{nearest(label, labels)}")
        nodes = [node.name for node in self.graph.nodes if node.name != self.graph.output]
        if self.auxiliary is not None and self.auxiliary not in nodes:
            raise SpaceError(f"auxiliary: no node {self.auxiliary!r} before the output{nearest(self.auxiliary, nodes)}")
        for name in re.findall(r"{(.*?)}", self.template or ""):
            if name not in names:
                raise SpaceError(f"template: no choice {name!r}{nearest(name, names)}")

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Once: the graph of a large space takes longer to hash than an architecture takes to evaluate by a table."""
        return hash((self.graph, self.name, self.limits, self.template, self.auxiliary, self.bounds))

    def __getstate__(self) -> dict[str, Any]:
        """Without its hash, which other processes compute to another number."""
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    @cached_property
    def program(self) -> Program:
        """The graph as a flat list of steps."""
        return compile_graph(self.graph)

    @cached_property
    def counting(self) -> Counting:
        """Counts and draws assignments."""
        return Counting(self.program, self.limits)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices, in the order in which the graph meets them."""
        return self.program.choices

    @cached_property
    def skips(self) -> dict[str, tuple[str, ...]]:
        """Choice -> its candidates that skip, for those that have one."""
        return labels_of(self.graph, SKIP)

    @cached_property
    def nothings(self) -> dict[str, tuple[str, ...]]:
        """Choice -> its candidates that are always zero, for those that have one."""
        return labels_of(self.graph, NONE)

    @property
    def size(self) -> int:
        """How many architectures there are (exact), choices that do not matter not counted."""
        return self.counting.size

    def architecture(self, taken: Mapping[str, Any]) -> Architecture:
        """A checked architecture: every choice that matters and no other, known labels, within the limits.

        Raises:
            SpaceError: naming the first thing that is wrong, and what is allowed.
        """
        given = dict(Architecture.from_json(taken))
        names = {c.name: c for c in self.choices}
        for name, labels in given.items():
            if name not in names:
                raise SpaceError(f"space {self.name!r} has no choice {name!r}{nearest(name, names)}")
            choice = names[name]
            order = sorted(labels, key=choice.index)
            if len(set(labels)) < len(labels) or (choice.take is not None and len(labels) != choice.take):
                raise SpaceError(f"choice {name!r} takes {choice.take or 'any'} of its candidates, got {labels}")
            for label in labels:
                if label in choice.never:
                    raise SpaceError(f"choice {name!r}: {label!r} is never derived{nearest(label, choice.options)}")
            given[name] = tuple(order)
        active = self.counting.active(given)
        if missing := self._missing(active):
            raise SpaceError(f"architecture: choice {missing[0].name!r} is missing; give every choice that matters")
        for limit in self.limits:
            if not limit.holds(active):
                raise SpaceError(
                    f"architecture takes {limit.count(active)} of {', '.join(limit.choices)}; allowed: {limit.bounds}"
                )
        return Architecture(active, self._key(active))

    def parse(self, text: str) -> Architecture:
        """The architecture of a benchmark's string, or of JSON. Raises SpaceError where it is neither."""
        if self.template is None or text.lstrip().startswith("{"):
            return self.architecture(Architecture.from_json(text))
        parts = re.split(r"{(.*?)}", self.template)
        # By the labels that there are, so that a template needs nothing between two of them; of what is no label,
        # `architecture` says so.
        patterns = (self._pattern(parts, written) for written in (self._label, self._anything))
        found = next(filter(None, (re.fullmatch(pattern, text) for pattern in patterns)), None)
        if found is None:
            raise SpaceError(f"{text!r} is not of the form {self.template!r}")
        taken = {}
        for name, written in zip(parts[1::2], found.groups(), strict=True):
            if written != DOES_NOT_MATTER:
                several = self.program.choice(name).take != 1
                taken[name] = tuple(written.split("+") if written else ()) if several else (written,)
        return self.architecture(taken)

    def _pattern(self, parts: Sequence[str], written: Callable[[str], str]) -> str:
        """A regular expression of a template that is cut at its choices."""
        return "".join(re.escape(part) if k % 2 == 0 else f"({written(part)})" for k, part in enumerate(parts))

    def _label(self, name: str) -> str:
        """A regular expression of what stands for a choice: a label, or several."""
        choice = self.program.choice(name)
        label = "|".join(map(re.escape, choice.options))
        several = rf"(?:(?:{label})(?:\+(?:{label}))*)?"
        return f"{re.escape(DOES_NOT_MATTER)}|{label if choice.take == 1 else several}"

    def _anything(self, name: str) -> str:
        return ".+?" if self.program.choice(name).take == 1 else ".*?"

    @cached_property
    def unbounded(self) -> Space:
        """The same space without bounds."""
        return self if self.bounds is None else replace(self, bounds=None)

    def keeps(self, architecture: Architecture) -> bool:
        """Whether an architecture of the space is within its bounds."""
        return self.bounds is None or self.bounds.excess(architecture) <= 0

    def sample(self, rng: np.random.Generator) -> Architecture:
        """One architecture, uniform over the space; within bounds, where hardly any of its architectures is, any.

        Raises:
            SpaceError: none within its limits or bounds was found.
        """
        if self.bounds is not None:
            return draw_within(self.unbounded, self.bounds, rng)
        taken = self.counting.sample(rng)
        return Architecture(taken, self._key(taken))

    def derive(self, architecture: Mapping[str, Any], outputs: int | None = None) -> Program:
        """The program of the derived network; `outputs`: width of its output (classes) where the space leaves it
        open.
        """
        return derive(self.program, self.architecture(architecture), outputs)

    def _key(self, taken: Mapping[str, tuple[str, ...]]) -> str | None:
        if self.template is None:
            return None
        return re.sub(r"{(.*?)}", lambda m: "+".join(taken.get(m[1], (DOES_NOT_MATTER,))), self.template)

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Every architecture that differs in one choice (k of n and subsets: in one swap or one flip).

        Choices that come to matter by the change take anything, so that neighbours are neighbours both ways.
        """
        for choice in self.choices:
            here = architecture.get(choice.name)
            if here is None:
                continue
            for labels in selections(choice):
                if _one_apart(choice, here, labels):
                    yield from self._completions({**architecture, choice.name: labels})

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """One choice that matters redrawn to something else, all equally likely; newly mattering choices are drawn.

        Where no such architecture is found within the space's bounds, any that is.
        """
        choices = [c for c in self.choices if c.name in architecture and ways(c) > 1]
        tries = MOST_TRIES if self.bounds is None else BOUNDED_TRIES
        for _ in range(tries if choices else 0):
            choice = choices[rng.integers(len(choices))]
            labels = draw(choice, rng)
            if labels == architecture[choice.name]:
                continue
            other = self._completed({**architecture, choice.name: labels}, rng)
            if other is not None:
                return other
        if self.bounds is not None:
            return self.sample(rng)
        raise SpaceError(f"{architecture} has no neighbour within the limits; loosen them")

    def crossover(self, mother: Architecture, father: Architecture, rng: np.random.Generator) -> Architecture:
        """Each choice from one of two parents, at random; the mother where no such mixture keeps the limits."""
        for _ in range(100):
            mixed = {}
            for choice in self.choices:
                sources = [p[choice.name] for p in (mother, father) if choice.name in p]
                if sources:
                    mixed[choice.name] = sources[rng.integers(len(sources))]
            child = self._completed(mixed, rng)
            if child is not None:
                return child
        return mother

    def encode(self, architecture: Architecture) -> np.ndarray:
        """One number per option, in the order of the choices: 1 where it is taken; float32 of shape (options,)."""
        rows = [[label in architecture.get(c.name, ()) for label in c.options] for c in self.choices]
        return np.array([x for row in rows for x in row], dtype=np.float32)

    def _completed(self, taken: Mapping[str, tuple[str, ...]], rng: np.random.Generator) -> Architecture | None:
        """An architecture from a changed assignment: what does not matter dropped, what newly matters drawn."""
        active = self.counting.active(taken)
        while missing := self._missing(active):
            for choice in missing:
                active[choice.name] = draw(choice, rng)
        return self._within_limits(active)

    def _completions(self, taken: Mapping[str, tuple[str, ...]]) -> Iterator[Architecture]:
        """Every such architecture, with anything for what newly matters."""
        active = self.counting.active(taken)
        missing = self._missing(active)
        if missing:
            for labels in selections(missing[0]):
                yield from self._completions({**active, missing[0].name: labels})
        elif (found := self._within_limits(active)) is not None:
            yield found

    def _missing(self, active: Mapping[str, tuple[str, ...]]) -> list[Choice]:
        return [c for c in self.choices if c.name not in active and self.counting.matters(c.name, active)]

    def _within_limits(self, active: Mapping[str, tuple[str, ...]]) -> Architecture | None:
        if not all(limit.holds(active) for limit in self.limits):
            return None
        found = Architecture(active, self._key(active))
        return found if self.keeps(found) else None


def _one_apart(choice: Choice, a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    differing = len(set(a) ^ set(b))
    return differing == (1 if choice.take is None else 2)
