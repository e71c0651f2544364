"""Which executor a search runs on: the fused one, once it has been seen to compute what the plain one does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from metanas.network import Maker, Network, fused
from metanas.network.fused import difference

TOLERANCE = (1e-2, 0.1, 0.1)
"""Of the outputs, the gradients of the weights and those of the mixing weights, relative to the largest. Rounding makes
1e-6, and 4e-3 for the gradients of DARTS's cells; TensorFloat-32 and bfloat16 make more; what is wrong, about 1.
"""


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
        apart = difference(twin, inputs, mix=mix)
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
