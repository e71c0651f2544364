"""Two processes give what one gives on the batches of both, for every estimator; what one rank holds, all hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from metanas.bilevel import (
    SGD,
    T1T2,
    Bilevel,
    ConjugateGradient,
    Estimator,
    EvolutionStrategies,
    FiniteDifference,
    FirstOrder,
    ForwardMode,
    Neumann,
    Nystrom,
    Unrolled,
    over_ranks,
)
from metanas.controllers import DrNas
from metanas.data import Data, Flip, Split
from metanas.errors import BilevelError
from metanas.loop import GradientSearch, Schedule
from metanas.modes import meta_network
from metanas.network import fused, supernet
from metanas.space import NEEDED, Space, chain, one_of, op

RANKS = 2
ESTIMATORS: Mapping[str, Estimator] = {
    "first order": FirstOrder(),
    "finite difference": FiniteDifference(),
    "unrolled": Unrolled(3),
    "conjugate gradient": ConjugateGradient(steps=6),
    "Neumann": Neumann(terms=8, lr=0.05),
    "T1-T2": T1T2(lr=0.05),
    "Nystrom": Nystrom(rank=3),
    "forward mode": ForwardMode(3),
    "evolution": EvolutionStrategies(2, samples=4),
}
Batch = tuple[Tensor, Tensor]


def toy() -> tuple[Bilevel, Any, Any, Batch, Batch]:
    """A small network on rows whose inner loss is of its weights, a decay and mixing weights; float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    theta, outer = {"a": normal(5, 4), "b": normal(4)}, {"mix": normal(4), "decay": normal()}

    def fit(theta: Any, outer: Any, batch: Batch) -> Tensor:
        rows, targets = batch
        return ((torch.tanh(rows @ theta["a"]) * torch.sigmoid(outer["mix"]) @ theta["b"] - targets) ** 2).mean()

    def inner(theta: Any, outer: Any, batch: Batch) -> Tensor:
        return fit(theta, outer, batch) + outer["decay"].exp() * sum((v**2).sum() for v in theta.values())

    problem = Bilevel(inner, fit, rule=SGD(lr=0.05, momentum=0.9))
    return problem, theta, outer, (normal(16, 5), normal(16)), (normal(12, 5), normal(12))


def images() -> tuple[Space, Data]:
    conv = op("preact_conv", width=2, kernel=3, norm="batch_cell", activation="relu")
    body = one_of("body", {"conv": conv, "skip": op("skip"), "none": op("none")})
    stem, head = op("conv", width=2, kernel=3, norm="batch"), op("classifier", width=NEEDED)
    space = Space(chain(("stem", stem), ("body", body), ("head", head)), "small")
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        return Split(torch.randn(count, 1, 4, 4, generator=generator), torch.arange(count) % 2)

    return space, Data("noise", split(32), split(32), split(8), ("0", "1"), (Flip(),), "", (0.0,), (1.0,), (0.0, 1.0))


def searched(share: tuple[int, int], wrap: Callable[[Bilevel], Bilevel]) -> dict[str, Any]:
    """What a short search holds after every step."""
    space, data = images()
    network = fused(supernet(space, data.shape, 2, seed=1))
    schedule = Schedule(epochs=2, batch_size=8, monitor=8)
    problem = wrap(meta_network(network))
    search = GradientSearch(space, network, problem, FirstOrder(), DrNas(), data, schedule, seed=0, share=share)
    omegas = [search.relaxed.omega["body"].detach().clone() for _ in search.steps()]
    return {"omega": torch.stack(omegas), "theta": {n: p.detach() for n, p in search.theta.items()}}


def unread(problem: Bilevel, theta: Any, outer: Any, *batches: Batch) -> str:
    """What an implicit estimator says of an outer variable that no loss reads."""
    try:
        ConjugateGradient(steps=2)(problem, theta, {**outer, "idle": torch.zeros((), dtype=torch.float64)}, *batches)
    except BilevelError as error:
        return str(error)
    return ""


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # as in the tests of this folder
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS, timeout=timedelta(seconds=60)
    )
    problem, theta, outer, inner_batch, outer_batch = toy()
    whole = over_ranks(problem)

    def own(batch: Batch) -> Batch:
        rows, targets = (x.chunk(RANKS)[rank] for x in batch)
        return rows, targets

    found: dict[str, Any] = {
        name: estimator(
            whole, theta, outer, own(inner_batch), own(outer_batch), generator=torch.Generator().manual_seed(7)
        ).gradient
        for name, estimator in ESTIMATORS.items()
    }
    found["unread"] = unread(whole, theta, outer, own(inner_batch), own(outer_batch))
    found["search"] = searched((rank, RANKS), over_ranks)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_hypergradient_is_that_of_one_process(ranks: list[dict[str, Any]], name: str) -> None:
    problem, theta, outer, inner_batch, outer_batch = toy()
    generator = torch.Generator().manual_seed(7)
    want = ESTIMATORS[name](problem, theta, outer, inner_batch, outer_batch, generator=generator).gradient
    for key, value in want.items():
        assert value.abs().max() > 0 or (name, key) == ("first order", "decay")  # it acts through the weights alone
        torch.testing.assert_close(ranks[0][name][key], value, rtol=1e-9, atol=1e-12)
        assert torch.equal(ranks[0][name][key], ranks[1][name][key])


def test_what_no_loss_reads_is_refused_as_in_one_process(ranks: list[dict[str, Any]]) -> None:
    message = unread(*toy())
    assert "idle" in message and ranks[0]["unread"] == ranks[1]["unread"] == message


def test_a_search_holds_the_same_everywhere_and_is_that_of_one_process_with_ghost_batches(
    ranks: list[dict[str, Any]],
) -> None:
    def ghosts(problem: Bilevel) -> Bilevel:
        """The mean over the batches of both ranks, one after the other."""

        def of(loss: Any) -> Any:
            def mean(theta: Any, outer: Any, batch: Batch) -> Tensor:
                inputs, targets = (x.chunk(RANKS) for x in batch)
                return sum(loss(theta, outer, pair) for pair in zip(inputs, targets, strict=True)) / RANKS

            return mean

        return Bilevel(of(problem.inner_loss), of(problem.outer_loss), rule=problem.rule)

    one, other = (rank["search"] for rank in ranks)
    assert torch.equal(one["omega"], other["omega"]) and len(one["omega"]) == 8
    assert all(torch.equal(one["theta"][name], p) for name, p in other["theta"].items())
    want = searched((0, 1), ghosts)
    torch.testing.assert_close(one["omega"], want["omega"], rtol=1e-9, atol=1e-12)
    for name, p in want["theta"].items():
        torch.testing.assert_close(one["theta"][name], p, rtol=1e-9, atol=1e-12)
    alone = searched((0, 1), lambda problem: problem)  # norms over the whole batch: near, and not the same
    assert not torch.equal(alone["omega"], want["omega"])


def test_without_a_process_group_it_is_said() -> None:
    problem, *_ = toy()
    with pytest.raises(BilevelError, match=r"no process group; call torch\.distributed\.init_process_group, or start"):
        over_ranks(problem)


def test_batches_that_cannot_be_shared_evenly_are_refused() -> None:
    space, data = images()
    network = supernet(space, data.shape, 2)
    settings = Schedule(epochs=1, batch_size=9, monitor=8)
    with pytest.raises(ValueError, match=r"batches of 9 \(inner split\) cannot be shared evenly by 2 ranks"):
        GradientSearch(
            space, network, meta_network(network), FirstOrder(), DrNas(), data, settings, seed=0, share=(0, 2)
        )
