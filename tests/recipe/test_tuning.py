"""Recipes of tunings: defaults, round trips, every mistake at once with its path, what goes with what."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metanas.bilevel import SGD, Adam, AdamW, ConjugateGradient, Estimator, EvolutionStrategies, Neumann, Unrolled
from metanas.data import load_data
from metanas.errors import RecipeError
from metanas.recipe import override, parse_setting, read_toml, read_tuning
from metanas.recipe.shipped import find_recipe, list_recipes
from metanas.recipe.tuning import ChooseRecipe, InnerRecipe, OuterRecipe, RangeRecipe, TuneRecipe
from metanas.recipe.tuning_tables import ESTIMATORS, OPTIMIZERS, make_estimator, make_parts, make_rule

IMPLICIT = ("conjugate_gradient", "neumann", "nystrom", "t1t2")


def problems(data: dict[str, Any]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_tuning(data)
    return list(caught.value.problems)


# What is read


def test_defaults() -> None:
    recipe = read_tuning({})
    assert recipe == TuneRecipe() and recipe.learn.names == ("example_weights", "decay")
    assert (recipe.network.name, recipe.data.source, recipe.outer.estimator) == ("plain", "digits", "unrolled")
    assert recipe.choose.values == {} and recipe.choose.storage is None and recipe.choose.steps is None


def test_what_is_learned_replaces_the_default() -> None:
    assert read_tuning({"learn": {"loss": {}}}).learn.names == ("loss",)
    assert read_tuning({"learn": {}}, more=("mine",)).learn.names == ()


ranges = st.builds(
    lambda low, wide, log: {"low": low, "high": low + wide, "log": log},
    st.floats(1e-3, 0.4), st.floats(1e-3, 0.5), st.booleans(),
)  # fmt: skip
sections = st.fixed_dictionaries({}, optional={
    "example_weights": st.fixed_dictionaries({"start": st.floats(-5, 5)}),
    "decay": st.fixed_dictionaries({"per": st.sampled_from(["all", "layer", "parameter", "feature"])}),
    "rate": st.fixed_dictionaries({"per": st.sampled_from(["all", "layer"])}),
    "label_smoothing": st.fixed_dictionaries({"start": st.floats(0.01, 0.5)}),
    "augmentation": st.fixed_dictionaries({"names": st.lists(st.sampled_from(["shift", "contrast"]), min_size=1)}),
    "loss": st.fixed_dictionaries({"terms": st.integers(1, 4)}),
}).filter(bool)  # fmt: skip
choices = st.fixed_dictionaries({}, optional={
    "inner.lr": ranges,
    "inner.rule": st.just(["sgd", "adam"]),
    "inner.steps": st.just({"low": 1, "high": 9, "whole": True, "log": True}),
    "network.options.width": st.lists(st.integers(1, 99), min_size=2, max_size=3),
})  # fmt: skip


@given(sections, choices, st.integers(0, 2**70), st.sampled_from(["tpe", "random", "gp", "cmaes"]))
def test_any_recipe_round_trips_as_json_and_as_toml(learn: Any, values: Any, seed: int, sampler: str) -> None:
    recipe = read_tuning({
        "network": {"options": {"kind": "linear", "width": 3}, "architecture": {"a": "x", "b": ["y", "z"]}},
        "learn": learn,
        "data": {"wrong_labels": 0.25, "inner": 30},
        "choose": {"values": values, "sampler": sampler, "storage": "sqlite:///\u00e9.db"},
        "seed": seed,
    })  # fmt: skip
    assert read_tuning(recipe.to_json()) == recipe
    text = recipe.to_toml()
    assert text.isascii() and read_tuning(tomllib.loads(text)) == recipe


def test_values_by_dotted_path_and_by_section_are_the_same() -> None:
    flat = {"inner.rule": ["sgd", "adam"], "network.options.width": {"low": 2, "high": 8, "whole": True}}
    nested = {"inner": {"rule": ["sgd", "adam"]}, "network": {"options": {"width": flat["network.options.width"]}}}
    recipe = read_tuning({"choose": {"values": flat}})
    assert recipe.choose.values == {
        "inner.rule": ("sgd", "adam"),
        "network.options.width": RangeRecipe(low=2, high=8, whole=True),
    }
    assert read_tuning({"choose": {"values": nested}}) == recipe
    assert ChooseRecipe(values={"inner": {"rule": ("sgd", "adam")}}).values == {"inner.rule": ("sgd", "adam")}
    settings = [parse_setting("choose.values.inner.rule=['sgd', 'adam']"), parse_setting("choose.trials=3")]
    set_by_path = read_tuning(override({"choose": {"values": {"inner.rule": ["sgd", "adamw"]}}}, dict(settings)))
    assert set_by_path.choose.values == {"inner.rule": ("sgd", "adam")}, "the setting comes last"


# Mistakes


def test_all_mistakes_at_once() -> None:
    wrong = {
        "learn": {"decay": {"per": "layers"}, "decays": {}, "augmentation": {"names": ["shift", "rot"]}},
        "inner": {"rul": "sgd", "momentum": 1.0},
        "outer": {"clip": 0, "lr": float("inf")},
        "network": 3,
        "seed": -1,
        "data": {"wrong_labels": 1.0},
    }
    assert problems(wrong) == [
        "data.wrong_labels: should be less than 1, got 1.0",
        "inner.momentum: should be less than 1, got 1.0",
        'inner.rul: unknown key; did you mean "rule"?',
        "learn.augmentation.names.1: should be 'shift', 'rotation', 'scale', 'shear', 'brightness' or 'contrast', "
        "got 'rot'",
        "learn.decay.per: should be 'all', 'layer', 'parameter' or 'feature', got 'layers'",
        'learn.decays: unknown key; did you mean "decay"?',
        "network: should be a section, got 3",
        "outer.clip: should be greater than 0, got 0",
        "outer.lr: should be a finite number, got inf",
        "seed: should be greater than or equal to 0, got -1",
    ]


LEARNABLE = "example_weights, decay, rate, label_smoothing, augmentation, loss"
NOT_OF_IT = "is not of the tuning itself; choose among network, learn, inner, outer"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"learn": {}}, [f"learn: should name something that is learned: {LEARNABLE}"]),
        ({"learn": {"rate": {"per": "step"}}},
         ["learn.rate.per: 'step' needs a training that begins anew each time; set inner.restart"]),
        ({"learn": {"rate": {"per": "layer and step"}}},
         ["learn.rate.per: 'layer and step' needs a training that begins anew each time; set inner.restart"]),
        ({"inner": {"rule": "adam", "nesterov": True}}, ["inner.nesterov: goes with sgd and a momentum > 0"]),
        ({"inner": {"momentum": 0.0, "nesterov": True}}, ["inner.nesterov: goes with sgd and a momentum > 0"]),
        ({"data": {"augment": ["flip"]}},
         ["data.augment: goes with searches; here augmentation is learned: learn.augmentation"]),
        *[({"learn": {"rate": {}}, "outer": {"estimator": name}},
           [f"learn.rate: {name} looks at the losses alone, which no rate is in; take unrolled or forward"])
          for name in IMPLICIT],
        ({"outer": {"estimator": "finite_difference"}},
         ["inner.steps: finite_difference looks one step ahead; take 1, got 20"]),
        ({"choose": {"values": {"inner.rule": ["sgd"]}}},
         ["choose.values.inner.rule: should list at least two values, got ['sgd']"]),
        ({"choose": {"values": {"inner.lr": {"low": 1.0, "high": 1.0}}}},
         ["choose.values.inner.lr: should have low < high, and low > 0 where log, got 1.0 and 1.0"]),
        ({"choose": {"values": {"inner.lr": {"low": 0.0, "high": 1.0, "log": True}}}},
         ["choose.values.inner.lr: should have low < high, and low > 0 where log, got 0.0 and 1.0"]),
        ({"choose": {"values": {"inner.steps": {"low": 1.2, "high": 2.8, "whole": True}}}},
         ["choose.values.inner.steps: should have low < high, two of them whole numbers, and low > 0 where log, got "
          "1.2 and 2.8"]),
        ({"choose": {"values": {"inner.lr": {"low": float("nan"), "high": 1.0}}}},
         ["choose.values.inner.lr.low: should be a finite number, got nan"]),
        *[({"choose": {"values": {path: [1, 2]}}}, [f"choose.values.{path}: {NOT_OF_IT}"])
          for path in ("seed", "data.inner", "choose.trials", "evaluation.steps", "outer.steps", "threads", "iner.lr")],
        ({"choose": {"values": {"inner.lr": {"low": 1}}}},
         ["choose.values.inner.lr.high: should be there, and is not"]),
        ({"choose": {"values": {"inner.lr": {"lo": 1, "high": 2}}}},
         ['choose.values.inner.lr.lo: unknown key; did you mean "low"?',
          "choose.values.inner.lr.low: should be there, and is not"]),
        ({"choose": {"values": {"inner": {"lr": {"low": 1, "high": 2, "lgo": True}}}}},
         ['choose.values.inner.lr.lgo: unknown key; did you mean "low"?']),
        ({"choose": {"values": {"inner.rule": 3}}},
         ["choose.values.inner.rule: should be a valid tuple or should be a section, got 3"]),
        ({"choose": {"values": 3}}, ["choose.values: should be a section, got 3"]),
        ({"choose": {"values": {"inner": {"rule": ["sgd", [1]]}}}},
         ["choose.values.inner.rule.1: should be a valid boolean or should be a valid integer or should be a valid "
          "number or should be a valid string, got [1]"]),
        ({"choose": {"values": {"inner.rul": ["sgd", "adam"]}}},
         ['choose.values.inner.rul: inner.rul: unknown key; did you mean "rule"?']),
        ({"choose": {"values": {"inner.rule": ["sgd", "adma"]}}},
         ["choose.values.inner.rule: inner.rule: should be 'sgd', 'adam' or 'adamw', got 'adma'"]),
        ({"choose": {"values": {"inner.lr": {"low": -1.0, "high": 1.0}}}},
         ["choose.values.inner.lr: inner.lr: should be greater than 0, got -1.0"]),
        ({"choose": {"values": {"learn.rate.per": ["all", "layer"]}}},
         ["choose.values.learn.rate.per: learn.rate.per: rate is no section but None"]),
        ({"inner": {"nesterov": True, "rule": "adam"}, "learn": {}, "choose": {"values": {"seed": [1]}}},
         [f"learn: should name something that is learned: {LEARNABLE}",
          "inner.nesterov: goes with sgd and a momentum > 0", f"choose.values.seed: {NOT_OF_IT}"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_mistake_is_a_line_with_its_path(data: dict[str, Any], expected: list[str]) -> None:
    assert problems(data) == expected


def test_what_goes_together_is_taken() -> None:
    read_tuning({"learn": {"rate": {"per": "step"}}, "inner": {"restart": True}})
    read_tuning({"inner": {"nesterov": True}})
    read_tuning({"outer": {"estimator": "finite_difference"}, "inner": {"steps": 1}})
    read_tuning({"learn": {"decay": {}}, "choose": {"values": {"learn.decay.per": ["all", "layer"]}}})


# What ships


@pytest.mark.parametrize("name", list_recipes("tuning"))
def test_every_recipe_that_ships_can_be_made(name: str) -> None:
    path, summary = list_recipes("tuning")[name]
    recipe = read_tuning(read_toml(find_recipe("tuning", name)))
    assert find_recipe("tuning", name) == path and summary.endswith(".")
    assert read_tuning(recipe.to_json()) == recipe
    assert isinstance(make_estimator(recipe.outer, recipe.inner.steps), Estimator)
    theta = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    parts = make_parts(recipe, load_data("digits", inner=20, outer=20), theta)
    assert tuple(part.name for part in parts) and {part.name for part in parts} == set(recipe.learn.names)


def test_a_recipe_is_found_by_name_or_by_path(tmp_path: Any) -> None:
    assert find_recipe("tuning", "own.toml").name == "own.toml"
    assert find_recipe("tuning", tmp_path / "x") == tmp_path / "x"
    with pytest.raises(RecipeError, match=r"no tuning recipe named 'clena'; did you mean \"clean\"\?"):
        find_recipe("tuning", "clena")
    with pytest.raises(RecipeError, match=r"allowed: augment, choose, clean, decay, rates"):
        find_recipe("tuning", "zzz")


# The tables


OPTIONS: dict[str, dict[str, Any]] = {
    "conjugate_gradient": {"steps": 7, "damping": 0.1, "tolerance": 1e-3, "stationary": 0.1},
    "evolution": {"samples": 4, "sigma": 0.1, "persistent": True, "horizon": 9, "chunk": 2},
    "finite_difference": {},
    "first_order": {},
    "forward": {},
    "neumann": {"terms": 3, "lr": 0.2, "tolerance": 0.1},
    "nystrom": {"rank": 5, "tolerance": 0.1},
    "t1t2": {"lr": 0.3, "stationary": 0.1},
    "unrolled": {"truncate": 2, "checkpoint": 2},
}


def test_every_estimator_has_options_here() -> None:
    assert set(OPTIONS) == set(ESTIMATORS)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_by_name_with_their_options(name: str) -> None:
    assert isinstance(make_estimator(OuterRecipe(estimator=name), 3), Estimator)
    made = make_estimator(OuterRecipe(estimator=name, options=OPTIONS[name]), 3)
    found = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}  # type: ignore[arg-type]
    assert {key: found[key] for key in OPTIONS[name]} == OPTIONS[name]
    own = "inner_steps" if "inner_steps" in found else "steps"
    assert name == "finite_difference" or found[own] == 3, "the inner steps are the recipe's"


def test_the_types_behind_the_names() -> None:
    def made(name: str) -> Estimator:
        return make_estimator(OuterRecipe(estimator=name), 4)

    assert made("unrolled") == Unrolled(4) and made("evolution") == EvolutionStrategies(4, samples=16)
    assert made("conjugate_gradient") == ConjugateGradient(20, inner_steps=4)
    assert made("t1t2") == Neumann(terms=0, lr=0.1, inner_steps=4)


@pytest.mark.parametrize(
    ("outer", "said"),
    [
        ({"estimator": "unroled"}, "outer.estimator: unknown name 'unroled'; did you mean \"unrolled\"?"),
        ({"options": {"trunkate": 3}}, 'outer.options.trunkate: unrolled has no such option; did you mean "truncate"?'),
        ({"options": {"steps": 3}}, "outer.options.steps: unrolled has no such option"),
        ({"estimator": "neumann", "options": {"inner_steps": 3}}, "outer.options.inner_steps: neumann has no such"),
        ({"options": {"truncate": 0}}, "outer: unrolled cannot be with {'truncate': 0}: truncate must be >= 1"),
        ({"estimator": "t1t2", "options": {"terms": 3}}, "outer: t1t2 cannot be with {'terms': 3}"),
        ({"options": {"truncate": "x"}}, "outer.options.truncate: should be a whole number, got 'x'"),
        ({"options": {"checkpoint": 1.5}}, "outer.options.checkpoint: should be a whole number, got 1.5"),
        ({"estimator": "evolution", "options": {"persistent": "no"}}, "outer.options.persistent: should be true"),
        ({"estimator": "neumann", "options": {"lr": True}}, "outer.options.lr: should be a number, got True"),
    ],
    ids=str,
)
def test_estimators_that_cannot_be(outer: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_estimator(OuterRecipe(**outer), 5)
    assert caught.value.problems[0].startswith(said)


def test_rules_and_optimizers() -> None:
    assert make_rule(InnerRecipe(lr=0.2, momentum=0.5, weight_decay=0.1)) == SGD(0.2, 0.5, 0.1)
    assert make_rule(InnerRecipe(nesterov=True)) == SGD(0.1, 0.9, 0.0, nesterov=True)
    assert make_rule(InnerRecipe(rule="adam", weight_decay=0.1)) == Adam(0.1, weight_decay=0.1)
    assert make_rule(InnerRecipe(rule="adamw", weight_decay=0.1)) == AdamW(0.1, weight_decay=0.1)
    for name, kind in (("adam", torch.optim.Adam), ("sgd", torch.optim.SGD), ("rmsprop", torch.optim.RMSprop)):
        made = OPTIMIZERS[name]([torch.zeros(2, requires_grad=True)], 0.3)
        assert type(made) is kind and made.param_groups[0]["lr"] == 0.3


def test_parts_that_the_data_do_not_go_with() -> None:
    rows = load_data((torch.randn(40, 3), torch.randn(40)), task="regression")
    recipe = read_tuning({"learn": {"loss": {}, "label_smoothing": {}, "augmentation": {}}})
    with pytest.raises(RecipeError) as caught:
        make_parts(recipe, rows, {"weight": torch.zeros(1, 3)})
    assert list(caught.value.problems) == [
        "learn.label_smoothing: needs classes, and the data are a regression",
        "learn.loss: needs classes, and the data are a regression",
        "learn.augmentation: needs images, and an input of the data is (3,)",
    ]


def test_a_rate_for_each_step_has_as_many_as_the_training() -> None:
    data = load_data("digits", inner=20, outer=20)
    recipe = read_tuning({"learn": {"rate": {"per": "step"}}, "inner": {"restart": True, "steps": 7, "lr": 0.5}})
    (part,) = make_parts(recipe, data, {"weight": torch.zeros(2, 3)})
    torch.testing.assert_close(part.start["log"].exp(), torch.full((7,), 0.5))


def test_what_an_estimator_cannot_see_is_found_in_the_recipe() -> None:
    """It would stay where it started, and be reported as learned."""
    with pytest.raises(RecipeError, match="first_order does not look into the inner loss: no decay; take unrolled"):
        read_tuning({"learn": {"decay": {}, "rate": {}}, "outer": {"estimator": "first_order"}})
    assert read_tuning({"learn": {"rate": {}}, "outer": {"estimator": "first_order"}}).learn.names == ("rate",)
    with pytest.raises(RecipeError, match=r"inner\.steps: evolution sees what the inner steps do"):
        read_tuning({"learn": {"decay": {}}, "inner": {"steps": 0}, "outer": {"estimator": "evolution"}})
