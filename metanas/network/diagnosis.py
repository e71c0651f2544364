"""Where in a network the first value that is not finite appears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def first_not_finite(network: nn.Module, inputs: Tensor, **arguments: Any) -> str:
    """A phrase that names the first layer whose parameters or output are not finite on this batch.

    It runs the network once, in the mode in which it is: a norm that tracks statistics may take in what it sees.

    Args:
        inputs: a batch.
        arguments: what else the network is called with (`mix=` for a supernet).

    >>> from metanas.network import Network
    >>> from metanas.space import chain, compile_graph, op
    >>> network = Network(compile_graph(chain(("head", op("classifier", width=2)))), [(3, 4, 4)])
    >>> first_not_finite(network, torch.full((1, 3, 4, 4), torch.nan))
    'the input is not finite'
    >>> _ = network.head[2].weight.data.fill_(torch.inf)
    >>> first_not_finite(network, torch.ones(1, 3, 4, 4))
    'the first layer that is not finite is head.2 (Linear)'
    """
    if not inputs.isfinite().all():
        return "the input is not finite"
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            good = output.isfinite().all() and all(p.isfinite().all() for p in module.parameters(recurse=False))
            if not good:
                found.append(f"{name.replace('/', '.')} ({type(module).__name__})")

        return hook

    leaves = [(n, m) for n, m in network.named_modules() if not list(m.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        output = network(inputs, **arguments)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return f"the first layer that is not finite is {found[0]}"
    where = "the loss or a gradient" if output.isfinite().all() else "a mixture"
    return f"all layers are finite, {where} is not"
