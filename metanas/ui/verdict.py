"""What was found against what it must beat, in words: "derived +1.3 points against the mean of 3 random".

a search                random networks of its space
a transfer              the same architecture from scratch
a tuning, a few-shot    what was learned against what it began with
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from metanas.ui.points import Trained
from metanas.ui.state import RunState
from metanas.ui.units import ACCURACY


def verdict(state: RunState) -> str:
    """The first network against its rivals; "" while a score is missing.

    >>> from metanas.ui.state import fold
    >>> from metanas.ui.tuning import Tuning
    >>> tuned = RunState("first", tuning=Tuning())
    >>> for name, share in (("learned", 0.97), ("start", 0.958)):
    ...     tuned = fold(tuned, {"kind": "network", "network": name, "test_score": share})
    >>> verdict(tuned)
    'learned +1.2 points against the start values'
    """
    first = next((net.test_score for net in state.networks if net.network == state.planned[0]), None)
    nets = [net for net in rivals(state) if net.test_score is not None]
    scores = [net.test_score for net in nets if net.test_score is not None]
    if first is None or not scores or not all(map(math.isfinite, (first, *scores))):
        return ""
    margin = first - sum(scores) / len(scores)
    shown = f"{100 * margin:+.1f} points" if state.metric == ACCURACY else f"{margin:+.4f}"
    return f"{state.planned[0]} {shown} against {called(state, nets)}"


def rivals(state: RunState) -> list[Trained]:
    """The networks that the first one must beat, as far as they are trained."""
    one = "start" if state.tuning else "scratch" if state.how else None
    return [net for net in state.networks if net.network != state.planned[0] and one in (None, net.network)]


def called(state: RunState, nets: Sequence[Trained]) -> str:
    """Rivals in words; of one that is alone, which it is.

    >>> nets = [Trained(f"random {n}", None, {}, 0.5, None, None, None) for n in (1, 2)]
    >>> called(RunState("first"), nets), called(RunState("first"), nets[:1])
    ('the mean of 2 random', 'random 1')
    """
    if len(nets) != 1:
        return f"the mean of {len(nets)} random"
    began = "its start" if state.few_shot else "the start values"
    return {"start": began, "scratch": "the same from scratch"}.get(nets[0].network, nets[0].network)
