"""Half precision: a forward pass under autocast, parameters and losses in float32.

    outputs = computed_in("bfloat16", network, images)      # convolutions and products in bfloat16, outputs float32

Only what is differentiated for training runs so; what is measured and exported is float32. float16 is left out: its
gradients vanish below 6e-8 unless a loss scaler goes along, while bfloat16 has the range of float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Outputs = TypeVar("Outputs")
Precision = Literal["float32", "bfloat16"]


def computed_in(precision: Precision, function: Callable[..., Outputs], *arguments: Any, **named: Any) -> Outputs:
    """function(*arguments, **named) with autocast to `precision`; float32 is the plain call.

    Args:
        function: gives a tensor, or a tree of tensors.
        arguments: at least one tensor, which says on which device.

    >>> computed_in("bfloat16", torch.nn.Identity(), torch.tensor([[1.0]])) + 2 ** -10
    tensor([[1.0010]])
    """
    if precision == "float32":
        return function(*arguments, **named)
    device = next(x.device for x in arguments if isinstance(x, Tensor))
    with torch.autocast(device.type, dtype=getattr(torch, precision)):
        outputs: Outputs = tree_map(lambda y: y.float(), function(*arguments, **named))
    return outputs
