"""How much search fits into a time here: measured on a few steps, said as a number that a recipe holds.

A search that ended by the clock could not be repeated. So the clock is asked once, before: epochs of a search by
gradients, evaluations of one by values; with that number in its recipe the run is as repeatable as any.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from metanas.api.host import threads
from metanas.api.parts import Parts
from metanas.data import Split
from metanas.loop import GradientSearch, ValueSearch, measured
from metanas.recipe import override, read

STEPS = 20
"""Steps of an epoch that are timed at most; those of a short epoch all are, with what is measured at its end."""
RECORDED = 200
"""Steps of a training that are timed where it is recorded first, which takes as long as some dozens of them."""
EVALUATIONS = 3
JUDGED = 10
"""Evaluations of the supernet that are timed at most, where an architecture is derived by them."""


def epochs_within(parts: Parts, seconds: float) -> int:
    """How many epochs a search by gradients has time for in so many seconds, at least 1.

    Steps of the warm-up, in which the weights alone are trained, are timed apart; so are evaluations of the supernet,
    where the controller derives by them, and a training of a refinement, where there will be one.
    """
    _, _, alone = _begun(parts, warmup=1)
    search, built, whole = _begun(parts, warmup=0)
    left = seconds - built - _deriving(search) - _refining(parts)
    section = parts.recipe.search

    def needed(epochs: int) -> float:
        warmup = min(section.model_copy(update={"epochs": epochs}).warmup_epochs, epochs)
        return warmup * alone + (epochs - warmup) * whole

    low, high = 1, 2
    while needed(high) <= left:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if needed(middle) <= left else (low, middle)
    return low


def _begun(parts: Parts, *, warmup: int) -> tuple[GradientSearch, float, float]:
    """A search after a few steps, the seconds that it took to build one, and those of an epoch."""
    begun = time.monotonic()
    changes = {"search.epochs": 2, "search.warmup": warmup}
    search = replace(parts, recipe=read(override(parts.recipe.to_json(), changes))).search()
    assert isinstance(search, GradientSearch)
    steps, count = search.steps(), min(STEPS, search.per_epoch)
    if search.per_epoch > 1:  # the first is slower
        float(next(steps).inner_loss)
        count = min(count, search.per_epoch - 1)
    built = time.monotonic()
    for step in islice(steps, count):
        float(step.inner_loss)  # waits for the device
    return search, built - begun, (time.monotonic() - built) * search.per_epoch / count


class _Enough(Exception):
    """Ends a derivation that was only timed."""


def _deriving(search: GradientSearch) -> float:
    """Seconds that a search will take to derive, from the first evaluations of the supernet that it asks for."""
    if search.instead is not None:  # whose derivation may be the one, and takes longer
        search.controller = search.instead
    done, begun = 0, time.monotonic()

    def told(count: int) -> None:
        nonlocal done
        done = count
        if done == JUDGED:
            raise _Enough

    with suppress(_Enough):
        search.derive(told)
    asked = search.controller.evaluates(search.space)
    return (time.monotonic() - begun) * max(asked / done, 1) if done else 0.0


def _refining(parts: Parts) -> float:
    """Seconds that the short trainings of a refinement will take; 0 without a refinement.

    From trainings over a few steps, each with the threads that it will have. Of some architectures the slowest counts:
    what is derived is rarely of the cheap ones.
    """
    if not parts.recipe.search.refine:
        return 0.0
    rng = np.random.default_rng(0)
    some = [parts.within.sample(rng) for _ in range(EVALUATIONS)]
    refinement = parts.refinement(some[0])
    assert refinement is not None  # the recipe wants one
    data = parts.data
    count = STEPS if parts.device.type == "cpu" else RECORDED
    share = min(count * parts.recipe.evaluation.batch_size / len(data.inner), 1.0)
    few = replace(data, inner=_first(data.inner, share), outer=_first(data.outer, share))
    brief, slowest = replace(parts, data=few).brief(), 0.0
    with threads(max(torch.get_num_threads() // refinement.workers, 1)):
        measured(brief, some[0], 1)  # the first is slower; one that diverges takes as long
        for architecture in some:
            begun = time.monotonic()
            measured(brief, architecture, 1)
            slowest = max(slowest, time.monotonic() - begun)
    return slowest * len(data.inner) / len(few.inner) * refinement.epochs


def _first(split: Split, share: float) -> Split:
    count = max(round(share * len(split)), 1)
    return Split(split.inputs[:count], split.targets[:count])


def evaluations_within(parts: Parts, seconds: float) -> int:
    """How many evaluations a search by values has time for, at least 1; those that are repeated would cost nothing.

    A refinement that will follow is timed as in `epochs_within`.
    """
    left = seconds - _refining(parts)
    search = parts.search()
    assert isinstance(search, ValueSearch)
    steps = search.steps()
    begun = time.monotonic()
    count = sum(not evaluation.repeated for evaluation in islice(steps, EVALUATIONS))
    return max(int(left * count / (time.monotonic() - begun)), 1)
