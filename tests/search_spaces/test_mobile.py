"""Mobile networks: a network by hand, widths by slice and by mask, and hypergradients through all of it."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.bilevel import Estimator, FirstOrder, Unrolled
from metanas.errors import ShapeError
from metanas.modes import meta_network
from metanas.network import OPS, derived, inherit, one_path, supernet
from metanas.space import Space, op

ONE = "2x3[3/12/none 5/24/excite -/-/-]"


@pytest.fixture(scope="module")
def mobile(problems: ModuleType) -> ModuleType:
    return problems.shipped("mobile")


@pytest.fixture
def space(mobile: ModuleType) -> Space:
    made: Space = mobile.space(4, 1, 3, head=6)
    return made


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_sizes(mobile: ModuleType, problems: ModuleType) -> None:
    assert mobile.space().size == problems.mobile_size(3, 4) == 37_057_929_853_283_136
    assert mobile.space(8, 2, 2).size == problems.mobile_size(2, 2) == (3 * 18**2) ** 2


def test_what_is_beyond_the_depth_does_not_matter(space: Space) -> None:
    architecture = space.parse(ONE)
    assert str(architecture) == ONE and "kernel1.3" not in architecture and architecture["depth1"] == ("2",)


def test_a_network_by_hand(space: Space, images: Tensor) -> None:
    network = derived(space, space.parse(ONE), (2, 6, 6), 3, seed=4).double().eval()
    w = dict(network.named_parameters())

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1, *, active: bool = True) -> Tensor:
        weight = w[f"{name}.weight"]
        y = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups) / (1 + 1e-5) ** 0.5  # fresh statistics
        return F.relu(y) if active else y

    x = F.relu(F.conv2d(images, w["stem.0.weight"], None, 1, 1) / (1 + 1e-5) ** 0.5)
    for name, kernel, stride in (("block1", "3", 2), ("block2", "5", 1)):
        path = f"stage1/{name}"
        y = conv(x, f"{path}/wide")
        y = conv(y, f"{path}/across/{kernel}", stride, y.shape[1])
        if name == "block2":
            inner = F.relu(
                F.linear(y.mean((2, 3)), w[f"{path}/scaled/excite.down.weight"], w[f"{path}/scaled/excite.down.bias"])
            )
            gate = F.linear(inner, w[f"{path}/scaled/excite.up.weight"], w[f"{path}/scaled/excite.up.bias"])
            y = y * gate.sigmoid()[:, :, None, None]
        y = conv(y, f"{path}/out/from_scaled" if stride == 1 else f"{path}/out", active=False)
        x = y + x if stride == 1 else y
    x = conv(x, "last").mean((2, 3))
    expected = F.linear(x, w["head.2.weight"], w["head.2.bias"])
    torch.testing.assert_close(network(images), expected, rtol=1e-12, atol=1e-12)
    first, second = 12 * 4 + 12 * 9 + 3 * 12 + 2 * (12 + 12 + 3), 24 * 3 + 24 * 25 + 3 * 24 + 2 * (24 + 24 + 3)
    squeezed = 24 * 3 + 3 + 3 * 24 + 24
    around = 2 * 9 * 4 + 2 * 4, 3 * 6 + 2 * 6, 6 * 3 + 3
    assert sum(p.numel() for p in network.parameters()) == first + second + squeezed + sum(around)


def test_slices_and_one_hot_masks_are_the_derived_network(space: Space, images: Tensor) -> None:
    whole = supernet(space, (2, 6, 6), 3, seed=1).double()
    with torch.no_grad():
        for name, p in whole.named_parameters():  # shifts that would leak out of channels that are switched off
            p += 0.3 if name.endswith(("shift", "bias")) else 0.0
    weights = dict(whole.named_parameters())
    for seed in range(6):
        architecture = space.sample(np.random.default_rng(seed))
        part = derived(space, architecture, (2, 6, 6), 3, phase="search").double()
        assert inherit(part, weights) == ()
        hot = {
            c.name: torch.tensor([float(x in architecture.get(c.name, c.options[:1])) for x in c.candidates]).double()
            for c in space.choices
        }
        for mix in (one_path(space.choices, architecture), hot):
            torch.testing.assert_close(whole(images, mix=mix), part(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("estimator", [FirstOrder(0), Unrolled(1)], ids=["first-order", "unrolled"])
def test_the_hypergradient_is_the_finite_difference(mobile: ModuleType, images: Tensor, estimator: Estimator) -> None:
    space = mobile.space(4, 1, 2, head=4)
    network = supernet(space, (2, 6, 6), 3, seed=1).double()
    problem = meta_network(network)
    theta = {name: p.detach() for name, p in network.named_parameters()}
    generator = torch.Generator().manual_seed(3)
    mix = {
        c.name: torch.rand(len(c.candidates), generator=generator, dtype=torch.float64).softmax(0).requires_grad_()
        for c in space.choices
    }
    batches = (images, torch.tensor([0, 1, 2, 0])), (images.flip(0), torch.tensor([1, 0, 2, 2]))
    found = estimator(problem, theta, {"mix": mix}, *batches).gradient["mix"]
    for name in ("kernel1.2", "middle1.1", "squeeze1.2", "width1"):
        direction = torch.tensor([1.0, -0.5, 0.3][: len(mix[name])]).double()
        ends = []
        for step in (1e-6, -1e-6):
            moved = {**mix, name: (mix[name].detach() + step * direction).requires_grad_()}
            ends.append(float(estimator(problem, theta, {"mix": moved}, *batches).outer_loss))
        assert float(found[name] @ direction) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=1e-7), name


def test_a_depthwise_convolution_is_as_wide_as_its_input() -> None:
    with pytest.raises(ShapeError, match="as wide as its input: 4 channels, not 6"):
        OPS["elastic_depthwise"](op("elastic_depthwise", width=6, kernel=3), (4, 8, 8), "search")


@pytest.mark.parametrize(
    "options", [{"channels": 6}, {"channels": 0}, {"depth": 1}, {"stages": 0}, {"stem_stride": 0}, {"head": 0}]
)
def test_settings_that_cannot_be(mobile: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="channels must be a positive multiple of 4, depth >= 2"):
        mobile.space(**options)
