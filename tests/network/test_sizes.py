"""Sizes that are chosen: numbers that compute, layers that become narrower, mixtures of widths."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metanas.errors import SpaceError
from metanas.network import Taken, choose, own_supernet, space_of
from metanas.network.sizes import ChosenSize, resize, sizes_of

DOUBLE = torch.float64


def width() -> ChosenSize:
    return choose.size("width", (2, 4, 6))


def test_a_size_is_its_largest_number() -> None:
    size = width()
    assert size == 6 and isinstance(size, int) and f"{size}" == "6" and torch.empty(size, 2).shape == (6, 2)
    assert type(int(size)) is int
    for twin in (copy.deepcopy(size), pickle.loads(pickle.dumps(size))):
        assert (twin, twin.choice, twin.options, twin.values) == (6, "width", (2, 4, 6), (2, 4, 6))


@pytest.mark.parametrize(
    ("compute", "values"),
    [
        (lambda n: 3 * n, (6, 12, 18)), (lambda n: n * 3, (6, 12, 18)), (lambda n: n + 1, (3, 5, 7)),
        (lambda n: 1 + n, (3, 5, 7)), (lambda n: n - 1, (1, 3, 5)), (lambda n: n // 2, (1, 2, 3)),
        (lambda n: n * n, (4, 16, 36)), (lambda n: 2 * n - n, (2, 4, 6)),
    ],
)  # fmt: skip
def test_numbers_computed_from_a_size_are_chosen_with_it(compute: Callable[[Any], Any], values: Any) -> None:
    found = compute(width())
    assert isinstance(found, ChosenSize)
    assert (found, found.values, found.options, found.choice) == (values[-1], values, (2, 4, 6), "width")


def test_what_is_the_same_at_every_size_is_a_plain_number() -> None:
    assert width() // width() == 1 and type(width() // width()) is int
    assert width() * 0 == 0 and type(width() - width()) is int


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda n: 8 - n, r"size 'width' becomes \(6, 4, 2\): it must stay >= 1 and grow"),
        (lambda n: n - 2, r"becomes \(0, 2, 4\)"),
        (lambda n: n // 4, r"becomes \(0, 1, 1\)"),
        (lambda n: n / 2, r"computed with 2; \+, -, \* and // .* int\(size\) is its largest"),
        (lambda n: 1 / n, "computed with 1"),
        (lambda n: n * 0.5, "computed with 0.5"),
        (lambda n: n + choose.size("other", (1, 2)), "sizes 'width' and 'other' are combined"),
    ],
)
def test_what_would_be_no_size_is_refused(compute: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        compute(width())


def layers(n: Any, m: Any) -> list[nn.Module]:
    """Layers between n and m features."""
    return [
        nn.Linear(n, m), nn.Linear(n, m, bias=False), nn.Conv1d(n, m, 3), nn.Conv2d(n, m, 3, stride=2, padding=1),
        nn.Conv3d(n, m, 1), nn.Conv2d(n, n, 3, groups=n), nn.BatchNorm1d(n), nn.BatchNorm2d(n, affine=False),
        nn.BatchNorm3d(n), nn.Embedding(5, n),
    ]  # fmt: skip


@pytest.mark.parametrize("k", range(len(layers(2, 3))), ids=[type(layer).__name__ for layer in layers(2, 3)])
def test_a_narrower_layer_is_the_first_features_of_the_widest(k: int) -> None:
    wide, hand = layers(width(), 2 * width())[k], layers(4, 8)[k]
    for norm in (wide, hand):
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean.copy_(torch.arange(norm.num_features))
    narrow = copy.deepcopy(wide)
    resize(narrow, {"width": ("4",)})
    assert repr(narrow) == repr(hand) and not list(sizes_of(narrow))
    state = hand.state_dict()
    assert narrow.state_dict().keys() == state.keys()
    for name, value in narrow.state_dict().items():
        assert value.shape == state[name].shape and value.dtype == state[name].dtype
        assert torch.equal(value, wide.state_dict()[name][tuple(slice(n) for n in value.shape)])
    assert [type(p) for p in narrow.parameters()] == [nn.Parameter] * len(list(hand.parameters()))


def test_frozen_weights_stay_frozen() -> None:
    layer = nn.Linear(width(), 2).requires_grad_(False)
    resize(layer, {"width": ("2",)})
    assert not any(p.requires_grad for p in layer.parameters())


class Remembers(nn.Module):
    """A module of one's own that keeps numbers."""

    def __init__(self) -> None:
        super().__init__()
        n = width()
        self.n, self._twice, self.rows, self.by_name = n, 2 * n, [n, (n, 3)], {"n": n}


