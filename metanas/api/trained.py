"""What a recipe's search trains the weights on beside the task's loss: aligned cells, or the sandwich rule."""

from __future__ import annotations

from collections.abc import Callable

from metanas.bilevel import Bilevel
from metanas.data import Task
from metanas.data.task import REGRESSION, squared_error
from metanas.errors import RecipeError
from metanas.loop import PLAIN, Alignment, Sandwich, Trained
from metanas.modes import meta_network, sandwich, soft_cross_entropy
from metanas.network import Network, apart
from metanas.recipe import Recipe
from metanas.space import Space, kinds_of


def trained_for(recipe: Recipe, network: Network, task: Task, over: Callable[[Bilevel], Bilevel]) -> Trained:
    """What the recipe asks for.

    Args:
        network: the supernet.
        over: a problem -> the one over all ranks.
    """
    section, precision = recipe.search, recipe.precision
    if section.align:
        twin = apart(network)
        loss = over(meta_network(twin, loss=task.loss, precision=precision)).inner_loss
        assert loss is not None  # a search trains weights
        return Alignment(twin, loss, kinds_of(network.program), section.align, section.align_epsilon)
    if section.sandwich:
        soft = squared_error if task.name == REGRESSION.name else soft_cross_entropy
        taught = sandwich(network, loss=task.loss, soft=soft, precision=precision)
        loss = over(Bilevel(taught, taught)).inner_loss
        assert loss is not None  # it was just given
        return Sandwich(loss, section.sandwich)
    return PLAIN


def check_cells(recipe: Recipe, space: Space) -> None:
    """Raises RecipeError where cells are to be aligned and the space has none that share a choice."""
    if recipe.search.align and not kinds_of(space.program):
        raise RecipeError([f"search.align: no two cells of {space.name} share a choice; take 0"])
