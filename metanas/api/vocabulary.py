"""Tokens and spaces: a space that embeds tokens has the vocabulary of the data, and no other space takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metanas.data import Data
from metanas.errors import DataError, SpaceError
from metanas.recipe.spaces import describe_space, find_space
from metanas.space import Apply, Space, every_step

OPTION = "vocabulary"


def with_vocabulary(name: str | None, options: Mapping[str, Any], data: Data) -> dict[str, Any]:
    """The options of a space, with the vocabulary of the data where they are tokens and nothing else is said."""
    takes = bool(data.vocabulary) and name is not None and OPTION in describe_space(find_space(name)).options
    return {**({OPTION: data.vocabulary} if takes else {}), **options}


def check_vocabulary(space: Space, data: Data) -> None:
    """Refuses tokens for a space that takes numbers, numbers for one that embeds tokens, and tokens that it has not.

    Raises:
        SpaceError, DataError: with what to do.
    """
    steps = (step for step in every_step(space.program) if isinstance(step, Apply) and step.op.kind == "embedding")
    held = [int(step.op.option(OPTION, 0)) for step in steps]
    if data.vocabulary and not held:
        raise SpaceError(
            f"the data are tokens and {space.name} takes numbers; take sequence or mixers, which embed them with "
            f"vocabulary={data.vocabulary}"
        )
    if held and not data.vocabulary:
        raise DataError(
            f'{space.name} embeds tokens and the data are numbers; load them with inputs="tokens" (data.inputs), or '
            "build the space with vocabulary=0"
        )
    if held and min(held) < data.vocabulary:
        raise SpaceError(
            f"{space.name} has a vocabulary of {min(held)}, the data have {data.vocabulary} tokens; build it with "
            f"vocabulary={data.vocabulary}"
        )
