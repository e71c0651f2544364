"""Mean and deviation of inputs that are too many to be float at once: in pieces, in two passes, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_AT_ONCE = 2**22
"""Numbers that are turned into float64 at a time."""


def moments(inputs: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of every channel of images, of every feature of rows. What is constant keeps its scale: its std is 1.

    >>> moments(torch.tensor([[1, 5], [3, 5]], dtype=torch.uint8))
    ((2.0, 5.0), (1.0, 1.0))
    """
    channels = inputs.shape[1]
    size = max(1, MOST_AT_ONCE // inputs[0].numel())
    pieces = [inputs[i : i + size] for i in range(0, len(inputs), size)]
    columns = (piece.double().transpose(0, 1).reshape(channels, -1) for piece in pieces)  # (channels, numbers)
    mean = torch.stack([column.sum(1) for column in columns]).sum(0) * channels / inputs.numel()
    columns = (piece.double().transpose(0, 1).reshape(channels, -1) for piece in pieces)
    squares = torch.stack([(column - mean[:, None]).square().sum(1) for column in columns]).sum(0)
    std = (squares * channels / inputs.numel()).sqrt().float()
    return tuple(mean.float().tolist()), tuple(torch.where(std > 0, std, torch.ones_like(std)).tolist())
