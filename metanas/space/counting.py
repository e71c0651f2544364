"""How many architectures a space has, and how one is drawn uniformly.

Choices fall into groups that depend on one another: a choice whose taking decides whether another matters (the inputs
of a DARTS node and the operations on its edges; the motif that a cell takes) is in the group of that other. Within a
group every assignment of the deciding choices is listed, and the others multiply; groups multiply with one another.
Limits that bind choices of several groups are counted by multiplying polynomials instead of numbers: the exponent is
how many of the limited options are taken.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metanas.errors import SpaceError
from metanas.space.graph import Choice
from metanas.space.program import Program

MOST_DECISIONS = 1_000_000
MOST_TRIES = 100_000

Taken = dict[str, tuple[str, ...]]
Counts = tuple[int, ...]


@dataclass(frozen=True)
class Limit:
    """A joint constraint: of all options taken by `choices` (with the given `labels`; None: any), so many may be taken.

    `Limit(("in1", "in2", "out"), at_most=9)` is NAS-Bench-101's bound on edges; `Limit(edges, labels=("skip",),
    at_most=2)` bounds skip connections.
    """

    choices: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    at_least: int = 0
    at_most: int | None = None

    def __str__(self) -> str:
        what = "" if self.labels is None else f" ({', '.join(self.labels)})"
        return f"{self.bounds} of {', '.join(self.choices)}{what}"

    @property
    def bounds(self) -> str:
        """How many are allowed, in words."""
        return f"at least {self.at_least}" if self.at_most is None else f"{self.at_least} to {self.at_most}"

    def count(self, taken: Mapping[str, tuple[str, ...]]) -> int:
        """How many limited options are taken."""
        return sum(
            1 for name in self.choices for label in taken.get(name, ()) if self.labels is None or label in self.labels
        )

    def holds(self, taken: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether the limit is kept."""
        return self.allows(self.count(taken))

    def allows(self, count: int) -> bool:
        """Whether so many may be taken."""
        return self.at_least <= count and (self.at_most is None or count <= self.at_most)


def selections(choice: Choice) -> Iterator[tuple[str, ...]]:
    """Every way to take options of one choice."""
    sizes = [choice.take] if choice.take is not None else range(len(choice.options) + 1)
    for size in sizes:
        yield from itertools.combinations(choice.options, size)


def ways(choice: Choice) -> int:
    """How many ways there are to take options of one choice."""
    n = len(choice.options)
    return 2**n if choice.take is None else math.comb(n, choice.take)


def draw(choice: Choice, rng: np.random.Generator) -> tuple[str, ...]:
    """One way, all equally likely."""
    options = choice.options
    if choice.take == 1:
        return (options[rng.integers(len(options))],)
    if choice.take is None:
        return tuple(itertools.compress(options, rng.random(len(options)) < 0.5))
    picked = rng.choice(len(options), size=choice.take, replace=False)
    return tuple(options[i] for i in sorted(picked))


@dataclass(frozen=True)
class Group:
    """Choices that depend on one another: `deciding` ones come first, `following` ones multiply."""

    deciding: tuple[Choice, ...]
    following: tuple[Choice, ...]


@dataclass(frozen=True)
class Counting:
    """Counts and draws the assignments of a program's choices within limits."""

    program: Program
    limits: tuple[Limit, ...] = ()

    @cached_property
    def conditions(self) -> dict[str, tuple[tuple[str, str], ...]]:
        return dict(self.program.conditions)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order of their first choice."""
        deciders = {other for when in self.conditions.values() for other, _ in when}
        parent = {c.name: c.name for c in self.program.choices}

        def root(name: str) -> str:
            while parent[name] != name:
                name = parent[name]
            return name

        for name, when in self.conditions.items():
            for other, _ in when:
                parent[root(name)] = root(other)
        members: dict[str, list[Choice]] = {}
        for choice in self.program.choices:
            members.setdefault(root(choice.name), []).append(choice)
        return tuple(
            Group(
                tuple(c for c in rows if c.name in deciders),
                tuple(c for c in rows if c.name not in deciders),
            )
            for rows in members.values()
        )

    def matters(self, name: str, taken: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether a choice matters, given what is taken elsewhere."""
        when = self.conditions.get(name)
        return when is None or any(label in taken.get(other, ()) for other, label in when)

    def active(self, taken: Mapping[str, tuple[str, ...]]) -> Taken:
        """What is taken, without the choices that do not matter."""
        kept = dict(taken)
        while True:
            fewer = {name: labels for name, labels in kept.items() if self.matters(name, kept)}
            if len(fewer) == len(kept):
                return fewer
            kept = fewer

    def decisions(self, group: Group) -> Iterator[Taken]:
        """Every assignment of a group's deciding choices, each once."""
        total = math.prod(map(ways, group.deciding))
        if total > MOST_DECISIONS:
            raise SpaceError(
                f"{total:.1e} assignments of the choices {group.deciding[0].name}, ... decide over others; "
                f"at most {MOST_DECISIONS} can be listed: make fewer choices conditional"
            )
        seen = set()
        for rows in itertools.product(*map(selections, group.deciding)):
            taken = self.active({c.name: row for c, row in zip(group.deciding, rows, strict=True)})
            mark = tuple(taken.items())
            if mark not in seen:
                seen.add(mark)
                yield taken

    def following(self, group: Group, taken: Taken) -> list[Choice]:
        """The following choices that matter after `taken`."""
        return [c for c in group.following if self.matters(c.name, taken)]

    @cached_property
    def size(self) -> int:
        """How many assignments keep the limits (an exact integer)."""
        total: Counter[Counts] = Counter({(0,) * len(self.limits): 1})
        for group in self.groups:
            total = self._times(total, self._polynomial(group))
        return sum(
            n
            for counts, n in total.items()
            if all(limit.allows(c) for limit, c in zip(self.limits, counts, strict=True))
        )

    def _polynomial(self, group: Group) -> Counter[Counts]:
        one = (0,) * len(self.limits)
        total: Counter[Counts] = Counter()
        for taken in self.decisions(group):
            product = Counter({tuple(limit.count(taken) for limit in self.limits): 1})
            for choice in self.following(group, taken):
                limited = [choice.name in limit.choices for limit in self.limits]
                if any(limited):
                    rows = Counter(
                        tuple(limit.count({choice.name: row}) for limit in self.limits) for row in selections(choice)
                    )
                else:
                    rows = Counter({one: ways(choice)})
                product = self._times(product, rows)
            total.update(product)
        return total

    def _times(self, a: Counter[Counts], b: Counter[Counts]) -> Counter[Counts]:
        most = [math.inf if limit.at_most is None else limit.at_most for limit in self.limits]
        product: Counter[Counts] = Counter()
        for (x, n), (y, m) in itertools.product(a.items(), b.items()):
            counts = tuple(i + j for i, j in zip(x, y, strict=True))
            if all(c <= k for c, k in zip(counts, most, strict=True)):
                product[counts] += n * m
        return product

    def sample(self, rng: np.random.Generator) -> Taken:
        """One assignment, uniform over those that keep the limits (by rejection)."""
        for _ in range(MOST_TRIES):
            taken: Taken = {}
            for group, decisions, weights in self._decided:
                if group.deciding:
                    taken |= decisions[rng.choice(len(decisions), p=weights)]
                for choice in self.following(group, taken):
                    taken[choice.name] = draw(choice, rng)
            if all(limit.holds(taken) for limit in self.limits):
                return taken
        raise SpaceError(
            f"no architecture within the limits in {MOST_TRIES} draws; loosen {'; '.join(map(str, self.limits))}"
        )

    @cached_property
    def _decided(self) -> list[tuple[Group, list[Taken], np.ndarray]]:
        """The groups, the assignments of their deciding choices, and the share of the space under each of these."""
        rows = []
        for group in self.groups:
            decisions = list(self.decisions(group))
            under = [math.prod(ways(c) for c in self.following(group, taken)) for taken in decisions]
            total = sum(under)
            rows.append((group, decisions, np.array([n / total for n in under])))
        return rows
