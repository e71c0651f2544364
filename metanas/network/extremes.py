"""Every choice's options from the smallest to the largest: the smallest and the largest architecture of a supernet.

An ordered choice (a width, a depth) has its order. The options of another one are sorted by the parameters of what runs
where they are taken and not whatever is, as kernels of 3, 5 and 7; those with as many, as in the choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from metanas.errors import SpaceError
from metanas.network.network import Network, module_name
from metanas.space import Apply
from metanas.space.needs import Pair, needs

Sizes = dict[str, tuple[int, ...]]
"""Choice of one -> its options, by their places among the candidates, the smallest first."""


def by_size(network: Network) -> Sizes:
    """The options of all choices of one, by size. What is inside a loop counts nothing.

    Raises:
        SpaceError: the network has no choice of one; one of its values is needed in too many ways (`space.needs`).

    >>> from metanas.network import supernet
    >>> from metanas.space import Space, chain, one_of, op
    >>> pick = one_of("y", {"wide": op("conv", width=2, kernel=5), "skip": op("skip"), "narrow": op("conv", width=2)})
    >>> by_size(supernet(Space(chain(("y", pick), ("head", op("classifier", width=2)))), (2, 4, 4), 2))
    {'y': (1, 2, 0)}
    """
    program = network.program
    single = [choice for choice in program.choices if choice.take == 1]
    if not single:
        raise SpaceError("the network has no choice of one of n, so there is no smallest and no largest; add one")
    weight = _parameters(network)
    found: Sizes = {}
    for choice in single:
        places = [choice.index(label) for label in choice.options]
        if not choice.ordered:
            places.sort(key=lambda place, choice=choice: weight[choice.name, choice.candidates[place]])  # type: ignore[misc]  # mypy sees no type of the bound `choice`
        found[choice.name] = tuple(places)
    return found


def _parameters(network: Network) -> Counter[Pair]:
    """(choice, label) -> parameters of the operations that are needed on account of that, at least together with what
    other choices take."""
    found: Counter[Pair] = Counter()
    terms = needs(network.program)
    for step in network.program.steps:
        if isinstance(step, Apply) and terms[step.out]:
            module = network.get_submodule(module_name(step.out))
            count = sum(p.numel() for p in module.parameters())
            found.update(dict.fromkeys(frozenset.union(*terms[step.out]), count))
    return found


def extreme(sizes: Sizes, kept: Mapping[str, tuple[int, ...]], *, largest: bool) -> dict[str, int]:
    """The largest or the smallest architecture as a mix: choice -> the place of what it takes.

    Args:
        kept: of choices that have lost candidates, those that are left.

    >>> extreme({"y": (1, 2, 0)}, {}, largest=True), extreme({"y": (1, 2, 0)}, {"y": (1, 2)}, largest=True)
    ({'y': 0}, {'y': 2})
    """
    left = {name: [place for place in places if place in kept.get(name, places)] for name, places in sizes.items()}
    return {name: places[-1 if largest else 0] for name, places in left.items()}
