"""The builder, the operations and the plain executor."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap

from metanas.network import OPS, derived, module_name, supernet
from metanas.network.network import make
from metanas.space import Edge, Graph, Node, Space, chain, one_of, op


def x_of(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_global_generator_is_left_alone(problems):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    supernet(problems.nasbench201(), (3, 8, 8), 10, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_depend_on_the_seed_alone(problems):
    first = supernet(problems.nasbench201(), (3, 8, 8), 10, seed=5).state_dict()
    torch.manual_seed(99)
    again = supernet(problems.nasbench201(), (3, 8, 8), 10, seed=5).state_dict()
    other = supernet(problems.nasbench201(), (3, 8, 8), 10, seed=6).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_generators_of_the_accelerator_are_left_alone(problems):
    before = torch.cuda.get_rng_state()
    supernet(problems.nasbench201(), (3, 8, 8), 10, seed=5)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_phases(problems):
    """In a search a norm uses batch statistics, and inside cells it has no scale; from scratch both are there."""
    space = problems.nasbench201()
    search = supernet(space, (3, 8, 8), 10)
    scratch = derived(space, dict.fromkeys((c.name for c in space.choices), "nor_conv_3x3"), (3, 8, 8), 10)
    assert not list(search.buffers()) and list(scratch.buffers())
    cell = "stage0_cell0/1.nor_conv_3x3.2"
    assert f"{cell}.weight" not in search.state_dict() and "stem.1.weight" in search.state_dict()
    assert "stage0_cell0/1/nor_conv_3x3.2.weight" in scratch.state_dict()


def test_a_supernet_under_functional_transforms(problems):
    space = problems.nasbench201(channels=2)
    network = supernet(space, (3, 8, 8), 10).double()
    weights = {k: p.detach() for k, p in network.named_parameters()}
    mix = {c.name: torch.full((5,), 0.2, dtype=torch.float64) for c in space.choices}

    def loss(weights, mix, x):
        return functional_call(network, weights, (x,), {"mix": mix}).square().mean()

    tasks = x_of(2, 4, 3, 8, 8)
    got = vmap(grad(loss, argnums=1), in_dims=(None, None, 0))(weights, mix, tasks)
    for k in range(2):
        leaves = {n: w.clone().requires_grad_() for n, w in mix.items()}
        want = torch.autograd.grad(loss(weights, leaves, tasks[k]), list(leaves.values()))
        for a, b in zip(got.values(), want, strict=True):
            torch.testing.assert_close(a[k], b, rtol=0, atol=1e-12)


def test_what_is_not_taken_does_not_run(problems):
    space = problems.nasbench201()
    network = supernet(space, (3, 8, 8), 10)
    ran = []
    for name, module in network.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    network(x_of(2, 3, 8, 8, dtype=torch.float32), mix={c.name: 1 for c in space.choices})
    assert not any("nor_conv" in name or "avg_pool" in name for name in ran)
    assert sum("skip_connect" in name for name in ran) == 18


def test_zeros_stay_out_of_a_mixture():
    """`none` dilutes by its weight and costs nothing: NaN times zero would be NaN."""
    pick = one_of("y", {"none": op("none"), "skip": op("skip")})
    network = supernet(Space(chain(("y", pick))), (1, 2, 2), 1).double()
    x = torch.full((1, 1, 2, 2), torch.nan, dtype=torch.float64)
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert torch.isnan(network(x, mix={"y": 1})).all() and not network(x, mix={"y": 0}).any()
    ones = torch.ones_like(x)
    torch.testing.assert_close(network(ones, mix={"y": weights}), 0.75 * ones)


NAMES = ["half", "type", "training", "forward", "program", "shapes", "zeros", "phase", "scan", "last_read", "_modules"]


@pytest.mark.parametrize("name", NAMES)
def test_a_node_may_have_any_name(name):
    space = Space(chain((name, op("conv", width=2)), ("head", op("conv"))))
    network = derived(space, {}, (1, 4, 4), 2)
    assert network(torch.ones(1, 1, 4, 4)).shape == (1, 2, 4, 4)
    assert f"{module_name(name)}.0.weight" in network.state_dict()
    functional_call(network, dict(network.named_parameters()), (torch.ones(1, 1, 4, 4),))


def test_the_same_source_twice_is_added_twice():
    space = Space(Graph(("x",), (Node("y", (Edge("x"), Edge("x"), Edge("x", op("skip")))),), "y"))
    x = x_of(1, 2, 3, 3)
    torch.testing.assert_close(derived(space, {}, (2, 3, 3), 2)(x), 3 * x)


def test_mean_concat_and_split():
    def node(how, width=None):
        return Space(Graph(("x",), (Node("y", (Edge("x"), Edge("x", op("skip"))), how, width=width),), "y"))

    x = x_of(1, 2, 3, 3)
    torch.testing.assert_close(derived(node("mean"), {}, (2, 3, 3), 2)(x), x)
    torch.testing.assert_close(derived(node("concat"), {}, (2, 3, 3), 4)(x), torch.cat([x, x], 1))
    torch.testing.assert_close(derived(node("split", 4), {}, (2, 3, 3), 4)(x), torch.cat([x, x], 1))


def test_an_operation_of_the_user():
    class Scale(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(float(factor)))

        def forward(self, x):
            return x * self.factor

    ops = {**OPS, "scale": lambda op, shape, phase: Scale(op.option("by", 1))}
    space = Space(chain(("y", one_of("y", {"two": op("scale", by=2), "three": op("scale", by=3)}))))
    network = supernet(space, (1, 2, 2), 1, ops=ops)
    x = torch.ones(1, 1, 2, 2)
    assert torch.equal(network(x, mix={"y": torch.tensor([1.0, 10.0])}), 32 * x)


def test_a_value_is_let_go_of_also_where_its_last_reader_does_not_run():
    made = []

    class Makes(nn.Module):
        def forward(self, x):
            y = x + 1
            made.append(weakref.ref(y))
            return y

    class Looks(nn.Module):
        def forward(self, x):
            made.append(made[0]() is None)
            return x

    def maker(kind):
        return lambda op, shape, phase: kind()

    pick = one_of("y", {"pool": op("max_pool", kernel=3), "other": op("max_pool", kernel=1)})
    space = Space(chain(("a", op("makes")), ("y", pick), ("z", op("looks"))))
    network = supernet(space, (1, 4, 4), 1, ops={**OPS, "makes": maker(Makes), "looks": maker(Looks)})
    made.clear()
    with torch.no_grad():
        network(torch.ones(1, 1, 4, 4), mix={"y": 0})
    assert made[1] is True


def test_weights_with_five_axes():
    """Only weights of images have a channels-last layout."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.conv(x[:, None])[:, 0]

    network = derived(Space(chain(("y", op("deep")))), {}, (3, 4, 4), 3, ops={**OPS, "deep": lambda *_: Deep()})
    assert network(torch.ones(2, 3, 4, 4)).shape == (2, 3, 4, 4)


