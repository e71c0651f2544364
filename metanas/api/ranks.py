"""One search on several processes, as `torchrun` starts them.

    rank 0        writes the run folder, shows the search, and trains and exports what was found
    other ranks   step along, in a folder that is thrown away, and end when the search is over

Each takes its part of every batch (`bilevel.over_ranks`). Whether to pause or to stop is agreed upon between two steps.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from metanas.errors import RankError

TIMEOUT = timedelta(minutes=5)
"""How long a rank waits for the others before it gives up; METANAS_TIMEOUT sets it, in seconds."""

GO, STOP, PAUSE = range(3)

_parted: list[int] = []
"""How many ranks there were, once they have parted; of the process, since it is the others that have ended."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that work together: by itself, unless `joined` found others."""

    rank: int = 0
    count: int = 1
    control: Any = None
    """The group in which numbers of the host are compared."""
    parted: int = 1
    """Of how many this is what is left: the others ended with an earlier search of the same script."""

    @property
    def share(self) -> tuple[int, int]:
        return self.rank, self.count

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def part(self) -> None:
        """The search is over: the first rank goes on by itself, also with the rest of its script, and the others end.

        Raises:
            SystemExit: of a rank that does not lead.
        """
        if not self.leads:
            raise SystemExit(0)
        if self.count > 1:
            _parted.append(self.count)

    def most(self, number: int) -> int:
        """The largest of what the ranks say.

        >>> Ranks().most(STOP)
        1
        """
        if self.count == 1:
            return number
        import torch  # slow: a search by values goes without it
        import torch.distributed as dist

        said = torch.tensor([number])
        try:
            dist.all_reduce(said, dist.ReduceOp.MAX, group=self.control)
        except RuntimeError as error:
            raise RankError.of(error) from error
        return int(said)


def started(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes `torchrun` started; 1 without it, and once they have parted (`Ranks.part`).

    >>> started({}), started({"WORLD_SIZE": "4", "RANK": "0"})
    (1, 4)
    """
    return int(environment.get("WORLD_SIZE", "1")) if "RANK" in environment and not _parted else 1


def refuse_more(ranks: Ranks) -> None:
    """Raises RankError where `torchrun` started more processes than work together: only searches are shared."""
    if started() > ranks.count:
        raise RankError(f"this runs in one process, and torchrun started {started()}; start it without torchrun")


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that `torchrun` started, as one group while the block runs; alone without it.

    A process group that is there already is used as it is.
    """
    if started() == 1:
        yield Ranks(parted=max(_parted, default=1))
        return
    import torch
    import torch.distributed as dist

    own = not dist.is_initialized()
    if own:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        seconds = os.environ.get("METANAS_TIMEOUT")
        timeout = TIMEOUT if seconds is None else timedelta(seconds=float(seconds))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timeout)
    control = dist.new_group(backend="gloo") if dist.get_backend() != "gloo" else dist.group.WORLD
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), control)
    finally:
        if own:
            dist.destroy_process_group()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Where a rank that does not lead writes what nobody reads."""
    with tempfile.TemporaryDirectory(prefix="metanas-rank-") as place:
        yield Path(place) / "run"
