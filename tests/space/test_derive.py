"""From a program and an architecture to the program of the derived network: choices, dead branches, widths."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from metanas.errors import SpaceError
from metanas.space import (
    NEEDED,
    Apply,
    Choice,
    Combine,
    Edge,
    Graph,
    Loop,
    Node,
    Program,
    Space,
    chain,
    every_step,
    one_of,
    op,
)
from metanas.space.derive import resolve


def test_only_two_kinds_of_step_and_six_shared_choices(problems):
    program = problems.nasbench201(cells=2).program
    assert {type(step) for step in program.steps} == {Apply, Combine}
    assert len(program.choices) == 6 and not program.conditions


def test_a_derived_program_has_no_choices(known):
    space = known.build()
    program = space.derive(space.sample(np.random.default_rng(1)), known.outputs)
    assert program.choices == () and all(getattr(s, "choice", None) is None for s in every_step(program))
    widths = [s.op.width for s in every_step(program) if isinstance(s, Apply)]
    assert all(w is None or isinstance(w, int) for w in widths)


def test_dead_branches_are_gone(problems):
    space = problems.elastic()
    steps = [len(space.derive({"width": "4", "depth": d}).steps) for d in "123"]
    assert steps == [4, 6, 8] and len(space.program.steps) == 9


def test_one_value_alone_keeps_its_name():
    skip = one_of("y", {"skip": None, "conv": op("conv")})
    space = Space(chain(("stem", op("conv")), ("y", skip), ("head", op("conv"))))
    assert [(s.out, s.source) for s in space.derive({"y": "skip"}).steps] == [("stem", "image"), ("head", "stem")]
    assert [s.out for s in space.derive({"y": "conv"}).steps] == ["stem", "y.conv", "head"]


def test_a_split_shares_the_remainder_out_to_the_first():
    parts = tuple(Edge("x", op("conv", width=NEEDED)) for _ in range(3))
    program = resolve(Space(Graph(("x",), (Node("y", parts, combine="split", width=11),), "y")).program, {})
    assert [s.op.width for s in program.steps if isinstance(s, Apply)] == [4, 4, 3]


def test_needed_is_the_widest_reader():
    """As NAS-Bench-101 has it: a vertex is as wide as the widest vertex that reads it, through pools and narrowings."""
    nodes = (
        Node("a", (Edge("x", op("conv", width=NEEDED)),), body=op("max_pool", kernel=3)),
        Node("b", (Edge("a", op("narrow", width=NEEDED)),), body=op("conv", kernel=3)),
        Node("y", (Edge("a"), Edge("b")), combine="split", width=7),
    )
    program = resolve(Space(Graph(("x",), nodes, "y")).program, {})
    assert {s.out: s.op.width for s in program.steps if isinstance(s, Apply)} == {
        "a.from_x": 4, "a": None, "b.from_a": 3, "b": None,
    }  # fmt: skip
    alone = (*nodes[:2], Node("y", (Edge("b"), Edge("b")), combine="split", width=7))
    program = resolve(Space(Graph(("x",), alone, "y")).program, {})
    assert program.steps[0].op.width == 4  # only a narrowing reads it


def test_nobody_says_how_wide():
    space = Space(chain(("y", op("conv", width=NEEDED))))
    assert space.derive({}, outputs=5).steps[0].op.width == 5
    with pytest.raises(SpaceError, match="y: conv is as wide as its readers need, but none says how wide"):
        space.derive({})


def test_inside_a_loop(problems):
    space = problems.recurrent()
    (loop,) = [s for s in space.derive(space.parse("tanh state sigmoid"), 3).steps if isinstance(s, Loop)]
    names = [s.out for s in loop.program.steps]
    assert "second.from_state" in names and "second.from_first" not in names
    assert loop.program.choices == ()


def test_a_subset_of_none_gives_nothing_to_a_sum():
    ways = Choice("in", ("a",), take=None)
    nodes = (
        Node("y", (Edge("x", op("conv")),), choice=ways),
        Node("z", (Edge("y", op("conv")), Edge("x"))),
    )
    space = Space(Graph(("x",), nodes, "z"))
    assert space.derive({"in": []}) == Program(("x",), (), "x")


def test_choices_matter_only_where_they_are_read(problems):
    space = problems.darts()
    conditions = dict(space.program.conditions)
    assert conditions["normal.3<-1"] == (("normal.3", "1"),)
    assert "normal.3" not in conditions
    ops = [c for c in space.choices if c.take == 1]
    inputs = [c for c in space.choices if c.take == 2]
    assert (len(ops), len(inputs)) == (28, 8)
    assert all(c.never == ("none",) for c in ops)


def test_top_two_can_be_read_from_the_program(problems):
    """DARTS ranks the inputs of a node by the operation choice behind each: the step that made the source knows it."""
    program = problems.darts().program
    made = {s.out: s for s in program.steps}
    behind = {}
    for step in program.steps:
        if isinstance(step, Combine) and step.choice and program.choice(step.choice).take == 2:
            behind.setdefault(step.choice, tuple(made[v].choice for v in step.sources))
    assert behind["reduce.4"] == ("reduce.4<-0", "reduce.4<-1", "reduce.4<-2", "reduce.4<-3")
    assert len(behind) == 8 and sum(map(len, behind.values())) == 28


CHAIN = """
from metanas.space import Choice, Edge, Graph, Node, Space, one_of, op
import numpy as np

def act(name):
    return one_of(name, {k: op("activation", activation=k) for k in ("relu", "tanh")})

nodes = (
    Node("b1", (Edge("x", act("a1")),)),
    Node("b2", (Edge("b1", act("a2")),)),
    Node("out", (Edge("b1"), Edge("b2")), choice=Choice("d", ("1", "2"))),
)
space = Space(Graph(("x",), nodes, "out"))
print(space.program.conditions, space.size, [str(space.sample(np.random.default_rng(k))) for k in range(3)])
"""


def test_conditions_and_draws_are_the_same_in_every_process():
    """Sets of strings have another order in each process."""
    said = {
        subprocess.run(
            [sys.executable, "-c", CHAIN], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": str(k)}
        ).stdout
        for k in range(6)
    }
    assert len(said) == 1 and said.pop().startswith("(('a2', (('d', '2'),)),) 6 ")
