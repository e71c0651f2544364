"""How fast a search steps on this machine, beside what a supernet costs when every edge runs every candidate by itself.

    per edge    one module a candidate, gradients of everything at every step, torch's own optimisers: what public
                implementations of differentiable search do
    plain       a step of `GradientSearch` on the plain executor
    fused       the same on the fused one
    captured    and that as a CUDA graph; on a GPU

A step is one of the weights (SGD, momentum, clipped) and one of the structure (DARTS, first order, Adam), each on a
batch of its own. All take turns in one process, so that what else the machine does falls on all alike.

Of a module with choices marked in it (`metanas.choose`) there is no fused executor: nobody knows what it computes.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from metanas.bilevel import CudaGraphs, FirstOrder, Graphs
from metanas.bilevel.capture import WARM
from metanas.controllers import Darts
from metanas.data import Data, Split
from metanas.errors import ShapeError
from metanas.loop import GradientSearch, Schedule
from metanas.modes import meta_network
from metanas.network import Network, fused, own_supernet, space_of, supernet
from metanas.recipe.tables import make_device
from metanas.space import Space

LR, MOMENTUM, DECAY, CLIP = 0.025, 0.9, 3e-4, 5.0


@dataclass(frozen=True)
class Timing:
    """One way to step: the median of its steps in seconds, and each of them."""

    way: str
    seconds: float
    steps: tuple[float, ...]


def place_of(device: str | None) -> tuple[torch.device, str]:
    """A device by its name (None: CUDA where it is there, else the CPU), and a word on it.

    Raises:
        RecipeError: it is not there.
    """
    place = make_device(device or "auto")
    word = torch.cuda.get_device_name(place) if place.type == "cuda" else f"CPU, threads: {torch.get_num_threads()}"
    return place, f"{word}, torch {torch.__version__}"


def bench(
    space: Space | nn.Module,
    shape: tuple[int, ...] = (3, 32, 32),
    *,
    classes: int = 10,
    batch_size: int = 64,
    repeats: int = 5,
    device: torch.device | None = None,
) -> tuple[Timing, ...]:
    """Times a step of each way, in turn, after those that are not counted: the first one, or what is recorded.

    Args:
        space: or a module of your own with choices marked in it; it is copied.
        shape: of an image, without the batch; its pixels are random.
        repeats: steps of each way.
        device: None: the CPU.

    Raises:
        SpaceError: nothing in the space can be learned by gradients.
        ShapeError: the module does not take such inputs, or does not give so many classes.

    >>> from metanas import load_space
    >>> times = bench(load_space("nasbench201", channels=2, cells=1), (1, 8, 8), batch_size=4, repeats=1)
    >>> [timing.way for timing in times], all(timing.seconds > 0 for timing in times)
    (['per edge', 'plain', 'fused'], True)
    """
    device = device or torch.device("cpu")
    first = 1 if device.type == "cpu" else WARM + 2
    data = _images(shape, classes, (repeats + first + 1) * batch_size).to(device)
    searched = space if isinstance(space, Space) else space_of(space)
    ways: dict[str, Callable[[], object]] = {
        "per edge": _per_edge(searched, _supernet(space, data), data, batch_size),
        "plain": _searching(searched, _supernet(space, data), data, batch_size),
    }
    if isinstance(space, Space):
        ways["fused"] = _searching(searched, fused(_supernet(space, data)), data, batch_size)
        if device.type == "cuda":
            graphs = CudaGraphs(device, warnings.warn)
            ways["captured"] = _searching(searched, fused(_supernet(space, data)), data, batch_size, graphs)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + first):
        for way, step in ways.items():
            _settle(device)
            begun = time.perf_counter()
            step()
            _settle(device)
            if repeat >= first:
                times[way].append(time.perf_counter() - begun)
    return tuple(Timing(way, statistics.median(rows), tuple(rows)) for way, rows in times.items())


def _settle(device: torch.device) -> None:
    """Waits for an accelerator: its work is not over when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _images(shape: tuple[int, ...], classes: int, count: int) -> Data:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, *shape, generator=generator)
    split = Split(pixels, torch.arange(count) % classes)
    names = tuple(map(str, range(classes)))
    return Data("random", split, split, split, names, (), "", (0.0,), (1.0,), (0.0, 1.0))


def _supernet(space: Space | nn.Module, data: Data) -> Network:
    """A new one, on the data's device."""
    if isinstance(space, Space):
        return supernet(space, data.shape, data.outputs).to(data.device)
    network = own_supernet(space_of(space), copy.deepcopy(space), data.shape)
    given = network.shapes[network.program.output]
    if given != (data.outputs,):
        raise ShapeError(f"the module gives {given} for inputs {data.shape}; to be timed it gives ({data.outputs},)")
    return network.to(data.device)


def _searching(
    space: Space, network: Network, data: Data, batch_size: int, graphs: Graphs | None = None
) -> Callable[[], object]:
    """A step of a search, whose only epoch is longer than what is timed: no report is in it."""
    schedule = Schedule(epochs=1, batch_size=batch_size, lr=LR, weight_decay=DECAY, clip=CLIP)
    problem, controller = meta_network(network), Darts()
    search = GradientSearch(space, network, problem, FirstOrder(), controller, data, schedule, seed=0, graphs=graphs)
    return search.steps().__next__


def _per_edge(space: Space, network: Network, data: Data, batch_size: int) -> Callable[[], None]:
    for p in network.parameters():
        p.data = p.data.contiguous()
    omega = Darts().start(space, generator=torch.Generator().manual_seed(0))
    rows = {name: row.to(data.device).requires_grad_() for name, row in omega.items()}
    sgd = torch.optim.SGD(network.parameters(), LR, MOMENTUM, weight_decay=DECAY)
    adam = torch.optim.Adam(rows.values(), 3e-3, (0.5, 0.999), weight_decay=1e-3)

    def pull(split: Split) -> None:
        sgd.zero_grad()
        adam.zero_grad()
        mix = {name: torch.softmax(row, -1) for name, row in rows.items()}
        loss = F.cross_entropy(network(split.inputs[:batch_size], mix=mix), split.targets[:batch_size])
        torch.autograd.backward(loss)

    def step() -> None:
        pull(data.outer)
        adam.step()
        pull(data.inner)
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        sgd.step()

    return step
