"""What a network costs: trainable parameters, and multiply-adds of one forward pass of one example.

Counted are convolutions and matrix products (of linear layers, of attention), a multiply-add for each product and one
for each bias that is added. Norms, activations, pools and sums are not: they are what is left out of published tables
(NAS-Bench-201), so that a number here may stand beside a number there. One multiply-add is 2 FLOPs; papers that say
"FLOPs" often mean multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from metanas.errors import ShapeError
from metanas.network import OPS, Maker, derived, shadow
from metanas.network.memory import kept_bytes
from metanas.space import Architecture, Space

FLOPS_PER_MULTIPLY_ADD = 2
EXAMPLES = 2  # an untracked batch norm on a 1x1 image has no statistics of one example


@dataclass(frozen=True)
class Cost:
    """parameters: trainable ones; multiply_adds: of one forward pass of one example (x 2: FLOPs)."""

    parameters: int
    multiply_adds: int

    def __str__(self) -> str:
        return f"{self.parameters:,} parameters, {self.multiply_adds:,} multiply-adds"


def cost(network: nn.Module, shape: Sequence[int], *, dtype: torch.dtype | None = None) -> Cost:
    """The cost of `network`, which is neither run nor changed: a copy without memory (meta device) is.

    Args:
        shape: of one example, without the batch: (channels, height, width).
        dtype: of the inputs; None: torch's default. Whole numbers for tokens.

    Raises:
        ShapeError: `shape` holds something else than positive whole numbers, or the network does not take it.

    >>> cost(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(8 * 16, 10)), (3, 4, 4))
    Cost(parameters=1506, multiply_adds=4746)
    """
    if not all(isinstance(n, int) and n >= 1 for n in shape):
        raise ShapeError(f"shape must hold whole numbers >= 1, got {tuple(shape)}; leave the batch out")
    weightless = shadow(network).eval()
    counter = FlopCounterMode(display=False, custom_mapping=COUNTED)
    try:
        with torch.no_grad(), counter:
            weightless(torch.empty(EXAMPLES, *shape, device="meta", dtype=dtype))
    except (RuntimeError, ValueError, IndexError) as error:
        why = (str(error).splitlines() or ["no reason given"])[0]
        raise ShapeError(f"the network does not take {tuple(shape)} ({why})") from error
    multiply_adds = counter.get_total_flops() // (FLOPS_PER_MULTIPLY_ADD * EXAMPLES)
    return Cost(sum(p.numel() for p in network.parameters() if p.requires_grad), multiply_adds)


def activation_bytes(network: nn.Module, shape: Sequence[int], *, batch: int = 1) -> int:
    """Bytes of the activations that a training step keeps for its backward pass, without parameters and inputs.

    Counted on a copy without memory. It grows with the batch in proportion, but for what norms keep for each channel.

    Args:
        shape: of one example, without the batch.

    Raises:
        ShapeError: the batch is below 1, or a norm has no statistics of so few.

    >>> activation_bytes(nn.Sequential(nn.Linear(4, 8), nn.Tanh()), (4,), batch=2)  # what tanh gives, 16 numbers
    64
    """
    if batch < 1:
        raise ShapeError(f"batch must be >= 1, got {batch}")
    weightless = shadow(network).train()
    try:
        return kept_bytes(weightless, torch.empty(batch, *shape, device="meta"))
    except (RuntimeError, ValueError, IndexError) as error:
        why = (str(error).splitlines() or ["no reason given"])[0]
        raise ShapeError(f"the network does not take {batch} of {tuple(shape)} ({why})") from error


@dataclass(eq=False)
class ExactCost:
    """A cost of architectures: each is built once, without memory, and counted.

    Args:
        shape, outputs: of one input, and classes.
        what: `"parameters"`, `"multiply_adds"`, or `"activation_bytes"` of a batch of 2.

    >>> from metanas.space import chain, one_of, op
    >>> ops = {"conv": op("conv", width=3, kernel=3), "skip": op("skip")}
    >>> space = Space(chain(("y", one_of("y", ops)), ("head", op("classifier", width=2))))
    >>> ExactCost(space, (3, 8, 8), 2, "parameters")(space.architecture({"y": "conv"}))
    92.0
    """

    space: Space
    shape: tuple[int, ...]
    outputs: int
    what: str = "parameters"
    ops: Mapping[str, Maker] = field(default_factory=lambda: OPS)
    known: dict[Architecture, float] = field(default_factory=dict, repr=False)

    def __call__(self, architecture: Architecture) -> float:
        if architecture not in self.known:
            with torch.device("meta"):
                network = derived(self.space, architecture, self.shape, self.outputs, ops=self.ops)
            if self.what == "activation_bytes":
                found = float(activation_bytes(network, self.shape, batch=EXAMPLES))
            else:
                found = float(getattr(cost(network, self.shape), self.what))
            self.known[architecture] = found
        return self.known[architecture]


def _with_bias(operator: Any, bias_at: int) -> Callable[..., int]:
    """torch's own count of an operator, and one multiply-add for each number that a bias is added to."""
    products = flop_registry[operator]

    def count(*shapes: Any, out_shape: Sequence[int], **others: Any) -> int:
        flops: int = products(*shapes, out_val=out_shape, **others)
        return flops + (FLOPS_PER_MULTIPLY_ADD * prod(out_shape) if shapes[bias_at] is not None else 0)

    return count


aten = torch.ops.aten
COUNTED = {
    aten.convolution: _with_bias(aten.convolution, bias_at=2),
    aten.addmm: _with_bias(aten.addmm, bias_at=0),
}
"""The operators that add a bias. torch counts their products alone; NAS-Bench-201's table counts both (an empty cell:
7,783,050, of which 10 are the classifier's biases)."""
