"""Vision transformers: a network by hand, widths by slice and by mask, hypergradients, and a published size."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.bilevel import Estimator, FirstOrder, Unrolled
from metanas.errors import ShapeError
from metanas.exporters import Source
from metanas.exporters.python import python_code
from metanas.modes import meta_network
from metanas.network import OPS, derived, inherit, one_path, supernet
from metanas.space import Space, op


@pytest.fixture(scope="module")
def vit(problems: ModuleType) -> ModuleType:
    return problems.shipped("vit")


@pytest.fixture
def space(problems: ModuleType) -> Space:
    made: Space = problems.vit()
    return made


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_sizes(vit: ModuleType, problems: ModuleType) -> None:
    assert vit.space().size == problems.vit_size(4, 3) == 22_140
    architecture = problems.vit().parse("6x1 [3/16 -/-]")
    assert str(architecture) == "6x1 [3/16 -/-]" and set(architecture) == {"width", "depth", "attention1", "hidden1"}


def test_the_parameters_of_a_published_network(vit: ModuleType) -> None:
    """DeiT-Tiny (Touvron et al., ICML 2021, arXiv:2012.12877) has 5,717,416, of which 192 are its class token and 192
    the position of that; here the mean of the patches stands in its place.
    """
    space = vit.space(width=192, depth=12, heads=3, head=64, patch=16)
    with torch.device("meta"):
        network = derived(space, space.parse(f"192x12 [{' '.join(['192/768'] * 12)}]"), (3, 224, 224), 1000)
    assert sum(p.numel() for p in network.parameters()) == 5_717_416 - 2 * 192


def test_a_network_by_hand(space: Space, images: Tensor) -> None:
    """Attention as torch's own layer computes it."""
    network = derived(space, space.parse("8x1 [6/16 -/-]"), (2, 8, 8), 3, seed=4).double()
    w = dict(network.named_parameters())
    rows = (
        images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(4, 4, 32)
    )  # (batch, patches, pixels)
    x = rows @ w["patches.weight"].flatten(1).T + w["patches.bias"] + w["patches.position"]
    normed = F.layer_norm(x, (8,), w["block1/norm1.weight"], w["block1/norm1.bias"])
    heads = []
    for h in range(2):
        q, k, v = (
            normed @ w[f"block1/attention.{name}.weight"][3 * h : 3 * h + 3].T
            + w[f"block1/attention.{name}.bias"][3 * h : 3 * h + 3]
            for name in ("query", "key", "value")
        )
        heads.append(F.scaled_dot_product_attention(q, k, v))
    told = torch.cat(heads, 2) @ w["block1/told/from_attention.weight"].T + w["block1/told/from_attention.bias"] + x
    y = F.layer_norm(told, (8,), w["block1/norm2.weight"], w["block1/norm2.bias"])
    y = F.gelu(y @ w["block1/up.weight"].T + w["block1/up.bias"])
    y = y @ w["block1/out/from_active.weight"].T + w["block1/out/from_active.bias"] + told
    y = F.layer_norm(y, (8,), w["trunk.weight"], w["trunk.bias"]).mean(1)
    torch.testing.assert_close(network(images), y @ w["head.weight"].T + w["head.bias"], rtol=1e-12, atol=1e-12)


def test_slices_and_one_hot_masks_are_the_derived_network(space: Space, images: Tensor) -> None:
    whole = supernet(space, (2, 8, 8), 3, seed=1).double()
    with torch.no_grad():
        for p in whole.parameters():  # biases that would leak out of features that are switched off
            p += 0.2
    for seed in range(6):
        architecture = space.sample(np.random.default_rng(seed))
        part = derived(space, architecture, (2, 8, 8), 3, phase="search").double()
        assert inherit(part, dict(whole.named_parameters())) == ()
        hot = {
            c.name: torch.tensor([float(x in architecture.get(c.name, c.options[:1])) for x in c.candidates]).double()
            for c in space.choices
        }
        for mix in (one_path(space.choices, architecture), hot):
            torch.testing.assert_close(whole(images, mix=mix), part(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("estimator", [FirstOrder(0), Unrolled(1)], ids=["first-order", "unrolled"])
def test_the_hypergradient_is_the_finite_difference(space: Space, images: Tensor, estimator: Estimator) -> None:
    network = supernet(space, (2, 8, 8), 3, seed=1).double()
    problem = meta_network(network)
    theta = {name: p.detach() for name, p in network.named_parameters()}
    generator = torch.Generator().manual_seed(3)
    mix = {
        c.name: torch.rand(len(c.candidates), generator=generator, dtype=torch.float64).softmax(0).requires_grad_()
        for c in space.choices
    }
    batches = (images, torch.tensor([0, 1, 2, 0])), (images.flip(0), torch.tensor([1, 0, 2, 2]))
    found = estimator(problem, theta, {"mix": mix}, *batches).gradient["mix"]
    for name in ("width", "attention1", "hidden2", "depth"):
        direction = torch.tensor([1.0, -0.5, 0.3][: len(mix[name])]).double()
        ends = []
        for step in (1e-6, -1e-6):
            moved = {**mix, name: (mix[name].detach() + step * direction).requires_grad_()}
            ends.append(float(estimator(problem, theta, {"mix": moved}, *batches).outer_loss))
        assert float(found[name] @ direction) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-8), name


def test_the_exported_block_is_one_class(space: Space) -> None:
    architecture = space.parse("6x2 [3/16 6/16]")
    network = derived(space, architecture, (2, 8, 8), 3)
    text = python_code(network, Source(architecture, space.name, ("a", "b", "c"), structure=space), "network")
    assert "A cell, used 2 times; it keeps the shape: (batch, time, 6)." in text
    assert "self.block1 = Block(3)" in text and "self.block2 = Block(6)" in text


def test_inputs_that_do_not_fit(space: Space) -> None:
    with pytest.raises(ShapeError, match=r"patches: patches.*\(patches of 4x4 do not fill it"):
        supernet(space, (1, 10, 8), 3)
    with pytest.raises(ShapeError, match="it takes images"):
        supernet(space, (10,), 3)
    for kind in ("attention", "token_norm", "token_mean"):
        with pytest.raises(ShapeError, match=r"it takes sequences \(time, features\)"):
            OPS[kind](op(kind), (3, 8, 8), "search")
    with pytest.raises(ShapeError, match="a width of 10 is not made up of heads of 8 features"):
        OPS["attention"](op("attention", width=10), (4, 6), "search")
    with pytest.raises(ShapeError, match="as wide as its input: 6 features, not 4"):
        OPS["token_norm"](op("token_norm", width=4), (4, 6), "search")


@pytest.mark.parametrize("options", [{"width": 6}, {"width": 0}, {"depth": 0}, {"heads": 0}, {"head": 0}, {"patch": 0}])
def test_settings_that_cannot_be(vit: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="width must be a positive multiple of 4, depth, heads, head and patch >= 1"):
        vit.space(**options)
