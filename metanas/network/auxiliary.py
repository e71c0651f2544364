"""The auxiliary head of DARTS (arXiv:1806.09055): a second classifier on a value inside, for a training from scratch.

    ReLU, mean over windows to 2x2, conv 1x1 to 128, BN, ReLU, conv 2x2 to 768, BN, ReLU, linear

Its loss, weighted, helps the first cells of a deep network to learn. It is no part of the network: parameters that are
counted, tests and exports are without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metanas.errors import ShapeError
from metanas.network.network import Network
from metanas.network.ops import Shape
from metanas.space import Program


class AuxiliaryHead(nn.Sequential):
    """Images (batch, channels, height, width) to (batch, outputs).

    The paper's map is 8x8 and its windows 5x5 with stride 3. Other maps have windows that cover them alike: a stride of
    three eighths of the side, and the window that gives 2x2.

    Raises:
        ShapeError: the map is smaller than 2x2, or no image.

    >>> AuxiliaryHead((16, 8, 8), 10)[1]
    AvgPool2d(kernel_size=(5, 5), stride=(3, 3), padding=0)
    """

    def __init__(self, shape: Shape, outputs: int) -> None:
        if len(shape) != 3 or min(shape[1:]) < 2:
            raise ShapeError(
                f"the auxiliary head reads images of 2x2 pixels and more, got {tuple(shape)}; take larger images, or "
                "evaluation.auxiliary = 0"
            )
        channels, height, width = shape
        down, across = (max(round(3 * side / 8), 1) for side in (height, width))
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d((height - down, width - across), (down, across)),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, outputs),
        )


def value_of(program: Program, node: str) -> str:
    """The value that a node of the top level gives in a derived program."""
    return [s.out for s in program.steps if s.out == node or s.out.startswith(f"{node}.")][-1]


class WithAuxiliary(nn.Module):
    """A network and its auxiliary head, for a training: `forward(x)` gives (outputs, auxiliary outputs).

    Args:
        network: a derived one.
        node: of its graph, whose value the head reads.
        outputs: width of the head's output.
        seed: of the head's weights; the global generator is left as it was.
    """

    def __init__(self, network: Network, node: str, outputs: int, *, seed: int) -> None:
        super().__init__()
        self.network, self.value = network, value_of(network.program, node)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.head = AuxiliaryHead(network.shapes[self.value], outputs)

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        seen: dict[str, Tensor] = {}
        outputs = self.network(x, seen=seen, see=self.value)
        return outputs, self.head(seen[self.value])
