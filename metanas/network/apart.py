"""A twin of a supernet in which every cell has choices of its own; see `space.cells`.

twin = apart(network)              shares its modules and parameters with `network`
twin(images, mix=spread(...))      the shared mixing weights, once for every cell
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from metanas.network.fused import FusedNetwork
from metanas.network.network import Network
from metanas.space.cells import Kind, with_own_choices

Value = TypeVar("Value")


def apart(network: Network) -> Network:
    """The twin, by the same executor. It is set by a mix of its own names (`spread`); what is kept of the candidates of
    `network` is kept of its own from then on where it is told (`Network.keep`).

    >>> import torch
    >>> from metanas.network import supernet
    >>> from metanas.space import Space, chain, one_of, op
    >>> pick = one_of("y", {"conv": op("conv", width=2), "skip": op("skip")})
    >>> network = supernet(Space(chain(("a", pick), ("b", pick), ("head", op("classifier", width=2)))), (2, 4, 4), 2)
    >>> [choice.name for choice in apart(network).program.choices]
    ['y@a', 'y@b']
    """
    twin = Network.__new__(Network)
    twin.__dict__ = {**network.plain.__dict__, "program": with_own_choices(network.program)}  # with the very modules
    twin.keep({})
    return network.around(twin) if isinstance(network, FusedNetwork) else twin


def spread(shared: Mapping[str, Value], kinds: Sequence[Kind]) -> dict[str, Value]:
    """What shared choices are set to, under the names of every cell; the rest under its own.

    >>> spread({"y": 1, "z": 2}, [Kind(("a", "b"), ("y",))])
    {'y@a': 1, 'y@b': 1, 'z': 2}
    """
    owners = {choice: kind for kind in kinds for choice in kind.choices}
    names = {choice: owners[choice].own(choice) if choice in owners else (choice,) for choice in shared}
    return {name: value for choice, value in shared.items() for name in names[choice]}
