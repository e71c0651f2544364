"""DARTS's recurrent cell: its size, its parameters, a network by hand, gradients through the loop, and a search."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.bilevel import Estimator, FirstOrder, Unrolled
from metanas.errors import ShapeError
from metanas.exporters import Source
from metanas.exporters.python import python_code
from metanas.modes import meta_network
from metanas.network import OPS, derived, supernet
from metanas.space import op


@pytest.fixture(scope="module")
def module(problems: ModuleType) -> ModuleType:
    return problems.shipped("sequence")


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_size(module: ModuleType) -> None:
    assert module.space().size == math.factorial(8) * 4**8 == 2_642_411_520
    assert module.space(nodes=1).size == 4


def test_the_published_cell(module: ModuleType) -> None:
    """With the embedding of 10,000 words, that is read out by its transpose and a bias, the 23 M of Penn Treebank."""
    space = module.space(width=850)
    architecture = space.parse(module.DARTS)
    assert str(architecture) == module.DARTS
    with torch.device("meta"):
        network = derived(space, architecture, (35, 850), 1)
    cell = sum(p.numel() for name, p in network.named_parameters() if name.startswith("cell"))
    assert cell == (850 + 850) * 1700 + 8 * 850 * 1700
    assert round((cell + 10_000 * 850 + 10_000) / 1e6) == 23


FUNCTIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda x: x}


@pytest.mark.parametrize("phase", ["search", "scratch"])
def test_a_network_by_hand(module: ModuleType, x: Tensor, phase: str) -> None:
    chosen = (("sigmoid", 0), ("relu", 0), ("identity", 2))
    space = module.space(4, 3)
    architecture = space.parse(" ".join(f"{f}({source})" for f, source in chosen))
    network = derived(space, architecture, (5, 3), 2, phase=phase, seed=3).double()  # type: ignore[arg-type]
    w = dict(network.named_parameters())

    def highway(name: str, value: Tensor, function: str) -> Tensor:
        gate, new = (value @ w[f"cell.{name}.linear.weight"].T).split(4, 1)
        moved = value[:, :4] + gate.sigmoid() * (FUNCTIONS[function](new) - value[:, :4])
        return F.batch_norm(moved, None, None, training=True) if phase == "search" else moved

    h = x.new_zeros(6, 4)
    for t in range(5):
        nodes = [highway("start", torch.cat([h, x[:, t]], 1), "tanh")]
        for i, (function, source) in enumerate(chosen, 1):
            nodes.append(highway(f"new{i}/{function}", nodes[source], function))
        h = sum(nodes[2:], start=nodes[1]) / 3
    torch.testing.assert_close(network(x), h @ w["head.0.weight"].T + w["head.0.bias"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", [FirstOrder(0), Unrolled(1)], ids=["first-order", "unrolled"])
def test_the_hypergradient_is_the_finite_difference(module: ModuleType, x: Tensor, estimator: Estimator) -> None:
    space = module.space(3, 2)
    network = supernet(space, (5, 3), 2, seed=1).double()
    problem = meta_network(network)
    theta = {name: p.detach() for name, p in network.named_parameters()}
    generator = torch.Generator().manual_seed(3)
    mix = {
        c.name: torch.rand(len(c.candidates), generator=generator, dtype=torch.float64).softmax(0).requires_grad_()
        for c in space.choices
    }
    batches = (x, torch.arange(6) % 2), (x.flip(0), torch.arange(6) // 3)
    found = estimator(problem, theta, {"mix": mix}, *batches).gradient["mix"]
    for name in ("function1", "read2", "function2"):
        direction = torch.tensor([1.0, -0.5, 0.3, 0.7][: len(mix[name])]).double()
        ends = []
        for step in (1e-6, -1e-6):
            moved = {**mix, name: (mix[name].detach() + step * direction).requires_grad_()}
            ends.append(float(estimator(problem, theta, {"mix": moved}, *batches).outer_loss))
        assert float(found[name] @ direction) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=1e-7), name


def test_images_are_read_by_rows_and_rows_by_numbers(module: ModuleType, x: Tensor) -> None:
    space = module.space(4, 1)
    architecture = space.parse("tanh(0)")
    image = x.view(6, 1, 5, 3).float()
    one, two = (derived(space, architecture, shape, 2, seed=1).eval() for shape in ((5, 3), (1, 5, 3)))
    assert torch.equal(one(x.float()), two(image))
    rows = OPS["sequence"](op("sequence"), (5,), "search")(x[:, :, 0])
    assert torch.equal(rows, x[:, :, :1])
    rows = OPS["sequence"](op("sequence"), (2, 5, 3), "search")(torch.cat([image, -image], 1))
    assert torch.equal(rows, torch.cat([image[:, 0], -image[:, 0]], 2))


def test_the_exported_cell_reads_well(module: ModuleType) -> None:
    space = module.space(4, 2)
    architecture = space.parse("tanh(0) relu(0)")
    source = Source(architecture, space.name, ("a", "b"), structure=space)
    text = python_code(derived(space, architecture, (1, 5, 3), 2), source, "network")
    assert "class ReLUHighway" in text and "BatchNorm" not in text and "x.transpose(1, 2).flatten(2)" in text


def test_what_a_highway_does_not_take() -> None:
    with pytest.raises(ShapeError, match="the first 5 features are carried, and there are 3"):
        OPS["highway"](op("highway", width=5, activation="tanh"), (3,), "search")
    with pytest.raises(ShapeError, match=r"it takes rows \(features,\)"):
        OPS["highway"](op("highway", width=2, activation="tanh"), (4, 3), "search")


@pytest.mark.parametrize("options", [{"width": 0}, {"nodes": 0}])
def test_settings_that_cannot_be(module: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="width and nodes must be >= 1, got"):
        module.space(**options)


def test_a_vocabulary_that_cannot_be(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="vocabulary must be >= 0, got -1"):
        module.space(vocabulary=-1)
