"""What a file of lower precision loses, measured: on random inputs always, on test data where a measure is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from metanas.errors import ExportError
from metanas.network import Network
from metanas.space import Apply

RANDOM = 64
"""Random examples on which a reduced file and its source are compared."""


@dataclass(frozen=True)
class Loss:
    """A reduced file beside its source.

    difference: the largest difference of two outputs, relative to the largest output, on random inputs
    agreement:  share of these inputs whose largest output is the same; None where there is one output
    score:      of the source on the test data; None where there was no measure
    reduced:    the same of the file

    >>> print(Loss(0.0031, 0.984375, 0.9443, 0.9415))
    outputs differ by up to 3.1e-03 of the largest, the same class on 98.4% of random inputs, test 0.9443 -> 0.9415
    """

    difference: float
    agreement: float | None = None
    score: float | None = None
    reduced: float | None = None

    def to_json(self) -> dict[str, float | None]:
        return asdict(self)

    def __str__(self) -> str:
        words = [f"outputs differ by up to {self.difference:.1e} of the largest"]
        words += [] if self.agreement is None else [f"the same class on {self.agreement:.1%} of random inputs"]
        words += ["no test data at hand" if self.score is None else f"test {self.score:.4f} -> {self.reduced:.4f}"]
        return ", ".join(words)


@torch.no_grad()
def loss_of(
    network: Network,
    other: Callable[..., Tensor],
    what: str,
    measure: Callable[[Callable[..., Tensor]], float] | None = None,
) -> Loss:
    """What `other` loses beside `network`.

    Args:
        network: in evaluation mode, on the CPU.
        other: takes what `network` takes.
        what: begins an error: "onnx, int8".
        measure: as of `metanas.exporters.write`.

    Raises:
        ExportError: an output or a score is not finite.
    """
    batch = random_batch(network, RANDOM)
    expected, got = network(*batch), other(*batch)
    if not got.isfinite().all():
        raise ExportError(f"{what}: outputs are not finite; choose a precision with more range")
    scores = (None, None) if measure is None else (float(measure(network)), float(measure(other)))
    if not all(score is None or abs(score) < float("inf") for score in scores):
        raise ExportError(f"{what}: the score is not finite ({scores[0]} before, {scores[1]} after)")
    rows = expected.flatten(1)
    same = (rows.argmax(1) == got.flatten(1).argmax(1)).double().mean().item() if rows.shape[1] > 1 else None
    return Loss(relative(expected, got), same, *scores)


def random_batch(network: Network, examples: int) -> list[Tensor]:
    """Inputs of so many examples, the same on every call: normal, or tokens and a number that is none."""
    generator = torch.Generator().manual_seed(0)
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    steps = (step for step in network.program.steps if isinstance(step, Apply) and step.op.kind == "embedding")
    vocabulary = {step.source: int(step.op.option("vocabulary", 0)) for step in steps}
    batch = []
    for value in network.program.inputs:
        shape = examples, *network.shapes[value]
        normal = torch.randn(shape, generator=generator)
        words = (
            torch.randint(vocabulary.get(value, 0) + 1, shape, generator=generator) if value in vocabulary else normal
        )
        batch.append(words.to(dtype))
    return batch


def relative(expected: Tensor, got: Tensor) -> float:
    """The largest difference of two outputs, relative to the largest of `expected`.

    >>> relative(torch.tensor([1.0, -4.0]), torch.tensor([1.0, -3.0]))
    0.25
    """
    tiny = torch.finfo(expected.dtype).tiny
    return (got - expected).abs().max().item() / max(expected.abs().max().item(), tiny)
