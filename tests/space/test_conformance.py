"""What every space must do, whatever it is made of: one line in `tests/problems.py: KNOWN` and all of this holds."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch

from metanas.network import one_path, shared_weights
from metanas.space import canonical, space_from_json, space_to_json

SMALL = 3_000
"""Spaces of at most so many architectures are listed in full."""


@pytest.fixture
def space(known):
    return known.build()


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def everything(space):
    """Every architecture, from the definition alone: all assignments, those that do not matter dropped."""
    rows = []
    for choice in space.choices:
        sizes = [choice.take] if choice.take is not None else range(len(choice.options) + 1)
        rows.append([s for n in sizes for s in itertools.combinations(choice.options, n)])
    found = set()
    for taken in itertools.product(*rows):
        try:
            found.add(space.architecture({c.name: t for c, t in zip(space.choices, taken, strict=True)}))
        except ValueError as error:
            assert "; allowed: " in str(error)
    return found


def test_size(known, space):
    assert space.size == known.size
    if known.size <= SMALL:
        assert len(everything(space)) == known.size


def test_samples_are_valid(space, rng):
    for _ in range(50):
        architecture = space.sample(rng)
        assert space.architecture(architecture) == architecture


def test_sampling_is_uniform(known, space, rng):
    """Pearson's chi-square stays below its mean plus five standard deviations."""
    if known.size > 200:
        pytest.skip("too many architectures for a chi-square test")
    draws = 100 * known.size
    counts = Counter(space.sample(rng) for _ in range(draws))
    expected = draws / known.size
    chi2 = sum((counts[a] - expected) ** 2 / expected for a in everything(space))
    freedom = known.size - 1
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom)
    assert sum(counts.values()) == draws


def test_same_seed_same_samples(space):
    draws = [[space.sample(g) for _ in range(5)] for g in (np.random.default_rng(3), np.random.default_rng(3))]
    assert draws[0] == draws[1]


def test_mutants_and_children_are_valid(space, rng):
    mother, father = space.sample(rng), space.sample(rng)
    for _ in range(50):
        mutant = space.mutate(mother, rng)
        assert space.architecture(mutant) == mutant != mother
        assert len(differing(mother, mutant)) == 1
        child = space.crossover(mother, father, rng)
        assert space.architecture(child) == child
        mother, father = child, mutant


def test_a_child_takes_after_its_parents(space, rng):
    for _ in range(20):
        mother, father = space.sample(rng), space.sample(rng)
        child = space.crossover(mother, father, rng)
        for name in child.keys() & mother.keys() & father.keys():
            assert child[name] in (mother[name], father[name])


def differing(a, b):
    return [name for name in a.keys() & b.keys() if a[name] != b[name]]


def one_apart(space, a, b):
    """The definition of a neighbour, from the two architectures alone."""
    changed = differing(a, b)
    if len(changed) != 1:
        return False
    take = space.program.choice(changed[0]).take
    return len(set(a[changed[0]]) ^ set(b[changed[0]])) == (1 if take is None else 2)


def test_neighbours(known, space, rng):
    center = space.sample(rng)
    found = list(itertools.islice(space.neighbours(center), 100))
    assert len(set(found)) == len(found) > 0
    for other in found:
        assert space.architecture(other) == other
        assert one_apart(space, center, other)
        if known.size <= SMALL or known.name == "nasbench201":
            assert center in set(space.neighbours(other))
    if known.size <= SMALL:
        assert set(found) == {a for a in everything(space) if one_apart(space, center, a)}


def test_encoding_is_injective(known, space, rng):
    some = everything(space) if known.size <= SMALL else {space.sample(rng) for _ in range(300)}
    codes = {space.encode(a).tobytes() for a in some}
    assert len(codes) == len(some)
    assert space.encode(space.sample(rng)).shape == (sum(len(c.options) for c in space.choices),)


def test_json(space, rng):
    again = space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False)))
    assert again == space
    assert again.program == space.program
    assert (again.size, again.choices, hash(again)) == (space.size, space.choices, hash(space))
    architecture = space.sample(rng)
    assert space.parse(json.dumps(architecture.to_json())) == architecture


def test_strings(space, rng):
    if space.template is None:
        pytest.skip("the space has no way of its own to write an architecture")
    for _ in range(50):
        architecture = space.sample(rng)
        again = space.parse(str(architecture))
        assert again == architecture and str(again) == str(architecture)


def test_canonical_form_ignores_names(space, rng):
    """The same graph under other names, with nodes and edges in another order, has the same forms."""
    architecture = space.sample(rng)
    data = json.loads(json.dumps(space_to_json(space)))
    reversed_nodes = json.loads(json.dumps(data))
    reversed_nodes["graph"]["nodes"].reverse()
    assert canonical(space_from_json(reversed_nodes), architecture) == canonical(space, architecture)
    assert canonical(space, architecture) == canonical(space, space.architecture(architecture.to_json()))


def test_every_sample_builds_and_runs(known, space, rng):
    for seed in range(5):
        architecture = space.sample(rng)
        network = known.derived(space, architecture, seed=seed)
        x = torch.randn(2, *known.shape, generator=torch.Generator().manual_seed(seed))
        y = network(x)
        assert y.shape[:2] == (2, known.outputs) and torch.isfinite(y).all()


def test_sampled_supernet_equals_the_derived_network(known, space, rng):
    """Weights go over by name; widths that were chosen are slices."""
    if known.name.startswith("nasbench101"):
        pytest.skip("its widths depend on the edges, so its networks share no weights")
    whole = known.supernet(space).double()
    x = torch.randn(2, *known.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(3):
        architecture = space.sample(rng)
        part = known.derived(space, architecture, phase="search").double()
        weights = whole.state_dict()
        if known.module is not None:
            weights = shared_weights(known.module(), architecture, weights)
        part.load_state_dict({k: weights[k][tuple(slice(0, n) for n in v.shape)] for k, v in part.state_dict().items()})
        torch.testing.assert_close(whole(x, mix=one_path(space.choices, architecture)), part(x), rtol=0, atol=1e-12)
