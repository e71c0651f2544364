"""Zero-cost scores: how good a network may become, from its first weights and one batch, without a step of training.

    snip        sum |w g|                                    Lee et al., ICLR 2019, arXiv:1810.02340
    grad_norm   sum over layers of |g|_2                     Abdelfattah et al., ICLR 2021, arXiv:2101.08134
    grasp       sum -w (H g)                                 Wang et al., ICLR 2020, arXiv:2002.07376
    fisher      sum over channels of mean (sum a da)^2 / 2   Theis et al., 2018, arXiv:1801.05787
    synflow     sum |w dR/dw|, R = sum f(1) at weights |w|   Tanaka et al., NeurIPS 2020, arXiv:2006.05467
    jacob_cov   -sum log(v + k) + 1 / (v + k)                Mellor et al., 2020, arXiv:2006.04647v1
    naswot      log |det K|                                  Mellor et al., ICML 2021, arXiv:2006.04647
    zico        sum over layers of log sum mean|g| / std|g|  Li et al., ICLR 2023, arXiv:2301.11300
    parameters, flops                                        what a score has to be better than

w are the weights of convolutions and linear maps (no norms, no biases), g = dL/dw, H the Hessian of the loss L; a are
the outputs of convolutions and linear maps, da = dL/da, summed over all axes but the examples' and the channels' (of a
linear map the last one, of a convolution the second); v the eigenvalues of the correlations between the examples' input
gradients; K[i, j] counts the ReLUs that examples i and j set alike. As scores of whole networks: Abdelfattah et al.

The code of a ReLU is the sign of its input. Activations like it (ReLU6, leaky ReLU, GELU, SiLU, Hardswish) are coded
alike, which is no paper's: where the input is negative they give nothing or next to it. Others, as tanh, have no code.

Inputs may be whole numbers (tokens); synflow and jacob_cov need inputs that have a gradient, and refuse them.

Larger is better, by the papers. A network is copied, put into training mode (batch statistics) and left as it was.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from metanas.errors import DataError, SpaceError, nearest
from metanas.evaluation.costs import FLOPS_PER_MULTIPLY_ADD, Cost, cost

Loss = Callable[[Tensor, Tensor], Tensor]

CORRELATION_FLOOR = 1e-5
LAYERS = frozenset({F.conv1d, F.conv2d, F.conv3d, F.linear})
RELUS = frozenset({
    F.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_,
    F.relu6, F.leaky_relu, F.leaky_relu_, F.gelu, F.silu, F.hardswish,
})  # fmt: skip
"""ReLU and what is coded like it; `nn.ReLU6` is a hardtanh from 0."""
NORMS = frozenset({F.batch_norm, F.instance_norm, F.layer_norm, F.group_norm})


class Passes:
    """A network on a batch: what several scores need of it is computed once.

    Args:
        network: its copy is worked with; weights as they were initialised.
        inputs, targets: (batch, ...) each, of one batch of at least 2 examples, on the network's device; inputs of
            any type that the network takes.
        loss: (outputs, targets) -> scalar.
        second: keep what second derivatives need (grasp), at the price of memory.

    Raises:
        DataError: fewer than 2 examples.
    """

    def __init__(
        self, network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss = F.cross_entropy, *, second: bool = False
    ) -> None:
        if len(inputs) < 2:
            raise DataError(f"zero-cost scores compare examples: give a batch of at least 2, got {len(inputs)}")
        self.original = network
        self.network = copy.deepcopy(network).train()
        self.inputs, self.targets, self.loss, self.second = inputs.detach(), targets, loss, second

    @cached_property
    def weights(self) -> list[Tensor]:
        """Those of convolutions and linear maps."""
        return [p for p in self.network.parameters() if p.requires_grad and p.dim() > 1]

    @cached_property
    def forward(self) -> tuple[Tensor, Tensor, _Watch]:
        """(inputs, which want a gradient where they are no whole numbers; outputs; what was seen on the way)."""
        inputs, watch = self.inputs.clone().requires_grad_(self.inputs.is_floating_point()), _Watch()
        with torch.enable_grad(), watch:
            outputs = self.network(inputs)
        return inputs, outputs, watch

    @cached_property
    def gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of the loss: for the weights; for the outputs of convolutions and linear maps. 0 where nothing leads."""
        _, outputs, watch = self.forward
        layers = [x for x, _ in watch.layers if x.requires_grad]
        loss, every = self.loss(outputs, self.targets), [*self.weights, *layers]
        rows = _derivatives(loss, every, retain_graph=True, create_graph=self.second)
        return rows[: len(self.weights)], [x.detach() for x in rows[len(self.weights) :]]

    @cached_property
    def cost(self) -> Cost:
        """Parameters and multiply-adds for inputs of this shape."""
        return cost(self.original, self.inputs.shape[1:], dtype=self.inputs.dtype)

    def require_gradient(self, score: str) -> None:
        """Raises DataError for inputs of whole numbers, which have none."""
        if not self.inputs.is_floating_point():
            kind = str(self.inputs.dtype).removeprefix("torch.")
            raise DataError(
                f"{score} needs inputs that have a gradient, got whole numbers ({kind}); take another score"
            )


