"""The literal tables: every name makes its thing, and a wrong one gets the nearest."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from metanas.controllers import Darts, DrNas, RandomSearch
from metanas.data import Crop, Cutout, Flip
from metanas.errors import DataError, RecipeError
from metanas.loop import Decided, EigenvalueGrowth, SkipShare
from metanas.recipe import Recipe, read
from metanas.recipe import tables as t
from metanas.recipe.tables import CONTROLLERS, ESTIMATORS
from metanas.recipe.value_tables import VALUE_CONTROLLERS

KNOWN = ", ".join(CONTROLLERS)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_controllers_by_name_and_back(name: str) -> None:
    controller = t.make_controller(name, {})
    assert type(controller) is CONTROLLERS[name]
    assert t.controller_name(controller) == (name, {})


@pytest.mark.parametrize("name", CONTROLLERS)
def test_what_needs_no_gradient_is_in_the_table_that_needs_no_torch(name: str) -> None:
    assert (name in VALUE_CONTROLLERS) == (t.make_controller(name, {}).needs != "gradient")


def test_options_of_a_controller() -> None:
    assert t.make_controller("darts", {"lr": 1}) == Darts(lr=1)
    assert t.controller_name(DrNas(lr=0.5, anchor=0.0)) == ("drnas", {"lr": 0.5, "anchor": 0.0})
    assert t.controller_name(DrNas(betas=(0.1, 0.2))) is None, "a recipe holds no pairs: it is handed over"


def test_a_controller_of_the_users_own_has_no_name() -> None:
    class Mine(RandomSearch):
        pass

    assert t.controller_name(Mine()) is None


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_by_name(name: str) -> None:
    assert t.make_estimator(name)


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({"controller": "drnaz"}, ["search.controller: unknown name 'drnaz'; did you mean \"drnas\"?"]),
        ({"controller": "x"}, ["search.controller: unknown name 'x'; allowed: " + KNOWN]),
        ({"estimator": "first-order"}, ["search.estimator: unknown name 'first-order'; did you mean \"first_order\"?"]),
        ({"options": {"anchr": 1}}, ['search.options.anchr: drnas has no such option; did you mean "anchor"?']),
        ({"options": {"lr": "1"}}, ["search.options.lr: expected a number, got '1'"]),
        ({"options": {"lr": True}}, ["search.options.lr: expected a number, got True"]),
        ({"controller": "random", "options": {"lr": 1}}, ["search.options.lr: random has no such option; allowed: "]),
        ({"controller": "x", "estimator": "y"}, ["search.controller: unknown name 'x'; allowed: " + KNOWN,
                                                 "search.estimator: unknown name 'y'; allowed: first_order, "
                                                 "finite_difference, unrolled"]),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_names_all_at_once(search: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        t.check_names(read({"search": search}))
    assert list(caught.value.problems) == expected


def test_objectives_that_would_be_searched_for_their_worst() -> None:
    names = ["loss", "-score", "parameters", "multiply_adds", "latency_ms"]
    with pytest.raises(RecipeError) as caught:
        t.check_objectives(names)
    small = [f"search.objectives: {n!r} is to be small; write '-{n}'" for n in names if n != "-score"]
    assert list(caught.value.problems) == [
        small[0],
        "search.objectives: '-score' is to be large; write 'score'",
        *small[1:],
    ]
    t.check_objectives(["score", "-loss", "-parameters", "-multiply_adds", "-latency_ms"])


def test_an_option_out_of_range_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match=r"search\.options.*lr.*-1"):
        t.check_names(read({"search": {"options": {"lr": -1.0}}}))


def test_names_are_not_asked_for_where_objects_stand() -> None:
    recipe = read({"search": {"controller": "Mine", "estimator": "Mine"}})
    t.check_names(recipe, controller=False, estimator=False)


def test_augmentations() -> None:
    assert [t.make_augmentation(words) for words in ("crop 2", "flip", "cutout 8")] == [Crop(2), Flip(), Cutout(8)]


@pytest.mark.parametrize("words", ["crp 2", "", "crop", "crop x", "crop 1 2", "flip 3", "cutout -1", "crop 1.5"])
def test_augmentations_that_cannot_be(words: str) -> None:
    with pytest.raises(RecipeError, match=r"data\.augment"):
        t.check_names(read({"data": {"augment": [words]}}))


def test_data_as_the_recipe_says() -> None:
    data = t.make_data(read({"data": {"inner": 20, "outer": 0.1, "test": 30, "augment": ["flip"]}, "seed": 3}))
    assert data.sizes == {"inner": 20, "outer": 180, "test": 30} and data.augment == (Flip(),)
    assert t.make_data(Recipe(), data) is data
    with pytest.raises(DataError, match="taken as it is, got inner"):
        t.make_data(read({"data": {"inner": 20}}), data)


def test_schedule_and_training_have_the_recipes_numbers() -> None:
    recipe = read({"search": {"epochs": 12, "lr": 0.5, "clip": 1.0}, "evaluation": {"epochs": 4, "warmup": 1}})
    schedule, training = t.make_schedule(recipe), t.make_training(recipe.evaluation, epochs=2)
    assert (schedule.epochs, schedule.warmup, schedule.lr, schedule.clip) == (12, 2, 0.5, 1.0)
    assert (training.epochs, training.warmup, training.lr) == (2, 1, 0.1)


def test_no_guard_is_on_unless_it_is_asked_for() -> None:
    assert t.make_guards(Recipe().search.guard) == ()
    guard = {"eigenvalue": 1.5, "window": 3, "skip_share": 0.25, "entropy": 0.1, "roll_back": False}
    assert t.make_guards(read({"search": {"guard": guard}}).search.guard) == (
        EigenvalueGrowth(growth=1.5, window=3, roll_back=False),
        SkipShare(most=0.25, roll_back=False),
        Decided(least=0.1),
    )
    with pytest.raises(RecipeError, match=r"search\.guard\.skip_share: .*got 2.*|search\.guard\.eigenvalue"):
        read({"search": {"guard": {"skip_share": 2, "eigenvalue": 1.0}}})


def here(monkeypatch: pytest.MonkeyPatch, *devices: str) -> None:
    """Only these accelerators are there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in devices)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in devices)


