"""What is looked at before a run begins costs little, and finds what building everything would find."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from metanas.api.handed import Handed
from metanas.api.work import prepare
from metanas.network import OPS, supernet
from metanas.network.network import different, infer_shapes
from metanas.recipe import Recipe
from metanas.recipe.spaces import load_space
from metanas.space import NEEDED, Apply, Space, chain, every_step, one_of, op
from metanas.space.derive import resolve


def repeated(kind: str, number: int) -> Space:
    places = ((f"n{k}", one_of(f"n{k}", {kind: op(kind), "skip": op("skip")})) for k in range(number))
    return Space(chain(*places, ("head", op("classifier", width=NEEDED))), "repeated")


def test_an_operation_is_made_twice_however_often_it_stands_in_the_space() -> None:
    """Once for its shape, once for what it is made of; the supernet is built when the search begins."""
    made = []

    def make(op_: Any, shape: Any, phase: Any) -> nn.Module:
        made.append(shape)
        return nn.Conv2d(shape[0], shape[0], 1)

    recipe = Recipe.model_validate({"space": {"name": None}, "search": {"controller": "darts"}})
    prepare(recipe, repeated("mine", 20), None, Handed(ops={**OPS, "mine": make}))
    assert made == [(1, 8, 8)] * 2


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("nasbench201", {"channels": 2, "cells": 1}, (1, 8, 8)),
        ("darts", {"channels": 2, "layers": 3}, (3, 8, 8)),
        ("sequence", {}, (5, 3)),
    ],
)
def test_each_operation_at_each_shape_is_there_once(name: str, options: dict[str, Any], shape: Any) -> None:
    """The same modules as in the supernet, those within a recurrent cell among them, and none of them twice."""
    space = load_space(name, **options)
    program = resolve(space.program, None, 4)
    with torch.device("meta"):
        whole = supernet(space, shape, 4)
        found = list(different(program, infer_shapes(program, [shape], "search", OPS), "search", OPS))
    told = {str(module) for part in found for module in part.modules()}
    inside = {str(module) for module in whole.modules() if not list(module.children())}
    steps = [step for step in every_step(program) if isinstance(step, Apply)]
    assert inside <= told and len({step.op for step in steps}) <= len(found) < len(steps)
