"""What every controller must do: one line in a table, and all of this holds."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import numpy as np
import pytest
import torch

from metanas.controllers import (
    Controller,
    Darts,
    DartsPt,
    DrNas,
    FairDarts,
    Gdas,
    GradientController,
    GumbelSoftmax,
    LocalSearch,
    Nsga2,
    ParetoController,
    PcDarts,
    Predictor,
    RandomSearch,
    RegularisedEvolution,
    Reinforce,
    Rsps,
    Scalarised,
    Spos,
    UniformPath,
    ValueController,
)
from metanas.errors import SpaceError
from metanas.loop.state import optimizer_state, restore_optimizer
from metanas.run.checkpoints import load, save
from metanas.samplers import OptunaSearch
from metanas.space import Limit, Space, chain, op

GRADIENT = (
    Darts(),
    Darts(lr=0.1, scale=1.0, weight_decay=0.0),
    DrNas(),
    DrNas(scale=1.0, anchor=0.0),
    DartsPt(),
    Darts(beta=0.5),
    GumbelSoftmax(),
    GumbelSoftmax(end_temperature=0.5, scale=1.0),
    Gdas(),
    FairDarts(),
    FairDarts(threshold=0.6, zero_one=0.0, scale=1.0),
    PcDarts(),
    PcDarts(parts=2, scale=1.0),
    Reinforce(),
    Rsps(evaluations=5),
    Spos(evaluations=8, population=3),
)
"""Every controller that learns from gradients, with settings that matter: one line each."""

VALUE = (
    RandomSearch(),
    RegularisedEvolution(population=3, sample=2),
    LocalSearch(),
    Predictor(start_with=3, parents=1, random=3),
    OptunaSearch(),
)
"""Every controller that learns from values."""

PARETO = (
    Nsga2(population=4),
    Nsga2(population=2, crossover=0.0, mutation=1.0),
    Scalarised(controller=RandomSearch()),
    Scalarised(controller=RegularisedEvolution(population=3, sample=2)),
)
"""Every controller that learns from several values."""

RELAXED = ("one edge", "nasbench201", "darts", "elastic", "hierarchical", "recurrent")
RELAXED = ("one edge", "nasbench201", "darts", "elastic", "hierarchical", "recurrent", "own module")
"""Spaces of `tests/problems.py` in which every choice has a relaxation."""

DARTS_OPS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3")

SUBSETS = ("subsets", "nasbench101, 4 vertices")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mean_weight(weights):
    """Some loss of the supernet at mixing weights, for rules that evaluate: the later a candidate, the worse."""
    return sum(
        float(w @ torch.arange(len(w), dtype=w.dtype)) if isinstance(w, torch.Tensor) else float(np.sum(w))
        for w in weights.values()
    )


def never_called(weights):
    raise AssertionError("this rule needs only omega")


@pytest.fixture(params=GRADIENT, ids=str)
def controller(request) -> GradientController:
    return request.param


@pytest.fixture(params=VALUE, ids=str)
def by_value(request) -> ValueController:
    return request.param


@pytest.fixture(params=PARETO, ids=str)
def by_values(request) -> ParetoController:
    return request.param


@pytest.fixture(scope="module")
def spaces(problems):
    return {k.name: k.build() for k in problems.KNOWN}


@pytest.fixture(params=RELAXED)
def space(request, spaces):
    return spaces[request.param]


@pytest.fixture
def omega(controller, space):
    """Omega far from its start, in float64."""
    start = controller.start(space, generator=seeded())
    noise = seeded(1)
    return {name: torch.randn(len(x), dtype=torch.float64, generator=noise) for name, x in start.items()}


def relax(controller, omega, seed: int = 0, progress: float = 0.5):
    return controller.relax(omega, progress=progress, generator=seeded(seed))


@pytest.mark.parametrize("any_controller", [*GRADIENT, *VALUE, *PARETO], ids=str)
def test_a_controller_is_a_frozen_value_that_says_what_it_needs(any_controller):
    assert isinstance(any_controller, Controller)
    kinds = {"gradient": GRADIENT, "value": VALUE, "values": PARETO}
    assert any_controller in kinds[any_controller.needs]
    assert any_controller == dataclasses.replace(any_controller) and hash(any_controller) is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        any_controller.anything = 1


# gradient


def test_start_is_a_function_of_the_generator(controller, space):
    torch.manual_seed(1)
    first = controller.start(space, generator=seeded(3))
    torch.manual_seed(2)
    again, other = controller.start(space, generator=seeded(3)), controller.start(space, generator=seeded(4))
    inputs = isinstance(controller, PcDarts)
    assert list(first) == [c.name for c in space.choices if c.take == 1 or inputs]
    assert all(first[c.name].shape == (len(c.candidates),) for c in space.choices if c.take == 1 or inputs)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(first[name], other[name]) for name in first) == controller.fixed


def test_the_global_generators_are_left_alone(controller, space):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    omega = controller.start(space, generator=seeded())
    relax(controller, omega)
    controller.derive(space, omega, evaluate=mean_weight, generator=seeded())
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_relaxed_weights_are_on_the_simplex(controller, omega, progress):
    weights = relax(controller, omega, progress=progress)
    assert list(weights) == list(omega)
    for name, w in weights.items():
        assert w.shape == omega[name].shape and w.dtype == omega[name].dtype
        assert (w >= 0).all() and (not controller.competing or abs(w.sum() - 1) < 1e-12) and (w <= 1 + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [-1e4, -20.0, 20.0, 1e4])
def test_relaxed_and_expected_weights_stay_finite_far_out(controller, far, dtype):
    row = torch.full((5,), far, dtype=dtype, requires_grad=True)
    weights, mean = relax(controller, {"y": row})["y"], controller.expected({"y": row})["y"]
    weights[0].backward()
    for x in (weights, mean):
        assert (not controller.competing or abs(x.sum() - 1) < 1e-5) and (x >= 0).all() and (x <= 1).all()
    assert torch.isfinite(row.grad).all()


def test_the_same_noise_gives_the_same_weights(controller, omega):
    torch.manual_seed(1)
    first = relax(controller, omega, seed=5)
    torch.manual_seed(2)
    again = relax(controller, omega, seed=5)
    assert all(torch.equal(first[name], again[name]) for name in omega)


def test_every_weight_is_differentiable_in_its_own_omega_only(controller, omega):
    leaves = {name: x.clone().requires_grad_() for name, x in omega.items()}
    weights = relax(controller, leaves)
    for name, w in weights.items():
        rows = torch.autograd.grad(w[0], list(leaves.values()), retain_graph=True, allow_unused=True)
        for other, row in zip(leaves, rows, strict=True):
            moved = row is not None and bool((row != 0).any())
            assert moved == (other == name)
        assert torch.isfinite(rows[list(leaves).index(name)]).all()


def test_expected_is_the_mean_of_the_draws(controller):
    """20,000 draws, each its own choice; five standard errors."""
    if isinstance(controller, GumbelSoftmax):  # one-hot in the limit alone
        controller = GumbelSoftmax(start_temperature=0.01, end_temperature=0.01)
    row, draws = torch.tensor([-1.0, 0.2, 0.0, 1.5], dtype=torch.float64), 20_000
    omega = {str(k): row for k in range(draws)}
    sample = torch.stack(list(relax(controller, omega).values()))
    error = sample.std(0) / math.sqrt(draws)
    mean = controller.expected({"y": row.requires_grad_()})["y"]
    assert not mean.requires_grad
    assert ((sample.mean(0) - mean).abs() <= 5 * error + 1e-12).all()


def test_derive_gives_a_valid_architecture(controller, space, omega):
    seen = []
    architecture = controller.derive(
        space, omega, evaluate=lambda weights: seen.append(1) or mean_weight(weights), generator=seeded()
    )
    assert len(seen) <= controller.evaluates(space) and bool(seen) == (controller.preview(space, omega) is None)
    assert space.architecture(architecture) == architecture
    for choice in space.choices:
        assert not set(architecture.get(choice.name, ())) & set(choice.never)


def test_a_preview_is_what_omega_alone_derives(controller, space, omega):
    """The strongest option of each choice; none where the derivation has to evaluate."""
    preview = controller.preview(space, omega)
    if preview is None:
        return
    assert preview == controller.derive(space, omega, evaluate=never_called, generator=seeded())
    expected = controller.expected(omega)
    for choice in space.choices:
        if choice.name in omega and choice.name in preview and choice.take == 1 and controller.competing:
            best = max(choice.options, key=lambda label: expected[choice.name][choice.index(label)])
            assert preview[choice.name] == (best,)


def test_a_candidate_that_is_never_derived_is_not_derived_however_strong(controller, spaces):
    space = spaces["darts"]
    omega = controller.start(space, generator=seeded())
    for choice in space.choices:
        if choice.name in omega and choice.take == 1:
            omega[choice.name][choice.index("none")] = 9.0
            omega[choice.name][choice.index("sep_conv_3x3")] = 8.0

    def misses(weights):
        if isinstance(controller, UniformPath):
            return mean_weight(weights)
        return -sum(float(w[0] + 2 * w[DARTS_OPS.index("sep_conv_3x3")]) for w in weights.values())

    architecture = controller.derive(space, omega, evaluate=misses, generator=seeded())
    operations = {labels for name, labels in architecture.items() if "<-" in name}
    assert isinstance(controller, UniformPath) or operations == {("sep_conv_3x3",)}  # these look at a few, by chance
    assert ("none",) not in operations


@pytest.mark.parametrize("name", SUBSETS)
def test_a_choice_of_any_subset_is_refused_in_one_line(controller, spaces, name):
    with pytest.raises(SpaceError) as caught:
        controller.start(spaces[name], generator=seeded())
    message = str(caught.value)
    assert "\n" not in message and "any subset" in message and "random" in message


def test_joint_limits_are_refused_in_one_line(controller, spaces):
    """At the start, and not when what is derived breaks them after an epoch."""
    space = spaces["nasbench201"]
    limit = Limit(tuple(c.name for c in space.choices), labels=("skip_connect",), at_most=2)
    with pytest.raises(SpaceError, match=r"0 to 2 of .*skip_connect.*random") as caught:
        controller.start(dataclasses.replace(space, limits=(limit,)), generator=seeded())
    assert "\n" not in str(caught.value)


def test_nothing_to_learn_is_refused(controller):
    with pytest.raises(SpaceError, match="nothing to learn"):
        controller.start(Space(chain(("y", op("conv", width=2)))), generator=seeded())


def test_a_step_lowers_a_loss_of_the_weights(controller):
    omega = {"y": torch.zeros(4, requires_grad=True), "z": torch.zeros(3, requires_grad=True)}
    optimizer = controller.optimizer(omega.values())

    def loss(weights):
        return -(weights["y"][2] + weights["z"][0])

    before = loss(controller.expected(omega))
    for seed in range(30):
        total = loss(relax(controller, omega, seed)) + controller.penalty(omega, progress=0.5)
        for x, g in zip(omega.values(), torch.autograd.grad(total, list(omega.values())), strict=True):
            x.grad = g
        optimizer.step()
    assert loss(controller.expected(omega)) < before


def test_the_penalty_is_a_scalar_of_omega(controller, omega):
    penalty = controller.penalty(omega, progress=0.5)
    assert penalty.shape == () and penalty >= 0


def test_omega_and_its_optimiser_survive_a_checkpoint(controller, space, tmp_path):
    omega = {name: x.requires_grad_() for name, x in controller.start(space, generator=seeded()).items()}
    optimizer = controller.optimizer(omega.values())

    def step(omega, optimizer, seed):
        loss = sum(w.square().sum() for w in relax(controller, omega, seed).values()) + controller.penalty(
            omega, progress=0.5
        )
        for x, g in zip(omega.values(), torch.autograd.grad(loss, list(omega.values())), strict=True):
            x.grad = g
        optimizer.step()

    step(omega, optimizer, 0)
    save(tmp_path / "c", 1, {"omega": omega, "optimizer": optimizer_state(optimizer)}, 0)
    tree = load(tmp_path / "c").tree
    saved = {name: x.requires_grad_() for name, x in tree["omega"].items()}
    other = controller.optimizer(saved.values())
    restore_optimizer(other, tree["optimizer"])
    for seed in (1, 2):
        step(omega, optimizer, seed)
        step(saved, other, seed)
    assert all(torch.equal(omega[name], saved[name]) for name in omega)


# value


def tell_all(controller, space, values, memory=None):
    memory = controller.start(space) if memory is None else memory
    told = []
    for k, value in enumerate(values):
        architecture = controller.propose(space, memory, rng=np.random.default_rng([0, memory["told"]]))
        memory = controller.tell(memory, architecture, value)
        told.append((architecture, value))
        assert k + 1 == len(told)
    return memory, told


def test_proposals_are_valid_and_a_function_of_the_generator(by_value, known):
    space = known.build()
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    draws = [
        [by_value.propose(space, by_value.start(space), rng=np.random.default_rng([seed, k])) for k in range(5)]
        for seed in (0, 0)
    ]
    assert draws[0] == draws[1]
    assert all(space.architecture(a) == a for a in draws[0])
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]


@pytest.mark.parametrize("values", [[0.5, 0.9, 0.7], [-math.inf, 0.1, math.nan, math.inf], [math.nan, -3.0, -4.0]])
def test_the_best_has_the_largest_finite_value(by_value, spaces, values):
    space = spaces["nasbench201"]
    memory, told = tell_all(by_value, space, values)
    best, value = max(((a, v) for a, v in told if math.isfinite(v)), key=lambda row: row[1])
    assert by_value.best(space, memory) == best and memory["value"] == value


def test_there_is_no_best_before_the_first_finite_value(by_value, spaces):
    space = spaces["nasbench201"]
    for values in ([], [math.nan, math.inf]):
        memory, _ = tell_all(by_value, space, values)
        assert memory["value"] is None
        with pytest.raises(SpaceError, match=f"none of {len(values)} architectures had a finite value"):
            by_value.best(space, memory)


def test_memory_is_plain_data_and_is_not_written_to(by_value, known, tmp_path):
    space = known.build()
    empty = by_value.start(space)
    before = json.dumps(empty)
    memory, _ = tell_all(by_value, space, [0.1, math.nan, 0.4], empty)
    assert json.dumps(empty) == before
    assert json.loads(json.dumps(memory, allow_nan=False)) == memory
    save(tmp_path / "c", 1, memory, 0)
    read = load(tmp_path / "c").tree
    assert read == memory and by_value.best(space, read) == by_value.best(space, memory)
    assert tell_all(by_value, space, [0.2, 0.8], read) == tell_all(by_value, space, [0.2, 0.8], memory)


# several values

FAILED = ((), (math.nan, 0.5), (math.inf, 1.0), (0.5, -math.inf))


def test_proposals_for_several_values_are_valid_and_a_function_of_the_generator(by_values, known):
    space = known.build()
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    runs = [tell_all(by_values, space, [(k % 3, -k) for k in range(7)])[1] for _ in range(2)]
    assert runs[0] == runs[1]
    assert all(space.architecture(a) == a for a, _ in runs[0])
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]


def test_the_front_is_what_nothing_dominates(by_values, spaces):
    rng = np.random.default_rng(3)
    values = [tuple(rng.integers(0, 4, 2).tolist()) for _ in range(25)] + list(FAILED)
    memory, told = tell_all(by_values, spaces["nasbench201"], values)
    good = [(a, v) for a, v in told if v not in FAILED]
    best = {v for _, v in good if not any(w != v and w[0] >= v[0] and w[1] >= v[1] for _, w in good)}
    assert {tuple(row) for _, row in memory["front"]} == best
    assert {str(taken) for taken, _ in memory["front"]} == {str(a.to_json()) for a, v in good if v in best}
    assert memory["value"] == max(v[0] for _, v in good)
    assert by_values.best(spaces["nasbench201"], memory).to_json() in [taken for taken, _ in memory["front"]]


def test_there_is_no_front_before_the_first_finite_values(by_values, spaces):
    memory, _ = tell_all(by_values, spaces["nasbench201"], FAILED)
    assert memory["front"] == [] and memory["value"] is None
    with pytest.raises(SpaceError, match="none of 4 architectures had a finite value"):
        by_values.best(spaces["nasbench201"], memory)


def test_memory_of_several_values_is_plain_data_and_is_not_written_to(by_values, known, tmp_path):
    space = known.build()
    empty = by_values.start(space)
    before = json.dumps(empty)
    values = [(0.1, 2.0), (), (0.4, 1.0), (0.2, 2.0), (0.3, 1.0), (0.0, 3.0)]
    memory, _ = tell_all(by_values, space, values, empty)
    assert json.dumps(empty) == before
    assert json.loads(json.dumps(memory, allow_nan=False)) == memory
    save(tmp_path / "c", 1, memory, 0)
    read = load(tmp_path / "c").tree
    assert read == memory
    assert tell_all(by_values, space, values, read) == tell_all(by_values, space, values, memory)