class _Watch(TorchFunctionMode):
    """Keeps the outputs of convolutions and linear maps, each with the axis of its channels, and how many ReLUs any two
    examples set alike: `kernel`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[tuple[Tensor, int]] = []
        self.kernel: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in RELUS or (func is F.hardtanh and kwargs.get("min_val") == 0):
            self._code(args[0] if args else kwargs["input"])  # before it is overwritten, where that is done in place
        out = func(*args, **kwargs)
        if func in LAYERS:
            self.layers.append((out, -1 if func is F.linear else 1))
        return out

    def _code(self, inputs: Tensor) -> None:
        on = (inputs.detach() > 0).flatten(1).float()
        alike = (on @ on.T + (1 - on) @ (1 - on).T).double()
        self.kernel = alike if self.kernel is None else self.kernel + alike


class _WithoutNorms(TorchFunctionMode):
    """Norms pass on what comes: a norm would undo that all weights are positive."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in NORMS else func(*args, **(kwargs or {}))


def _derivatives(
    of: Tensor, at: Sequence[Tensor], *, retain_graph: bool = False, create_graph: bool = False
) -> list[Tensor]:
    """Zeros where nothing leads."""
    if not of.requires_grad:
        return [torch.zeros_like(x) for x in at]
    rows = torch.autograd.grad(
        of, list(at), retain_graph=retain_graph or create_graph, create_graph=create_graph, allow_unused=True
    )
    return [torch.zeros_like(x) if row is None else row for x, row in zip(at, rows, strict=True)]


def snip(passes: Passes) -> float:
    """How much the loss would change, to first order, without each weight."""
    rows, _ = passes.gradients
    return _total((w * g).abs() for w, g in zip(passes.weights, rows, strict=True))


def grad_norm(passes: Passes) -> float:
    """The norms of the layers' gradients."""
    return float(sum(g.detach().norm().double() for g in passes.gradients[0]))


def grasp(passes: Passes) -> float:
    """How much the squared norm of the gradient would grow, to first order and over 2, without each weight."""
    if not passes.second:
        return grasp(Passes(passes.original, passes.inputs, passes.targets, passes.loss, second=True))
    rows, _ = passes.gradients
    product = sum(((g * g.detach()).sum() for g in rows), torch.zeros((), device=passes.inputs.device))
    curved = _derivatives(product, passes.weights, retain_graph=True)
    return _total(-w * h for w, h in zip(passes.weights, curved, strict=True))


def fisher(passes: Passes) -> float:
    """How much the loss would change without each channel, to second order by the empirical Fisher information."""
    layers = [(x.detach(), axis) for x, axis in passes.forward[2].layers if x.requires_grad]
    rows = (_by_channel(a * da, axis) for (a, axis), da in zip(layers, passes.gradients[1], strict=True))
    return _total(row.square().mean(0) / 2 for row in rows)


def _by_channel(x: Tensor, axis: int) -> Tensor:
    """Sums (examples, channels), of which `axis` is the channels'."""
    return x.movedim(axis, 1).flatten(2).sum(-1) if x.dim() > 2 else x


