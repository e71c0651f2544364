"""Recorded functions: fed anew at every call, begun anew where what they hold has moved, given up where they cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metanas.bilevel import SGD, Bilevel, CapturedEstimator, CudaGraphs, FiniteDifference, FirstOrder, Unrolled, train
from metanas.bilevel.capture import WARM, Captured

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def twice(live: Any, fed: Any) -> dict[str, Tensor]:
    return {"scaled": live["w"] * fed["x"] * fed["k"], "sum": fed["x"].sum()}


def test_it_is_fed_at_every_call_and_reads_live_tensors_where_they_are(replays: Any) -> None:
    graphs, live = replays(), {"w": torch.ones(2)}
    captured = Captured(twice, graphs)
    for k in range(WARM + 3):
        live["w"].fill_(k)
        fed = {"x": torch.tensor([1.0, 2.0]) + k, "k": 3}
        found = captured(live, fed)
        assert torch.equal(found["scaled"], k * 3 * fed["x"]) and found["sum"] == fed["x"].sum()
    assert (graphs.recordings, graphs.plays) == (1, 3)


def test_numbers_are_the_callers_own_and_larger_results_are_not(replays: Any) -> None:
    captured = Captured(twice, replays())
    live = {"w": torch.ones(2)}
    found = [captured(live, {"x": torch.full((2,), float(k)), "k": 1}) for k in range(WARM + 3)]
    assert [float(x["sum"]) for x in found] == [2.0 * k for k in range(WARM + 3)]
    assert found[-1]["scaled"] is found[-2]["scaled"]


@pytest.mark.parametrize(
    "change",
    [
        lambda live, fed: (live, fed | {"x": torch.ones(3), "w": 0}),
        lambda live, fed: (live, fed | {"x": torch.ones(2, dtype=torch.float16)}),
        lambda live, fed: (live, fed | {"k": 4}),
        lambda live, fed: ({"w": torch.full((2,), 5.0)}, fed),
    ],
    ids=["another tree", "dtype", "constant", "live tensors elsewhere"],
)
def test_what_a_recording_depends_on_makes_it_begin_anew(replays: Any, change: Any) -> None:
    graphs, live, fed = replays(), {"w": torch.ones(2)}, {"x": torch.ones(2), "k": 3}
    captured = Captured(lambda live, fed: live["w"].sum() * fed["x"].sum() * fed["k"], graphs)
    for _ in range(WARM + 1):
        captured(live, fed)
    other = change(live, fed)
    for _ in range(WARM):
        assert captured(*other) == other[0]["w"].sum() * other[1]["x"].sum() * other[1]["k"]
    assert graphs.recordings == 1
    captured(*other)
    assert graphs.recordings == 2


def test_what_cannot_be_recorded_goes_on_as_it_is_and_says_so_once(replays: Any) -> None:
    graphs = replays(able=False)
    captured = Captured(twice, graphs)
    live = {"w": torch.ones(2)}
    found = [captured(live, {"x": torch.full((2,), float(k)), "k": 1}) for k in range(WARM + 3)]
    assert [float(x["sum"]) for x in found] == [2.0 * k for k in range(WARM + 3)]
    assert graphs.whys == ["operation not permitted when stream is capturing"]


@pytest.mark.parametrize("default", [True, False])
def test_who_draws_on_the_host_is_not_recorded(replays: Any, default: bool) -> None:
    graphs, own = replays(), torch.Generator()
    draw = (lambda live, fed: torch.rand(2)) if default else (lambda live, fed: torch.rand(2, generator=own))
    captured = Captured(draw, graphs, watched=[own])
    found = [captured((), ()) for _ in range(WARM + 3)]
    assert len({float(x[0]) for x in found}) == WARM + 3
    assert (graphs.recordings, graphs.whys) == (0, ["random numbers are drawn by the host"])


def test_what_is_forgotten_is_recorded_again(replays: Any) -> None:
    graphs, factor = replays(), [1.0]
    captured = Captured(lambda live, fed: fed * factor[0], graphs)
    for _ in range(WARM + 1):
        captured((), torch.ones(2))
    factor[0] = 2.0
    captured.forget()
    found = [captured((), torch.ones(2)).tolist() for _ in range(WARM + 1)]
    assert found == [[2.0, 2.0]] * (WARM + 1) and graphs.recordings == 2


def quadratic() -> tuple[Bilevel, dict[str, Tensor], dict[str, Tensor]]:
    def inner(theta: Any, outer: Any, batch: Any) -> Tensor:
        return ((theta["w"] - batch * outer["to"]) ** 2).sum() / 2

    def outer_loss(theta: Any, outer: Any, batch: Any) -> Tensor:
        return ((theta["w"] - batch) ** 2).sum() / 2 + (outer["to"] ** 3).sum()

    theta = {"w": torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))}
    return Bilevel(inner, outer_loss, rule=SGD(lr=0.5)), theta, {"to": torch.ones(2, dtype=torch.float64)}


@pytest.mark.parametrize("estimator", [FirstOrder(), FiniteDifference(), Unrolled(2)], ids=lambda e: type(e).__name__)
def test_an_estimate_is_the_estimators(replays: Any, estimator: Any) -> None:
    problem, theta, outer = quadratic()
    graphs = replays()
    captured = CapturedEstimator(estimator, graphs, torch.Generator())
    for k in range(WARM + 3):
        with torch.no_grad():
            theta["w"] += k
            outer["to"] += 0.1
        batches = (torch.full((2,), float(k), dtype=torch.float64), torch.ones(2, dtype=torch.float64) * k)
        found, plain = captured(problem, theta, outer, *batches), estimator(problem, theta, outer, *batches)
        assert all(torch.equal(x, y) for x, y in zip(tree_leaves(found[:2]), tree_leaves(plain[:2]), strict=True))
    assert (graphs.recordings, graphs.plays) == (1, 3)


def test_another_problem_is_recorded_anew(replays: Any) -> None:
    problem, theta, outer = quadratic()
    graphs = replays()
    captured = CapturedEstimator(FirstOrder(), graphs, torch.Generator())
    for _ in range(WARM + 1):
        captured(problem, theta, outer, torch.ones(2), torch.ones(2))
    other = Bilevel(problem.inner_loss, lambda theta, outer, batch: outer["to"].sum(), rule=problem.rule)
    for _ in range(WARM + 1):
        assert captured(other, theta, outer, torch.ones(2), torch.ones(2)).gradient["to"].tolist() == [1.0, 1.0]
    assert graphs.recordings == 2


def trained(graphs: Any, device: str = "cpu", steps: int = WARM + 4) -> tuple[list[float], Tensor, int]:
    problem, theta, outer = quadratic()
    theta = {"w": torch.nn.Parameter(theta["w"].detach().to(device, torch.float32))}
    rate = torch.tensor(0.5, dtype=torch.float32, device=device)
    optimizer = torch.optim.SGD(theta.values(), lr=rate if graphs else 0.5, momentum=0.5, fused=True)
    outer = {"to": outer["to"].to(device, torch.float32)}
    advance = train(problem, theta, lambda: outer, optimizer, clip=2.0, graphs=graphs)
    reports = []
    for k in range(steps):
        bad = k == steps - 2
        batch = torch.full((2,), torch.nan if bad else 1.0 + k, device=device)
        reports.append(advance(None, [batch]))
    return (
        [float(r.gradient_norm) for r in reports if r.gradient_norm.isfinite()],
        theta["w"].detach().cpu(),
        [int(r.skipped) for r in reports][-1],
    )


def test_training_is_the_same_and_what_is_not_finite_is_left_out_of_a_recording_too(replays: Any) -> None:
    graphs = replays()
    norms, w, skipped = trained(graphs)
    plain_norms, plain_w, plain_skipped = trained(None)
    assert norms == pytest.approx(plain_norms, rel=1e-6) and skipped == plain_skipped == 1
    torch.testing.assert_close(w, plain_w)
    assert (graphs.recordings, graphs.plays) == (1, 4)


@gpu
def test_on_a_gpu_training_and_estimates_are_the_same() -> None:
    graphs = CudaGraphs(torch.device("cuda"), pytest.fail)
    norms, w, skipped = trained(graphs, "cuda")
    plain_norms, plain_w, plain_skipped = trained(None, "cuda")
    assert norms == pytest.approx(plain_norms, rel=1e-5) and skipped == plain_skipped == 1
    torch.testing.assert_close(w, plain_w)


@gpu
@pytest.mark.parametrize("estimator", [FirstOrder(), FiniteDifference(), Unrolled(2)], ids=lambda e: type(e).__name__)
def test_on_a_gpu_an_estimate_is_the_estimators(estimator: Any) -> None:
    problem, theta, outer = quadratic()
    theta, outer = {"w": theta["w"].detach().cuda()}, {"to": outer["to"].cuda()}
    captured = CapturedEstimator(estimator, CudaGraphs(torch.device("cuda"), pytest.fail), torch.Generator())
    for k in range(WARM + 3):
        theta["w"] += k
        outer["to"] += 0.1
        batches = (torch.full((2,), float(k)).cuda().double(), torch.ones(2).cuda().double() * k)
        found, plain = captured(problem, theta, outer, *batches), estimator(problem, theta, outer, *batches)
        for x, y in zip(tree_leaves(found[:2]), tree_leaves(plain[:2]), strict=True):
            torch.testing.assert_close(x, y)


@gpu
def test_on_a_gpu_what_reads_the_host_is_refused_in_one_line() -> None:
    told: list[str] = []
    captured = Captured(lambda live, fed: fed * float(fed.sum()), CudaGraphs(torch.device("cuda"), told.append))
    found = [captured((), torch.full((2,), float(k)).cuda()).tolist() for k in range(WARM + 2)]
    assert found == [[2.0 * k * k] * 2 for k in range(WARM + 2)]
    assert len(told) == 1 and "CUDA graph" in told[0] and "\n" not in told[0]
