"""What an architecture is judged by after a short training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metanas.evaluation import MEASURES, Score, cost, short_measures, short_training
from metanas.space import Architecture


def briefly(architecture, epochs):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3 * epochs))
    return network, Score(loss=0.25, score=0.5)


ARCHITECTURE = Architecture({"y": "a"})


def test_every_measure_by_its_name_in_the_order_asked_for():
    names = ("-parameters", "score", "-loss", "multiply_adds")
    price = cost(briefly(ARCHITECTURE, 2)[0], (1, 2, 2))
    found = short_measures(briefly, names, (1, 2, 2))(ARCHITECTURE, 2)
    assert found == (price.parameters, 0.5, 0.25, price.multiply_adds) and price.parameters == 30
    assert all(type(value) is float for value in found)
    assert set(MEASURES) == {name.removeprefix("-") for name in (*names, "latency_ms")}


def test_a_latency_is_of_one_example_and_leaves_the_mode():
    network, found = briefly(ARCHITECTURE, 1)
    seen = []
    network.train().register_forward_hook(lambda module, given, _: seen.append((module.training, given[0].shape)))
    assert 0 < MEASURES["latency_ms"](network, found, (1, 2, 2)) < 1000
    assert set(seen) == {(False, (1, 1, 2, 2))} and len(seen) >= 5 and network.training


def test_a_single_objective_is_minus_the_loss():
    assert short_training(briefly)(ARCHITECTURE, 1) == -0.25


def test_nothing_is_drawn_by_a_measure():
    before = torch.get_rng_state()
    network, found = briefly(ARCHITECTURE, 1)
    torch.set_rng_state(before)
    for measure in MEASURES.values():
        measure(network, found, (1, 2, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_name():
    with pytest.raises(KeyError):
        short_measures(briefly, ("nothing",), (1,))
