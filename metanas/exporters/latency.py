"""How long a network takes on the machine of the export: the median of some passes, and the middle half of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.exporters.loss import random_batch
from metanas.network import Network

BATCHES = (1, 32)
PASSES, SECONDS = 15, 0.5
"""At most so many passes, and no more once so much time is spent; at least three."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one pass of a batch: the median, and the quartiles around it."""

    batch: int
    median: float
    low: float
    high: float


def latencies(
    network: Network, batches: tuple[int, ...] = BATCHES, clock: Callable[[], float] = time.perf_counter
) -> tuple[Latency, ...]:
    """One for each size of batch; after a pass that does not count."""
    return tuple(_latency(network, batch, clock) for batch in batches)


@torch.no_grad()
def _latency(network: Callable[..., Tensor], batch: int, clock: Callable[[], float]) -> Latency:
    assert isinstance(network, Network)
    inputs = random_batch(network, batch)
    network(*inputs)
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < PASSES and sum(taken) < 1000 * SECONDS):
        start = clock()
        network(*inputs)
        taken.append(1000 * (clock() - start))
    low, median, high = statistics.quantiles(taken, n=4)
    return Latency(batch, median, low, high)
