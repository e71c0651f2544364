"""Zero-cost scores that tell nothing of a space: found before a search begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from metanas.errors import DataError
from metanas.loop.failures import measured
from metanas.space import Architecture

TRIED = 3
"""Random architectures on which a score is tried; more than one, as a network that does not see its input has none."""


def useless(name: str, score: Callable[[Architecture], float], architectures: Iterable[Architecture]) -> str:
    """What is wrong with a score that is finite on none of some architectures; "" from the first one on which it is.

    >>> one = Architecture({"y": ("conv",)})
    >>> useless("naswot", lambda architecture: float("-inf"), [one, one])
    'naswot is -inf on 2 random architectures; take another'
    >>> useless("naswot", lambda architecture: 1.5, [one])
    ''
    """
    wrong: list[str] = []
    for architecture in architectures:
        try:
            found, reason = measured(score, architecture)
        except DataError as error:  # of the batch, and so of every architecture
            return str(error)
        if reason is None:
            return ""
        wrong.append(f"is {found[0]}" if found else f"fails ({reason})")
    return f"{name} {wrong[0]} on {len(wrong)} random architectures; take another"
