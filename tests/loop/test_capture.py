"""A search whose steps are recorded is the search whose steps are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from metanas.bilevel import SGD, CudaGraphs, EvolutionStrategies, FiniteDifference, FirstOrder, Unrolled
from metanas.controllers import Darts, DrNas
from metanas.loop import PLAIN, GradientSearch, Schedule, Trained
from metanas.modes import meta_network
from metanas.network import fused, supernet

ESTIMATORS = [FirstOrder(), FiniteDifference(), Unrolled(1)]


def search(
    tiny: Any,
    graphs: Any,
    controller: Any,
    estimator: Any,
    device: str = "cpu",
    trained: Trained = PLAIN,
    **schedule: Any,
) -> Any:
    data = tiny.data().to(torch.device(device))
    network = fused(supernet(tiny.space, data.shape, 3, seed=0).to(device))
    settings = Schedule(**{"epochs": 4, "batch_size": 4, "lr": 0.1, "monitor": 9} | schedule)
    problem = meta_network(network, loss=F.cross_entropy, rule=SGD(lr=0.1))
    more: dict[str, Any] = {"seed": 0, "graphs": graphs, "trained": trained}
    return GradientSearch(tiny.space, network, problem, estimator, controller, data, settings, **more)


def assert_alike(found: GradientSearch, plain: GradientSearch, rtol: float = 1e-6) -> None:
    for name, row in plain.relaxed.omega.items():
        torch.testing.assert_close(found.relaxed.omega[name], row, rtol=rtol, atol=rtol / 100)
    for name, p in plain.theta.items():
        torch.testing.assert_close(found.theta[name], p, rtol=rtol, atol=rtol)
    assert torch.equal(found.skipped, plain.skipped)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("controller", [Darts(lr=0.1), DrNas(lr=0.1)], ids=lambda c: type(c).__name__)
def test_recorded_or_not_it_is_the_same_search(tiny: Any, replays: Any, controller: Any, estimator: Any) -> None:
    graphs = replays()
    found, plain = search(tiny, graphs, controller, estimator), search(tiny, None, controller, estimator)
    for step, twin in zip(found.steps(), plain.steps(), strict=True):
        torch.testing.assert_close(step.inner_loss, twin.inner_loss, rtol=1e-6, atol=0)
        torch.testing.assert_close(step.outer_loss, twin.outer_loss, rtol=1e-6, atol=0, equal_nan=True)
    assert_alike(found, plain)
    assert graphs.recordings == 2 and graphs.plays == 2 * (found.total - 3), "of the weights' step and of the estimate"


def test_what_is_let_go_of_is_not_played_again(tiny: Any, replays: Any) -> None:
    graphs = replays()
    schedule = {"shrink_to": 2, "epochs": 4}
    found, plain = (search(tiny, g, Darts(lr=0.1), FirstOrder(), **schedule) for g in (graphs, None))
    assert [s.report.kept for s in found.steps() if s.report] == [s.report.kept for s in plain.steps() if s.report]
    assert_alike(found, plain)
    assert graphs.recordings == 4


def test_it_goes_on_from_its_state(tiny: Any, replays: Any) -> None:
    whole, cut = (search(tiny, replays(), Darts(lr=0.1), FiniteDifference()) for _ in range(2))
    list(whole.steps())
    steps = cut.steps()
    for _ in range(6):
        next(steps)
    copied = {name: x for name, x in cut.state().items()}
    resumed = search(tiny, replays(), Darts(lr=0.1), FiniteDifference())
    resumed.restore(copied)
    list(resumed.steps())
    assert_alike(resumed, whole)


def test_an_estimator_that_draws_on_the_host_is_not_recorded(tiny: Any, replays: Any) -> None:
    graphs = replays()
    estimator = EvolutionStrategies(steps=1, samples=2)
    found, plain = search(tiny, graphs, Darts(lr=0.1), estimator), search(tiny, None, Darts(lr=0.1), estimator)
    list(found.steps()), list(plain.steps())
    assert_alike(found, plain)
    assert graphs.recordings == 1 and graphs.whys == ["random numbers are drawn by the host"]


class Warming(Trained):
    """A loss that grows with the search."""

    def check(self, controller: Any) -> None:
        return

    def loss(self, plain: Any, theta: Any, outer: Any, batch: Any, *, progress: float) -> torch.Tensor:
        return (1 + progress) * plain(theta, outer, batch)


def test_another_loss_of_the_training_is_not_recorded_since_it_may_read_the_progress(tiny: Any, replays: Any) -> None:
    graphs = replays()
    found, plain = (search(tiny, g, Darts(lr=0.1), FirstOrder(), trained=Warming()) for g in (graphs, None))
    list(found.steps()), list(plain.steps())
    assert_alike(found, plain)
    assert graphs.recordings == 1, "the estimate"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("controller", [Darts(lr=0.1), DrNas(lr=0.1)], ids=lambda c: type(c).__name__)
def test_on_a_gpu_it_is_the_same_search(tiny: Any, controller: Any, estimator: Any) -> None:
    torch.set_default_dtype(torch.float32)
    graphs = CudaGraphs(torch.device("cuda"), pytest.fail)
    found, plain = (search(tiny, g, controller, estimator, "cuda", epochs=2) for g in (graphs, None))
    for _ in zip(found.steps(), plain.steps(), strict=True):
        pass
    assert_alike(found, plain, rtol=1e-2)
