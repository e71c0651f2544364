"""What the files of one export are made from, and what they say beside their numbers.

A format gets a `Draft` and gives bytes. `network` is the source, `stored` the same with its weights as the files can
hold them: both are one unless a lower precision was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from metanas.exporters.loss import Loss
from metanas.exporters.source import Source
from metanas.exporters.story import Story
from metanas.network import Network

SCHEMA = 1
FULL = "float32"

Measure = Callable[[Callable[..., Tensor]], float]
"""A score on test data of whatever takes a batch as the network does; larger is better."""


@dataclass(frozen=True, eq=False)
class Draft:
    """One export.

    network:   the source, in evaluation mode, on the CPU
    source:    what its numbers mean
    name:      of the files
    stored:    the network with its weights as torch's formats hold them; None: as they are
    precision: of the weights in the files: "float32" (as they are), "float16", "bfloat16", "int8"
    measure:   of the score before and after; None: outputs on random inputs are all that is compared
    loss:      what `stored` loses; None where nothing is
    losses:    format -> what its file loses; `owner`: the call that writes, in the order of the formats
    story:     how the network was found, for a model card
    files:     format -> file name, of all that this call writes
    """

    network: Network
    source: Source
    name: str
    stored: Network | None = None
    precision: str = FULL
    measure: Measure | None = None
    loss: Loss | None = None
    losses: dict[str, Loss] = field(default_factory=dict)
    story: Story | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def held(self) -> Network:
        """What a file of torch's is to compute."""
        return self.stored or self.network

    @property
    def reduced(self) -> bool:
        return self.precision != FULL

    def facts(self, loss: Loss | None = None) -> dict[str, Any]:
        """Plain data: the architecture, the classes, how pixels or rows become inputs. `loss`: of the file, where it
        is not that of `stored`."""
        source, lost = self.source, loss or self.loss
        return {
            "schema": SCHEMA,
            "name": self.name,
            "space": source.space,
            "architecture": source.architecture.to_json(),
            "key": source.architecture.key,
            "classes": list(source.classes),
            "mean": list(source.mean),
            "std": list(source.std),
            "pixels": list(source.pixels),
            "shape": list(self.network.shapes[self.network.program.inputs[0]]),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            **({} if source.structure is None else {"settings": dict(source.structure.settings)}),
            **({} if source.table is None else {"table": source.table.to_json()}),
            **({} if source.classes else {"scale": list(source.scale)}),
            **({"precision": self.precision} if self.reduced else {}),
            **({} if lost is None else {"loss": lost.to_json()}),
        }
