"""How long a network takes on the machine of the export: the median of some passes, and the middle half of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from metanas.exporters.loss import random_batch
from metanas.network import Network
from metanas.network.timing import timed

BATCHES = (1, 32)


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
def _latency(network: Network, batch: int, clock: Callable[[], float]) -> Latency:
    inputs = random_batch(network, batch)
    found = timed(lambda: network(*inputs), clock=clock)
    return Latency(batch, found.median, found.low, found.high)
