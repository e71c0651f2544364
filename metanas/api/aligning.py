"""The alignment of a recipe's search (Lambda-DARTS): which cells there are, and what their loss is."""

from __future__ import annotations

from collections.abc import Callable

from metanas.bilevel import Bilevel
from metanas.errors import RecipeError
from metanas.loop import Alignment
from metanas.network import Network, apart
from metanas.recipe import SearchRecipe
from metanas.space import Space, kinds_of


def alignment_for(
    section: SearchRecipe, network: Network, problem_of: Callable[[Network], Bilevel]
) -> Alignment | None:
    """What the recipe asks for; None where it asks for none.

    Args:
        network: the supernet.
        problem_of: a supernet -> the problem of its search.
    """
    if not section.align:
        return None
    twin = apart(network)
    loss = problem_of(twin).inner_loss
    assert loss is not None  # a search trains weights
    return Alignment(twin, loss, kinds_of(network.program), section.align, section.align_epsilon)


def check_cells(section: SearchRecipe, space: Space) -> None:
    """Raises RecipeError where cells are to be aligned and the space has none that share a choice."""
    if section.align and not kinds_of(space.program):
        raise RecipeError([f"search.align: no two cells of {space.name} share a choice; take 0"])
