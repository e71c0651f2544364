"""How much memory a forward pass keeps for its backward pass: what bounds the batch of a supernet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def kept_bytes(network: nn.Module, *inputs: Tensor, mix: Mapping[str, Tensor] | None = None) -> int:
    """Bytes of the activations that are held when a forward pass is over, measured by running it.

    Parameters and inputs are not counted. It grows with the batch, nearly in proportion. `mix`: of a supernet.

    >>> from metanas.network import supernet
    >>> from metanas.space import Space, chain, op
    >>> network = supernet(Space(chain(("a", op("activation", activation="tanh")))), (1, 2, 2), 1)
    >>> kept_bytes(network, torch.ones(3, 1, 2, 2, requires_grad=True), mix={})  # the output, 12 numbers
    48
    """
    own = {_storage(x) for x in (*network.parameters(), *inputs)}
    kept: dict[int, Any] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other takes its place
        return x

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        output = network(*inputs, **({} if mix is None else {"mix": mix}))
    found = sum(int(storage.nbytes()) for storage in kept.values())
    del output
    return found


def _storage(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)
