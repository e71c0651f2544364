"""The fused executor: the same network and the same numbers, with fewer and larger operations.

    twin = fused(network)           shares its modules and parameters with `network`
    twin(images, mix=mix)           where all of the mix are mixing weights: by `plan`; else as `network` does

The plain executor is the specification; `difference` measures how far the two are apart.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metanas.network.grouped import FusedStep, Scales, Values, last_reads
from metanas.network.mixing import Mix, combine, only_kept, size_arguments
from metanas.network.network import Network, module_name
from metanas.network.ops import OPS, Maker
from metanas.network.plan import Parts, plan
from metanas.network.segments import segments
from metanas.network.trial import trial_of
from metanas.space import Apply, Combine, Step, sources_of

Plan = tuple[list[tuple[FusedStep, tuple[str, ...]]], str]
"""Each step, and the values that are let go of after it; and the name of the output."""


def fused(network: Network, *, ops: Mapping[str, Maker] = OPS, checkpoint: bool = False) -> FusedNetwork:
    """A twin of `network` that computes the same, faster.

    Args:
        ops: what the network was made with: an operation of the user's own runs as it is.
        checkpoint: forget what is inside the cells, and compute it once more for the gradients: more time, and the
            memory of a single cell.

    >>> from metanas.network import supernet
    >>> from metanas.space import Space, chain, one_of, op
    >>> ops = one_of("y", {"conv": op("conv", width=2), "skip": op("skip")})
    >>> network = supernet(Space(chain(("y", ops), ("head", op("classifier", width=2)))), (2, 4, 4), 2)
    >>> fused(network)(torch.ones(1, 2, 4, 4), mix={"y": torch.ones(2)}).shape
    torch.Size([1, 2])
    """
    return FusedNetwork(network.plain, ops, checkpoint)


class FusedNetwork(Network):
    """A network that shares everything with `plain` but the way in which it is computed. Made by `fused`.

    A deep copy of it is plain: who copies a network may change its modules, and so what may be fused.
    """

    _network: Network
    _own: frozenset[str]
    _checkpoint: bool
    _plans: dict[tuple[frozenset[str], str], Plan]

    def __init__(self, network: Network, ops: Mapping[str, Maker], checkpoint: bool = False) -> None:
        self.__dict__ = dict(network.__dict__)  # with the very dicts of its modules
        own = frozenset(kind for kind, maker in OPS.items() if ops.get(kind) is maker)
        self.__dict__ |= {"_network": network, "_own": own, "_checkpoint": checkpoint, "_plans": {}}

    @property
    def plain(self) -> Network:
        return self._network

    def keep(self, kept: Mapping[str, tuple[int, ...]]) -> None:
        super().keep(kept)
        self._network.keep(kept)
        self._plans.clear()

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
        steps, output = self._plan(frozenset(mix), inputs[0].device.type)
        for step, finished in steps:
            step.run(values, scales)
            for value in finished:
                values.pop(value, None)
        return values[output]

    def _plan(self, mixed: frozenset[str], device: str) -> Plan:
        key = mixed, device
        if key not in self._plans:
            program = self.program
            modules = {s.out: self._module(s) for s in program.steps if isinstance(s, Apply)}
            kept = {name: rows for name, rows in self.kept.items() if name in mixed}
            parts = Parts(program, self.shapes, modules, self._own, mixed, self._run_plainly, device == "cpu", kept)
            planned, output = plan(parts)
            steps = segments(planned, output, self) if self._checkpoint else planned
            self._plans[key] = list(zip(steps, last_reads(steps, output), strict=True)), output
        return self._plans[key]

    def _module(self, step: Step) -> Any:
        return self._modules[module_name(step.out)]

    def _run_plainly(self, step: Step, values: Values, mix: Mapping[str, Tensor]) -> Tensor:
        if isinstance(step, Combine):
            return combine(step, values, mix, self.zeros)
        if isinstance(step, Apply):
            found: Tensor = self._module(step)(*(values[s] for s in sources_of(step)), **size_arguments(step, mix))
            return found
        return self.scan(step, values[step.source], only_kept(mix, self.kept))

    def copied(self) -> FusedNetwork:
        """A twin of a copy: what runs on it leaves no trace here, whatever an operation of the user's does."""
        return self.around(trial_of(self.plain, self._own))

    def around(self, network: Network) -> FusedNetwork:
        """A twin of another network whose operations were made by the same makers."""
        return FusedNetwork(network, {kind: OPS[kind] for kind in self._own}, self._checkpoint)

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        return copy.deepcopy(self.plain, memo)


def difference(network: FusedNetwork, *inputs: Tensor, mix: Mapping[str, Tensor]) -> tuple[float, float, float]:
    """How far the two executors are apart on a batch, in the network's own precision.

    Returns:
        The largest difference of the outputs, of the gradients of the parameters and of those of the mixing weights,
        each relative to the largest of its kind.

    >>> from metanas.network import supernet
    >>> from metanas.space import Space, chain, one_of, op
    >>> ops = one_of("y", {"conv": op("preact_conv", norm="batch_cell", activation="relu"), "skip": op("skip")})
    >>> network = supernet(Space(chain(("y", ops), ("head", op("classifier", width=2)))), (2, 4, 4), 2).double()
    >>> mix = {"y": torch.tensor([0.7, 0.3], dtype=torch.float64)}
    >>> max(difference(fused(network), torch.rand(3, 2, 4, 4, dtype=torch.float64), mix=mix)) < 1e-12
    True
    """
    twin = network.copied()
    weights = {name: w.detach().clone().requires_grad_() for name, w in mix.items()}
    parameters = [p for p in twin.parameters() if p.requires_grad]
    one, two = (_measured(each, inputs, weights, parameters) for each in (twin, twin.plain))
    outputs, of_parameters, of_weights = (_apart(x, y) for x, y in zip(one, two, strict=True))
    return outputs, of_parameters, of_weights


def _measured(
    network: Network, inputs: Sequence[Tensor], weights: Mapping[str, Tensor], parameters: Sequence[Tensor]
) -> tuple[list[Tensor], ...]:
    """(output, gradients of the parameters, gradients of the weights) of a loss that reads every output."""
    with torch.enable_grad():
        output = network(*inputs, mix=weights)
        loss = (output * torch.linspace(1.0, 2.0, output.numel(), device=output.device).view_as(output)).sin().sum()
    leaves = [*parameters, *weights.values()]
    rows = torch.autograd.grad(loss, leaves, allow_unused=True) if leaves else ()
    grown = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, rows, strict=True)]
    return [output.detach()], grown[: len(parameters)], grown[len(parameters) :]


def _apart(one: list[Tensor], two: list[Tensor]) -> float:
    if not one:
        return 0.0
    size = max(float(x.abs().max()) for x in two)
    apart = max(float((x - y).abs().max()) for x, y in zip(one, two, strict=True))
    return apart / size if size else apart
