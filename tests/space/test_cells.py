"""Which cells share which choices, and that with choices of their own they compute the same graph."""

from __future__ import annotations

import pytest

import metanas
from metanas.space import Combine, Graph, Size, Space, chain, kinds_of, one_of, op
from metanas.space.cells import Kind, with_own_choices


def pick(name: str):
    return one_of(name, {"conv": op("conv", width=2), "skip": op("skip")})


def cell(*names: str) -> Graph:
    return chain(*((f"n{k}", pick(name)) for k, name in enumerate(names)), inputs=("x",))


def kinds(*parts) -> tuple[Kind, ...]:
    return kinds_of(Space(chain(*parts, ("head", op("classifier", width=2)))).program)


@pytest.mark.parametrize("layers, normal, reduce", [(8, "013467", "25"), (4, "03", "12"), (3, None, "12")])
def test_darts_has_normal_and_reduction_cells(layers, normal, reduce):
    found = kinds_of(metanas.load_space("darts", layers=layers).program)
    wanted = {tuple(f"cell{k}" for k in cells) for cells in (normal, reduce) if cells}
    assert {kind.cells for kind in found} == wanted
    for kind in found:
        (name,) = {choice.split(".")[0] for choice in kind.choices}
        assert name == ("reduce" if kind.cells[0] == f"cell{reduce[0]}" else "normal") and len(kind.choices) == 18


def test_cells_are_found_where_they_stand():
    stages = [(f"stage{k}", chain(("a", cell("y", "z")), ("b", cell("y", "z")), inputs=("in",))) for k in range(2)]
    (one,) = kinds(stages[0])
    assert one == Kind(("stage0.a", "stage0.b"), ("y", "z"))  # inside the only node that has any
    (two,) = kinds(*stages)
    assert two == Kind(("stage0", "stage1"), ("y", "z"))  # the outermost graph
    (twice,) = kinds(("a", cell("m", "m")), ("b", cell("m", "m")))
    assert twice == Kind(("a", "b"), ("m",))
    assert kinds(("a", pick("y")), ("b", pick("z"))) == ()


def test_a_choice_of_a_size_is_no_cells_own():
    width = Size("w", (1, 2))
    parts = [(name, op("conv", width=width)) for name in ("a", "b")]
    assert kinds(*parts) == ()


@pytest.mark.parametrize("name", ["nasbench201", "darts", "hierarchical"])
def test_the_same_graph_under_other_names(name):
    program = metanas.load_space(name).program
    own = with_own_choices(program)
    shared = {own: choice for kind in kinds_of(program) for choice in kind.choices for own in kind.own(choice)}
    assert [c.name for c in own.choices] and {c.name for c in own.choices} == set(shared)
    for before, after in zip(program.steps, own.steps, strict=True):
        if isinstance(after, Combine) and after.choice:
            assert shared[after.choice] == before.choice
            assert program.choice(before.choice).candidates == own.choice(after.choice).candidates
            assert before.out.startswith(after.choice.split("@")[1] + ".")
        else:
            assert before == after
    assert (kinds_of(own) == ()) == (name != "hierarchical")  # whose motifs stand in a cell more than once
