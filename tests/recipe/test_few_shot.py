"""Recipes of few-shot runs: defaults, round trips, every mistake with its path, what goes with what, the learners."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from metanas.bilevel import SGD, Adam, ConjugateGradient, FirstOrder, Reptile, Unrolled
from metanas.data import load_classes
from metanas.errors import RecipeError
from metanas.modes import FewShot, softmax_structure
from metanas.network import supernet
from metanas.recipe import FewShotRecipe, override, parse_setting, read_few_shot, read_toml
from metanas.recipe.few_shot import COMPARES, LearnerRecipe
from metanas.recipe.few_shot_tables import LEARNERS, make_class_data, make_learner
from metanas.recipe.shipped import find_recipe, list_recipes
from metanas.recipe.spaces import load_space

ADAPTING = tuple(name for name in LEARNERS if name not in COMPARES)


def problems(data: dict[str, Any]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_few_shot(data)
    return list(caught.value.problems)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


# What is read


def test_defaults() -> None:
    recipe = read_few_shot({})
    assert recipe == FewShotRecipe() and recipe.learner.name == "prototypical" and recipe.learner.options == {}
    assert (recipe.network.name, recipe.network.embedding, recipe.data.source) == ("conv4", 64, "digits")
    assert (recipe.structure.mode, recipe.episodes.ways, recipe.evaluation.ways) == ("fixed", 5, 5)


wanted = st.one_of(st.integers(0, 99), st.floats(0.01, 0.99), st.lists(st.text(max_size=3), min_size=1, max_size=2))
options = st.fixed_dictionaries(
    {}, optional={"steps": st.integers(1, 9), "lr": st.floats(0.01, 1), "norms": st.just("queries")}
)


@given(st.sampled_from(ADAPTING), options, wanted, st.integers(2, 60), st.integers(0, 2**70), st.floats(0, 1))
def test_any_recipe_round_trips_as_json_and_as_toml(
    name: str, given_options: Any, test: Any, ways: int, seed: int, within: float
) -> None:
    recipe = read_few_shot({
        "network": {"options": {"width": 3}, "architecture": {"a": "x", "b": ["y", "z"]}, "embedding": 7},
        "data": {"source": "omni\u00e9.npz", "test": test, "rotations": True, "drop": ["a", "b"]},
        "learner": {"name": name, "options": given_options},
        "episodes": {"ways": ways, "within": within, "affine": 0.5},
        "evaluation": {"ways": ways},
        "seed": seed,
    })  # fmt: skip
    assert read_few_shot(recipe.to_json()) == recipe
    text = recipe.to_toml()
    assert text.isascii() and read_few_shot(tomllib.loads(text)) == recipe


def test_settings_by_dotted_path() -> None:
    texts = ("learner.options.lr=0.2", "episodes.tasks=3", "structure.mode=shared", "data.test=['7', '8']")
    settings = dict(parse_setting(text) for text in texts)
    recipe = read_few_shot(override({"learner": {"name": "maml", "options": {"steps": 2}}}, settings))
    assert recipe.learner.options == {"steps": 2, "lr": 0.2} and recipe.episodes.tasks == 3
    assert recipe.structure.mode == "shared" and recipe.data.test == ("7", "8")


# Mistakes


def test_all_mistakes_at_once() -> None:
    wrong = {
        "learner": {"nmae": "maml", "options": {"lr": [1]}},
        "episodes": {"ways": 1, "shots": 0, "within": 1.5, "affine": -0.1, "taks": 3},
        "evaluation": {"every": "often", "episodes": 0},
        "structure": {"mode": "share", "gain": 0},
        "outer": {"clip": 0, "lr": float("inf"), "optimizer": "adm"},
        "data": {"rotations": 1, "test": 1.5},
        "network": 3,
        "seed": -1,
        "sead": 2,
    }
    found = problems(wrong)
    assert found == sorted(found) and len(found) == 19
    for line in (
        'learner.nmae: unknown key; did you mean "name"?',
        "episodes.ways: should be greater than or equal to 2, got 1",
        "episodes.shots: should be greater than or equal to 1, got 0",
        "episodes.within: should be less than or equal to 1, got 1.5",
        "episodes.affine: should be greater than or equal to 0, got -0.1",
        'episodes.taks: unknown key; did you mean "tasks"?',
        "evaluation.every: should be a valid integer, got 'often'",
        "structure.mode: should be 'fixed', 'shared' or 'adapts', got 'share'",
        "structure.gain: should be greater than 0, got 0",
        "outer.clip: should be greater than 0, got 0",
        "outer.lr: should be a finite number, got inf",
        "data.rotations: should be a valid boolean, got 1",
        "network: should be a section, got 3",
        "seed: should be greater than or equal to 0, got -1",
        'sead: unknown key; did you mean "seed"?',
    ):
        assert line in found, (line, found)


SEARCHED = {"structure": {"mode": "shared"}}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        *[({"learner": {"name": name}, "episodes": {"ways": 7}},
           [f"episodes.ways: {name} has one output for each class, so it is tested with the ways that it is trained "
            "with; make it evaluation.ways, which is 5, got 7"]) for name in ADAPTING],
        ({"structure": {"mode": "adapts"}},
         ["structure.mode: nothing adapts inside a task of prototypical; take shared, or maml"]),
        ({"learner": {"name": "reptile"}, **SEARCHED},
         ["structure.mode: reptile sees only where a task starts; take adapts, or another learner"]),
        ({"learner": {"name": "zero_shot"}, **SEARCHED}, ["structure.mode: zero_shot learns no structure; take fixed"]),
        ({**SEARCHED, "network": {"architecture": {"a": "x"}}},
         ["network.architecture: is what the structure is learned for; leave it out, or take structure.mode fixed"]),
        ({"learner": {"name": "maml"}, "evaluation": {"ways": 3}, **SEARCHED, "network": {"architecture": {"a": "x"}}},
         ["episodes.ways: maml has one output for each class, so it is tested with the ways that it is trained with; "
          "make it evaluation.ways, which is 3, got 5",
          "network.architecture: is what the structure is learned for; leave it out, or take structure.mode fixed"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_contradiction_is_a_line_with_its_path(data: dict[str, Any], expected: list[str]) -> None:
    assert problems(data) == expected


def test_what_goes_together_is_taken() -> None:
    read_few_shot({"episodes": {"ways": 20}, "evaluation": {"ways": 5}})
    read_few_shot({"learner": {"name": "reptile"}, "structure": {"mode": "adapts"}})
    read_few_shot({"learner": {"name": "maml"}, "structure": {"mode": "adapts"}})
    read_few_shot(SEARCHED)


# What ships


@pytest.mark.parametrize("name", list_recipes("few-shot"))
def test_every_recipe_that_ships_can_be_made(name: str) -> None:
    path, summary = list_recipes("few-shot")[name]
    recipe = read_few_shot(read_toml(find_recipe("few-shot", name)))
    assert find_recipe("few-shot", name) == path and len(summary) > 20
    assert read_few_shot(recipe.to_json()) == recipe and read_few_shot(tomllib.loads(recipe.to_toml())) == recipe
    assert isinstance(make_learner(recipe.learner, net(), described=4, outputs=3), FewShot)
    load_space(recipe.network.name or "", **recipe.network.options)


def test_a_recipe_is_found_by_name_or_by_path() -> None:
    assert find_recipe("few-shot", "own.toml").name == "own.toml"
    with pytest.raises(RecipeError, match=r"no few-shot recipe named 'mamml'; did you mean \"maml\"\?"):
        find_recipe("few-shot", "mamml")
    with pytest.raises(RecipeError, match="no few-shot recipe named 'clean'"):
        find_recipe("few-shot", "clean")


# The table of learners


OPTIONS: dict[str, dict[str, Any]] = {
    "anil": {"steps": 2, "lr": 0.3, "head": "0", "norms": "queries"},
    "fomaml": {"steps": 3, "lr": 1, "hold": 0.5},
    "imaml": {"steps": 3, "lr": 0.2, "hold": 3, "solves": 2},
    "maml": {"steps": 3, "lr": 0.2, "norms": "queries", "hold": 0.1},
    "meta_sgd": {"steps": 2, "lr": 0.2},
    "prototypical": {"loss": "turns"},
    "reptile": {"steps": 3, "lr": 0.01},
    "zero_shot": {},
}


def test_every_learner_has_options_here() -> None:
    assert set(OPTIONS) == set(LEARNERS)


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_by_name_with_their_options(name: str) -> None:
    assert isinstance(make_learner(LearnerRecipe(name=name), net(), described=4, outputs=3), FewShot)
    made = make_learner(LearnerRecipe(name=name, options=OPTIONS[name]), net(), described=4, outputs=3)
    assert made.steps == OPTIONS[name].get("steps", 0)
    assert {"weights"} <= set(made.outer)


def test_the_estimators_and_rules_behind_the_names() -> None:
    def made(name: str) -> FewShot:
        return make_learner(LearnerRecipe(name=name, options=OPTIONS[name]), net())

    assert made("maml").estimator == Unrolled(3) and made("maml").problem.rule == SGD(0.2)
    assert made("anil").estimator == Unrolled(2) and made("fomaml").estimator == FirstOrder(3)
    assert made("imaml").estimator == ConjugateGradient(2, inner_steps=3)
    assert made("reptile").estimator == Reptile(3) and made("reptile").problem.rule == Adam(0.01, betas=(0.0, 0.999))
    assert made("prototypical").estimator == FirstOrder() and made("prototypical").pooled
    anil = make_learner(LearnerRecipe(name="anil"), net())
    assert list(anil.problem.start({}, anil.outer, None)["weights"]) == ["3.weight", "3.bias"]


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        ({"name": "mamml"}, "learner.name: unknown name 'mamml'; did you mean \"maml\"?"),
        ({"name": "maml", "options": {"stepz": 1}}, 'learner.options.stepz: maml has no such option; did you mean "st'),
        ({"name": "maml", "options": {"solves": 1}}, "learner.options.solves: maml has no such option"),
        ({"name": "maml", "options": {"structure": "x"}}, "learner.options.structure: maml has no such option"),
        ({"name": "maml", "options": {"adapts": "x"}}, "learner.options.adapts: maml has no such option"),
        ({"name": "maml", "options": {"parts": "x"}}, "learner.options.parts: maml has no such option"),
        ({"name": "zero_shot", "options": {"describer": "x"}}, "learner.options.describer: zero_shot has no such opt"),
        ({"name": "prototypical", "options": {"norms": "queries"}}, "learner.options.norms: prototypical has no such"),
        ({"name": "maml", "options": {"steps": 1.5}}, "learner.options.steps: should be like 5, got 1.5"),
        ({"name": "maml", "options": {"steps": True}}, "learner.options.steps: should be like 5, got True"),
        ({"name": "maml", "options": {"lr": "x"}}, "learner.options.lr: should be like 0.4, got 'x'"),
        ({"name": "anil", "options": {"head": 3}}, "learner.options.head: should be like None, got 3"),
        ({"name": "anil", "options": {"head": "9"}}, "learner: anil cannot be with {'head': '9'}: nothing adapts; the"),
        ({"name": "maml", "options": {"lr": 0.0}}, "learner: maml cannot be with {'lr': 0.0}: lr must be > 0"),
        ({"name": "maml", "options": {"steps": -1}}, "learner: maml cannot be with {'steps': -1}: steps must be >= 0"),
        ({"name": "maml", "options": {"norms": "all"}}, "learner: maml cannot be with {'norms': 'all'}: norms must be"),
        (
            {"name": "prototypical", "options": {"loss": "turn"}},
            "learner: prototypical cannot be with {'loss': 'turn'}",
        ),
        ({"name": "zero_shot"}, "learner: zero_shot learns from descriptions, and there are none"),
    ],
    ids=str,
)
def test_learners_that_cannot_be(learner: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_learner(LearnerRecipe(**learner), net())
    assert caught.value.problems[0].startswith(said) and len(caught.value.problems) == 1


def test_several_wrong_options_are_several_lines() -> None:
    with pytest.raises(RecipeError) as caught:
        make_learner(LearnerRecipe(name="maml", options={"stepz": 1, "lr": "x", "hodl": 0.1}), net())
    assert [line.partition(":")[0] for line in caught.value.problems] == [
        "learner.options.stepz", "learner.options.lr", "learner.options.hodl",
    ]  # fmt: skip


def test_a_structure_goes_with_every_learner_that_has_a_place_for_it() -> None:
    space = load_space("conv4", width=2, depth=2, search=True)
    choices = {c.name: len(c.candidates) for c in space.choices}
    for name in LEARNERS:
        if name != "zero_shot":
            made = make_learner(LearnerRecipe(name=name), supernet(space, (1, 8, 8), 3), softmax_structure(choices))
            assert set(made.outer["structure"]) == set(choices) and made.mixes


# The data


def test_the_data_of_a_recipe() -> None:
    recipe = read_few_shot({"data": {"train": 5, "validation": 2, "test": ["7", "8", "9"], "rotations": True}})
    data = make_class_data(recipe)
    assert data.sizes == {"train": 20, "validation": 8, "test": 12} and data.name == "digits"
    assert {name.partition("@")[0] for name in data.test.names} == {"7", "8", "9"}
    assert make_class_data(recipe, data) is data, "what is split already is taken as it is"
    own = (np.random.default_rng(0).random((40, 1, 4, 4), dtype=np.float32), torch.arange(40) % 8)
    found = make_class_data(read_few_shot({"data": {"source": None, "test": 2}}), own)
    assert found.shape == (1, 4, 4) and found.sizes["test"] == 2
    splits = [make_class_data(read_few_shot({"seed": seed})).test.names for seed in range(4)]
    assert splits[0] == load_classes("digits", seed=0).test.names and len(set(splits)) > 1
