"""How much search fits into a time here: measured on a few steps, said as a number that a recipe holds.

A search that ended by the clock could not be repeated. So the clock is asked once, before: epochs of a search by
gradients, evaluations of one by values; with that number in its recipe the run is as repeatable as any.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice

from metanas.api.parts import Parts
from metanas.loop import GradientSearch, ValueSearch
from metanas.recipe import override, read

STEPS = 20
"""Steps of an epoch that are timed at most; those of a short epoch all are, with what is measured at its end."""
EVALUATIONS = 3


def epochs_within(parts: Parts, seconds: float) -> int:
    """How many epochs a search by gradients has time for in so many seconds, at least 1.

    Steps of the warm-up, in which the weights alone are trained, are timed apart. What a controller does after its last
    step to derive is not.
    """
    begun = time.monotonic()
    alone, whole = _epoch(parts, warmup=1), _epoch(parts, warmup=0)
    left = seconds - (time.monotonic() - begun - alone - whole) / 2  # what it took to build one
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


def _epoch(parts: Parts, *, warmup: int) -> float:
    """Seconds of one epoch."""
    changes = {"search.epochs": 2, "search.warmup": warmup}
    search = replace(parts, recipe=read(override(parts.recipe.to_json(), changes))).search()
    assert isinstance(search, GradientSearch)
    count = min(STEPS, search.per_epoch)
    steps = search.steps()
    if search.per_epoch > 1:  # the first is slower
        float(next(steps).inner_loss)
        count = min(count, search.per_epoch - 1)
    begun = time.monotonic()
    for step in islice(steps, count):
        float(step.inner_loss)  # waits for the device
    return (time.monotonic() - begun) * search.per_epoch / count


def evaluations_within(parts: Parts, seconds: float) -> int:
    """How many evaluations a search by values has time for, at least 1."""
    search = parts.search()
    assert isinstance(search, ValueSearch)
    steps = search.steps()
    begun = time.monotonic()
    count = sum(1 for _ in islice(steps, EVALUATIONS))
    return max(int(seconds * count / (time.monotonic() - begun)), 1)
