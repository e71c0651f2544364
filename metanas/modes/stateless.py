"""A module as a pure function of its parameters: what `torch.func.functional_call` does, without its search.

    for each slot:  module's tensor <- theta[name]
    output = module(...)
    for each slot:  module's tensor <- what it was

`functional_call` looks every parameter up by its path and compares all of them for ties, on every call; on a supernet
that is a few per cent of a step. Here the slots are found once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Stateless:
    """Calls `module` with the parameters that it is given; those of the module are back in place afterwards.

    A parameter that stands at several places of the module (tied weights) is one entry, under its first name; one that
    wants no gradient is no entry, and stays what it is. The module must keep its structure. Not for several threads at
    once, as the module itself.

    >>> import torch
    >>> call = Stateless(nn.Linear(1, 1))
    >>> call({"weight": torch.tensor([[2.0]]), "bias": torch.tensor([1.0])}, torch.ones(1, 1))
    tensor([[3.]])
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        first: dict[int, str] = {}
        self.slots: list[tuple[dict[str, Any], str, str]] = []  # (the owner's parameters, the key there, the full name)
        for path, owner in module.named_modules():
            for key, p in owner.named_parameters(recurse=False, remove_duplicate=False):
                if not p.requires_grad:
                    continue
                name = first.setdefault(id(p), f"{path}.{key}" if path else key)
                self.slots.append((owner._parameters, key, name))

    def __call__(self, theta: Mapping[str, Tensor], *inputs: Any, **arguments: Any) -> Any:
        """The module's output at theta, {name: tensor}. Raises KeyError for a parameter that theta lacks."""
        given = [theta[name] for _, _, name in self.slots]
        kept = [parameters[key] for parameters, key, _ in self.slots]
        try:
            for (parameters, key, _), value in zip(self.slots, given, strict=True):
                parameters[key] = value
            return self.module(*inputs, **arguments)
        finally:
            for (parameters, key, _), value in zip(self.slots, kept, strict=True):
                parameters[key] = value
