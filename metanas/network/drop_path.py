"""Drop path: in a training from scratch, an operation beside others is now and then left out for an example.

    y = mask / (1 - rate) * operation(x),    mask (batch, 1, ...) is 0 with probability `rate`, else 1

Larsson, Maire, Shakhnarovich: FractalNet, ICLR 2017, arXiv:1605.07648; per example and not on identities, as in DARTS
(arXiv:1806.09055). Dropped are the operations whose values a sum or a mean reads together with others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metanas.network.network import Network, module_name
from metanas.space import Apply, Combine


def dropped(network: Network) -> tuple[str, ...]:
    """The values of a derived network that drop path may leave out, in the order in which they are computed."""
    beside = {
        source
        for step in network.program.steps
        if isinstance(step, Combine) and step.how in ("sum", "mean") and len(step.sources) > 1
        for source in step.sources
    }
    return tuple(
        step.out
        for step in network.program.steps
        if isinstance(step, Apply) and step.out in beside and not _is_plain(network, step)
    )


def _is_plain(network: Network, step: Apply) -> bool:
    """Zeros, and the identity: without it nothing would be left to learn from."""
    return step.op.kind == "none" or isinstance(network.get_submodule(module_name(step.out)), nn.Identity)


@contextmanager
def drop_path(network: Network, rate: float, generator: torch.Generator) -> Iterator[None]:
    """Drops paths of `network` inside the block; at a rate of 0 it is as if it were not there.

    Args:
        rate: probability for each operation and example, 0 <= rate < 1.
        generator: on the network's device; the masks are drawn in the order of the computation.

    >>> import numpy as np
    >>> from metanas.network import derived
    >>> from metanas.space import Edge, Graph, Node, Space, op
    >>> node = Node("y", (Edge("x", op("avg_pool", kernel=1)), Edge("x")))
    >>> network = derived(Space(Graph(("x",), (node,), "y")), {}, (1, 1, 1), 1)
    >>> with drop_path(network, 0.5, torch.Generator().manual_seed(0)):
    ...     network(torch.ones(4, 1, 1, 1)).flatten()
    tensor([1., 3., 1., 1.])
    """
    if not 0 <= rate < 1:
        raise ValueError(f"the rate of drop path must be >= 0 and < 1, got {rate}")
    modules = [network.get_submodule(module_name(value)) for value in dropped(network)] if rate else []
    hooks = [module.register_forward_hook(partial(_drop, rate, generator)) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _drop(rate: float, generator: torch.Generator, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    shape = (len(output), *[1] * (output.dim() - 1))
    kept = torch.rand(shape, generator=generator, device=output.device) >= rate
    return output * (kept.to(output.dtype) / (1 - rate))
