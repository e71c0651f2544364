"""The cost of an architecture as a polynomial in what its choices take, and what it is worth on the average.

    cost(architecture) = sum over steps of cost(step) * [the derived network needs the step]
    expected cost      = sum over steps of cost(step) * P(the step is needed)

"Needed" is a product of indicators, one for each choice on the way to the output (`space.needs`); where a step's cost
depends on a chosen width, that choice joins the product. Under independent choices P is the product of their mixing
weights: differentiable, and exact, since no choice stands in a product twice. `none` costs nothing. A choice of k of n
takes each of its options with the probability k / n.

Expected latency of a mixture: Cai, Zhu, Han: ProxylessNAS, ICLR 2019, arXiv:1812.00332; Wu et al.: FBNet, CVPR 2019,
arXiv:1812.03443.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from metanas.errors import SpaceError
from metanas.evaluation.operations import ONCE, OperationTable, combined, looped
from metanas.network.ops import Shape
from metanas.space import Apply, Choice, Combine, Loop, Op, Program, Size, Space
from metanas.space.derive import resolve
from metanas.space.needs import ALWAYS, MOST_TERMS, Pair, Term, disjoint, needs

CHECKED = 3
"""Random architectures on which the polynomial is compared with the sum over their own networks."""

Shapes = dict[Term, Shape]
"""What is taken, each of which rules the others out -> the shape that a value has then."""


LEAST = 1e-6
"""Weight of all options of a choice below which they have no odds: a draw took what is never derived."""


@dataclass(frozen=True)
class AdditiveCost:
    """A cost as a sum over terms; made by `additive`.

    Args:
        what: the cost's name.
        terms: pairs (choice, label) -> what is paid where all of them are taken.
        choices: by name.
    """

    what: str
    terms: Mapping[Term, float]
    choices: Mapping[str, Choice]

    def __call__(self, architecture: Mapping[str, tuple[str, ...]]) -> float:
        taken = {(name, label) for name, labels in architecture.items() for label in labels}
        # What does not matter changes nothing, but terms that list every way to take it want it to be taken.
        taken |= {pair for name, usual in self._usual.items() if name not in architecture for pair in usual}
        return math.fsum(price for term, price in self.terms.items() if term <= taken)

    @cached_property
    def _usual(self) -> dict[str, list[Pair]]:
        return {name: [(name, label) for label in c.options[: c.take or 0]] for name, c in self.choices.items()}

    def expected(self, mix: Mapping[str, Tensor]) -> Tensor:
        """The mean cost of architectures whose choices are drawn independently, a scalar; differentiable.

        Args:
            mix: choice of one -> weights (candidates,), taken as the odds of its options: what is mixed and never
                derived costs nothing and must be no way out. Of other choices every way to take them is as likely,
                whatever weights they have.
        """
        names = [name for name in mix if name in self.choices and self.choices[name].take == 1]
        rows, factors = self._rows(tuple(names))
        first = mix[names[0]]
        weights = torch.cat([*(self._odds(name, mix[name]) for name in names), torch.ones_like(first[:1])])
        product = torch.tensor(factors, dtype=weights.dtype, device=weights.device)
        for column in torch.tensor(rows, device=weights.device).T:
            product = product * weights[column]
        return product.sum()

    def _odds(self, name: str, row: Tensor) -> Tensor:
        """Weights as probabilities of the options, (candidates,); where none of them has any, as they are."""
        choice = self.choices[name]
        derived = torch.tensor([label not in choice.never for label in choice.candidates], device=row.device)
        kept = row * derived
        total = kept.sum()
        return kept / torch.where(total > LEAST, total, torch.ones_like(total))

    def _rows(self, names: tuple[str, ...]) -> tuple[list[list[int]], list[float]]:
        """For each term its places in the weights of `names` side by side, padded with that of a 1; what it costs."""
        start, place = {}, 0
        for name in names:
            start[name] = place
            place += len(self.choices[name].candidates)
        rows, factors = [], []
        for term, price in self.terms.items():
            row = [start[name] + self.choices[name].index(label) for name, label in term if name in start]
            rows.append(row)
            factors.append(price * self._chance(frozenset(pair for pair in term if pair[0] not in start)))
        deepest = max([1, *map(len, rows)])
        return [row + [place] * (deepest - len(row)) for row in rows], factors

    def _chance(self, term: Term) -> float:
        """The probability that choices take all of this, every way to take them as likely."""
        chance = 1.0
        for name in {name for name, _ in term}:
            choice, count = self.choices[name], sum(1 for other, _ in term if other == name)
            n = len(choice.options)
            left = n - count
            chance *= (
                0.5**count if choice.take is None else math.comb(left, choice.take - count) / math.comb(n, choice.take)
            )
        return chance

    @cached_property
    def mean(self) -> float:
        """The mean over the space, every option of a choice being as likely."""
        return math.fsum(price * self._chance(term) for term, price in self.terms.items())


def additive(space: Space, shape: Shape, outputs: int, table: OperationTable) -> AdditiveCost:
    """The cost that a table gives to the architectures of a space.

    Args:
        shape: of one input, without the batch.
        outputs: width of the network's output: classes.
        table: finds the rows that it does not have yet.

    Raises:
        SpaceError: a step's cost depends on more than this can follow, as widths that are shared out among the inputs
            that are taken (NAS-Bench-101); the table lacks a row.

    >>> from metanas.space import NEEDED, chain, one_of, op
    >>> ops = {"conv": op("conv", width=3, kernel=3), "none": op("none")}
    >>> space = Space(chain(("y", one_of("y", ops)), ("head", op("classifier", width=NEEDED))))
    >>> found = additive(space, (3, 8, 8), 2, OperationTable.counted("parameters"))
    >>> found(space.architecture({"y": "conv"})), float(found.expected({"y": torch.tensor([0.5, 0.5])}))
    (92.0, 50.0)
    """
    program = resolve(space.program, None, outputs)
    summed = _Summed(space, table)
    summed.walk(program, [shape], times=1, prefix="")
    found = AdditiveCost(table.what, summed.terms, summed.choices)
    exact, rng = table.of(space, shape, outputs), np.random.default_rng(0)
    for architecture in (space.sample(rng) for _ in range(CHECKED)):
        if not math.isclose(found(architecture), exact(architecture), rel_tol=1e-9, abs_tol=1e-9):
            raise SpaceError(
                f"the {table.what} of space {space.name!r} are no sum over steps: {architecture} has "
                f"{exact(architecture):g}, and {found(architecture):g} by sums"
            )
    return found


class _Summed:
    """Walks a program once, with the shapes that every value may have; owns the terms found so far."""

    def __init__(self, space: Space, table: OperationTable) -> None:
        self.space, self.table = space, table
        self.choices = {c.name: c for c in space.choices}
        self.terms: dict[Term, float] = {}
        self.needs: Mapping[str, frozenset[Term]] = {}

    def walk(self, program: Program, shapes: Sequence[Shape], *, times: int, prefix: str) -> None:
        if not prefix:
            self.needs = needs(program)
        at: dict[str, Shapes] = {
            name: {ALWAYS: tuple(shape)} for name, shape in zip(program.inputs, shapes, strict=True)
        }
        for step in program.steps:
            if isinstance(step, Apply):
                at[step.out] = self.apply(step, at[step.source], times, prefix)
            elif isinstance(step, Combine):
                at[step.out] = self.combine(step, [at[s] for s in step.sources])
            else:
                at[step.out] = self.loop(step, at[step.source], times)
            if len(at[step.out]) > MOST_TERMS:
                raise self.refusal(step.out)

    def apply(self, step: Apply, source: Shapes, times: int, prefix: str) -> Shapes:
        found: Shapes = {}
        for when, op in self.widths(step.op):
            for term, shape in source.items():
                both = self.both(when, term)
                if both is None:
                    continue
                found[both], price = self.table.row(op, shape)
                if price:
                    self.pay(prefix + step.out, both, price * times)
        return self.collapsed(found)

    def pay(self, value: str, when: Term, price: float) -> None:
        for term in disjoint(self.needs[value], self.choices):
            both = self.both(term, when)
            if both is not None:
                self.terms[both] = self.terms.get(both, 0.0) + price

    @staticmethod
    def widths(op: Op) -> Iterator[tuple[Term, Op]]:
        """The operation at each width that it may have."""
        if not isinstance(op.width, Size):
            yield ALWAYS, op
            return
        for value in op.width.values:
            yield frozenset({(op.width.choice, str(value))}), replace(op, width=value)

    def both(self, a: Term, b: Term) -> Term | None:
        """Both together; None where they rule each other out."""
        taken: dict[str, set[str]] = {}
        for name, label in a | b:
            taken.setdefault(name, set()).add(label)
        possible = all(len(labels) <= (self.choices[n].take or len(labels)) for n, labels in taken.items())
        return a | b if possible else None

    def combine(self, step: Combine, sources: Sequence[Shapes]) -> Shapes:
        choice = self.choices[step.choice] if step.choice else None
        if choice is not None and choice.take == 1:
            found: Shapes = {}
            for label, source in zip(choice.candidates, sources, strict=True):
                for term, shape in source.items():
                    if label in choice.options and (both := self.both(frozenset({(choice.name, label)}), term)):
                        found[both] = shape
            return self.collapsed(found)
        if step.how in ("concat", "split"):
            if choice is not None:
                raise self.refusal(step.out)
            return self.collapsed(self.side_by_side(step.how, sources))
        return sources[0]

    def side_by_side(self, how: str, sources: Sequence[Shapes]) -> Shapes:
        rows: dict[Term, list[Shape]] = {ALWAYS: []}
        for source in sources:
            rows = {
                both: [*before, shape]
                for term, before in rows.items()
                for other, shape in source.items()
                if (both := self.both(term, other)) is not None
            }
        return {term: combined(how, shapes) for term, shapes in rows.items()}

    def loop(self, step: Loop, source: Shapes, times: int) -> Shapes:
        if len(source) > 1:
            raise self.refusal(step.out)
        (shape,) = source.values()
        given, body, length = looped(step, shape)
        self.walk(step.program, body, times=times * (1 if self.table.what == ONCE else length), prefix=f"{step.out}/")
        return {ALWAYS: given}

    def collapsed(self, shapes: Shapes) -> Shapes:
        """Without the choices that make no difference."""
        for name in sorted({name for term in shapes for name, _ in term}):
            rest: dict[Term, set[Shape]] = {}
            for term, shape in shapes.items():
                rest.setdefault(frozenset(pair for pair in term if pair[0] != name), set()).add(shape)
            if all(len(found) == 1 for found in rest.values()):
                shapes = {term: next(iter(found)) for term, found in rest.items()}
        return shapes

    def refusal(self, value: str) -> SpaceError:
        return SpaceError(
            f"the {self.table.what} of space {self.space.name!r} are no sum over steps: the width of {value} depends "
            "on which inputs are taken"
        )
