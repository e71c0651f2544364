"""What records where there is no GPU: it plays by calling the function again, and keeps what a CUDA graph keeps.

Nothing is done while it records; a play reads the inputs of the recording and writes into the results of the first one.
So whoever hands it a tensor that moves, or keeps a result for too long, is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


class Replays:
    """Counts `recordings` and `plays` of all functions, and keeps `whys` of those it was told are refused.

    `able`: whether it can record at all.
    """

    def __init__(self, *, able: bool = True) -> None:
        self.able, self.recordings, self.plays = able, 0, 0
        self.whys: list[str] = []

    def warm(self, call: Callable[[], Any]) -> Any:
        return call()

    def record(self, call: Callable[[], Any]) -> Callable[[], Any]:
        if not self.able:
            raise RuntimeError("operation not permitted when stream is capturing\nand more lines")
        self.recordings += 1
        kept: list[Any] = []

        @torch.no_grad()
        def play() -> Any:
            self.plays += 1
            found = call()
            if not kept:
                kept.append(tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, found))
            for old, new in zip(tree_leaves(kept[0]), tree_leaves(found), strict=True):
                if isinstance(old, Tensor):
                    old.copy_(new)
            return kept[0]

        return play

    def refused(self, why: str) -> None:
        self.whys.append(why)
