"""Operations on sequences, and elastic ones, under `torch.func`: batched over tasks, and differentiated twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from metanas.errors import ShapeError
from metanas.network import OPS
from metanas.network.tokens import TOKEN_OPS
from metanas.space import op

CASES: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "patches": ({"width": 4, "kernel": 2}, (2, 4, 4), 4),
    "attention": ({"width": 4, "head": 2}, (3, 5), 4),
    "token_norm": ({}, (3, 4), 4),
    "token_conv": ({"kernel": 3}, (3, 4), 0),
    "token_mix": ({}, (3, 4), 0),
    "position": ({}, (3, 4), 0),
    "token_mean": ({}, (3, 4), 0),
    "sequence": ({}, (2, 3, 4), 0),
    "highway": ({"width": 3, "activation": "tanh"}, (5,), 0),
    "embedding": ({"width": 4, "vocabulary": 3}, (6,), 0),
    "elastic_conv": ({"width": 4, "kernel": 3, "activation": "silu"}, (2, 4, 4), 4),
    "elastic_depthwise": ({"kernel": 3, "activation": "silu"}, (4, 4, 4), 4),
    "squeeze_excite": ({"squeezed": 2}, (4, 4, 4), 0),
}
"""Kind -> specification, shape of an input, how many numbers a mask has (0: it takes none)."""


def test_every_operation_on_sequences_is_here() -> None:
    assert set(TOKEN_OPS) <= set(CASES)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's, in forward mode
@pytest.mark.parametrize("kind", CASES)
def test_under_function_transforms(kind: str) -> None:
    facts, shape, size = CASES[kind]
    generator = torch.Generator().manual_seed(0)
    module: nn.Module = OPS[kind](op(kind, **facts), shape, "search").double()
    x = torch.randn(2, 5, *shape, generator=generator, dtype=torch.float64)  # (tasks, batch, ...)
    start = {"x": torch.zeros(shape, dtype=torch.float64)}
    theta = start | {name: p.detach() for name, p in module.named_parameters()}
    if size:
        theta["mask"] = torch.linspace(1.0, 0.2, size, dtype=torch.float64)

    def loss(theta: dict[str, Tensor], x: Tensor) -> Tensor:
        given = {name: value for name, value in theta.items() if name not in ("x", "mask")}
        mask = {"mask": theta["mask"]} if size else {}
        return (functional_call(module, given, (x + theta["x"],), mask).sin() * 3).sum()

    batched = vmap(grad(loss), in_dims=(None, 0))(theta, x)
    for k in range(2):
        for name, value in grad(loss)(theta, x[k]).items():
            torch.testing.assert_close(batched[name][k], value, rtol=1e-10, atol=1e-10)
    direction = {name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in theta.items()}
    _, forward = jvp(lambda t: grad(loss)(t, x[0]), (theta,), (direction,))
    twice = grad(lambda t: sum((g * direction[n]).sum() for n, g in grad(loss)(t, x[0]).items()))(theta)  # type: ignore
    for name in theta:
        torch.testing.assert_close(forward[name], twice[name], rtol=1e-9, atol=1e-9)


def test_what_is_no_token_is_zero() -> None:
    embedding = OPS["embedding"](op("embedding", width=2, vocabulary=3), (4,), "search")
    found = embedding(torch.tensor([[0.0, 2.0, 3.0, -1.0]]))[0]
    table = next(embedding.parameters())
    assert torch.equal(found, torch.stack([table[0], table[2], torch.zeros(2), torch.zeros(2)]))
    assert torch.equal(found, embedding(torch.tensor([[0, 2, 3, -1]]))[0])


def test_what_an_embedding_does_not_take() -> None:
    with pytest.raises(ShapeError, match=r"it takes tokens \(time,\)"):
        OPS["embedding"](op("embedding", width=2, vocabulary=3), (4, 2), "search")
    with pytest.raises(ShapeError, match="it needs a vocabulary >= 1 and a width, got 0 and 2"):
        OPS["embedding"](op("embedding", width=2), (4,), "search")
