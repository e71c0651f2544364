"""Blocks that mix a sequence: each way by hand, what does not fit, and hypergradients through all of them."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.bilevel import Estimator, FirstOrder, Unrolled
from metanas.errors import ShapeError
from metanas.modes import meta_network
from metanas.network import OPS, derived, supernet
from metanas.space import op

LABELS = ("attention", "conv3", "conv7", "matrix", "none")


@pytest.fixture(scope="module")
def mixers(problems: ModuleType) -> ModuleType:
    return problems.shipped("mixers")


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_size(mixers: ModuleType) -> None:
    assert mixers.space().size == sum(15**blocks for blocks in range(1, 5)) == 54_240


@pytest.mark.parametrize("label", LABELS)
def test_a_network_by_hand(mixers: ModuleType, x: Tensor, label: str) -> None:
    space = mixers.space(4, 2, head=2)
    network = derived(space, space.parse(f"1 [{label}/8 -/-]"), (5, 3), 2, seed=3).double()
    w = dict(network.named_parameters())

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def mixed(value: Tensor) -> Tensor:
        path = f"block1/mixed/{label}"
        if label == "attention":
            q, k, v = (linear(f"{path}.{name}", value).unflatten(2, (2, 2)).transpose(1, 2)
                       for name in ("query", "key", "value"))  # fmt: skip
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        if label.startswith("conv"):
            half = int(label[-1]) // 2
            padded = F.pad(value, (0, 0, half, half))
            taps = w[f"{path}.conv.weight"][:, 0]  # (features, kernel)
            return sum(padded[:, k : k + 5] * taps[:, k] for k in range(2 * half + 1)) + w[f"{path}.conv.bias"]
        if label == "matrix":
            matrix = w[f"{path}.linear.weight"]
            return torch.einsum("ts,bsf->btf", matrix, value) + w[f"{path}.linear.bias"][:, None]
        return value

    y = linear("mapped.0", x) + w["placed.place"]
    norm1, norm2, trunk = ((w[f"{n}.weight"], w[f"{n}.bias"]) for n in ("block1/norm1", "block1/norm2", "trunk"))
    y = y + linear("block1/told/from_mixed.0", mixed(F.layer_norm(y, (4,), *norm1)))
    y = y + linear("block1/out/from_active", F.gelu(linear("block1/up", F.layer_norm(y, (4,), *norm2))))
    expected = linear("head.0", F.layer_norm(y, (4,), *trunk).mean(1))
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", [FirstOrder(0), Unrolled(1)], ids=["first-order", "unrolled"])
def test_the_hypergradient_is_the_finite_difference(mixers: ModuleType, x: Tensor, estimator: Estimator) -> None:
    space = mixers.space(4, 2, head=2)
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
    for name in ("mix1", "hidden2", "depth"):
        direction = torch.tensor([1.0, -0.5, 0.3, 0.7, -0.2][: len(mix[name])]).double()
        ends = []
        for step in (1e-6, -1e-6):
            moved = {**mix, name: (mix[name].detach() + step * direction).requires_grad_()}
            ends.append(float(estimator(problem, theta, {"mix": moved}, *batches).outer_loss))
        assert float(found[name] @ direction) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-8), name


def test_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"an even kernel \(4\) does not keep the length"):
        OPS["token_conv"](op("token_conv", kernel=4), (5, 3), "search")
    for kind in ("token_conv", "token_mix", "position"):
        with pytest.raises(ShapeError, match=r"it takes sequences \(time, features\)"):
            OPS[kind](op(kind, kernel=3), (3, 8, 8), "search")


@pytest.mark.parametrize("options", [{"width": 0}, {"depth": 0}, {"head": 0}, {"width": 12, "head": 8}])
def test_settings_that_cannot_be(mixers: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="width, depth and head must be >= 1, width a multiple of head, got"):
        mixers.space(**options)


def test_a_vocabulary_that_cannot_be(mixers: ModuleType) -> None:
    with pytest.raises(ValueError, match="vocabulary must be >= 0, got -1"):
        mixers.space(vocabulary=-1)
