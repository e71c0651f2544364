"""Torch optimisers as plain trees, for checkpoints: {position of the tensor: {name: tensor or number}}."""

from __future__ import annotations

from collections.abc import Mapping
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


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Puts back copies of what `optimizer_state` gave; the settings stay those of the optimiser.

    Raises:
        CheckpointError: tensors of the memory have another shape than their parameter, or there is no such parameter;
            it lists every one.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> restore_optimizer(optimizer, {"0": {"momentum_buffer": torch.tensor([2.0])}})
    >>> optimizer.state[w]
    {'momentum_buffer': tensor([2.])}
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    wrong = []
    for k, row in state.items():
        needed = tuple(parameters[int(k)].shape) if int(k) < len(parameters) else None
        shapes = {name: tuple(x.shape) for name, x in row.items() if isinstance(x, Tensor) and x.dim()}
        if needed is None:
            wrong.append(f"unexpected {k}")
        wrong += [f"{name} of {k} is {x}, needed {needed}" for name, x in shapes.items() if x != needed is not None]
    if wrong:
        raise CheckpointError(f"the optimizer's memory of the checkpoint: {'; '.join(wrong)}; was the space changed?")
    whole = optimizer.state_dict()
    whole["state"] = {int(k): {name: _copied(x) for name, x in row.items()} for k, row in state.items()}
    optimizer.load_state_dict(whole)
    for p, row in optimizer.state.items():
        for name, x in row.items():
            if isinstance(x, Tensor) and x.shape == p.shape and x.stride() != p.stride():
                row[name] = torch.empty_like(p).copy_(x)  # fused kernels need the layout of the parameter


def _copied(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x


def check_fits(live: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str) -> None:
    """Raises a CheckpointError that lists what is missing, unexpected or of another shape.

    >>> check_fits({"a": torch.ones(2)}, {"b": torch.ones(2)}, "omega")
    Traceback (most recent call last):
    metanas.errors.CheckpointError: omega of the checkpoint: missing a; unexpected b; was the space changed?
    """
    wrong = [f"missing {name}" for name in live if name not in saved]
    wrong += [f"unexpected {name}" for name in saved if name not in live]
    wrong += [
        f"{name} is {tuple(saved[name].shape)}, needed {tuple(live[name].shape)}"
        for name in live
        if name in saved and saved[name].shape != live[name].shape
    ]
    if wrong:
        raise CheckpointError(f"{what} of the checkpoint: {'; '.join(wrong)}; was the space changed?")


@torch.no_grad()
def copy_into(live: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copies saved tensors into the live ones of the same names."""
    for name, tensor in live.items():
        tensor.copy_(saved[name])
