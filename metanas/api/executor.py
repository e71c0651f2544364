"""Which executor a search runs on: the fused one, once it has been seen to compute what the plain one does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from metanas.api.host import threads
from metanas.network import FusedNetwork, Maker, Network, fused
from metanas.network.fused import difference

TOLERANCE = (1e-2, 0.1, 0.1)
"""Of the outputs, the gradients of the weights and those of the mixing weights, relative to the largest. Rounding makes
1e-6, and 4e-3 for the gradients of DARTS's cells; TensorFloat-32 and bfloat16 make more; what is wrong, about 1.
"""

NARROWEST = 4
"""Least side of what a network computes in the comparison, where it is not narrower anyway: norms need some numbers."""


def fused_if_equal(
    network: Network,
    inputs: Tensor,
    mix: Mapping[str, Tensor],
    *,
    ops: Mapping[str, Maker],
    warn: Callable[[str], None],
    checkpoint: bool = False,
) -> Network:
    """The fused twin of a supernet; the network itself, with a warning, where the two differ on a batch.

    Args:
        inputs: a few examples.
        mix: mixing weights of what will be mixed, any but equal ones.
        ops, checkpoint: as of `metanas.network.fused`.
    """
    twin = fused(network, ops=ops, checkpoint=checkpoint)
    try:
        with threads(1):  # of many small operations: more threads wait for each other, on a busy host for very long
            apart = _apart(twin, inputs, mix)
    except RuntimeError as error:
        why = (str(error).splitlines() or ["no reason given"])[0]
        warn(f"the fused executor does not run ({why}); the plain one does its work")
        return network
    if not all(found <= allowed for found, allowed in zip(apart, TOLERANCE, strict=True)):
        shown = ", ".join(f"{found:.1e}" for found in apart)
        warn(
            f"the fused executor is off the plain one (outputs and gradients by {shown}), as where an operation of "
            "your own draws random numbers; the plain one does its work"
        )
        return network
    return twin


def _apart(twin: FusedNetwork, inputs: Tensor, mix: Mapping[str, Tensor]) -> tuple[float, float, float]:
    """How far the two are apart, on small images where the network takes them: the same operations, in less time."""
    less = coarser(twin, inputs)
    if less is not inputs:
        try:
            return difference(twin, less, mix=mix)
        except RuntimeError:  # a layer that knows the size of its input, or what does not run at all
            pass
    return difference(twin, inputs, mix=mix)


def coarser(network: Network, inputs: Tensor) -> Tensor:
    """Every second, fourth, ... row and column of images, so far as nothing in the network becomes narrower than
    `NARROWEST`; the inputs themselves where it is narrow already, or where they are no images.

    >>> import torch
    >>> from metanas.network import supernet
    >>> from metanas.space import Space, chain, op
    >>> body = chain(("a", op("conv", width=2)), ("b", op("max_pool", kernel=3, stride=2)))
    >>> coarser(supernet(Space(body), (1, 32, 32), 1), torch.ones(3, 1, 32, 32)).shape
    torch.Size([3, 1, 8, 8])
    """
    if inputs.dim() != 4:
        return inputs
    sides = [side for shape in network.shapes.values() if len(shape) == 3 for side in shape[1:] if side > 1]
    narrow = min([*sides, *inputs.shape[2:]])
    factor = 1 << max((narrow // NARROWEST).bit_length() - 1, 0)
    return inputs if factor == 1 else inputs[:, :, ::factor, ::factor].contiguous()
