"""Choices marked inside any `nn.Module` of the user's: what stands in place of a module, until it is decided.

    self.conv   = choose("conv", {"3x3": nn.Conv2d(8, 8, 3, padding=1), "5x5": nn.Conv2d(8, 8, 5, padding=2)})
    self.extra  = choose.optional("extra", block)                     # the block, or what comes in as it is
    self.blocks = choose.repeat("depth", (1, 2, 4), make_block)       # so many of them, one after another
    self.skip   = choose.inputs("skip", 3)                            # self.skip([a, b, c]): one of them
    width       = choose.size("width", (8, 16, 32)); nn.Linear(width, 10)

A mark is a module like any other. Called by itself it does what is decided by default: the first candidate, the first
inputs, the greatest depth and size. Inside a supernet's call it does what the mix of that call says (`mixed`), which is
gone when the call is over. Where an architecture is taken it is replaced by plain torch (`unmarked`).
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
import torch.fx
from torch import Tensor, nn

from metanas.errors import ShapeError, SpaceError
from metanas.network.mixing import Mix, Taken, Weight, straight_through
from metanas.network.sizes import ChosenSize, chosen_size
from metanas.space import Choice
from metanas.space.graph import part_of_path

Join = Literal["sum", "mean", "concat"]
JOINS = ("sum", "mean", "concat")
MOST_COMBINATIONS = 64

_MIX: ContextVar[Mix] = ContextVar("mix")


def current() -> Mix:
    """What the choices are set to in the supernet's call at hand; empty outside of one."""
    return _MIX.get({})


@contextmanager
def mixed(mix: Mix) -> Iterator[None]:
    """Sets the choices inside the block, in this thread alone."""
    token = _MIX.set(mix)
    try:
        yield
    finally:
        _MIX.reset(token)


class Mark(nn.Module, ABC):
    """A choice in place of a module. `choice`: what is decided; the same name in two places is one decision."""

    choice: Choice

    @property
    @abstractmethod
    def default(self) -> int:
        """The candidate that is taken where nothing is said."""

    @abstractmethod
    def plain(self, label: str) -> nn.Module:
        """What stands here where `label` is taken, made of the modules inside."""

    @abstractmethod
    def kept(self, label: str) -> dict[str, str]:
        """Where these modules are: path in what `plain` gives -> path in this mark."""

    def decided(self) -> Weight:
        """What this call takes."""
        return current().get(self.choice.name, self.default)

    def mixture(self, weights: Tensor, values: Sequence[Tensor]) -> Tensor:
        """The weighted sum of what the candidates give. ShapeError where they differ in shape."""
        labels = self.choice.candidates
        for label, value in zip(labels, values, strict=True):
            if not isinstance(value, Tensor):
                raise ShapeError(f"{self} gives a {type(value).__name__} for {label!r}; only tensors can be mixed")
            if value.shape != values[0].shape:
                first, other = (f"{n!r} gives {tuple(x.shape)}" for n, x in ((labels[0], values[0]), (label, value)))
                raise ShapeError(f"{self}: {first} and {other}; to be mixed they must have one shape")
        total = weights[0] * values[0]
        for w, x in zip(weights.unbind()[1:], values[1:], strict=True):
            total = torch.addcmul(total, x, w)
        return total

    def __str__(self) -> str:
        return f"choice {self.choice.name!r}"


class ChosenModule(Mark):
    """One of several modules; made by `choose`."""

    def __init__(self, name: str, candidates: Mapping[str, nn.Module], never: tuple[str, ...]) -> None:
        super().__init__()
        self.choice = Choice(name, tuple(candidates), never=never)
        self.names = {label: _free(label) for label in candidates}
        for label, module in candidates.items():
            self.add_module(self.names[label], module)

    @property
    def default(self) -> int:
        return self.choice.index(self.choice.options[0])

    def plain(self, label: str) -> nn.Module:
        return self.get_submodule(self.names[label])

    def kept(self, label: str) -> dict[str, str]:
        return {"": self.names[label]}

    def forward(self, *inputs: Any, **arguments: Any) -> Any:
        def run(label: str) -> Any:
            return self._modules[self.names[label]](*inputs, **arguments)  # type: ignore[misc]  # a candidate is there

        match self.decided():
            case int(index):
                return run(self.choice.candidates[index])
            case Taken(index, weights):
                return straight_through(Taken(index, weights), run(self.choice.candidates[index]))
            case Tensor() as weights:
                return self.mixture(weights, [run(label) for label in self.choice.candidates])
        raise SpaceError(f"{self} takes one index or weights, got {self.decided()!r}")


