"""Steps of a cell as one, whose values are forgotten after the forward pass and computed again in the backward pass.

The recomputation comes after a `functional_call` has given the modules their own parameters back: those that it had
lent them are put back meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from metanas.network.grouped import FusedStep, Once, Scales, Values


@dataclass(frozen=True, eq=False)
class Segment:
    """Steps whose values are forgotten after the forward pass, and computed once more in the backward pass.

    `sources` and `outs`: what comes from before and what is read after; `network`: whose modules the steps run. Under a
    transform of torch.func, which checkpointing does not go with, and where nothing is differentiated, the steps run as
    they are.
    """

    steps: tuple[FusedStep, ...]
    sources: tuple[str, ...]
    outs: tuple[str, ...]
    network: nn.Module

    def run(self, values: Values, scales: Scales) -> None:
        if torch._C._are_functorch_transforms_active() or not torch.is_grad_enabled():
            for step in self.steps:
                step.run(values, scales)
            return
        given = (values[s] for s in self.sources)
        found = checkpoint(self._again, held(self.network), scales.mix, *given, use_reentrant=False)
        values.update(zip(self.outs, found, strict=True))

    def _again(self, parameters: Held, mix: Mapping[str, Tensor], *given: Tensor) -> tuple[Tensor, ...]:
        values, scales = dict(zip(self.sources, given, strict=True)), Scales(mix)  # its own: it is made twice, alike
        with put_back(parameters):
            for step in self.steps:
                step.run(values, scales)
        return tuple(values[out] for out in self.outs)


Held: TypeAlias = list[tuple[nn.Module, str, Tensor]]
"""Modules, the names of their own parameters, and these."""


def held(network: nn.Module) -> Held:
    """The parameters that the modules have now: in a `functional_call` those are what was handed to it."""
    return [(m, name, p) for m in network.modules() for name, p in m._parameters.items() if p is not None]


@contextmanager
def put_back(parameters: Held) -> Iterator[None]:
    """Inside the block the modules have these parameters: what is computed once more comes after the call that lent
    others to them."""
    now = [module._parameters[name] for module, name, _ in parameters]
    for module, name, p in parameters:
        module._parameters[name] = p  # type: ignore[assignment]  # as torch.func does, which lends plain tensors
    try:
        yield
    finally:
        for (module, name, _), own in zip(parameters, now, strict=True):
            module._parameters[name] = own


def segments(steps: Sequence[FusedStep], output: str, network: nn.Module) -> list[FusedStep]:
    """The steps, with those of a cell (what stands before the first point of a value's name) as one segment. What is
    computed once for a cell is part of it.
    """
    cells = [step.outs[0].partition("|")[0].partition(".")[0] if "." in step.outs[0] else "" for step in steps]
    for k in range(len(steps) - 2, -1, -1):
        if isinstance(steps[k], Once):
            cells[k] = cells[k + 1]
    found: list[FusedStep] = []
    for cell, group in groupby(range(len(steps)), key=cells.__getitem__):
        rows = [steps[k] for k in group]
        inside = {out for step in rows for out in step.outs}
        later = {source for step in steps if step not in rows for source in step.sources} | {output}
        sources = tuple(dict.fromkeys(s for step in rows for s in step.sources if s not in inside))
        outs = tuple(out for step in rows for out in step.outs if out in later)
        found += [Segment(tuple(rows), sources, outs, network)] if cell else rows
    return found
