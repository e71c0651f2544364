"""Batch norm whose statistics are values: those of the batch at hand, or some that were found elsewhere.

    found    mean, variance of the batch, over all axes but the channels'; the variance of the population
    given    mean, variance as they are handed over, differentiable
    output   (x - mean) / sqrt(variance + eps) * weight + bias

A module that is a function of its parameters keeps no running statistics: `torch.func` refuses to write them, and those
of one task are not those of the next. So the statistics go in and out: of a support set and then into the calls on
queries (each query is answered without a look at the others), or of a whole training set.

Source: Bronskill et al. 2020, arXiv:2003.03284, on what normalisation may see in meta-learning.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.errors import ShapeError

Statistics: TypeAlias = list[tuple[Tensor, Tensor]]
"""(mean, variance), each (channels,), of every norm, in the order in which a network calls them."""

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class EpisodeNorm(nn.Module):
    """Batch norm over the batch at hand, in training and in evaluation alike, unless statistics are given.

    `given` and `found` belong to one call and are set by its caller: an iterator that the statistics are taken from, a
    list that they are put into. Parameters have the names of torch's batch norm, of which `kind` says which one it was.

    >>> norm = EpisodeNorm(2, affine=False)
    >>> x = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
    >>> norm(x)[:, 0]
    tensor([-1.0000,  1.0000])
    >>> norm.found = []
    >>> _ = norm(x)
    >>> norm.found
    [(tensor([1., 5.]), tensor([1., 0.]))]
    """

    def __init__(
        self, channels: int, *, affine: bool = True, eps: float = 1e-5, kind: type[BatchNorm] = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.kind = channels, eps, kind
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.given: Iterator[tuple[Tensor, Tensor]] | None = None
        self.found: Statistics | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.given is None and self.found is None:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        if self.given is not None:
            mean, variance = next(self.given)
        else:
            variance, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
        if self.found is not None:
            self.found.append((mean, variance))
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = (-1, *[1] * (x.dim() - 2))
        return x * scale.view(shape) + shift.view(shape)


def episodic(module: nn.Module) -> nn.Module:
    """A copy of the module whose batch norms are `EpisodeNorm`s, with their weights; all else is as it was.

    Norms that see one example at a time (group, layer, instance norm without running statistics) stay.

    Raises:
        ShapeError: an instance norm keeps running statistics, or a norm is none that this can turn over.

    >>> episodic(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))[1].channels
    3
    """
    if getattr(module, "track_running_stats", False) and not isinstance(module, BATCH_NORMS):
        raise ShapeError(_refused("the network", module))
    found = copy.deepcopy(module)
    for path, owner in list(found.named_modules()):
        for name, child in list(owner._modules.items()):  # with those that stand at two places of one owner
            if isinstance(child, BATCH_NORMS):
                setattr(owner, name, _turned(child))
            elif getattr(child, "track_running_stats", False):
                raise ShapeError(_refused(f"{path}.{name}" if path else name, child))
    return _turned(found) if isinstance(found, BATCH_NORMS) else found


def _refused(where: str, norm: nn.Module | None) -> str:
    return (
        f"{where}: {type(norm).__name__} keeps running statistics, which a task must not change; take a batch norm, "
        "a group norm, a layer norm, or track_running_stats=False"
    )


def _turned(norm: BatchNorm) -> EpisodeNorm:
    kind = next(kind for kind in BATCH_NORMS if isinstance(norm, kind))
    made = EpisodeNorm(norm.num_features, affine=norm.affine, eps=norm.eps, kind=kind)
    if norm.affine:
        made.weight, made.bias = norm.weight, norm.bias
    return made


def norms_of(module: nn.Module) -> list[EpisodeNorm]:
    """The `EpisodeNorm`s of a module."""
    return [norm for norm in module.modules() if isinstance(norm, EpisodeNorm)]


def called_norms(module: nn.Module, inputs: Tensor) -> list[str]:
    """The names of the `EpisodeNorm`s of a module, in the order in which a call on `inputs` comes to them."""
    order: list[str] = []
    hooks = [
        norm.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, norm in module.named_modules()
        if isinstance(norm, EpisodeNorm)
    ]
    try:
        with torch.no_grad():
            module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return order


def pooled(parts: Iterable[Statistics]) -> Statistics:
    """The statistics of all examples together, from those of batches of equal size.

        mean = mean of the means,  variance = mean of the variances + variance of the means

    >>> [(mean, variance)] = pooled([[(torch.zeros(1), torch.ones(1))], [(torch.ones(1), torch.ones(1))]])
    >>> mean, variance
    (tensor([0.5000]), tensor([1.2500]))
    """
    rows: Sequence[Statistics] = list(parts)
    result: Statistics = []
    for column in zip(*rows, strict=True):
        means = torch.stack([mean for mean, _ in column])
        variances = torch.stack([variance for _, variance in column])
        result.append((means.mean(0), variances.mean(0) + means.var(0, correction=0)))
    return result


def settled(
    module: nn.Module,
    theta: Mapping[str, Tensor],
    statistics: Statistics,
    names: Sequence[str],
    *,
    affine: bool = False,
) -> nn.Module:
    """A copy of an `episodic` module with these parameters, whose norms are torch's with these statistics: a plain
    network, in evaluation mode, that answers each input for itself.

    Args:
        theta: {name: parameter}; what it leaves out stays.
        names: of the norms, in the order of the statistics (`called_norms`).
        affine: norms without a scale and a shift get 1 and 0 for them.

    Raises:
        ShapeError: a norm that is called twice has two statistics, and can keep one.

    >>> module, x = episodic(nn.BatchNorm1d(1)), torch.tensor([[0.0], [2.0]])
    >>> plain = settled(module, {}, [(torch.tensor([1.0]), torch.tensor([1.0]))], called_norms(module, x))
    >>> bool((plain(x) - torch.tensor([[-1.0], [1.0]])).abs().max() < 1e-4)
    True
    """
    if len(set(names)) < len(names) or len(names) != len(statistics):
        raise ShapeError("a norm of the network is called more than once, and can keep one mean and variance only")
    found = copy.deepcopy(module)
    own = dict(found.named_parameters())
    with torch.no_grad():
        for name, value in theta.items():
            own[name].copy_(value)
    for name, (mean, variance) in zip(names, statistics, strict=True):
        norm = found.get_submodule(name)
        assert isinstance(norm, EpisodeNorm)
        plain = norm.kind(norm.channels, eps=norm.eps, affine=affine or norm.weight is not None)
        if norm.weight is not None and norm.bias is not None:
            plain.weight, plain.bias = norm.weight, norm.bias
        assert plain.running_mean is not None and plain.running_var is not None
        plain.running_mean.copy_(mean)
        plain.running_var.copy_(variance)  # evaluation takes it as it is: the population's
        owner, _, key = name.rpartition(".")
        if not name:
            return plain.eval()
        setattr(found.get_submodule(owner), key, plain)
    return found.eval()
