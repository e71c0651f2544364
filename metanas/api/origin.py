"""What a transfer starts from: an architecture, weights by name, and how they are used.

    finetune    all weights are trained, what was carried at a share of the head's learning rate (the discriminative
                rates of Howard and Ruder, ACL 2018, arXiv:1801.06146)
    frozen      only the head is trained
    search      a new search starts from the weights, and so does the network that it derives

The weights are those of the found network but for its head: whatever changes its shape with the number of outputs. They
stand in the run, so that it can be resumed without the one that they come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metanas.errors import RunError
from metanas.evaluation import Carried
from metanas.exporters import read_tensors, write_tensors
from metanas.network import Maker, Network, derived
from metanas.run import RunFolder
from metanas.space import Architecture, Space

HOWS = ("finetune", "frozen", "search")
WEIGHTS = "source.safetensors"


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a transfer starts.

    how:     one of `HOWS`
    rate:    learning rate of what is carried, as a share of the head's
    run:     the run that the network comes from, to be shown
    weights: name in its state dict -> value, on the CPU, without the head
    """

    how: str
    rate: float
    run: str
    architecture: Architecture
    weights: Mapping[str, Tensor]

    def described(self) -> dict[str, Any]:
        """Everything that decides the numbers of the run, as plain data."""
        digest = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        architecture = self.architecture.to_json()
        return {"how": self.how, "rate": self.rate, "architecture": architecture, "weights": digest.hexdigest()}

    def carried(self, network: Network) -> Carried:
        """Which parameters of a network have these weights, and how they are trained."""
        return Carried(frozenset(name for name, _ in network.named_parameters() if name in self.weights), self.rate)

    def write(self, folder: RunFolder) -> None:
        """Puts the weights into a run."""
        write_tensors(folder.file(WEIGHTS), self.weights)


def read_origin(folder: RunFolder, document: Mapping[str, Any]) -> Origin | None:
    """What a run starts from, from its files; None of a search. RunError where they are damaged."""
    if document.get("kind") != "transfer":
        return None
    try:
        row = document["transfer"]
        architecture = Architecture.from_json(row["architecture"], None)
        return Origin(row["how"], row["rate"], row["run"], architecture, read_tensors(folder.file(WEIGHTS)))
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder.file('recipe.json')} is damaged: {error!r}") from error


def without_head(
    network: Network, space: Space, architecture: Architecture, ops: Mapping[str, Maker]
) -> dict[str, Tensor]:
    """The state of a network, on the CPU, but for what changes its shape with the number of outputs.

    >>> from metanas.network import OPS
    >>> from metanas.space import NEEDED, chain, op
    >>> space = Space(chain(("stem", op("conv", width=4, kernel=3)), ("head", op("classifier", width=NEEDED))))
    >>> network = derived(space, {}, (1, 6, 6), 10)
    >>> list(without_head(network, space, Architecture({}), OPS))
    ['stem.0.weight', 'stem.0.bias']
    """
    shape = network.shapes[network.program.inputs[0]]
    (outputs,) = network.shapes[network.program.output]
    with torch.device("meta"):
        other = derived(space, architecture, shape, outputs + 1, ops=ops).state_dict()
    state = network.state_dict()
    return {name: x.detach().cpu().clone() for name, x in state.items() if x.shape == other[name].shape}
