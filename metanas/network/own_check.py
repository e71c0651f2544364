"""What can be wrong with a module whose choices are marked, found before anything is trained.

every option alone      the module runs with it
a mixture               candidates give one shape
a few architectures     what the supernet computes for one is what is derived from it
a gradient              torch.func can take it
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from metanas.errors import ShapeError, SpaceError
from metanas.network.held import Held, given_shape, own_derived, own_supernet, shared_weights
from metanas.network.inherit import inherit
from metanas.network.mixing import Mix, Weight
from metanas.network.ops import Shape
from metanas.network.unmarked import unmarked
from metanas.space import Architecture, Space

MOST_OPTIONS = 200
SAMPLES = 2
TOLERANCE = 1e-3
"""Of outputs, relative to the largest. Sums in another order make 1e-6; what is wrong, about 1."""


def default_architecture(space: Space) -> Architecture:
    """What a module does by itself: first candidates, greatest depths and sizes."""
    return _everywhere(space, first=0, size=-1)


def _everywhere(space: Space, *, first: int, size: int) -> Architecture:
    taken = {c.name: (c.options[size if c.ordered else first],) for c in space.choices}
    return space.architecture(space.counting.active(taken))


def check_options(space: Space, module: nn.Module, shape: Shape, outputs: int) -> None:
    """Runs the module as it is by default, and with each other option.

    Raises:
        ShapeError: it does not take the shape, or does not give (outputs,); with the option that is to blame.
    """
    start = default_architecture(space)
    _require(space, module, start, shape, outputs, "")
    for other in islice(space.neighbours(start), MOST_OPTIONS):
        name = next(name for name in start if name in other and other[name] != start[name])
        _require(space, module, other, shape, outputs, f"choice {name!r} at {other[name][0]!r}: ")


def _require(space: Space, module: nn.Module, taken: Architecture, shape: Shape, outputs: int, where: str) -> None:
    try:
        given = given_shape(module, shape, make=lambda copy: unmarked(copy, taken), dtype=torch.float32)
    except ShapeError as error:
        raise ShapeError(f"{where}{error}") from None
    if given != (outputs,):
        raise ShapeError(
            f"{where}{space.name} gives {given} for inputs {tuple(shape)}, the data need ({outputs},); end it with "
            f"nn.Linear(..., {outputs}), or give data that fit"
        )


def check_mixture(space: Space, module: nn.Module, inputs: Tensor) -> None:
    """Runs the supernet on a few examples: a mixture, architectures beside what is derived from it, a gradient.

    Raises:
        ShapeError: candidates give different shapes.
        SpaceError: the supernet computes something else than what is derived, or torch.func cannot differentiate it.
    """
    shape = tuple(inputs.shape[1:])
    network = own_supernet(space, module, shape)
    network.to(inputs.device)
    mix = {c.name: torch.full((len(c.candidates),), 1 / len(c.candidates), device=inputs.device) for c in space.choices}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            network(inputs, mix=mix)
        except SpaceError:
            raise
        except RuntimeError as error:
            raise SpaceError(f"{space.name}: its candidates cannot be mixed ({_line(error)})") from error
        rng = np.random.default_rng(0)
        for taken in (_everywhere(space, first=-1, size=0), *(space.sample(rng) for _ in range(SAMPLES))):
            _compare(space, module, network, taken, inputs)
    _differentiate(space, network, inputs, mix)


def _compare(space: Space, module: nn.Module, network: Held, taken: Architecture, inputs: Tensor) -> None:
    derived = own_derived(space, module, taken, tuple(inputs.shape[1:]), phase="search").to(inputs.device).eval()
    inherit(derived, shared_weights(module, taken, dict(network.named_parameters())))
    alone = derived(inputs)
    if not torch.equal(alone, derived(inputs)):
        return  # it draws random numbers of its own
    apart = float((network(inputs, mix=one_hot(space, taken, inputs)) - alone).abs().max())
    size = float(alone.abs().max())
    if not apart <= TOLERANCE * max(size, torch.finfo(alone.dtype).tiny):
        raise SpaceError(
            f"{space.name} at {taken}: the search would compute something else than what is derived (outputs "
            f"{apart:.1e} apart, the largest is {size:.1e}); where features of a chosen size are averaged, "
            "normalised or joined before others, take a fixed size; where a module changes what comes in "
            "(inplace=True) and that is used again, let it make a copy"
        )


def one_hot(space: Space, taken: Mapping[str, tuple[str, ...]], inputs: Tensor) -> Mix:
    """Mixing weights that are 1 for what is taken and 0 for all else; the first candidate where nothing is."""
    mix: dict[str, Weight] = {}
    for choice in space.choices:
        index = choice.index(taken[choice.name][0]) if choice.name in taken else 0
        mix[choice.name] = torch.eye(len(choice.candidates), device=inputs.device)[index]
    return mix


def _differentiate(space: Space, network: Held, inputs: Tensor, mix: Mix) -> None:
    theta = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        found: Tensor = torch.func.functional_call(network, weights, (inputs,), {"mix": mix})
        return found.square().mean()

    try:
        with torch.random.fork_rng(devices=[]):
            torch.func.grad(loss)(theta)
    except RuntimeError as error:
        raise SpaceError(
            f"{space.name} cannot be differentiated as a function of its weights ({_line(error)}); buffers must not be "
            "written in a search; take a controller by values, or leave that out"
        ) from error


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