def test_numbers_that_a_module_keeps_become_plain() -> None:
    module = Remembers()
    resize(module, {"width": ("4",)})
    assert (module.n, module._twice, module.rows, module.by_name) == (4, 8, [4, (4, 3)], {"n": 4})
    assert not list(sizes_of(module)) and type(module.n) is type(module.rows[1][0]) is int


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda n: nn.LayerNorm(n), r"size 'width': 0 \(LayerNorm\) cannot be narrower than it is; allowed: Linear"),
        (lambda n: nn.GroupNorm(2, n), r"0 \(GroupNorm\) cannot be narrower"),
        (lambda n: nn.MultiheadAttention(n, 2), r"0 \(MultiheadAttention\) cannot be narrower"),
        (lambda n: nn.Conv2d(3, 3, n), r"kernel_size of 0 \(Conv2d\) cannot be a size; choose among layers instead"),
        (lambda n: nn.Conv2d(n, n, 1, groups=2), r"0 \(Conv2d\) has 2 groups, which a slice would cut through; take 1"),
    ],
)  # fmt: skip
def test_layers_that_cannot_be_narrower_are_refused(layer: Callable[[Any], nn.Module], message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        space_of(nn.Sequential(layer(width())))
    assert "\n" not in str(caught.value)


class Two(nn.Module):
    """What works on each feature alone, and is not 0 at 0, stands between two layers."""

    def __init__(self, n: Any) -> None:
        super().__init__()
        self.first, self.each, self.norm = nn.Conv2d(1, n, 1), nn.Conv2d(n, n, 1, groups=n), nn.BatchNorm2d(n)
        self.act, self.last = nn.Sigmoid(), nn.Linear(4 * n, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.norm(self.first(x)) + self.each(self.first(x))).flatten(1))


def test_a_mixture_of_widths_is_the_mixture_of_what_each_gives() -> None:
    """Exactly, with a norm and a sigmoid between: each width alone is a network of layers as narrow."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Two(width()).double()
    x = torch.randn(4, 1, 2, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    network = own_supernet(space_of(module), module, (1, 2, 2))
    alone = []
    for size in ("2", "4", "6"):
        narrow = copy.deepcopy(module)
        for layer in narrow.modules():
            resize(layer, {"width": (size,)})
        alone.append(narrow.train()(x))
    for k, y in enumerate(alone):
        torch.testing.assert_close(network(x, mix={"width": k}), y, rtol=0, atol=1e-12)
    row = torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE)
    expected = sum(w * y for w, y in zip(row, alone, strict=True))
    torch.testing.assert_close(network(x, mix={"width": row}), expected, rtol=0, atol=1e-12)
    one = torch.tensor([0.0, 1.0, 0.0], dtype=DOUBLE, requires_grad=True)
    y = network(x, mix={"width": Taken(1, one)})
    torch.testing.assert_close(y, alone[1], rtol=0, atol=1e-12)
    (slope,) = torch.autograd.grad(y.sum(), one)
    features = torch.stack([(y - module.last.bias).sum() for y in alone])  # a bias is added whatever the width
    torch.testing.assert_close(slope, features, rtol=0, atol=1e-9)
