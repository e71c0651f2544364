"""Noise that is a function of the batch: whose words it is made of, its distribution, and all calls on a batch."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from metanas.bilevel import SGD, FiniteDifference, Unrolled
from metanas.errors import ShapeError, SpaceError
from metanas.modes import meta_network
from metanas.network import OPS, fused, one_path, supernet
from metanas.network.fused import difference
from metanas.network.noise import GOLDEN, Noise, _mixed
from metanas.space import NEEDED, Edge, Graph, Node, Op, Scan, Space, chain, one_of, op

SPLIT_MIX = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431)
"""What SplitMix64 gives from the seed 1234567."""


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_words_are_those_of_splitmix64() -> None:
    words = _mixed(1234567 + torch.arange(1, 5) * GOLDEN)
    assert [int(word) % 2**64 for word in words] == list(SPLIT_MIX)


def by_hand(batch: np.ndarray, count: int, stream: int) -> np.ndarray:
    """The noise in whole numbers of Python, and SciPy's inverse of the normal distribution."""
    from scipy.special import ndtri

    def mixed(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return x ^ (x >> 31)

    golden, bits = 0x9E3779B97F4A7C15, batch.astype(np.float32).view(np.int32).ravel().tolist()
    key = mixed((mixed(sum(b * (2 * k + 1) for k, b in enumerate(bits)) * golden % 2**64) + stream) % 2**64)
    words = [mixed((key + k * golden) % 2**64) >> 40 for k in range(1, count + 1)]
    return ndtri((np.array(words) + 0.5) / 2**24)


def test_the_noise_by_hand() -> None:
    batch = images(3, 2, 5, 4)
    found = Noise(2, stream=5)(torch.zeros(3, 4, 5, 4, dtype=torch.float64), batch)
    assert found.shape == (3, 4, 3, 2) and found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy().ravel(), by_hand(batch.numpy(), 72, 5), rtol=1e-4, atol=1e-6)


def test_it_is_normal_and_its_own_for_every_batch_order_and_operation() -> None:
    batch = images(32, 3, 16, 16)
    rows = [Noise(1, 0)(batch), Noise(1, 1)(batch), Noise(1, 0)(batch.flip(0)), Noise(1, 0)(batch + 1e-6)]
    for x in rows:
        for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
            assert float(x.pow(power).mean()) == pytest.approx(moment, abs=0.25 if power == 4 else 0.06)
    apart = torch.corrcoef(torch.stack([x.flatten() for x in rows])) - torch.eye(4)
    assert float(apart.abs().max()) < 0.03
    inside = torch.corrcoef(rows[0].flatten(1)) - torch.eye(32)
    assert float(inside.abs().max()) < 0.17, "examples of one batch"


def test_under_transforms_it_is_that_of_each_batch() -> None:
    noise, batches = Noise(1, 2), images(2, 4, 3, 6, 6).float()
    x = torch.zeros(4, 3, 6, 6)
    assert torch.equal(vmap(lambda batch: noise(x, batch))(batches), torch.stack([noise(x, b) for b in batches]))
    gradients = vmap(grad(lambda a, batch: (a * noise(x * a, batch)).sum()), (None, 0))(torch.tensor(2.0), batches)
    torch.testing.assert_close(gradients, torch.stack([noise(x, b).sum() for b in batches]))


def s4(problems: ModuleType) -> Space:
    return problems.shipped("darts").space(1, 3, "S4")


def even(space: Space) -> dict[str, Tensor]:
    """Every operation of an edge as strong."""
    rows = {c.name: len(c.candidates) for c in space.choices if c.take == 1}
    return {name: torch.full((n,), 1 / n, dtype=torch.float64) for name, n in rows.items()}


def second_order(noise: Op) -> tuple[Tensor, Tensor]:
    """The gradient through one inner step, exact and by finite differences, of a smooth network with noise inside."""
    width = {"width": 2, "norm": "batch_cell"}
    conv = op("preact_conv", kernel=3, activation="tanh", **width)
    ops = one_of("y", {"noise": noise, "conv": conv})
    head = ("head", op("classifier", width=NEEDED))
    space = Space(chain(("stem", op("conv", kernel=3, **width)), ("y", ops), ("z", conv), head))
    network = supernet(space, (1, 6, 6), 2, seed=1).double()
    problem = meta_network(network, rule=SGD(0.1))
    theta = {name: p.detach() for name, p in network.named_parameters()}
    outer = {"mix": {"y": torch.tensor([0.4, 0.6], dtype=torch.float64, requires_grad=True)}}
    labels = torch.arange(6) % 2
    batches = (images(6, 1, 6, 6), labels), (images(6, 1, 6, 6, seed=1), labels)
    exact, found = (e(problem, theta, outer, *batches).gradient["mix"]["y"] for e in (Unrolled(1), FiniteDifference()))
    return exact, found


def test_finite_differences_see_one_noise() -> None:
    """Noise that followed what stands before it, which moves with the weights, would leave them nothing to go by."""
    exact, found = second_order(op("noise", beside="image"))
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-5)
    exact, found = second_order(op("noise"))
    assert float((found - exact).abs().max()) > 0.01


def test_both_executors_give_the_same(problems: ModuleType) -> None:
    space = s4(problems)
    network = fused(supernet(space, (1, 6, 6), 2, seed=1).double())
    assert max(difference(network, images(4, 1, 6, 6), mix=even(space))) < 1e-12


def test_what_stands_before_it_changes_nothing(problems: ModuleType) -> None:
    """Where every edge takes noise, the images reach the output through the noise alone."""
    space = s4(problems)
    inputs = {c.name: c.options[:2] for c in space.choices if c.take == 2}
    taken = {f"{name}<-{j}": "noise" for name, pair in inputs.items() for j in pair}
    network = supernet(space, (1, 6, 6), 2, seed=1).double()
    mix = one_path(space.choices, space.architecture({**inputs, **taken}))
    outputs = network(images(4, 1, 6, 6), mix=mix)
    with torch.no_grad():
        network.get_parameter("stem.0.weight").mul_(-3.0)
    assert torch.equal(network(images(4, 1, 6, 6), mix=mix), outputs)


def test_what_it_does_not_take() -> None:
    with pytest.raises(ShapeError, match=r"it takes images \(channels, height, width\)"):
        OPS["noise"](op("noise"), (5,), "search")
    with pytest.raises(SpaceError, match=r"y: beside='imge' is no input; did you mean \"image\"\?"):
        Space(chain(("y", op("noise", beside="imge")))).program  # noqa: B018
    cell = Graph(("state", "value"), (Node("next", (Edge("value", op("noise", beside="image")),)),), "next")
    with pytest.raises(SpaceError, match="next: beside='image' is no input"):
        Space(chain(("scan", Scan(cell, 2)))).program  # noqa: B018
