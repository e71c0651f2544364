"""From mixing weights to an architecture: the strongest option of every choice, and the strongest inputs of every node.

    one of n     the option with the largest weight; candidates that are never derived do not compete
    k of n       the k sources with the largest strength
    bounds       of the architectures within them, the one with the largest sum of weights

The strength of a source is the weight of the option that the choice behind it takes, 0 where no choice made it (Liu et
al., DARTS, ICLR 2019, arXiv:1806.09055, section 2.4), times its own weight where the sources have weights (Xu et al.,
PC-DARTS, ICLR 2020, arXiv:1907.05737). Within bounds assignments are tried from the strongest on, each with its
strongest inputs, which is exact as far as it goes; after that a greedy search gives up the weight that buys most.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from torch import Tensor

from metanas.space import Architecture, Combine, Space, every_step

TRIED = 1_000
"""Assignments that are tried from the strongest on."""
LITTLE = 1e-9

Scores = dict[str, dict[str, float]]
"""Choice -> option -> weight, the largest first."""
Labels = dict[str, str]
Assemble = Callable[[Labels], Architecture]


def strongest(space: Space, weights: Mapping[str, Tensor]) -> Architecture:
    """The architecture of the largest weights; ties go to the first. Within the space's bounds, if it has some.

    Raises:
        SpaceError: nothing within the bounds was found.

    >>> import torch
    >>> from metanas.space import chain, one_of, op
    >>> space = Space(chain(("y", one_of("y", {"conv": op("conv"), "skip": op("skip")}))))
    >>> strongest(space, {"y": torch.tensor([0.4, 0.6])}).to_json()
    {'y': 'skip'}
    """
    scores = _scores(space, weights)
    assemble = partial(_assembled, space, scores, weights)
    best = {name: next(iter(row)) for name, row in scores.items()}
    found = assemble(best)
    return found if space.keeps(found) else _within(space, scores, best, assemble)


def _scores(space: Space, weights: Mapping[str, Tensor]) -> Scores:
    scores: Scores = {}
    for choice in space.choices:
        if choice.name in weights and choice.take == 1:
            row = weights[choice.name].tolist()
            options = {label: row[choice.index(label)] for label in choice.options}
            scores[choice.name] = dict(sorted(options.items(), key=lambda pair: -pair[1]))
    return scores


def _assembled(space: Space, scores: Scores, weights: Mapping[str, Tensor], labels: Labels) -> Architecture:
    """The architecture that takes these options, and of every node its strongest inputs."""
    taken: dict[str, tuple[str, ...]] = {name: (label,) for name, label in labels.items()}
    maker = {s.out: s.choice for s in every_step(space.program) if isinstance(s, Combine) and s.choice}
    for step in every_step(space.program):
        if isinstance(step, Combine) and step.choice and step.choice not in scores:
            choice = space.program.choice(step.choice)
            made = [maker.get(source, "") for source in step.sources]
            strength = [scores[name][labels[name]] if name in labels else 0.0 for name in made]
            if step.choice in weights:
                strength = [a * b for a, b in zip(strength, weights[step.choice].tolist(), strict=True)]
            order = sorted(map(choice.index, choice.options), key=lambda k: -strength[k])[: choice.take]
            taken[choice.name] = tuple(choice.candidates[k] for k in sorted(order))
    return space.architecture(taken)


def _within(space: Space, scores: Scores, best: Labels, assemble: Assemble) -> Architecture:
    seen = set()
    for labels in itertools.islice(_from_the_strongest(scores), TRIED):
        found = assemble(labels)
        if found not in seen and space.keeps(found):
            return found
        seen.add(found)
    return _greedy(space, scores, best, assemble)


def _from_the_strongest(scores: Scores) -> Iterator[Labels]:
    """Every assignment once, by falling sums of weights."""
    names, rows = list(scores), [list(row.items()) for row in scores.values()]
    worth = [[_finite(weight) for _, weight in row] for row in rows]
    heap = [(-sum(row[0] for row in worth), (0,) * len(rows), 0)]
    while heap:
        least, places, last = heapq.heappop(heap)
        yield {name: row[k][0] for name, row, k in zip(names, rows, places, strict=True)}
        for j in range(last, len(rows)):  # what lies before stays: so each comes once
            k = places[j] + 1
            if k < len(rows[j]):
                step = (*places[:j], k, *places[j + 1 :])
                heapq.heappush(heap, (least + worth[j][k - 1] - worth[j][k], step, j))


def _greedy(space: Space, scores: Scores, labels: Labels, assemble: Assemble) -> Architecture:
    """Down to the bounds by the changes that cost the least weight, and up again as far as they allow."""
    assert space.bounds is not None  # else nothing was beyond them
    found = assemble(labels)
    while (beyond := space.bounds.excess(found)) > 0:
        rows: list[tuple[float, int, Labels, Architecture]] = []
        for change in _changes(scores, labels):
            other = assemble(change)
            saved = beyond - space.bounds.excess(other)
            if saved > 0:
                rows.append(
                    (saved / max(_sum(scores, labels) - _sum(scores, change), LITTLE), len(rows), change, other)
                )
        if not rows:  # no change of one choice helps
            return space.sample(np.random.default_rng(0))
        _, _, labels, found = max(rows)
    return _climbed(space, scores, labels, found, assemble)


def _climbed(space: Space, scores: Scores, labels: Labels, found: Architecture, assemble: Assemble) -> Architecture:
    while True:
        rows = [(_sum(scores, change), k, change) for k, change in enumerate(_changes(scores, labels))]
        for worth, _, change in sorted(rows, key=lambda row: (-row[0], row[1])):
            if worth <= _sum(scores, labels):
                return found
            other = assemble(change)
            if space.keeps(other):
                labels, found = change, other
                break
        else:
            return found


def _changes(scores: Scores, labels: Labels) -> Iterator[Labels]:
    for name, row in scores.items():
        yield from ({**labels, name: label} for label in row if label != labels[name])


def _sum(scores: Scores, labels: Labels) -> float:
    return sum(_finite(scores[name][label]) for name, label in labels.items())


def _finite(weight: float) -> float:
    """A strength may be infinite: of a candidate that is all there is."""
    return weight if math.isfinite(weight) else math.copysign(1e6, weight)
