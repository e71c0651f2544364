"""What a search needs is said before it begins; running out of memory is said in one line, with what would fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import metanas.api
from metanas.api import memory
from metanas.api.memory import Need, free_bytes, named
from metanas.errors import OutOfMemoryError, RecipeError, SpaceError
from metanas.network import OPS, FusedNetwork, network
from metanas.run import read_events
from metanas.space import NEEDED, Edge, Graph, Node, Space, one_of, op

Quick = Callable[..., metanas.api.Result]


def told(run: Any, level: str) -> list[str]:
    events = read_events(run / "events.jsonl").events
    return [e["message"] for e in events if e["kind"] == "log" and e["level"] == level]


def test_the_need_is_in_the_log_and_short_memory_a_warning(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    first = quick()
    (event,) = [e for e in read_events(first.run / "events.jsonl").events if e["kind"] == "need"]
    assert event["batch_size"] == 32 and 1e4 < event["bytes"] < 1e6 and not told(first.run, "warning")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 50_000.0)
    monkeypatch.setattr("metanas.api.session.free_bytes", lambda device: 50_000.0)
    (line,) = told(quick().run, "warning")
    assert " and 50.0 kB are free: batches of 16 would fit (search.batch_size), or search.checkpoint = true" in line


def test_an_estimate_is_near_what_is_held(quick: Quick) -> None:
    """The need of a batch of 64 from one of 4, against what a pass over 64 keeps."""
    from metanas import load_space
    from metanas.network import fused, supernet
    from metanas.network.memory import kept_bytes

    space = load_space("nasbench201", channels=4, cells=1)
    network = fused(supernet(space, (3, 16, 16), 10))
    mix = {c.name: torch.full((5,), 0.2) for c in space.choices}
    need = memory.need_of(network, torch.randn(4, 3, 16, 16), mix)
    held = need.weights + kept_bytes(network, torch.randn(64, 3, 16, 16), mix=mix)
    assert held <= need.at(64) < 1.2 * held


def test_a_single_path_needs_what_its_costliest_path_holds(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    """GDAS runs one candidate of each choice, so its need is less than the mixture's, and no checkpoint is advised."""
    from metanas import load_space
    from metanas.network import fused, supernet

    monkeypatch.setattr("metanas.api.session.free_bytes", lambda device: 10_000.0)
    (line,) = told(quick(controller="gdas", epochs=1).run, "warning")
    assert " and 10.0 kB are free" in line and "search.checkpoint" not in line
    space = load_space("nasbench201", channels=2, cells=1)
    network, images = fused(supernet(space, (1, 8, 8), 2)), torch.randn(4, 1, 8, 8)
    mix = {c.name: torch.full((5,), 0.2) for c in space.choices}
    whole, path = (memory.need_of(network, images, mix, single_path=alone) for alone in (False, True))
    assert path.weights == whole.weights and 0.5 * whole.example < path.example < 0.9 * whole.example


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"),
        MemoryError(),
    ],
    ids=["device", "host", "python"],
)
def test_out_of_memory_is_named(quick: Quick, runs: Any, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    calls = []
    right = FusedNetwork.forward

    def forward(self: FusedNetwork, *inputs: Any, **arguments: Any) -> Any:
        calls.append(1)
        if inputs[0].shape[0] > 4:
            raise error
        return right(self, *inputs, **arguments)

    monkeypatch.setattr(FusedNetwork, "forward", forward)
    with pytest.raises(OutOfMemoryError) as found:
        quick(run="first")
    message = str(found.value)
    assert message.startswith("out of memory on cpu (") and "\n" not in message
    assert " at batches of 32, which need about " in message
    assert message.endswith(": take batches of 16 (search.batch_size), or search.checkpoint = true")
    assert read_events(runs / "first" / "events.jsonl").events[-1]["status"] == "failed"


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"), named(None, 8, torch.device("cpu")):
        raise RuntimeError("shapes do not fit")


def test_what_is_too_large_for_the_whole_device_says_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10_000.0)
    with (
        pytest.raises(OutOfMemoryError, match=r"at batches of 64, .* 64\.1 kB: batches of 8 would fit"),
        named(Need(100, 1000.0), 64, torch.device("cpu")),
    ):
        raise MemoryError
    with (
        pytest.raises(OutOfMemoryError, match="not even one example fits"),
        named(Need(9500, 1000.0), 64, torch.device("cpu")),
    ):
        raise MemoryError


def test_free_memory_of_this_host() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or 1e7 < free < 1e14


@pytest.mark.long
def test_forgetting_takes_the_fused_executor(quick: Quick) -> None:
    cells = metanas.load_space("nasbench201", channels=2, cells=1)  # what is computed twice is cells
    for space, estimator in ((None, None), (cells, "first_order"), (cells, "unrolled")):
        given = {} if space is None else {"space": space, "estimator": estimator}
        once, twice = (quick(**given, settings={"search.checkpoint": on}) for on in (False, True))
        assert once.found == twice.found
    with pytest.raises(RecipeError, match=r"search\.checkpoint: only the fused executor does that"):
        quick(settings={"search.checkpoint": True, "search.executor": "plain"})


def test_a_huge_space_is_measured_before_it_is_built(runs: Any, images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 25. Modules are made for each kind of operation, not for each edge."""
    ops = {"none": op("none"), "conv": op("conv", width=64, kernel=3, norm="batch")}
    nodes = [Node("0", (Edge("image", op("conv", width=64)),))]
    nodes += [Node(str(i), tuple(Edge(str(j), one_of(f"{i}<-{j}", ops)) for j in range(i))) for i in range(1, 40)]
    nodes.append(Node("head", (Edge("39", op("classifier", width=NEEDED)),)))
    space = Space(Graph(("image",), tuple(nodes), "head"), "dense")
    made: list[str] = []
    monkeypatch.setattr(memory, "MANY", 1000)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1e8)
    monkeypatch.setattr("metanas.network.network.make", noted(made, network.make))
    monkeypatch.setattr("metanas.network.extent.make", noted(made, network.make))
    with pytest.raises(SpaceError, match=LARGE):
        metanas.search(space, images, run="huge")
    assert len(made) < 15 and not runs.exists()
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)  # nobody tells
    found = memory.check_extent(space, (1, 8, 8), 2, OPS, torch.device("cpu"))
    assert found is not None and (found.choices, found.operations) == (780, 2 * 780 + 2)
    assert found.parameters == 128 + 780 * (64 * 64 * 9 + 128) + 65 * 2 == parameters(space)
    small = metanas.load_space("nasbench201", channels=2, cells=1)
    assert memory.check_extent(small, (1, 8, 8), 2, OPS, torch.device("cpu")) is None


LARGE = (
    r"space 'dense' has 780 choices, 1,562 operations and 28,854,018 parameters: a supernet of it needs 462 MB before "
    r"the first example, and 100 MB are free on cpu; take a controller by values: random, evolution$"
)


def noted(made: list[str], make: Any) -> Any:
    return lambda op, *rest: made.append(op.kind) or make(op, *rest)


def parameters(space: Space) -> int:
    """Of the supernet, built without memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in network.supernet(space, (1, 8, 8), 2).parameters())
