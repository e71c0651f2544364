"""How the host works while a run is prepared: on how many threads, and whether it looks for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """torch's CPU threads inside the block; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def building() -> Iterator[None]:
    """Much is made in the block and little of it is garbage: Python looks for none, which is up to a third of the time,
    and does so after it.

    >>> with building():
    ...     gc.isenabled()
    False
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