# Operations, against the definitions


def made(spec, shape, phase="scratch", seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(spec, shape, phase, OPS).double().eval()


def test_average_pool_does_not_count_the_padding():
    x = torch.ones(1, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(made(op("avg_pool", kernel=3), (2, 4, 4))(x), x)


@pytest.mark.parametrize("size", [4, 5])
def test_factorized_reduce(size):
    """Two 1x1 convolutions of every other pixel, the second shifted by one in both directions."""
    module = made(op("factorized_reduce", width=5, stride=2), (3, size, size))
    x = x_of(2, 3, size, size)
    y = module(x)
    half = -(-size // 2)
    assert y.shape == (2, 5, half, half)
    even = F.conv2d(F.relu(x)[:, :, ::2, ::2], module.even.weight)
    odd = F.conv2d(F.relu(x)[:, :, 1::2, 1::2], module.odd.weight)
    torch.testing.assert_close(y[:, :2], even)
    torch.testing.assert_close(y[:, 2:, : size // 2, : size // 2], odd)


def test_separable():
    """DARTS: activation, depthwise, pointwise, norm; twice, or once and dilated."""
    twice = made(op("separable", width=6, kernel=3, stride=2, repeat=2, norm="batch", activation="relu"), (4, 8, 8))
    kinds = [type(m).__name__ for m in twice]
    assert kinds == ["ReLU", "Conv2d", "Conv2d", "BatchNorm2d"] * 2
    assert [(m.stride, m.groups, m.out_channels) for m in twice if isinstance(m, nn.Conv2d)] == [
        ((2, 2), 4, 4), ((1, 1), 1, 4), ((1, 1), 4, 4), ((1, 1), 1, 6),
    ]  # fmt: skip
    dilated = made(op("separable", kernel=5, dilation=2, repeat=1, norm="batch", activation="relu"), (4, 8, 8))
    assert dilated[1].dilation == (2, 2) and dilated(x_of(1, 4, 8, 8)).shape == (1, 4, 8, 8)


def test_residual_block():
    module = made(op("residual", width=6, kernel=3, stride=2, norm="batch", activation="relu"), (3, 8, 8))
    x = x_of(2, 3, 8, 8)
    shortcut = F.conv2d(F.avg_pool2d(x, 2), module.shortcut[1].weight)
    torch.testing.assert_close(module(x) - module.body(x), shortcut)
    assert sum(p.numel() for p in module.parameters()) == 27 * 6 + 54 * 6 + 3 * 6 + 4 * 6


def test_residual_block_of_an_odd_size():
    module = made(op("residual", width=6, kernel=3, stride=2, norm="batch", activation="relu"), (3, 7, 7))
    x = x_of(2, 3, 7, 7)
    means = F.avg_pool2d(x[:, :, :6, :6], 2)
    pooled = module.shortcut[0](x)
    torch.testing.assert_close(pooled[:, :, :3, :3], means)
    torch.testing.assert_close(pooled[:, :, 3, 3], x[:, :, 6, 6])
    assert module(x).shape == (2, 6, 4, 4)


def test_pools_with_a_norm_in_a_search_only():
    spec = op("max_pool", kernel=3, norm="batch_search")
    assert len(list(made(spec, (2, 4, 4), "search").children())) == 2
    assert not [m for m in made(spec, (2, 4, 4)).modules() if isinstance(m, nn.BatchNorm2d)]


def test_zero_is_as_large_as_a_strided_convolution():
    for size in (7, 8):
        zero, conv = (
            made(op(k, width=5, kernel=3, stride=2), (3, size, size))(x_of(2, 3, size, size)) for k in ("none", "conv")
        )
        assert zero.shape == conv.shape and not zero.any()


def test_elastic_convolution_dilated():
    spec = op("elastic_conv", width=4, kernel=3, dilation=2, stride=2)
    module = made(spec, (3, 9, 9), "search")
    x = x_of(2, 3, 9, 9)
    got = module(x, width=2)
    conv = F.conv2d(x, module.weight[:2], stride=2, padding=2, dilation=2)
    torch.testing.assert_close(got, F.relu(F.batch_norm(conv, None, None, training=True)))
