"""How a network was found, as plain data: what a model card tells beside the network itself.

exporters know no runs, so whoever does fills a `Story` in. Everything may be left out; a card says less then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Story:
    """How a network was found, on what, and how well it did.

    Args:
        made: how it came about, in a few words.
        method: what was done, row by row, in order: {"Controller": "drnas", "Epochs": 50, "Seed": 0}.
        space_size: how many architectures the space holds.
        data: of the data, row by row: {"Name": "digits", "Test split": "359 examples", "Fingerprint": "f6f9..."}.
        metric: what scores are: "accuracy" is a share, between 0 and 1.
        score: of the network on the test split.
        tested: examples in the test split.
        random: scores of random architectures of the same space after the same training.
        scratch: the score of the same architecture that began with nothing, after a transfer.
        start: the score of the same network trained with the values at the start, beside a tuning.
        multiply_adds: of one forward pass of one example.
        versions: {"metanas": "0.1.0", "torch": "2.13.0"}.
        limits: sentences, beside those that the card knows itself.

    >>> Story(method={"Controller": "random"}, score=0.9).metric
    'accuracy'
    """

    made: str = "found by architecture search"
    method: Mapping[str, str | int | float] = field(default_factory=dict)
    space_size: int | None = None
    data: Mapping[str, str | int | float] = field(default_factory=dict)
    metric: str = "accuracy"
    score: float | None = None
    tested: int | None = None
    random: tuple[float, ...] = ()
    scratch: float | None = None
    start: float | None = None
    multiply_adds: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
