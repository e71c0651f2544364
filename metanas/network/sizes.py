"""A size that a search chooses, inside a module of the user's own: a whole number that torch takes as it is.

    width = choose.size("width", (8, 16, 32))
    nn.Conv2d(1, width, 3)        nn.BatchNorm2d(width)        nn.Linear(width * 49, 10)

The number is the largest one, and so are the layers that are built with it; each keeps the number that it was given. A
narrower layer is the first features of the widest (once-for-all networks, Cai et al., ICLR 2020, arXiv:1908.09791).
While widths are mixed, all features are computed, and what reads them weighs them:

    W (m * x),   m[c] = sum of the weights of the sizes that have the feature c

which, for weights that sum to 1, is the mixture of what the layer gives at each size, whatever stands between that
works on each feature alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from metanas.errors import SpaceError
from metanas.network.mixing import Mix, Taken, Weight
from metanas.space import Size
from metanas.space.graph import part_of_path


class ChosenSize(int):
    """The largest of the sizes; what is computed from it by +, -, * and // with whole numbers is chosen with it.

    Args:
        choice: the name of the choice.
        options: what is chosen from, growing.
        values: this number at each of them; default: they themselves.

    >>> width = ChosenSize("width", (8, 16))
    >>> width, (2 * width + 1).values, nn.Linear(width, 3).weight.shape
    (16, (17, 33), torch.Size([3, 16]))
    """

    choice: str
    options: tuple[int, ...]
    values: tuple[int, ...]

    def __new__(cls, choice: str, options: tuple[int, ...], values: tuple[int, ...] | None = None) -> ChosenSize:
        found = options if values is None else values
        made = super().__new__(cls, found[-1])
        made.choice, made.options, made.values = choice, options, found
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.choice, self.options, self.values

    def decision(self) -> Size:
        """The choice, in the words of a space."""
        return Size(self.choice, self.options)

    def at(self, taken: Mapping[str, tuple[str, ...]]) -> int:
        """The number where the architecture takes its size."""
        return self.values[self.options.index(int(taken[self.choice][0]))]

    def _computed(self, function: Callable[[int, int], int], other: object, *, turned: bool = False) -> Any:
        if isinstance(other, ChosenSize):
            if (other.choice, other.options) != (self.choice, self.options):
                raise SpaceError(f"sizes {self.choice!r} and {other.choice!r} are combined; compute with one of them")
            others = other.values
        elif isinstance(other, int):
            others = (int(other),) * len(self.values)
        else:
            self._refuse(other)
        pairs = zip(others, self.values, strict=True) if turned else zip(self.values, others, strict=True)
        values = tuple(function(a, b) for a, b in pairs)
        if len(set(values)) == 1:
            return values[0]
        if list(values) != sorted(set(values)) or values[0] < 1:
            raise SpaceError(f"size {self.choice!r} becomes {values}: it must stay >= 1 and grow with the size")
        return ChosenSize(self.choice, self.options, values)

    def _refuse(self, other: object) -> NoReturn:
        raise SpaceError(
            f"size {self.choice!r} is computed with {other!r}; +, -, * and // with whole numbers keep it a size, and "
            "int(size) is its largest as a plain number"
        )

    def __add__(self, other: object) -> Any:
        return self._computed(operator.add, other)

    def __radd__(self, other: object) -> Any:
        return self._computed(operator.add, other, turned=True)

    def __sub__(self, other: object) -> Any:
        return self._computed(operator.sub, other)

    def __rsub__(self, other: object) -> Any:
        return self._computed(operator.sub, other, turned=True)

    def __mul__(self, other: object) -> Any:
        return self._computed(operator.mul, other)

    def __rmul__(self, other: object) -> Any:
        return self._computed(operator.mul, other, turned=True)

    def __floordiv__(self, other: object) -> Any:
        return self._computed(operator.floordiv, other)

    def __rfloordiv__(self, other: object) -> Any:
        return self._computed(operator.floordiv, other, turned=True)

    def __truediv__(self, other: object) -> Any:
        self._refuse(other)

    def __rtruediv__(self, other: object) -> Any:
        self._refuse(other)


def chosen_size(name: str, sizes: tuple[int, ...]) -> ChosenSize:
    """A size to be chosen. Raises SpaceError for a name or sizes that cannot be."""
    part_of_path(name, "choice")
    if not all(isinstance(n, int) and not isinstance(n, bool | ChosenSize) for n in sizes):
        raise SpaceError(f"size {name!r}: values must be whole numbers, got {sizes}")
    return ChosenSize(name, Size(name, sizes).values)


# Layers

LINEAR = {"weight": ("out_features", "in_features"), "bias": ("out_features",)}
CONV = {"weight": ("out_channels", "in_channels"), "bias": ("out_channels",)}
NORM = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), ("num_features",))
RESIZED: Mapping[type[nn.Module], Mapping[str, tuple[str, ...]]] = {
    nn.Linear: LINEAR,
    nn.Conv1d: CONV,
    nn.Conv2d: CONV,
    nn.Conv3d: CONV,
    nn.BatchNorm1d: NORM,
    nn.BatchNorm2d: NORM,
    nn.BatchNorm3d: NORM,
    nn.Embedding: {"weight": ("num_embeddings", "embedding_dim")},
}
"""What can be narrower than built: tensor -> the attribute that says how long each of its first axes is."""

READS: Mapping[type[nn.Module], tuple[str, int]] = {
    nn.Linear: ("in_features", -1),
    nn.Conv1d: ("in_channels", 1),
    nn.Conv2d: ("in_channels", 1),
    nn.Conv3d: ("in_channels", 1),
}
"""What reads all features at once: the attribute that says how many, and their axis in its input."""


def sizes_of(module: nn.Module) -> Iterator[tuple[str, ChosenSize]]:
    """The sizes among the attributes of a module itself, and inside tuples, lists and dicts there."""
    for name, value in vars(module).items():
        yield from ((name, size) for size in _sizes_in(value))


def _sizes_in(value: object) -> Iterator[ChosenSize]:
    if isinstance(value, ChosenSize):
        yield value
    elif isinstance(value, tuple | list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _sizes_in(inner)


def check_layer(path: str, layer: nn.Module) -> None:
    """Refuses a layer that cannot be narrower in the way in which it was built.

    Raises:
        SpaceError: a layer of torch's that is none of `RESIZED`; a kernel, a stride or the like; groups that a slice
            would cut through.
    """
    found = dict(sizes_of(layer))
    kind, where = type(layer), f"{path or 'the module'} ({type(layer).__name__})"
    if not found or not kind.__module__.startswith("torch."):
        return  # what a module of the user's own remembers is a number for it
    choice = next(iter(found.values())).choice
    if kind not in RESIZED:
        allowed = ", ".join(each.__name__ for each in RESIZED)
        raise SpaceError(f"size {choice!r}: {where} cannot be narrower than it is; allowed: {allowed}")
    resized = {name for names in RESIZED[kind].values() for name in names} | {"groups"}
    for name in found.keys() - resized:
        raise SpaceError(f"size {choice!r}: {name} of {where} cannot be a size; choose among layers instead")
    groups = getattr(layer, "groups", 1)
    if groups != 1 and not is_depthwise(layer):
        raise SpaceError(f"size {choice!r}: {where} has {groups} groups, which a slice would cut through; take 1")


def is_depthwise(layer: nn.Module) -> bool:
    """Whether a convolution works on each channel alone, however many there are."""
    rows = [getattr(layer, name, None) for name in ("groups", "in_channels", "out_channels")]
    sizes = [row.values for row in rows if isinstance(row, ChosenSize)]
    return len(sizes) == 3 and len(set(sizes)) == 1


Narrowed = dict[tuple[Tensor, tuple[int, ...]], Tensor]
"""(tensor, its new sizes) -> the new one, so that weights which two layers share are one afterwards."""


@torch.no_grad()
def resize(module: nn.Module, taken: Mapping[str, tuple[str, ...]], done: Narrowed | None = None) -> None:
    """Makes every size of a module the plain number that is taken, and its tensors as large.

    Args:
        done: what was made of tensors before; more is put in.
    """
    found, made = dict(sizes_of(module)), {} if done is None else done
    for name, axes in RESIZED.get(type(module), {}).items() if found else ():
        tensor = getattr(module, name)
        if tensor is not None:
            ends = tuple(_at(getattr(module, axis), taken) for axis in axes)
            if (tensor, ends) not in made:
                part = tensor[tuple(map(slice, ends))].clone()  # a depthwise weight has one input channel
                held = nn.Parameter(part, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part
                made[tensor, ends] = held
            setattr(module, name, made[tensor, ends])
    for name in found:
        setattr(module, name, _plain(getattr(module, name), taken))


def _at(value: int, taken: Mapping[str, tuple[str, ...]]) -> int:
    return value.at(taken) if isinstance(value, ChosenSize) else value


def _plain(value: Any, taken: Mapping[str, tuple[str, ...]]) -> Any:
    if isinstance(value, ChosenSize):
        return value.at(taken)
    if isinstance(value, dict):
        return {key: _plain(inner, taken) for key, inner in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_plain(inner, taken) for inner in value)
    return value


# Mixtures


@dataclass(frozen=True)
class Reading:
    """Goes before a layer that reads features whose number is chosen: those that are not there are zeros for it.

    current: what the choices are set to in the call at hand.
    """

    size: ChosenSize
    axis: int
    current: Callable[[], Mix]

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        weight = self.current().get(self.size.choice)
        if weight is None:
            return inputs
        x, *rest = inputs
        mask = mask_of(self.size, weight, x)
        return (x * mask.view(-1, *[1] * (x.dim() - 1 - self.axis % x.dim())), *rest)


def mask_of(size: ChosenSize, weight: Weight, x: Tensor) -> Tensor:
    """How much of each feature there is, (features,), on the device of `x`.

    >>> mask_of(ChosenSize("width", (1, 2)), torch.tensor([0.25, 0.75]), torch.ones(3, 2))
    tensor([1.0000, 0.7500])
    """
    channel = torch.arange(size.values[-1], device=x.device)
    if isinstance(weight, Taken):
        weight = weight.weights
    if isinstance(weight, Tensor):
        rows = zip(weight.unbind(), size.values, strict=True)
        return torch.stack([w * (channel < value) for w, value in rows]).sum(0)
    if isinstance(weight, int):
        return (channel < size.values[weight]).to(x.dtype)
    raise SpaceError(f"size {size.choice!r} takes one index or weights, got {type(weight).__name__}")
