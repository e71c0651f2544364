"""A search that takes milliseconds a step: three choices, random images, everything in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from metanas.bilevel import FirstOrder
from metanas.controllers import Darts
from metanas.data import Data, Flip, Split
from metanas.loop import GradientSearch, Schedule
from metanas.modes import meta_network
from metanas.network import supernet
from metanas.space import NEEDED, Edge, Graph, Node, Space, chain, one_of, op

CLASSES, CHANNELS = 3, 2


def tiny_space() -> Space:
    """A cell of three nodes, three operations an edge: 27 architectures."""

    def pick(name: str) -> Any:
        conv = op("preact_conv", width=CHANNELS, kernel=3, norm="batch_cell", activation="relu")
        return one_of(name, {"none": op("none"), "skip": op("skip"), "conv": conv})

    nodes = (Node("1", (Edge("0", pick("1<-0")),)), Node("2", (Edge("0", pick("2<-0")), Edge("1", pick("2<-1")))))
    stem = op("conv", width=CHANNELS, kernel=3, norm="batch")
    head = op("classifier", width=NEEDED, norm="batch", activation="relu")
    return Space(chain(("stem", stem), ("cell", Graph(("0",), nodes, "2")), ("head", head)), "tiny")


def tiny_data(inner: int = 18, outer: int = 13, *, augment: tuple[Any, ...] = (Flip(),), seed: int = 0) -> Data:
    """Noise, rows or columns: the norms of a batch of any composition leave them apart."""
    noise = torch.Generator().manual_seed(seed)
    wave = torch.tensor([1.0, -1.0]).repeat(3)
    patterns = torch.stack([torch.zeros(6, 6), wave.expand(6, 6), wave[:, None].expand(6, 6)])

    def split(n: int) -> Split:
        targets = torch.arange(n) % CLASSES
        return Split(torch.randn(n, 1, 6, 6, generator=noise) + 2 * patterns[targets, None], targets)

    names = tuple(map(str, range(CLASSES)))
    return Data("tiny", split(inner), split(outer), split(7), names, augment, "", (0.0,), (1.0,), (0.0, 1.0))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def tiny() -> SimpleNamespace:
    """`space`, `data(inner, outer)`, and `search(...)`: always the same one, from its beginning."""

    def search(
        *,
        controller: Any = None,
        estimator: Any = None,
        data: Data | None = None,
        loss: Callable[..., Any] = F.cross_entropy,
        seed: int = 0,
        guards: Any = (),
        instead: Any = None,
        **schedule: Any,
    ) -> GradientSearch:
        space, data = tiny_space(), data or tiny_data()
        controller = controller or Darts()
        network = supernet(controller.supernet_space(space), data.shape, CLASSES, seed=seed)
        settings = Schedule(**{"epochs": 3, "batch_size": 4, "lr": 0.1, "monitor": 9} | schedule)
        return GradientSearch(
            space,
            network,
            meta_network(network, loss=loss),
            estimator or FirstOrder(),
            controller,
            data,
            settings,
            seed=seed,
            guards=guards,
            instead=instead,
        )

    return SimpleNamespace(space=tiny_space(), data=tiny_data, search=search, classes=CLASSES)
