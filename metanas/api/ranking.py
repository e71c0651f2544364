"""Controllers beside each other: mean, spread, rank, and what each gains on a baseline, seed by seed.

    gain      mean over seeds of (score - baseline's score of the same seed)
    interval  t(0.975, n - 1) * standard deviation of these differences / sqrt(n)
    p         of the paired t-test (two-sided): such a gain or more, where there is none

Seeds that one of the two lacks are left out of the pair; a rank is the mean over the seeds that all have which have a
score at all, 1 the best, ties shared.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from metanas.errors import RunError

Scores = Mapping[str, Mapping[int, float]]
"""Controller -> seed -> score; larger is better."""


@dataclass(frozen=True)
class Standing:
    """A controller in a comparison. `spread`: standard deviation over seeds. None: too few seeds; of the baseline, what
    compares with it."""

    controller: str
    seeds: int
    mean: float | None
    spread: float | None
    rank: float | None
    gain: float | None
    interval: float | None
    p: float | None


def standings(scores: Scores, baseline: str) -> list[Standing]:
    """The baseline, then the others from the best mean down.

    Raises:
        RunError: the baseline is not among them.

    >>> scores = {"random": {0: 0.5, 1: 0.6, 2: 0.4}, "good": {0: 0.7, 1: 0.8, 2: 0.7}}
    >>> [(s.controller, round(s.mean, 2), s.rank) for s in standings(scores, "random")]
    [('random', 0.5, 2.0), ('good', 0.73, 1.0)]
    """
    if baseline not in scores:
        raise RunError(f"the baseline {baseline!r} is not among {', '.join(scores)}")
    ranks = _ranks(scores)
    rows = [_standing(name, scores, baseline, ranks.get(name)) for name in scores]
    return sorted(rows, key=lambda row: (row.controller != baseline, -math.inf if row.mean is None else -row.mean))


def _standing(name: str, scores: Scores, baseline: str, rank: float | None) -> Standing:
    own, other = scores[name], scores[baseline]
    values = list(own.values())
    mean = statistics.mean(values) if values else None
    spread = statistics.stdev(values) if len(values) > 1 else None
    differences = [own[seed] - other[seed] for seed in own if seed in other] if name != baseline else []
    gain = statistics.mean(differences) if differences else None
    interval = p = None
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
    if error:  # without spread nothing can be said: a few seeds that agree are no certainty
        from scipy import stats  # a second of every search's start, otherwise

        freedom = len(differences) - 1
        interval = float(stats.t.ppf(0.975, freedom)) * error
        p = float(2 * stats.t.sf(abs(gain or 0.0) / error, freedom))
    return Standing(name, len(values), mean, spread, rank, gain, interval, p)


def _ranks(scores: Scores) -> dict[str, float]:
    names = [name for name, row in scores.items() if row]
    shared = set.intersection(*(set(scores[name]) for name in names)) if names else set()
    if not shared:
        return {}
    from scipy import stats

    rows = [stats.rankdata([-scores[name][seed] for name in names]) for seed in sorted(shared)]
    return {name: float(statistics.mean(row[k] for row in rows)) for k, name in enumerate(names)}