class ChosenDepth(Mark):
    """So many of a row of modules, one after another; made by `choose.repeat`."""

    def __init__(self, name: str, depths: tuple[int, ...], blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.choice, self.depths = Choice(name, tuple(map(str, depths)), ordered=True), depths
        for k, block in enumerate(blocks):
            self.add_module(str(k), block)

    @property
    def default(self) -> int:
        return len(self.depths) - 1

    def plain(self, label: str) -> nn.Module:
        return nn.Sequential(*list(self.children_in_row())[: int(label)])

    def kept(self, label: str) -> dict[str, str]:
        return {str(k): str(k) for k in range(int(label))}

    def children_in_row(self) -> Iterator[nn.Module]:
        """The blocks, also where one of them stands twice."""
        return (self.get_submodule(str(k)) for k in range(self.depths[-1]))

    def forward(self, x: Any) -> Any:
        match self.decided():
            case int(index):
                return self._values(x, self.depths[index])[-1]
            case Taken(index, weights):
                return straight_through(Taken(index, weights), self._values(x, self.depths[index])[-1])
            case Tensor() as weights:
                values = self._values(x, self.depths[-1])
                return self.mixture(weights, [values[depth] for depth in self.depths])
        raise SpaceError(f"{self} takes one index or weights, got {self.decided()!r}")

    def _values(self, x: Any, depth: int) -> list[Any]:
        """What comes in, and what each block gives."""
        values = [x]
        for block in itertools.islice(self.children_in_row(), depth):
            values.append(block(values[-1]))
        return values


class ChosenInputs(Mark):
    """One of several inputs, or several of them joined; made by `choose.inputs`. It is called with a list."""

    def __init__(self, name: str, labels: tuple[str, ...], take: int, join: Join) -> None:
        super().__init__()
        self.labels, self.take, self.join = labels, take, join
        self.rows = list(itertools.combinations(range(len(labels)), take))
        self.choice = Choice(name, tuple("+".join(labels[k] for k in row) for row in self.rows))

    @property
    def default(self) -> int:
        return 0

    def plain(self, label: str) -> nn.Module:
        return _joining(self.rows[self.choice.index(label)], self.join)

    def kept(self, label: str) -> dict[str, str]:
        return {}

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        if len(values) != len(self.labels):
            raise ShapeError(f"{self} is among {len(self.labels)} inputs, got {len(values)}; give a list of them all")

        def run(index: int) -> Tensor:
            return joined([values[k] for k in self.rows[index]], self.join)

        match self.decided():
            case int(index):
                return run(index)
            case Taken(index, weights):
                return straight_through(Taken(index, weights), run(index))
            case Tensor() as weights:
                return self.mixture(weights, [run(k) for k in range(len(self.rows))])
        raise SpaceError(f"{self} takes one index or weights, got {self.decided()!r}")


def joined(values: Sequence[Tensor], join: Join) -> Tensor:
    """Values as one; concatenated along the channels."""
    if len(values) == 1:
        return values[0]
    if join == "concat":
        return torch.cat(list(values), 1)
    total = values[0] + values[1]
    for value in values[2:]:
        total = total + value
    return total / len(values) if join == "mean" else total


def _joining(row: Sequence[int], join: Join) -> nn.Module:
    """A module of torch's own that takes a list and joins some of it; without annotations, which it cannot pickle."""
    graph = torch.fx.Tracer().trace(lambda values: joined([values[k] for k in row], join))
    return torch.fx.GraphModule(nn.Module(), graph, "Inputs")


def _free(label: str) -> str:
    """The name of a candidate's module: torch allows none that a module has already."""
    return f"{label}_" if hasattr(ChosenModule, label) or label in ("training", "choice", "names") else label


class Choose:
    """Marks choices; called itself, among modules. There is one of it, `metanas.choose`."""

    def __call__(
        self,
        name: str,
        candidates: Mapping[str, nn.Module] | Sequence[nn.Module],
        *,
        never: str | Iterable[str] = (),
    ) -> ChosenModule:
        """One of several modules, which must give the same shapes where they are mixed.

        Args:
            name: of the choice, without '.' and '/'; the same name in two places is one decision.
            candidates: label -> module, or modules, whose labels are then "0", "1", ... The first one that may be
                derived is what runs where nothing is decided.
            never: labels that take part in a mixture, and are never derived.

        Raises:
            SpaceError: a name that cannot be, no candidate, one that is no module.

        >>> conv = choose("conv", {"double": nn.Linear(2, 2), "skip": nn.Identity()})
        >>> conv.choice.candidates, conv(torch.ones(1, 2)).shape
        (('double', 'skip'), torch.Size([1, 2]))
        """
        part_of_path(name, "choice")
        named: dict[str, Any] = {}
        if isinstance(candidates, Mapping | nn.ModuleDict):
            named = dict(candidates.items())
        elif isinstance(candidates, Iterable):
            named = {str(k): module for k, module in enumerate(candidates)}
        else:
            raise SpaceError(f"choice {name!r}: give label -> module, or modules, got a {type(candidates).__name__}")
        for label, module in named.items():
            part_of_path(label, f"choice {name!r}: candidate")
            if not isinstance(module, nn.Module):
                got = f"the class {module.__name__}" if isinstance(module, type) else f"{module!r:.40}"
                raise SpaceError(f"choice {name!r}: candidate {label!r} must be a module, got {got}; give an nn.Module")
        return ChosenModule(name, named, (never,) if isinstance(never, str) else tuple(never))

    def optional(self, name: str, module: nn.Module) -> ChosenModule:
        """A module, or what comes in as it is: the choice of "on" and "off", on where nothing is decided.

        >>> choose.optional("act", nn.ReLU())(-torch.ones(1))
        tensor([0.])
        """
        return self(name, {"on": module, "off": nn.Identity()})

    def repeat(
        self, name: str, depths: Iterable[int], blocks: Callable[[int], nn.Module] | Sequence[nn.Module]
    ) -> ChosenDepth:
        """So many modules one after another, each from one value to one of the same shape.

        Args:
            depths: growing; 0 leaves all of them out. Where nothing is decided it is the greatest.
            blocks: k -> the module at place k, from 0; or as many modules as the greatest depth. Choices inside that
                have one name are one decision; `f"conv{k}"` makes each block's its own.

        >>> deep = choose.repeat("depth", (1, 2), lambda k: nn.Linear(2, 2))
        >>> deep.choice.candidates, deep.plain("2")
        (('1', '2'), Sequential(
          (0): Linear(in_features=2, out_features=2, bias=True)
          (1): Linear(in_features=2, out_features=2, bias=True)
        ))
        """
        part_of_path(name, "choice")
        if not isinstance(depths, Iterable):
            raise SpaceError(f"choice {name!r}: depths must be whole numbers >= 0 that grow, as (1, 2), got {depths!r}")
        found = tuple(depths)
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in found)
        if not whole or not found or list(found) != sorted(set(found)) or found[0] < 0 or found[-1] < 1:
            raise SpaceError(f"choice {name!r}: depths must be whole numbers >= 0 that grow, got {found}")
        if isinstance(blocks, nn.Module) and not isinstance(blocks, nn.ModuleList | nn.Sequential):
            kind = type(blocks).__name__
            raise SpaceError(
                f"choice {name!r}: blocks must be modules or k -> module, got one {kind}; give lambda k: ..."
            )
        made = list(blocks) if isinstance(blocks, Iterable) else [blocks(k) for k in range(found[-1])]
        if len(made) != found[-1]:
            raise SpaceError(f"choice {name!r}: {len(made)} blocks for depths up to {found[-1]}; give {found[-1]}")
        for k, block in enumerate(made):
            if not isinstance(block, nn.Module):
                raise SpaceError(f"choice {name!r}: block {k} must be a module, got {block!r:.40}")
        return ChosenDepth(name, found, made)

    def inputs(self, name: str, among: int | Sequence[str], *, take: int = 1, join: Join = "sum") -> ChosenInputs:
        """One of several tensors, or `take` of them joined; called with a list of all.

        Args:
            among: how many there are, or what they are called.
            take: how many are taken; each combination is a candidate, so that all controllers can mix them.
            join: "sum", "mean", or "concat" (along axis 1), where more than one is taken.

        >>> choose.inputs("skip", 3, take=2)([torch.ones(1), torch.ones(1), torch.zeros(1)])
        tensor([2.])
        """
        part_of_path(name, "choice")
        if isinstance(among, bool) or not isinstance(among, int | Iterable):
            raise SpaceError(f"choice {name!r}: among says how many inputs there are, or their names, got {among!r}")
        labels = tuple(map(str, range(among))) if isinstance(among, int) else tuple(among)
        for label in labels:
            part_of_path(label, f"choice {name!r}: input")
        if len(set(labels)) < len(labels):
            raise SpaceError(f"choice {name!r} names an input twice: {', '.join(labels)}")
        if not isinstance(take, int) or not 1 <= take <= len(labels):
            raise SpaceError(f"choice {name!r} takes {take} of {len(labels)} inputs; allowed: 1 to {len(labels)}")
        if join not in JOINS:
            raise SpaceError(f"choice {name!r}: join={join!r}; allowed: {', '.join(JOINS)}")
        if math.comb(len(labels), take) > MOST_COMBINATIONS:
            raise SpaceError(
                f"choice {name!r}: {math.comb(len(labels), take)} ways to take {take} of {len(labels)} inputs, at most "
                f"{MOST_COMBINATIONS}; take fewer"
            )
        return ChosenInputs(name, labels, take, join)

    def size(self, name: str, values: Iterable[int]) -> ChosenSize:
        """A number of features or channels that torch's layers take as it is; it is the largest one.

        Args:
            values: growing; a layer's narrower forms are its first features.

        >>> width = choose.size("width", (8, 16))
        >>> nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1))[0].weight.shape
        torch.Size([16, 2])
        """
        if not isinstance(values, Iterable):
            raise SpaceError(f"size {name!r}: values must be whole numbers that grow, as (8, 16), got {values!r}")
        return chosen_size(name, tuple(values))


choose = Choose()
