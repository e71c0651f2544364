"""What a choice is set to while a supernet runs, and what a Combine makes of it.

    Tensor (candidates,)        a mixture: every candidate runs, weighted
    int                         one candidate runs
    tuple of int                these candidates run (k of n; a subset)
    Taken(candidate, weights)   one candidate runs, and every weight gets its gradient (GDAS)
    Kept(candidates, weights)   a mixture of which only these run; the other weights are 0 (a search that shrinks)
    absent                      all sources come together (DARTS mixes all inputs of a node)

What runs is decided by numbers, never by the contents of a tensor: nothing is read from the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from metanas.errors import SpaceError
from metanas.space import Apply, Choice, Combine, Program, Size, main_sources_of, sources_of
from metanas.space.derive import presence


class Taken(NamedTuple):
    """One candidate runs; `weights` (candidates,) hold 1 at `candidate`, 0 elsewhere in value, and carry gradients.

        h = weights[candidate] * x[candidate] + sum of the other weights

    The value is the single path, the gradient reaches every weight (GDAS, Dong and Yang, CVPR 2019, arXiv:1910.04465).
    """

    candidate: int
    weights: Tensor


class Kept(NamedTuple):
    """These candidates run, weighted; `weights` (candidates,) are those of all, 0 where one does not run."""

    candidates: tuple[int, ...]
    weights: Tensor


Weight: TypeAlias = Tensor | int | tuple[int, ...] | Taken | Kept
Mix: TypeAlias = Mapping[str, Weight]


def one_path(choices: Sequence[Choice], architecture: Mapping[str, tuple[str, ...]]) -> dict[str, Weight]:
    """An architecture as a mix: only what it takes runs.

    >>> one_path([Choice("y", ("conv", "skip"))], {"y": ("skip",)})
    {'y': 1}
    """
    mix: dict[str, Weight] = {}
    for choice in choices:
        labels = architecture.get(choice.name)
        if labels is not None:
            rows = tuple(choice.index(label) for label in labels)
            mix[choice.name] = rows[0] if choice.take == 1 else rows
    return mix


def taken_sources(step: Combine, mix: Mix) -> tuple[str, ...]:
    """The sources that run."""
    match mix.get(step.choice) if step.choice else None:
        case Taken(index, _) | int(index):
            return (step.sources[index],)
        case Kept(indices, _):
            return tuple(step.sources[i] for i in indices)
        case tuple(indices):
            return tuple(step.sources[i] for i in indices)
    return step.sources


def only_kept(mix: Mix, kept: Mapping[str, tuple[int, ...]]) -> Mix:
    """The mix in which of each mixture only the candidates that are kept run.

    >>> only_kept({"y": torch.tensor([0.4, 0.0, 0.6])}, {"y": (0, 2)})["y"].candidates
    (0, 2)
    """
    if not kept:
        return mix
    return {
        name: Kept(kept[name], weight) if name in kept and isinstance(weight, Tensor) else weight
        for name, weight in mix.items()
    }


@dataclass(frozen=True)
class Route:
    """What runs under a mix: the values that the output needs, and those that are zeros since a choice took nothing."""

    needed: frozenset[str]
    grounded: frozenset[str]


def route(program: Program, mix: Mix) -> Route:
    """What runs under a mix."""
    absent: frozenset[str] = frozenset()
    grounded: frozenset[str] = frozenset()
    if any(weight == () for weight in mix.values() if isinstance(weight, tuple)):
        sources = {
            s.out: taken_sources(s, mix) if isinstance(s, Combine) else main_sources_of(s) for s in program.steps
        }
        absent, grounded = presence(program, sources)
    need = {program.output}
    for step in reversed(program.steps):
        if step.out in need and step.out not in grounded:
            need.update(taken_sources(step, mix) if isinstance(step, Combine) else sources_of(step))
    return Route(frozenset(need) - absent, grounded)


def combine(step: Combine, values: Mapping[str, Tensor], mix: Mix, zeros: frozenset[str] = frozenset()) -> Tensor:
    """The value of a Combine: of those of its sources that there are.

    Args:
        values: what has run so far, by name.
        zeros: values that are always zero; a mixture that adds leaves them out.
    """
    weight = mix.get(step.choice) if step.choice else None
    if isinstance(weight, Taken):
        return straight_through(weight, values[step.sources[weight.candidate]])
    if isinstance(weight, Kept):
        return _mixture(step, values, weight.weights, zeros, weight.candidates)
    if isinstance(weight, Tensor):
        return _mixture(step, values, weight, zeros, range(len(step.sources)))
    xs = [values[s] for s in taken_sources(step, mix) if s in values]
    if len(xs) == 1:
        return xs[0]
    if step.how in ("concat", "split"):
        return torch.cat(xs, 1)
    total = sum(xs[1:], start=xs[0])
    return total / len(xs) if step.how == "mean" else total


def straight_through(weight: Taken, x: Tensor) -> Tensor:
    """The taken candidate's `x`, through which the gradient reaches every weight (see `Taken`)."""
    w = weight.weights
    return w[weight.candidate] * x + (w.sum() - w[weight.candidate])


def _mixture(
    step: Combine, values: Mapping[str, Tensor], weight: Tensor, zeros: frozenset[str], candidates: Sequence[int]
) -> Tensor:
    shares = weight.unbind()
    sources = [(shares[k], step.sources[k]) for k in candidates]
    rows = [(w, values[s], s in zeros) for w, s in sources if s in values]
    if step.how in ("concat", "split"):
        return torch.cat([w * x for w, x, _ in rows], 1)
    rows = [row for row in rows if not row[2]] or rows[:1]
    total = rows[0][0] * rows[0][1]
    for w, x, _ in rows[1:]:
        total = torch.addcmul(total, x, w)
    return total


def size_arguments(step: Apply, mix: Mix) -> dict[str, int | Tensor]:
    """How wide an elastic operation runs: `width` for a number, `mask` (channels,) for a mixture of widths.

    Raises:
        SpaceError: the size's choice is set to several indices at once.
    """
    size = step.op.width
    if not isinstance(size, Size) or size.choice not in mix:
        return {}
    weight = mix[size.choice]
    if isinstance(weight, Taken | Kept):
        weight = weight.weights
    if isinstance(weight, int):
        return {"width": size.values[weight]}
    if isinstance(weight, Tensor):
        channel = torch.arange(size.values[-1], device=weight.device)  # no table is copied from the host
        return {"mask": sum(w * (channel < v) for w, v in zip(weight.unbind(), size.values, strict=True))}
    raise SpaceError(f"size {size.choice!r} takes one index or weights, got {type(weight).__name__}")
