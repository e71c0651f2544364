"""What a sampler of Optuna is asked, what it is told, and that nothing lives between two proposals."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import islice

import numpy as np
import optuna
import pytest

from metanas.errors import SpaceError
from metanas.loop import ValueSearch
from metanas.samplers import OptunaSearch
from metanas.samplers import optuna_search as own
from metanas.samplers.parameters import mattering, parameters, read, written
from metanas.space import Architecture, Choice, Space, chain, one_of, op

LABELS = ("a", "b", "c", "d")


def ladder() -> Space:
    operations = {label: op("activation", activation="relu") for label in LABELS}
    return Space(chain(*((f"e{k}", one_of(f"e{k}", operations)) for k in range(6))))


def height(architecture: Architecture) -> float:
    return sum(LABELS.index(labels[0]) for labels in architecture.values()) / 18


def test_every_architecture_comes_back_from_its_parameters(known):
    space, rng = known.build(), np.random.default_rng(0)
    for _ in range(20):
        architecture, taken = space.sample(rng), {}
        while missing := mattering(space, taken):
            for choice in missing:
                values = written(choice, architecture[choice.name])
                assert all(d._contains(d.to_internal_repr(values[n])) for n, d in parameters(choice).items())
                taken[choice.name] = read(choice, values)
        assert space.architecture(taken) == architecture


def test_k_of_many_is_the_largest_keys():
    choice = Choice("in", tuple("abcdefghij"), take=4, never=("j",))
    assert len(parameters(choice)) == 9 and "in: j" not in parameters(choice)
    keys = dict(zip(parameters(choice), (0.1, 0.9, 0.8, 0.2, 0.7, 0.0, 0.3, 0.6, 0.5), strict=True))
    assert read(choice, keys) == ("b", "c", "e", "h")
    assert read(choice, written(choice, ("a", "g", "h", "i"))) == ("a", "g", "h", "i")


def test_sizes_have_an_order_and_the_rest_has_none():
    kinds = {
        type(d).__name__
        for choice in (Choice("w", ("8", "16", "32"), ordered=True), Choice("o", ("x", "y")), Choice("s", ("x",), None))
        for d in parameters(choice).values()
    }
    assert kinds == {"IntDistribution", "CategoricalDistribution"}


def test_only_what_matters_is_asked_for_and_a_failure_is_a_failed_trial(problems):
    space = next(k for k in problems.KNOWN if k.name == "nested").build()
    search = ValueSearch(space, lambda a: math.inf if len(a) == 1 else len(a), OptunaSearch(), budget=30, seed=0)
    rows = list(search.steps())
    study = own._study(space, search.memory["rows"], optuna.samplers.RandomSampler(seed=0))
    for row, trial in zip(rows, study.trials, strict=True):
        assert set(trial.params) == {n for c in space.choices if c.name in row.architecture for n in parameters(c)}
        assert (trial.state.name == "FAIL") == math.isinf(row.value)
    assert {len(trial.params) for trial in study.trials} == {1, 4} and {t.state.name for t in study.trials} == {
        "FAIL",
        "COMPLETE",
    }
    assert study.best_value == search.memory["value"] == 4.0


def test_a_model_finds_more_than_chance():
    def mean(sampler: str) -> float:
        searches = [ValueSearch(ladder(), height, OptunaSearch(sampler=sampler), budget=50, seed=s) for s in range(2)]
        return float(np.mean([list(search.steps())[-1].best_value for search in searches]))

    assert mean("tpe") > mean("random") + 0.05


@pytest.mark.parametrize(
    "controller",
    [
        OptunaSearch(),
        OptunaSearch(sampler="gp"),
        OptunaSearch(sampler=optuna.samplers.RandomSampler()),
        OptunaSearch(sampler=optuna.samplers.TPESampler(n_startup_trials=3, constant_liar=False)),
    ],
    ids=repr,
)
def test_a_search_that_goes_on_is_the_one_that_was_not_stopped(controller):
    def started() -> ValueSearch:
        return ValueSearch(ladder(), height, controller, budget=13, seed=3)

    whole = [row.architecture for row in started().steps()]
    first, second = started(), started()
    list(islice(first.steps(), 11))
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    assert [row.architecture for row in second.steps()] == whole[11:]
    assert [row.architecture for row in started().steps()] == whole, "a sampler handed over is not used up"


def test_seeds_make_other_searches():
    drawn = [
        [row.architecture for row in ValueSearch(ladder(), height, OptunaSearch(), budget=5, seed=s).steps()]
        for s in (0, 1)
    ]
    assert drawn[0] != drawn[1] and len(set(drawn[0])) > 1


def test_joint_limits_are_kept_also_where_the_sampler_does_not(problems):
    space = next(k for k in problems.KNOWN if k.name == "nasbench101, 4 vertices").build()
    rows = list(ValueSearch(space, lambda a: float(len(a)), OptunaSearch(), budget=15, seed=0).steps())
    assert all(space.architecture(row.architecture) == row.architecture for row in rows)

    class Stubborn(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            choices = getattr(distribution, "choices", None)
            return True if choices == (False, True) else super().sample_independent(study, trial, name, distribution)

    found = OptunaSearch(sampler=Stubborn()).propose(space, {"rows": []}, rng=np.random.default_rng(0))
    assert space.architecture(found) == found


class Lower:
    """Within are the architectures of a height of 4 or less: about one in twenty."""

    def excess(self, architecture: Architecture) -> float:
        return max(0.0, height(architecture) * 18 - 4)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_bounds_are_learned_inside_one_study(sampler, monkeypatch):
    """The higher the better, so the model leads beyond the bounds until it has been told of them."""
    bounded, built, chance = dataclasses.replace(ladder(), bounds=Lower()), [], []
    draws = np.random.default_rng(0)
    rows = [[(a := bounded.sample(draws)).to_json(), height(a)] for _ in range(12)]
    plain_study, plain_sample = own._study, Space.sample
    monkeypatch.setattr(own, "_study", lambda *a: built.append(0) or plain_study(*a))
    monkeypatch.setattr(Space, "sample", lambda self, rng: chance.append(0) or plain_sample(self, rng))
    controller, seeds = OptunaSearch(sampler=sampler), 1 if sampler == "gp" else 8
    search = ValueSearch(bounded, height, controller, budget=seeds, seed=0)
    search.memory = {**search.memory, "rows": rows}
    assert all(bounded.keeps(row.architecture) for row in search.steps())
    assert len(built) == seeds and len(chance) <= seeds // 4


def test_bounds_that_nothing_was_told_of_are_kept():
    found = OptunaSearch().propose(
        dataclasses.replace(ladder(), bounds=Lower()), {"rows": []}, rng=np.random.default_rng(0)
    )
    assert Lower().excess(found) == 0


@pytest.mark.parametrize(
    "sampler",
    [
        optuna.samplers.NSGAIISampler(population_size=10),
        optuna.samplers.CmaEsSampler(),
        optuna.samplers.GridSampler({"e0": list(LABELS)}),
        3,
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_sampler_that_would_draw_by_chance_is_refused(sampler):
    name = type(sampler).__name__
    with pytest.raises(SpaceError, match=rf"^sampler: {name} may need .*; take TPESampler, GPSampler or RandomSampler"):
        OptunaSearch(sampler=sampler)


def test_constraints_that_nobody_would_ask_for_are_refused():
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        sampler = optuna.samplers.TPESampler(constraints_func=lambda trial: (1.0,))
    with pytest.raises(SpaceError, match="sampler: its constraints_func would never be asked"):
        OptunaSearch(sampler=sampler)


def test_it_says_nothing_and_leaves_optunas_log_as_it_is(capfd):
    before = optuna.logging.get_verbosity()
    list(ValueSearch(ladder(), height, OptunaSearch(sampler="gp"), budget=2, seed=0).steps())
    assert optuna.logging.get_verbosity() == before and capfd.readouterr() == ("", "")


def test_what_it_is_called():
    assert repr(OptunaSearch()) == "OptunaSearch(sampler='tpe')"
    assert repr(OptunaSearch(sampler=optuna.samplers.RandomSampler(seed=1))) == "OptunaSearch(sampler=RandomSampler)"
    with pytest.raises(SpaceError, match=r"sampler: unknown name 'tpo'; did you mean \"tpe\"\?"):
        OptunaSearch(sampler="tpo")
