"""Independent generators from one seed: the seed and what it is for are hashed together.

`seed + epoch` would make epoch 1 of seed 0 equal epoch 0 of seed 1; a hash of (seed, purpose, epoch) does not.
"""

from __future__ import annotations

import hashlib

import torch


def seeded(*parts: int | str) -> torch.Generator:
    """A CPU generator that is a pure function of `parts`, e.g. `seeded(seed, "inner", "shuffle", epoch)`.

    >>> int(torch.randint(10**6, (), generator=seeded(0, "split"))) == int(
    ...     torch.randint(10**6, (), generator=seeded(0, "split")))
    True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
