"""Plain networks: against the same by hand, without norms, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.errors import ShapeError, SpaceError
from metanas.exporters import Source, write
from metanas.network import derived
from metanas.recipe.spaces import load_space
from metanas.space import space_from_json, space_to_json

ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "gelu": F.gelu}


def made(problems: Any, shape: tuple[int, ...], outputs: int, **options: Any) -> nn.Module:
    space = problems.shipped("plain").space(**options)
    return derived(space, space.architecture({}), shape, outputs, seed=1).double().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_linear_model(problems: Any, images: Tensor) -> None:
    network = made(problems, (2, 8, 8), 3, kind="linear")
    weight, bias = network.parameters()
    assert weight.shape == (3, 128)
    torch.testing.assert_close(network(images), images.flatten(1) @ weight.T + bias)
    rows = torch.randn(5, 7, dtype=torch.float64)
    network = made(problems, (7,), 1, kind="linear")
    weight, bias = network.parameters()
    torch.testing.assert_close(network(rows), rows @ weight.T + bias)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 3])
def test_a_perceptron(problems: Any, images: Tensor, activation: str, depth: int) -> None:
    network = made(problems, (2, 8, 8), 3, width=5, depth=depth, activation=activation)
    x, parameters = images.flatten(1), list(network.parameters())
    assert [tuple(p.shape) for p in parameters] == [(5, 128), (5,), *[(5, 5), (5,)] * (depth - 1), (3, 5), (3,)]
    pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
    for weight, bias in pairs[:-1]:
        x = ACTIVATIONS[activation](x @ weight.T + bias)
    torch.testing.assert_close(network(images), x @ pairs[-1][0].T + pairs[-1][1])


def test_a_convolutional_network(problems: Any, images: Tensor) -> None:
    network = made(problems, (2, 8, 8), 3, kind="conv", width=4, depth=2, activation="tanh")
    parameters = list(network.parameters())
    shapes = [(4, 2, 3, 3), (4,), (8, 4, 3, 3), (8,), (3, 8), (3,)]
    assert [tuple(p.shape) for p in parameters] == shapes
    x = images
    for weight, bias in zip(parameters[:4:2], parameters[1:4:2], strict=True):
        x = F.max_pool2d(torch.tanh(F.conv2d(x, weight, bias, padding=1)), 2)
    torch.testing.assert_close(network(images), x.mean((2, 3)) @ parameters[-2].T + parameters[-1])


@pytest.mark.parametrize("kind", ["linear", "perceptron", "conv"])
def test_no_statistics_and_nothing_to_choose(problems: Any, kind: str) -> None:
    space = problems.shipped("plain").space(kind=kind)
    assert space.size == 1 and not space.choices and space_from_json(space_to_json(space)) == space
    assert space.settings["kind"] == kind
    network = made(problems, (1, 8, 8), 10, kind=kind)
    assert not list(network.buffers()) and len(list(network.parameters())) == len(network.state_dict())


@pytest.mark.parametrize("kind", ["linear", "perceptron", "conv"])
def test_exported(problems: Any, tmp_path: Any, kind: str) -> None:
    """Each format is compared with the network as it is written."""
    space = problems.shipped("plain").space(kind=kind, width=4, depth=2)
    network = derived(space, space.architecture({}), (1, 8, 8), 3, seed=1).eval()
    source = Source(space.architecture({}), "plain", ("a", "b", "c"), (0.0,), (1.0,), (0.0, 1.0))
    paths = write(network, source, folder=tmp_path, formats=["json", "safetensors", "python"])
    assert [p.name for p in paths] == ["architecture.json", "network.safetensors", "network.py"]
    assert "metanas" not in paths[2].read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "cnn"}, "kind must be one of linear, perceptron, conv, got 'cnn'"),
        ({"width": 0}, "width and depth must be >= 1, got 0 and 1"),
        ({"depth": -1}, "width and depth must be >= 1, got 64 and -1"),
    ],
)
def test_options_that_cannot_be(problems: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        problems.shipped("plain").space(**options)
    assert str(caught.value) == said
    with pytest.raises(SpaceError) as caught:
        load_space("plain", **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_images_that_are_too_small_for_its_depth(problems: Any) -> None:
    with pytest.raises(ShapeError):
        made(problems, (1, 8, 8), 3, kind="conv", width=2, depth=5)
