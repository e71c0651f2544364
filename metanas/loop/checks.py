"""What does not go together in a search by gradients, said in one line before it begins.

perturbed weights    with a controller that runs one candidate of each choice
another estimator    than `ScoreFunction`, with a controller that learns from the value of the loss
a price              with such a controller: it has no gradient that the charge's could join
another controller   that goes on after a guard, of another supernet, or where it would learn omega or a cost
a batch              that the ranks cannot share evenly
"""

from __future__ import annotations

import torch

from metanas.bilevel import Estimator, ScoreFunction
from metanas.controllers import GradientController
from metanas.data import Data
from metanas.errors import SpaceError
from metanas.loop.pricing import Price
from metanas.space import Space


def check_scored(controller: GradientController, estimator: Estimator, price: Price | None) -> None:
    """Refuses what a controller that learns from the value of the loss alone (`scored`) cannot learn from.

    Raises:
        SpaceError: an estimator that is no `ScoreFunction`, or a price, with such a controller.

    >>> from metanas.bilevel import FirstOrder
    >>> from metanas.controllers import Reinforce
    >>> check_scored(Reinforce(), ScoreFunction(0.9), None)
    >>> check_scored(Reinforce(), FirstOrder(), None)
    Traceback (most recent call last):
    metanas.errors.SpaceError: estimator: Reinforce learns from values of the loss; take ScoreFunction, got FirstOrder
    """
    name = type(controller).__name__
    if controller.scored is None:
        return
    if not isinstance(estimator, ScoreFunction):
        got = type(estimator).__name__
        raise SpaceError(f"estimator: {name} learns from values of the loss; take ScoreFunction, got {got}")
    if price is not None:
        raise SpaceError(f"price: {name} learns from values and not from gradients; bound the space in its place")


def check_instead(
    controller: GradientController,
    instead: GradientController | None,
    space: Space,
    price: Price | None = None,
    *,
    shrinks: bool = False,
) -> None:
    """Raises SpaceError where `instead` cannot go on with the supernet of a controller, after a guard.

    >>> from metanas.controllers import Darts, DartsPt, Gdas
    >>> from metanas.space import chain, one_of, op
    >>> space = Space(chain(("y", one_of("y", {"conv": op("conv"), "skip": op("skip")}))))
    >>> check_instead(Darts(), DartsPt(), space)
    >>> check_instead(Gdas(), DartsPt(), space)
    Traceback (most recent call last):
    metanas.errors.SpaceError: instead: the supernet of Gdas is not trained as DartsPt needs it; leave it out
    """
    if instead is None:
        return
    before, after = type(controller).__name__, type(instead).__name__
    if not instead.fixed:
        raise SpaceError(f"instead: {after} learns omega, which would not stay where it begins; take DartsPt")
    if shrinks:
        raise SpaceError(f"instead: {after} would derive what shrink_to has let go of; leave one of them out")
    if price is not None:
        raise SpaceError(f"instead: {after} does not look at the price; leave one of them out")
    alike = instead.supernet_space(space) is controller.supernet_space(space) is space
    rows = [
        {name: x.shape for name, x in c.start(space, generator=torch.Generator()).items()}
        for c in (controller, instead)
    ]
    if not alike or rows[0] != rows[1] or instead.single_path != controller.single_path:
        raise SpaceError(f"instead: the supernet of {before} is not trained as {after} needs it; leave it out")


def check_perturbed(controller: GradientController, perturb: float) -> None:
    """Raises SpaceError where one-hot weights are to be perturbed."""
    if perturb and controller.single_path:
        name = type(controller).__name__
        raise SpaceError(f"perturb: {name} runs one candidate of each choice, which leaves nothing to perturb; take 0")


def check_share(data: Data, batch_size: int, ranks: int) -> None:
    """Raises ValueError for batches of a split that so many ranks cannot share evenly."""
    for name, split in (("inner", data.inner), ("outer", data.outer)):
        size = min(batch_size, len(split))
        if size % ranks:
            raise ValueError(f"batches of {size} ({name} split) cannot be shared evenly by {ranks} ranks")
