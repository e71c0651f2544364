"""Half precision: float32 is bit for bit what it was, bfloat16 is near it, and it reaches every gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from metanas.bilevel import FirstOrder, Unrolled
from metanas.modes import meta_network
from metanas.network import Network, computed_in, supernet
from metanas.space import NEEDED, Space, chain, one_of, op


def tiny() -> Network:
    body = one_of(
        "body",
        {
            "conv": op("preact_conv", width=8, kernel=3, norm="batch_cell", activation="relu"),
            "skip": op("skip"),
            "pool": op("avg_pool", kernel=3),
        },
    )
    stem, head = op("conv", width=8, kernel=3, norm="batch"), op("classifier", width=NEEDED)
    return supernet(Space(chain(("stem", stem), ("body", body), ("head", head))), (2, 6, 6), 3)


def problem_data(network: Network) -> tuple[dict[str, Tensor], dict[str, Any], Any, Any]:
    generator = torch.Generator().manual_seed(0)
    theta = {name: p.detach() for name, p in network.named_parameters()}
    outer = {"mix": {"body": torch.tensor([0.5, 0.3, 0.2])}}
    batches = [
        (torch.randn(32, 2, 6, 6, generator=generator), torch.randint(3, (32,), generator=generator)) for _ in "io"
    ]
    return theta, outer, *batches


def test_float32_is_the_plain_call() -> None:
    seen: list[bool] = []

    def spy(x: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return x

    x = torch.ones(1)
    assert computed_in("float32", spy, x) is x
    computed_in("bfloat16", spy, x)
    assert seen == [False, True]


def test_outputs_are_float32_of_bfloat16_products() -> None:
    layer, x = nn.Linear(64, 8), torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    got, exact = computed_in("bfloat16", layer, x), layer(x)
    assert got.dtype == torch.float32
    assert torch.equal(got, got.bfloat16().float())
    assert not torch.equal(got, exact)
    torch.testing.assert_close(got, exact, rtol=2e-2, atol=2e-2)


def test_several_outputs() -> None:
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    first, second = computed_in("bfloat16", lambda x: (x @ x.T, (x,)), x)
    assert first.dtype == second[0].dtype == torch.float32
    assert torch.equal(first, first.bfloat16().float())


@pytest.mark.parametrize("estimator", [FirstOrder(0), Unrolled(1)], ids=["first_order", "unrolled"])
def test_hypergradients_are_near_those_of_float32(estimator: Any) -> None:
    network = tiny()
    theta, outer, inner_batch, outer_batch = problem_data(network)

    def gradient(**precision: Any) -> Tensor:
        h = estimator(meta_network(network, **precision), theta, outer, inner_batch, outer_batch)
        assert h.outer_loss.dtype == h.gradient["mix"]["body"].dtype == torch.float32
        found: Tensor = h.gradient["mix"]["body"]
        return found

    exact, half = gradient(), gradient(precision="bfloat16")
    assert torch.equal(exact, gradient(precision="float32"))
    assert not torch.equal(exact, half)
    assert torch.cosine_similarity(exact, half, 0) > 0.98


def test_under_a_transform_as_under_autograd() -> None:
    network = tiny()
    theta, outer, batch, _ = problem_data(network)
    loss: Callable[..., Tensor] = meta_network(network, precision="bfloat16").outer_loss
    transformed = grad(loss)(theta, outer, batch)
    live = {name: p.clone().requires_grad_() for name, p in theta.items()}
    plain = torch.autograd.grad(loss(live, outer, batch), list(live.values()))
    for name, value in zip(live, plain, strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(transformed[name], value), name


def test_the_loss_sees_float32() -> None:
    network = tiny()
    theta, outer, batch, _ = problem_data(network)
    kinds = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        kinds.append((outputs.dtype, torch.is_autocast_enabled("cpu")))
        return F.cross_entropy(outputs, targets)

    meta_network(network, loss=loss, precision="bfloat16").outer_loss(theta, outer, batch)
    assert kinds == [(torch.float32, False)]
