"""What a search needs in memory, said before it begins, and what to do where there is not enough."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.api.host import threads
from metanas.errors import OutOfMemoryError, SpaceError
from metanas.network import FusedNetwork, Maker, Network
from metanas.network.extent import Extent, extent, operations_of
from metanas.network.memory import costliest_path, kept_bytes
from metanas.space import Space
from metanas.ui.units import size

COPIES = 4
"""Of the weights: themselves, their gradients, the momentum, and one in passing."""
MANY = 20_000
"""Operations of a supernet from which on its extent is told before it is built."""
OPERATION_BYTES = 8_000
"""What the objects of one operation take on the host, whatever its weights."""


@dataclass(frozen=True)
class Need:
    """Bytes: `weights` whatever the batch, and `example` for each example of it. An estimate, of what the forward pass
    keeps; what comes and goes in the backward pass is a fraction of that. `forgets`: whether `search.checkpoint` would
    help, which it does where all candidates run.
    """

    weights: int
    example: float
    forgets: bool = True

    def at(self, batch_size: int) -> float:
        """
        >>> Need(1000, 10.0).at(64)
        1640.0
        """
        return self.weights + self.example * batch_size

    def fitting(self, free: float) -> int:
        """The largest power of two of examples that fits, 0 where none does.

        >>> Need(1000, 10.0).fitting(1400.0), Need(1000, 10.0).fitting(500.0)
        (32, 0)
        """
        room = int((free - self.weights) / self.example) if self.example else 0
        return 1 << room.bit_length() - 1 if room > 0 else 0

    def short(self, batch_size: int, free: float) -> str:
        """A line for where that is more than there is.

        >>> Need(10**6, 10.0**6).short(64, 40.0 * 10**6)
        'batches of 64 need about 65.0 MB, and 40.0 MB are free: batches of 32 would fit (search.batch_size), or \
search.checkpoint = true, which keeps less'
        """
        needed = size(self.at(batch_size))
        return f"batches of {batch_size} need about {needed}, and {size(free)} are free: {self.advice(free)}"

    def advice(self, free: float) -> str:
        """What to do where no more is free."""
        fits = self.fitting(free)
        smaller = f"batches of {fits} would fit (search.batch_size)" if fits else "not even one example fits"
        return f"{smaller}, or search.checkpoint = true, which keeps less" if self.forgets else smaller


def need_of(network: Network, inputs: Tensor, mix: Mapping[str, Tensor], *, single_path: bool = False) -> Need:
    """Measured by a forward pass of a copy on a few examples: of the mixture, or of the costliest path through it where
    a step runs one alone.
    """
    network = network.copied() if isinstance(network, FusedNetwork) else copy.deepcopy(network)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    with threads(1):  # a few examples are no work for more
        if single_path:
            choices = [choice for choice in network.program.choices if choice.name in mix]
            held = costliest_path(network, inputs, choices)
        else:
            held = kept_bytes(network, inputs, mix=mix)
    return Need(COPIES * weights, held / len(inputs), forgets=not single_path)


def free_bytes(device: torch.device) -> float | None:
    """What can be had there now; None where nobody tells.

    >>> free_bytes(torch.device("meta"))
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "cpu" and os.path.exists("/proc/meminfo"):
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file if ":" in line)
        if "MemAvailable" in rows:
            return 1024.0 * int(rows["MemAvailable"].split()[0])
    return None


def check_extent(
    space: Space, shape: tuple[int, ...], outputs: int, ops: Mapping[str, Maker], device: torch.device
) -> Extent | None:
    """The extent of a large supernet, before anything of it is built; None for one of ordinary size.

    Raises:
        SpaceError: its weights are more than the device has free, or its modules more than the host has.
    """
    if operations_of(space) <= MANY:
        return None
    found = extent(space, shape, outputs, ops=ops)
    for needed, place in (
        (COPIES * 4.0 * found.parameters, device),
        (float(OPERATION_BYTES * found.operations), torch.device("cpu")),
    ):
        free = free_bytes(place)
        if free is not None and needed > free:
            raise SpaceError(
                f"space {space.name!r} has {found}: a supernet of it needs {size(needed)} before the first example, "
                f"and {size(free)} are free on {place}; take a controller by values: random, evolution"
            )
    return found


@contextmanager
def named(need: Need | None, batch_size: int, device: torch.device) -> Iterator[None]:
    """Running out of memory in the block is said in one line, with what would fit.

    Raises:
        OutOfMemoryError: in place of torch's own.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(_lacking(need, batch_size, device)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # the CPU's allocator has no error of its own
            raise
        raise OutOfMemoryError(_lacking(need, batch_size, device)) from error


def _lacking(need: Need | None, batch_size: int, device: torch.device) -> str:
    whole = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else free_bytes(device)
    about = "" if need is None else f", which need about {size(need.at(batch_size))}"
    there = "" if whole is None else f" ({size(whole)} there)"
    if need is not None and whole is not None and need.at(batch_size) > whole:
        advice = need.advice(whole)
    else:
        advice = f"take batches of {max(batch_size // 2, 1)} (search.batch_size)"
        advice += ", or search.checkpoint = true" if need is None or need.forgets else ""
    return f"out of memory on {device}{there} at batches of {batch_size}{about}: {advice}"
