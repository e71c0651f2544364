"""The space of a module: its choices, what depends on what, its text, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from torch import nn

from metanas.errors import SpaceError
from metanas.network import choose, space_of
from metanas.space import draw_space, space_from_json, space_to_json


def test_every_mark_is_a_choice(problems) -> None:
    space = space_of(problems.marked())
    assert space.name == "Marked" and space.size == problems.marked_size()
    rows = {c.name: (c.candidates, c.ordered) for c in space.choices}
    assert rows == {
        "width": (("3", "5"), True),
        "act": (("relu", "sigmoid"), False),
        "kernel0": (("1x1", "3x3", "depthwise"), False),
        "kernel1": (("1x1", "3x3", "depthwise"), False),
        "depth": (("1", "2"), True),
        "extra": (("on", "off"), False),
        "pool": (("avg", "max"), False),
        "skip": (("early", "late"), False),
    }
    conditions = dict(space.program.conditions)
    assert conditions == {"kernel1": (("depth", "2"),), "pool": (("extra", "on"),)}


def test_the_space_is_read_without_the_module(problems) -> None:
    space = space_of(problems.marked(), "mine")
    text = json.dumps(space_to_json(space), allow_nan=False)
    again = space_from_json(json.loads(text))
    assert again == space and again.size == space.size
    assert "blocks = blocks_0 + blocks_1  (1 of 2: depth)" in draw_space(again)
    assert "extra = blocks --[extra: on | off]" in draw_space(again)


def test_weights_are_no_part_of_a_space(problems) -> None:
    assert space_of(problems.marked(0)) == space_of(problems.marked(1))


def test_one_name_in_two_places_is_one_choice() -> None:
    pair = nn.Sequential(choose("act", [nn.ReLU(), nn.Tanh()]), choose("act", [nn.ELU(), nn.GELU()]))
    assert space_of(pair).size == 2
    alone = choose("act", [nn.ReLU(), nn.Tanh()])
    assert space_of(nn.Sequential(alone, alone)).size == 2


def test_a_choice_matters_where_one_of_its_places_does() -> None:
    """In two candidates, and in one of them beside a place that is always there."""
    inner = [choose("act", [nn.ReLU(), nn.Tanh()]) for _ in range(3)]
    outer = choose("y", {"a": inner[0], "b": inner[1], "c": nn.Identity()})
    assert space_of(nn.Sequential(outer)).size == 2 + 2 + 1
    assert space_of(nn.Sequential(outer, inner[2])).size == 3 * 2


def test_a_choice_deep_inside_candidates() -> None:
    deep = choose(
        "y", {"a": choose("z", {"b": choose.repeat("d", (0, 1), [nn.ReLU()]), "c": nn.ReLU()}), "e": nn.ReLU()}
    )
    space = space_of(deep)
    assert space.size == 2 + 1 + 1
    assert dict(space.program.conditions) == {"z": (("y", "a"),), "d": (("z", "b"),)}


def test_a_width_inside_a_candidate_matters_with_it() -> None:
    width = choose.size("width", (2, 4, 8))
    wide = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 3))
    assert space_of(choose("y", {"wide": wide, "skip": nn.Identity()})).size == 3 + 1


def test_never_is_kept() -> None:
    space = space_of(choose("y", {"a": nn.ReLU(), "b": nn.Tanh(), "zero": nn.Identity()}, never=["zero"]))
    assert space.size == 2 and space.choices[0].never == ("zero",)


TWICE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "candidates": (
        lambda: nn.Sequential(choose("y", {"a": nn.ReLU(), "b": nn.Tanh()}), choose("y", {"a": nn.ReLU()})),
        "choice 'y' is used twice with different options: a, b (in 0) and a (in 1); give one of them another name",
    ),
    "sizes": (
        lambda: nn.Sequential(nn.Linear(2, choose.size("n", (1, 2))), nn.Linear(2, choose.size("n", (2, 3)))),
        "choice 'n' is used twice with different options: 1, 2 (in 0) and 2, 3 (in 1); give one of them another name",
    ),
    "a size and modules": (
        lambda: nn.Sequential(nn.Linear(2, choose.size("n", (1, 2))), choose("n", [nn.ReLU(), nn.Tanh()])),
        "choice 'n' is used twice with different options: 1, 2 (in 0) and 0, 1 (in 1); give one of them another name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
def test_a_choice_twice_with_different_options_is_refused(name: str) -> None:
    make, message = TWICE[name]
    with pytest.raises(SpaceError) as caught:
        space_of(make())
    assert str(caught.value) == message


def test_no_marks_and_no_module_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"^Linear has no choices; mark some with metanas.choose, or give a space$"):
        space_of(nn.Linear(2, 2))
    with pytest.raises(SpaceError, match=r"space_of takes a module, got str; give an nn\.Module with marks"):
        space_of("nasbench201")  # type: ignore[arg-type]
