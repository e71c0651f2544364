"""The choices of a space as parameters of a study, which are named once and never change.

    one of n         a category for each option; of ordered sizes a whole number, the place among the options, so that
                     a model knows that sizes have an order
    k of n           a category for each way to take them where there are at most 64, else a number in [0, 1] for each
                     option, of which the k largest are taken
    any subset       yes or no for each option

A choice that does not matter is not asked for. Numbers in the place of a subset are the random keys of Bean, Genetic
algorithms and random keys for sequencing and optimization, ORSA Journal on Computing 6(2), 1994. An architecture has
many such keys: it is written with 1 for what is taken and 0 for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from metanas.space import Choice, Space
from metanas.space.counting import selections, ways

if TYPE_CHECKING:
    import optuna

    Distribution = optuna.distributions.BaseDistribution

MOST_WAYS = 64
"""Ways to take k of n that are listed as categories."""
YES_NO = (False, True)


def parameters(choice: Choice) -> dict[str, Distribution]:
    """The parameters of a choice, by name.

    >>> parameters(Choice("in", ("a", "b", "c"), take=2))
    {'in': CategoricalDistribution(choices=('a+b', 'a+c', 'b+c'))}
    >>> parameters(Choice("width", ("8", "16"), ordered=True))
    {'width': IntDistribution(high=1, log=False, low=0, step=1)}
    """
    return dict(_parameters(choice))  # the cached one is nobody's to change


@lru_cache(maxsize=4096)
def _parameters(choice: Choice) -> dict[str, Distribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if choice.take is None:
        return {f"{choice.name}: {label}": CategoricalDistribution(YES_NO) for label in choice.options}
    if choice.take == 1 and choice.ordered:
        return {choice.name: IntDistribution(0, len(choice.options) - 1)}
    if ways(choice) <= MOST_WAYS or choice.take == 1:
        return {choice.name: CategoricalDistribution(["+".join(labels) for labels in selections(choice)])}
    return {f"{choice.name}: {label}": FloatDistribution(0.0, 1.0) for label in choice.options}


def written(choice: Choice, labels: tuple[str, ...]) -> dict[str, Any]:
    """The values of a choice's parameters for the labels that it takes, in the order of its candidates.

    >>> written(Choice("in", ("a", "b"), take=None), ("b",))
    {'in: a': False, 'in: b': True}
    """
    names = list(parameters(choice))
    if choice.take is None:
        return {name: label in labels for name, label in zip(names, choice.options, strict=True)}
    if choice.take == 1 and choice.ordered:
        return {choice.name: choice.options.index(labels[0])}
    if names == [choice.name]:
        return {choice.name: "+".join(labels)}
    return {name: float(label in labels) for name, label in zip(names, choice.options, strict=True)}


def read(choice: Choice, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels that a choice takes by the values of its parameters; the inverse of `written`.

    >>> read(Choice("in", ("a", "b", "c"), take=2), {"in": "a+c"})
    ('a', 'c')
    """
    names = list(parameters(choice))
    if choice.take is None:
        return tuple(label for name, label in zip(names, choice.options, strict=True) if values[name])
    if choice.take == 1 and choice.ordered:
        return (choice.options[values[choice.name]],)
    if names == [choice.name]:
        return _by_text(choice)[values[choice.name]]
    order = sorted(range(len(names)), key=lambda k: -values[names[k]])[: choice.take]
    return tuple(choice.options[k] for k in sorted(order))


@lru_cache(maxsize=4096)
def _by_text(choice: Choice) -> dict[str, tuple[str, ...]]:
    return {"+".join(labels): labels for labels in selections(choice)}


def mattering(space: Space, taken: Mapping[str, tuple[str, ...]]) -> list[Choice]:
    """The choices that matter after what is taken, and are not taken yet."""
    return [c for c in space.choices if c.name not in taken and space.counting.matters(c.name, taken)]
