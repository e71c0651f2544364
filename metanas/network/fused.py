"""The fused executor: the same network and the same numbers, with fewer and larger operations.

    twin = fused(network)           shares its modules and parameters with `network`
    twin(images, mix=mix)           where all of the mix are mixing weights: by `plan`; else as `network` does

The plain executor is the specification; `difference` measures how far the two are apart.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metanas.network.grouped import FusedStep, Scales, Values, last_reads
from metanas.network.mixing import Mix, combine, size_arguments
from metanas.network.network import Network, module_name
from metanas.network.ops import OPS, Maker
from metanas.network.plan import Parts, plan
from metanas.space import Apply, Combine, Step


def fused(network: Network, *, ops: Mapping[str, Maker] = OPS) -> FusedNetwork:
    """A twin of `network` that computes the same, faster.

    Args:
        ops: what the network was made with: an operation of the user's own runs as it is.
    """
    return FusedNetwork(network, ops)


class FusedNetwork(Network):
    """A network that shares everything with `plain` but the way in which it is computed. Made by `fused`.

    A deep copy of it is plain: who copies a network may change its modules, and so what may be fused.
    """

    plain: Network

    def __init__(self, network: Network, ops: Mapping[str, Maker]) -> None:
        self.__dict__ = {**network.__dict__, "plain": network}  # the very same dicts of modules
        self.own = frozenset(kind for kind, maker in OPS.items() if ops.get(kind) is maker)
        self.plans: dict[Any, list[tuple[FusedStep, tuple[str, ...]]]] = {}

    def forward(
        self, *inputs: Tensor, mix: Mix | None = None, see: str = "", seen: dict[str, Tensor] | None = None
    ) -> Tensor:
        mix = mix or {}
        weights = {name: weight for name, weight in mix.items() if isinstance(weight, Tensor)}
        if seen is not None or len(weights) < len(mix):
            return super().forward(*inputs, mix=mix, see=see, seen=seen)
        self.check(mix)
        values: Values = dict(zip(self.program.inputs, inputs, strict=True))
        scales = Scales(weights)
        for step, finished in self._plan(frozenset(mix), inputs[0].device.type):
            step.run(values, scales)
            for value in finished:
                values.pop(value, None)
        return values[self.program.output]

    def _plan(self, mixed: frozenset[str], device: str) -> list[tuple[FusedStep, tuple[str, ...]]]:
        key = mixed, device
        if key not in self.plans:
            program = self.program
            modules = {s.out: self.get_submodule(module_name(s.out)) for s in program.steps if isinstance(s, Apply)}
            parts = Parts(program, self.shapes, modules, self.own, mixed, self._run_plainly, device == "cpu")
            steps = plan(parts)
            self.plans[key] = list(zip(steps, last_reads(steps, program.output), strict=True))
        return self.plans[key]

    def _run_plainly(self, step: Step, values: Values, mix: Mapping[str, Tensor]) -> Tensor:
        if isinstance(step, Combine):
            return combine(step, values, mix, self.zeros)
        if isinstance(step, Apply):
            found: Tensor = self.get_submodule(module_name(step.out))(
                values[step.source], **size_arguments(step, mix)
            )
            return found
        return self.scan(step, values[step.source], mix)

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        return copy.deepcopy(self.plain, memo)


@torch.no_grad()
def difference(network: FusedNetwork, *inputs: Tensor, mix: Mix) -> float:
    """The largest difference between the outputs of the two executors, relative to the largest output."""
    one, two = network(*inputs, mix=mix), network.plain(*inputs, mix=mix)
    return float((one - two).abs().max() / two.abs().max().clamp(min=torch.finfo(two.dtype).tiny))
