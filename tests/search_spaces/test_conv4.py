"""The few-shot network: widths that grow from block to block, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from metanas.errors import SpaceError
from metanas.network import derived
from metanas.recipe.spaces import load_space
from metanas.space import space_from_json, space_to_json


def test_each_block_is_so_much_wider_than_the_one_before(problems: Any) -> None:
    space = problems.shipped("conv4").space(width=4, depth=3, flat=True, grow=2)
    network = derived(space, space.architecture({}), (1, 8, 8), 5, seed=1)
    convs = [tuple(p.shape) for p in network.parameters() if p.dim() == 4]
    assert convs == [(4, 1, 3, 3), (8, 4, 3, 3), (16, 8, 3, 3)]
    assert space_from_json(space_to_json(space)) == space and space.settings["grow"] == 2
    plain = problems.shipped("conv4").space(width=4, depth=3)
    assert "grow" not in plain.settings  # as it was in runs that knew no growth


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 0}, "width, depth and grow must be >= 1, got 0, 4 and 1"),
        ({"grow": 0}, "width, depth and grow must be >= 1, got 64, 4 and 0"),
        (
            {"grow": 2, "search": True},
            "blocks that are searched have one width, as their skips keep it: grow must be 1",
        ),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load_space("conv4", **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)