@pytest.mark.parametrize(
    ("name", "there", "taken"),
    [
        ("auto", (), "cpu"),
        ("auto", ("cuda",), "cuda"),
        ("auto", ("mps",), "cpu"),  # MPS lacks operations that a search needs: only where it is asked for
        ("auto", ("cuda", "mps"), "cuda"),
        ("cpu", ("cuda", "mps"), "cpu"),
        ("cuda", ("cuda",), "cuda"),
        ("mps", ("mps",), "mps"),
    ],
)
def test_devices(monkeypatch: pytest.MonkeyPatch, name: str, there: tuple[str, ...], taken: str) -> None:
    here(monkeypatch, *there)
    assert t.make_device(name) == torch.device(taken)
    t.check_names(read({"device": name}))


@pytest.mark.parametrize(
    ("name", "there", "available"),
    [
        ("cuda", (), "cpu"),
        ("mps", (), "cpu"),
        ("cuda", ("mps",), "mps, cpu"),
        ("mps", ("cuda",), "cuda, cpu"),
    ],
)
def test_a_device_that_is_not_here(
    monkeypatch: pytest.MonkeyPatch, name: str, there: tuple[str, ...], available: str
) -> None:
    here(monkeypatch, *there)
    with pytest.raises(RecipeError) as caught:
        t.check_names(read({"device": name}))
    assert str(caught.value) == f"device: {name} is not available here; take one of: auto, {available}"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("evolution", {"population": 0}, "search.options: population and sample must be >= 1, got 0 and 3"),
        ("predictor", {"noise": -1}, "search.options: noise must be > 0, got -1"),
        ("gumbel", {"end_temperature": 0}, "search.options: temperatures must be > 0, got 1.0 and 0"),
        ("gdas", {"start_temperature": -1.0}, "search.options: temperatures must be > 0, got -1.0 and 0.1"),
    ],
)
def test_an_option_that_cannot_be_is_named_with_its_path(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        t.make_controller(name, options)
    assert error.value.problems == (message,)


def test_words_among_the_options() -> None:
    controller = t.make_controller("optuna", {"sampler": "gp"})
    assert t.controller_name(controller) == ("optuna", {"sampler": "gp"})
    for value, said in (
        ("tpo", "unknown word 'tpo'; did you mean \"tpe\"?"),
        (3, "unknown word 3; allowed: tpe, gp, random"),
    ):
        with pytest.raises(RecipeError) as error:
            t.make_controller("optuna", {"sampler": value})
        assert error.value.problems == (f"search.options.sampler: {said}",)
