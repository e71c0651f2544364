"""How much memory a forward pass keeps for its backward pass: what bounds the batch of a supernet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metanas.network.mixing import Mix, Taken
from metanas.network.network import Network
from metanas.space import Choice


def kept_bytes(network: nn.Module, *inputs: Tensor, mix: Mix | None = None) -> int:
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


def costliest_path(network: Network, inputs: Tensor, choices: Sequence[Choice]) -> int:
    """Bytes as of `kept_bytes`, of the path that holds the most: what a step may need that runs one candidate of each
    choice.

    Choices with the same candidates are set together, one such group after another, so that a few passes tell. That is
    the most of all paths where such choices have the same candidate as their dearest, and operations do not share what
    they hold.

    Args:
        choices: of one of n, all of the network's that are set.

    >>> from metanas.network import supernet
    >>> from metanas.space import Space, chain, one_of, op
    >>> space = Space(chain(("y", one_of("y", {"act": op("activation", activation="tanh"), "skip": op("skip")}))))
    >>> costliest_path(supernet(space, (1, 2, 2), 1), torch.ones(3, 1, 2, 2, requires_grad=True), space.choices) >= 48
    True
    """
    groups: dict[tuple[str, ...], list[Choice]] = {}
    for choice in choices:
        groups.setdefault(choice.candidates, []).append(choice)
    path = dict.fromkeys((c.name for c in choices), 0)
    most = 0
    for candidates, group in groups.items():
        held = {}
        for k in range(len(candidates)):
            tried = {**path, **dict.fromkeys((c.name for c in group), k)}
            held[k] = kept_bytes(network, inputs, mix=_taken(choices, tried, inputs.device))
        dearest = max(held, key=held.__getitem__)
        path |= dict.fromkeys((c.name for c in group), dearest)
        most = held[dearest]  # among them is what was the dearest so far
    return most or kept_bytes(network, inputs, mix={})


def _taken(choices: Sequence[Choice], path: dict[str, int], device: torch.device) -> Mix:
    """A path as a search runs it: the weights are there for their gradients."""
    found: dict[str, Taken] = {}
    for choice in choices:
        weights = torch.zeros(len(choice.candidates), device=device)
        weights[path[choice.name]] = 1.0
        found[choice.name] = Taken(path[choice.name], weights.requires_grad_())
    return found


def _storage(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)
