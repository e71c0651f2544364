"""From a module with marks and an architecture to the module that one would have written by hand.

    a choice of modules      the one that is taken
    a depth                  nn.Sequential of so many
    a choice of inputs       a module of torch.fx that takes the list
    a size                   layers as wide, with the first features of the widest; plain numbers elsewhere

What is left knows nothing of metanas: its classes are torch's and the user's own, and so are the names of its weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

from torch import nn

from metanas.network.marks import Mark
from metanas.network.sizes import Narrowed, resize

Labels = Mapping[str, tuple[str, ...]]
"""What is taken, by choice (an `Architecture`)."""


def unmarked(module: nn.Module, taken: Labels) -> nn.Module:
    """A copy of the module with every choice decided, and its weights.

    Args:
        taken: of every choice that matters.

    >>> from metanas.network.marks import choose
    >>> module = nn.Sequential(choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()}), choose.optional("last", nn.ELU()))
    >>> unmarked(module, {"act": ("tanh",), "last": ("off",)})
    Sequential(
      (0): Tanh()
      (1): Identity()
    )
    """
    return _decided(copy.deepcopy(module), taken, {}, {})


def _decided(module: nn.Module, taken: Labels, done: dict[nn.Module, nn.Module], narrowed: Narrowed) -> nn.Module:
    """The module itself, changed; another one in place of a mark. `done`: what stands for what was met before."""
    if module not in done:
        if isinstance(module, Mark):
            done[module] = _decided(module.plain(taken[module.choice.name][0]), taken, done, narrowed)
        else:
            done[module] = module
            resize(module, taken, narrowed)
            for name, child in list(module._modules.items()):
                if child is not None:
                    module._modules[name] = _decided(child, taken, done, narrowed)
    return done[module]


def names_in(module: nn.Module, taken: Labels, prefix: str = "") -> dict[str, str]:
    """Where the tensors of `unmarked(module, taken)` are in the module: {name there: name here}, each with `prefix`.

    >>> from metanas.network.marks import choose
    >>> names_in(nn.Sequential(choose("y", {"wide": nn.Linear(1, 2, bias=False)})), {"y": ("wide",)})
    {'0.weight': '0.wide.weight'}
    """
    return dict(_pairs(module, taken, prefix, prefix))


def _pairs(module: nn.Module, taken: Labels, there: str, here: str) -> Iterator[tuple[str, str]]:
    if isinstance(module, Mark):
        for new, old in module.kept(taken[module.choice.name][0]).items():
            yield from _pairs(module.get_submodule(old), taken, f"{there}{new}." if new else there, f"{here}{old}.")
        return
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None:
            yield there + name, here + name
    for name, child in module._modules.items():
        if child is not None:
            yield from _pairs(child, taken, f"{there}{name}.", f"{here}{name}.")
