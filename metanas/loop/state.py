"""Torch optimisers as plain trees, for checkpoints: {position of the tensor: {name: tensor or number}}."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metanas.errors import CheckpointError


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's memory, without its settings.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> w.sum().backward(); optimizer.step(); optimizer_state(optimizer)
    {'0': {'momentum_buffer': tensor([1.])}}
    """
    state = optimizer.state_dict()["state"]
    return {str(k): {name: x for name, x in row.items() if x is not None} for k, row in state.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Puts back what `optimizer_state` gave; the settings stay those of the optimiser."""
    whole = optimizer.state_dict()
    whole["state"] = {int(k): dict(row) for k, row in state.items()}
    optimizer.load_state_dict(whole)
    for p, row in optimizer.state.items():
        for name, x in row.items():
            if isinstance(x, Tensor) and x.shape == p.shape and x.stride() != p.stride():
                row[name] = torch.empty_like(p).copy_(x)  # fused kernels need the layout of the parameter


def copy_into(live: dict[str, Tensor], saved: dict[str, Tensor], what: str) -> None:
    """Copies saved tensors into live ones of the same names and shapes.

    Raises:
        CheckpointError: listing what is missing, unexpected or of another shape.
    """
    wrong = [f"missing {name}" for name in live if name not in saved]
    wrong += [f"unexpected {name}" for name in saved if name not in live]
    wrong += [
        f"{name} is {tuple(saved[name].shape)}, needed {tuple(live[name].shape)}"
        for name in live
        if name in saved and saved[name].shape != live[name].shape
    ]
    if wrong:
        raise CheckpointError(f"{what} of the checkpoint do not fit: {'; '.join(wrong)}; was the space changed?")
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(saved[name])
