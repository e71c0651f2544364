"""A search that shrinks: the weakest candidates of every choice are let go of in stages, and the supernet runs without.

    stages     at equal distances between the warm-up and the end of the search
    at one     of each choice the candidates with the smallest mean weights go, as many as its share of the way down to
               `shrink_to`; one that may be derived is always among those that stay
    from then  omega of what is gone counts as `GONE`: its weight and its gradient are exactly 0

For a softmax, and for a Dirichlet distribution, that is the relaxation of those that are left. Chen, Wang, Cheng, Tang,
Hsieh: DrNAS, ICLR 2021, arXiv:2006.10355, section 3.3 (operations 5 -> 3 on NAS-Bench-201 in the middle of the search;
the widening of partial channels that goes with it there is not done here).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metanas.loop.schedule import Schedule
from metanas.space import Combine, Space, every_step

Rows = dict[str, tuple[int, ...]]
"""Choice -> the candidates that are left, by their indices; a choice that is not in it has all."""

GONE = -1e4
"""Far enough for a weight of 0 in every relaxation, and not too far for float32."""


def stage_after(schedule: Schedule, epochs: int) -> int:
    """How many stages are over after so many epochs.

    >>> schedule = Schedule(epochs=10, warmup=4, shrink_to=2, shrink_stages=2)
    >>> [stage_after(schedule, epochs) for epochs in range(11)]
    [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2]
    """
    if schedule.shrink_to is None:
        return 0
    learned, stages = schedule.epochs - schedule.warmup, schedule.shrink_stages
    return sum(epochs >= schedule.warmup + round(learned * k / (stages + 1)) for k in range(1, stages + 1))


def left(space: Space, weights: Mapping[str, Tensor], before: Rows, schedule: Schedule, stage: int) -> Rows:
    """What is left after a stage.

    Args:
        weights: mean mixing weights; those of what is gone are not looked at.
        before: what was left before.
    """
    assert schedule.shrink_to is not None  # who asks has looked
    found: Rows = {}
    for choice in space.choices:
        count = len(choice.candidates)
        if choice.name not in weights or choice.name not in _summed(space) or count <= schedule.shrink_to:
            continue
        keep = count - round((count - schedule.shrink_to) * stage / schedule.shrink_stages)
        row = weights[choice.name].tolist()
        order = sorted(before.get(choice.name, tuple(range(count))), key=lambda k: -row[k])
        derivable = next(k for k in order if choice.candidates[k] in choice.options)
        stay = order[:keep] if derivable in order[:keep] else [*order[: keep - 1], derivable]
        found[choice.name] = tuple(sorted(stay))
    return found


def _summed(space: Space) -> set[str]:
    """Choices of one whose candidates are added up wherever they stand: side by side, a gap would be narrower."""
    steps = [step for step in every_step(space.program) if isinstance(step, Combine) and step.choice]
    others = {step.choice for step in steps if step.how not in ("sum", "mean")}
    return {c.name for c in space.choices if c.take == 1 and c.name not in others} & {str(s.choice) for s in steps}


def masks_of(kept: Rows, omega: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choice -> (candidates,) bool, true for what is left; none for choices that have all."""
    found = {}
    for name, rows in kept.items():
        mask = torch.zeros(len(omega[name]), dtype=torch.bool)
        mask[list(rows)] = True
        found[name] = mask.to(omega[name].device)
    return found


def named(space: Space, kept: Rows) -> dict[str, tuple[str, ...]]:
    """What is left, by its labels."""
    return {c.name: tuple(c.candidates[k] for k in kept[c.name]) for c in space.choices if c.name in kept}
