"""Partial channels: the same choices on fewer channels."""

from __future__ import annotations

import pytest

from metanas.errors import SpaceError
from metanas.space import (
    Apply,
    Choice,
    Edge,
    Graph,
    Node,
    Size,
    Space,
    chain,
    one_of,
    op,
    partial_channels,
    space_from_json,
    space_to_json,
)


def conv(width: int, **more: object) -> object:
    return op("preact_conv", width=width, kernel=3, activation="relu", norm="batch_cell", **more)


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_the_choices_are_the_same(problems, name):
    space = getattr(problems, name)()
    partial = partial_channels(space, of=2)
    assert partial.choices == space.choices and partial.graph != space.graph
    assert partial.size == space.size and partial.skips == space.skips and partial.nothings == space.nothings
    assert space_from_json(space_to_json(partial)) == partial


def test_candidates_are_as_narrow_as_a_part_and_the_rest_is_pooled_with_their_stride():
    contents = {
        "none": op("none", width=8, stride=2),
        "pool": op("max_pool", kernel=3, stride=2),
        "conv": conv(8, stride=2),
    }
    space = Space(chain(("stem", op("conv", width=8)), ("y", one_of("y", contents, never=("none",)))))
    partial = partial_channels(space, of=4)
    made = {step.out: step.op for step in partial.program.steps if isinstance(step, Apply)}
    assert {name: (o.kind, o.width, o.stride) for name, o in made.items()} == {
        "stem": ("conv", 8, 1),
        "y.part": ("narrow", 2, 1),
        "y.rest": ("rest", 6, 2),
        "y.mixed.none": ("none", 2, 2),
        "y.mixed.pool": ("max_pool", None, 2),
        "y.mixed.conv": ("preact_conv", 2, 2),
        "y.whole": ("shuffle", None, 1),
    }
    assert partial.choices == space.choices


def test_choices_of_other_kinds_stay_and_those_inside_of_graphs_are_found():
    deep = {"conv": conv(8), "skip": op("skip")}
    inside = chain(("a", one_of("deep", deep)), inputs=("x",))
    sizes = one_of("sizes", {"thin": op("elastic_conv", width=Size("w", (2, 4))), "wide": op("elastic_conv", width=4)})
    pools = one_of("pools", {"max": op("max_pool", kernel=3), "avg": op("avg_pool", kernel=3)})
    nodes = (
        Node("s", (Edge("image", op("conv", width=8)),)),
        Node("g", (Edge("s", one_of("outer", {"cell": inside, "skip": op("skip")})),)),
        Node("i", (Edge("s"), Edge("g")), choice=Choice("inputs", ("s", "g"))),
        Node("z", (Edge("i", sizes),), body=pools),
    )
    partial = partial_channels(Space(Graph(("image",), nodes, "z")), of=4)
    narrow = [step.out for step in partial.program.steps if isinstance(step, Apply) and step.op.kind == "narrow"]
    assert narrow == ["g.cell.a.part"]


@pytest.mark.parametrize(
    ("width", "of", "message"),
    [
        (6, 4, "choice 'y': 6 channels are not 4 equal parts"),
        (8, 1, "1 of 2 or more parts"),
        (None, 4, "no choice among"),
    ],
)
def test_what_cannot_be(width, of, message):
    contents = {"conv": conv(width), "skip": op("skip")}
    space = Space(chain(("stem", op("conv", width=8)), ("y", one_of("y", contents))))
    with pytest.raises(SpaceError, match=message) as caught:
        partial_channels(space, of=of)
    assert "\n" not in str(caught.value)
