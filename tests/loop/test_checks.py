"""What does not go together is refused before a search by gradients begins."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from metanas.bilevel import Estimator, FirstOrder, ScoreFunction, Unrolled
from metanas.controllers import Darts, Reinforce
from metanas.errors import SpaceError
from metanas.loop import GradientSearch, Price, Schedule
from metanas.modes import meta_network
from metanas.network import supernet

PRICE = Price(expected=lambda mix: torch.ones(()), weight=1.0, reference=1.0)


def begun(tiny: Any, controller: Any, estimator: Estimator, price: Price | None = None) -> GradientSearch:
    data = tiny.data()
    network = supernet(tiny.space, data.shape, tiny.classes)
    problem = meta_network(network, single_path=controller.single_path)
    schedule = Schedule(epochs=1, batch_size=4, lr=0.1)
    return GradientSearch(tiny.space, network, problem, estimator, controller, data, schedule, seed=0, price=price)


@pytest.mark.parametrize("estimator", [FirstOrder(), Unrolled(1)], ids=lambda e: type(e).__name__)
def test_what_learns_from_values_takes_the_score_function(tiny: Any, estimator: Estimator) -> None:
    name = type(estimator).__name__
    with pytest.raises(SpaceError, match=rf"^estimator: Reinforce .*; take ScoreFunction, got {name}$"):
        begun(tiny, Reinforce(), estimator)
    begun(tiny, Reinforce(), ScoreFunction())
    begun(tiny, Darts(), estimator)


def test_what_learns_from_values_cannot_be_charged(tiny: Any) -> None:
    with pytest.raises(
        SpaceError, match=r"^price: Reinforce learns from values and not from gradients; bound the space"
    ):
        begun(tiny, Reinforce(), ScoreFunction(), PRICE)
    begun(tiny, Darts(), FirstOrder(), PRICE)
