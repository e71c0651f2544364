"""Recipes: round trips, overrides, and every mistake at once with its path."""

from __future__ import annotations

import string
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metanas.errors import MetanasError, RecipeError
from metanas.recipe import Recipe, override, parse_setting, read, read_toml

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
positive = st.floats(1e-12, 1e6)
options = st.dictionaries(
    words, st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | words
)
sizes = st.none() | st.integers(1, 10**9) | st.floats(1e-6, 1, exclude_max=True)
epochs = st.integers(2, 1000)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    training = {"epochs": draw(epochs), "lr": draw(positive), "momentum": draw(st.floats(0, 0.999))}
    return read(
        {
            "space": {"name": draw(words), "options": draw(options)},
            "data": {
                "source": draw(words),
                "inner": draw(sizes),
                "augment": draw(st.none() | st.lists(words, max_size=3)),
            },
            "search": {
                **training,
                "warmup": draw(st.none() | st.integers(0, training["epochs"] - 1)),
                "controller": draw(words),
                "options": draw(options),
                "order": draw(st.sampled_from(["advance", "outer"])),
            },
            "evaluation": {**training, "random": draw(st.integers(0, 9)), "space": draw(options)},
            "seed": draw(st.integers(0, 2**70)),
            "device": draw(st.sampled_from(["auto", "cpu", "cuda", "mps"])),
            "threads": draw(st.none() | st.integers(1, 64)),
            "checkpoint_seconds": draw(st.floats(0, 1e6)),
        }
    )


@given(recipes())
def test_any_recipe_round_trips_as_json_and_as_toml(recipe: Recipe) -> None:
    assert read(recipe.to_json()) == recipe
    text = recipe.to_toml()
    assert text.isascii() and "\x1b" not in text
    assert read(tomllib.loads(text)) == recipe


