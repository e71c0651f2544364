"""A network to try things on: what runs there leaves no trace in the one that it was made of."""

from __future__ import annotations

import copy

from metanas.network.network import Network, module_name
from metanas.space import Apply


def trial_of(network: Network, own: frozenset[str]) -> Network:
    """A copy in all that a pass may write to; what cannot be written to is shared, since copying it takes long.

    Args:
        own: kinds of operation that are metanas's own. Where they have no buffers, their modules are shared, and so are
            their parameters: the trial takes gradients and steps nothing.

    >>> from metanas.network import supernet
    >>> from metanas.space import Space, chain, op
    >>> network = supernet(Space(chain(("a", op("conv", width=2)), ("mine", op("skip")))), (1, 2, 2), 1)
    >>> trial = trial_of(network, frozenset({"conv"}))
    >>> trial.get_submodule("a") is network.get_submodule("a"), trial.mine is network.mine
    (True, False)
    """
    program = network.program
    shared: list[object] = [program, network.shapes, network.zeros, network.last_read]
    for step in program.steps:
        if isinstance(step, Apply) and step.op.kind in own:
            module = network.get_submodule(module_name(step.out))
            if next(module.buffers(), None) is None:
                shared.append(module)
    return copy.deepcopy(network, {id(each): each for each in shared})