def synflow(passes: Passes) -> float:
    """The flow through all paths; it sees the network and no data. Raises DataError for inputs of whole numbers."""
    passes.require_gradient("synflow")
    network = copy.deepcopy(passes.original).train().double()
    with torch.no_grad():
        for x in (*network.parameters(), *network.buffers()):
            if x.is_floating_point():
                x.abs_()
    weights = [p for p in network.parameters() if p.requires_grad and p.dim() > 1]
    ones = torch.ones_like(passes.inputs[:1], dtype=torch.float64)
    with torch.enable_grad(), _WithoutNorms():
        outputs = network(ones)
    rows = _derivatives(outputs.sum(), weights)
    return _total((w * g).abs() for w, g in zip(weights, rows, strict=True))


def jacob_cov(passes: Passes) -> float:
    """How little the input gradients of the examples are correlated; nan where all are 0.

    Raises DataError for inputs of whole numbers.
    """
    passes.require_gradient("jacob_cov")
    inputs, outputs, _ = passes.forward
    (rows,) = _derivatives(outputs.sum(), [inputs], retain_graph=True)
    correlations = torch.corrcoef(rows.detach().flatten(1).double())
    if not bool(correlations.isfinite().all()):
        return math.nan
    v = torch.linalg.eigvalsh(correlations) + CORRELATION_FLOOR
    return -float((v.log() + 1 / v).sum())


def naswot(passes: Passes) -> float:
    """How differently the ReLUs answer to the examples; -inf where two are answered alike, or there is no ReLU."""
    kernel = passes.forward[2].kernel
    return -math.inf if kernel is None else float(torch.linalg.slogdet(kernel).logabsdet)


def zico(passes: Passes) -> float:
    """How steady the gradients are, between the two halves of the batch; of an odd batch the last example is left out.

    Raises DataError for fewer than 4 examples: batch statistics need 2 in each half.
    """
    half = len(passes.inputs) // 2
    if half < 2:
        raise DataError(f"zico compares two halves of a batch: give at least 4 examples, got {len(passes.inputs)}")
    grads = []
    for part in (slice(half), slice(half, 2 * half)):
        inputs, targets = passes.inputs[part], passes.targets[part]
        with torch.enable_grad():
            loss = passes.loss(passes.network(inputs), targets)
        grads.append([g.abs().double() for g in _derivatives(loss, passes.weights)])
    total = 0.0
    for first, second in zip(*grads, strict=True):
        mean, deviation = (first + second) / 2, (first - second).abs() / 2
        ratio = float((mean / deviation)[deviation > 0].sum())
        total += math.log(ratio) if ratio > 0 else 0.0
    return total


def parameters(passes: Passes) -> float:
    """Trainable parameters."""
    return float(passes.cost.parameters)


def flops(passes: Passes) -> float:
    """FLOPs of one example, two a multiply-add."""
    return float(FLOPS_PER_MULTIPLY_ADD * passes.cost.multiply_adds)


SCORES: Mapping[str, Callable[[Passes], float]] = {
    score.__name__: score
    for score in (synflow, naswot, snip, grasp, fisher, grad_norm, jacob_cov, zico, parameters, flops)
}
"""Every score by its name."""


def zero_cost(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss = F.cross_entropy,
    *,
    scores: Iterable[str] = tuple(SCORES),
) -> dict[str, float]:
    """Zero-cost scores of a network on a batch, by name; see the module. Passes that several need are made once.

    Args:
        network: at its first weights; it is left as it was.
        inputs, targets: one batch, of at least 2 examples (zico: 4).
        loss: (outputs, targets) -> scalar.
        scores: which; default: all.

    Returns:
        Larger is better; a value may be infinite or nan, of a network that tells no two examples apart.

    Raises:
        SpaceError: an unknown score, with the nearest.
        DataError: fewer examples than that; synflow or jacob_cov of whole numbers.

    >>> linear = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.constant_(linear.weight, -3.0)
    >>> zero_cost(linear, torch.eye(2), torch.zeros(2, 1), F.mse_loss, scores=("synflow", "parameters"))
    {'synflow': 6.0, 'parameters': 2.0}
    """
    names = list(scores)
    for name in names:
        check_score(name)
    passes = Passes(network, inputs, targets, loss, second="grasp" in names)
    return {name: SCORES[name](passes) for name in names}


def check_score(name: str) -> None:
    """Raises SpaceError for an unknown score, with the nearest."""
    if name not in SCORES:
        raise SpaceError(f"unknown score {name!r}{nearest(name, SCORES)}")


def _total(rows: Iterable[Tensor]) -> float:
    return float(sum(row.detach().double().sum() for row in rows))