def problems(data: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(data)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"serch": {}}, ['serch: unknown key; did you mean "search"?']),
        ({"search": {"lrr": 1}}, ['search.lrr: unknown key; did you mean "lr"?']),
        (
            {"data": {"qqq": 1}},
            ["data.qqq: unknown key; allowed: source, inner, outer, test, augment, size, target, drop, task, inputs"],
        ),
        ({"search": 3}, ["search: should be a section, got 3"]),
        ({"space": 3}, ["space: should be a section, got 3"]),
        ({"space": {"options": 3}}, ["space.options: should be a section, got 3"]),
        ({"search": {"epochs": "3"}}, ["search.epochs: should be a valid integer, got '3'"]),
        ({"search": {"epochs": 3.0}}, ["search.epochs: should be a valid integer, got 3.0"]),
        ({"search": {"epochs": True}}, ["search.epochs: should be a valid integer, got True"]),
        ({"search": {"lr": 0}}, ["search.lr: should be greater than 0, got 0"]),
        ({"search": {"lr": float("nan")}}, ["search.lr: should be a finite number, got nan"]),
        ({"search": {"momentum": 1.0}}, ["search.momentum: should be less than 1, got 1.0"]),
        ({"search": {"order": "x"}}, ["search.order: should be 'advance' or 'outer', got 'x'"]),
        ({"search": {"options": {"lr": [1]}}}, ["search.options.lr: should be a valid boolean or should be a valid "
                                               "integer or should be a valid number or should be a valid string, "
                                               "got [1]"]),
        ({"search": {"options": {"lr": float("inf")}}}, ["search.options.lr: should be a valid boolean or should be a "
                                                        "valid integer or should be a finite number or should be a "
                                                        "valid string, got inf"]),
        ({"data": {"inner": 1.5}}, ["data.inner: should be a valid integer or should be less than 1, got 1.5"]),
        ({"data": {"inner": 0}}, ["data.inner: should be greater than 0, got 0"]),
        ({"data": {"augment": ["flip", 3]}}, ["data.augment.1: should be a valid string, got 3"]),
        ({"seed": -1}, ["seed: should be greater than or equal to 0, got -1"]),
        ({"threads": 0}, ["threads: should be greater than or equal to 1, got 0"]),
        ({"device": "gpu"}, ["device: should be 'auto', 'cpu', 'cuda' or 'mps', got 'gpu'"]),
        ({"search": {"epochs": 3, "warmup": 3}}, ["search.warmup: should be below search.epochs, which is 3, got 3"]),
        ({"search": {"refine": [{"candidates": 5, "epohcs": 1}]}},
         ["search.refine.0.epochs: should be there, and is not",
          'search.refine.0.epohcs: unknown key; did you mean "epochs"?']),
        ({"search": {"refine": [{"candidates": 5, "epochs": 1}, 3]}}, ["search.refine.1: should be a section, got 3"]),
        ({"search": {"refine": [{"candidates": 1, "epochs": 1}, {"candidates": 2, "epochs": 1}]}},
         ["search.refine: every round should take at most as many candidates as the one before, got [1, 2]"]),
        ({"evaluation": {"epochs": 2, "warmup": 5}}, ["evaluation.warmup: should be below evaluation.epochs, which is "
                                                      "2, got 5"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_mistake_is_a_line_with_its_path(data: dict[str, Any], expected: list[str]) -> None:
    assert problems(data) == expected


def test_all_mistakes_at_once() -> None:
    found = problems({"serch": {}, "seed": -1, "search": {"epochs": 0, "lr": "x", "epohcs": 3}, "data": {"inner": -1}})
    assert [line.partition(":")[0] for line in found] == [
        "data.inner", "search.epochs", "search.epohcs", "search.lr", "seed", "serch",
    ]  # fmt: skip


keys = st.sampled_from([*Recipe.model_fields, "epochs", "options", "name", "refine", "candidates"]) | words


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)


@given(st.dictionaries(keys, st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | words, nested)))
def test_any_data_is_a_recipe_or_a_recipe_error(data: Any) -> None:
    try:
        read(data)
    except RecipeError as error:
        assert error.problems and all(": " in problem for problem in error.problems)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the recipe is empty"),
        (b"# nothing\n", "the recipe is empty"),
        (b"a = ", "not TOML"),
        (b"\xff", "not TOML"),
        (b"a = " + b"[" * 100_000, "not TOML"),
        (b"seed = 1\nseed = 2", "not TOML"),
    ],
    ids=["empty", "comment", "torn", "bytes", "deep", "twice"],
)
def test_files_that_are_no_recipes(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=said):
        read_toml(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no\.toml: No such file or directory; give the path of a TOML file"):
        read_toml(tmp_path / "no.toml")


def test_what_is_left_out_has_its_default() -> None:
    recipe = read({"search": {"epochs": 7}, "space": {"options": {"channels": 2}}})
    assert recipe.search.epochs == 7 and recipe.search.lr == Recipe().search.lr
    assert recipe.space.options == {"channels": 2, "cells": 1}
    assert read({"space": {"name": "darts"}}).space.options == {}, "another space has its own options"


def test_the_usual_warmup_follows_the_epochs() -> None:
    assert [read({"search": {"epochs": n}}).search.warmup_epochs for n in (1, 3, 6, 30)] == [0, 0, 1, 5]


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 3


def test_override_copies_and_makes_sections() -> None:
    data = {"search": {"options": {"lr": 1}}}
    assert override(data, {"search.options.anchor": 2, "data.inner": 5}) == {
        "search": {"options": {"lr": 1, "anchor": 2}},
        "data": {"inner": 5},
    }
    assert data == {"search": {"options": {"lr": 1}}}


def test_override_through_a_value_says_every_path() -> None:
    with pytest.raises(RecipeError) as caught:
        override({"seed": 1, "search": {"epochs": 3}}, {"seed.x": 1, "search.epochs.y": 2})
    assert caught.value.problems == ("seed.x: seed is no section but 1", "search.epochs.y: epochs is no section but 3")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1.5", 1.5), ("true", True), ("a word", "a word"), ("'1'", "1"), ("[1, 2]", [1, 2]), ("", ""),
     ("darts", "darts"), ("a=b", "a=b"), ("nan-file.npz", "nan-file.npz"), ("1\ny = 2", "1\ny = 2")],
)  # fmt: skip
def test_settings(text: str, value: object) -> None:
    path, found = parse_setting(f" search.x ={text}")
    assert (path, found) == ("search.x", value) and type(found) is type(value)


@pytest.mark.parametrize("text", ["", "search.lr", "=3", " = 3"])
def test_settings_without_a_path_or_a_value(text: str) -> None:
    with pytest.raises(RecipeError, match=r"expected path=value, as in search\.epochs=50"):
        parse_setting(text)


@given(st.text(string.printable + "\x00\x1bäß‮", max_size=40))
def test_any_setting_is_read_or_refused(text: str) -> None:
    try:
        path, _ = parse_setting(text)
    except MetanasError:
        return
    assert path
