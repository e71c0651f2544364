"""Whether a file computes what its source does: outputs on random batches, within a tolerance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metanas.errors import ExportError
from metanas.exporters.loss import random_batch, relative
from metanas.network import Network

TOLERANCE = 1e-5
"""Largest difference of two outputs that is allowed, relative to the largest output. Not for reduced files of ONNX:
what they lose is measured and reported."""
EXAMPLES = 4


def compare(network: Network, other: Callable[..., Tensor], what: str, *, examples: int = EXAMPLES) -> float:
    """The largest difference of the outputs on a random batch of so many examples, relative to the largest output.

    Raises ExportError where it is above `TOLERANCE`, the shapes differ, or an output of the source is not finite.
    """
    with torch.no_grad():
        return compare_outputs(expected_outputs(network, examples), other(*random_batch(network, examples)), what)


@torch.no_grad()
def expected_outputs(network: Network, examples: int) -> Tensor:
    """What the source gives for `random_batch`. Raises ExportError where it is not finite."""
    expected: Tensor = network(*random_batch(network, examples))
    if not expected.isfinite().all():
        raise ExportError("the network's outputs are not finite, so nothing can be checked; export a trained network")
    return expected


def compare_outputs(expected: Tensor, got: Tensor, what: str, tolerance: float = TOLERANCE) -> float:
    """The difference of two outputs as `compare` gives it, and its errors."""
    if got.shape != expected.shape:
        raise ExportError(f"{what}: the file gives {tuple(got.shape)}, its source {tuple(expected.shape)}")
    difference = relative(expected, got)
    if not difference <= tolerance:
        raise ExportError(
            f"{what}: outputs of the written file differ from the network's by {difference:.2e} of the largest output "
            f"(allowed: {tolerance:.0e}); nothing was exported"
        )
    return difference
