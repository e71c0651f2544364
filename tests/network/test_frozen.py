"""Frozen modules: never trained, always in evaluation mode, differentiable, found out without being run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metanas.bilevel import FiniteDifference, FirstOrder, Unrolled
from metanas.evaluation import cost
from metanas.modes import meta_network
from metanas.network import OPS, Network, derived, frozen, supernet
from metanas.space import NEEDED, Space, chain, one_of, op

SHAPE = (2, 6, 6)


def pretrained() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU())
        module(torch.randn(8, 4, 6, 6))  # the norm has seen data
    return module


def space() -> Space:
    stem = op("conv", width=4, kernel=3)
    cell = one_of("cell", {"conv": op("preact_conv", kernel=3, activation="relu", norm="batch"), "skip": op("skip")})
    head = op("classifier", width=NEEDED)
    return Space(chain(("stem", stem), ("features", op("backbone")), ("cell", cell), ("head", head)))


def network(backbone: nn.Module) -> Network:
    return supernet(space(), SHAPE, 3, ops={**OPS, "backbone": frozen(backbone)})


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(16, *SHAPE, generator=generator), torch.randint(3, (16,), generator=generator)) for _ in range(2)
    ]


def test_a_copy_that_stays_in_evaluation_mode() -> None:
    backbone = pretrained()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    found = network(backbone).train()
    part = found.get_submodule("features")
    assert not any(module.training for module in part.modules())
    assert found.get_submodule("head").training
    assert not any(p.requires_grad for p in part.parameters())
    found(batches()[0][0], mix={"cell": 0})
    for name, value in part.get_submodule("module").state_dict().items():
        assert torch.equal(value, before[name]), name
    assert backbone.training
    assert all(p.requires_grad for p in backbone.parameters())
    assert part.get_parameter("module.0.weight").data_ptr() != backbone[0].weight.data_ptr()


@pytest.mark.parametrize("estimator", [FirstOrder(0), Unrolled(1), FiniteDifference()], ids=lambda e: type(e).__name__)
def test_hypergradients_pass_through_it(estimator: Any) -> None:
    found = network(pretrained())
    theta = {name: p.detach() for name, p in found.named_parameters() if p.requires_grad}
    assert {name.split(".")[0].split("/")[0] for name in theta} == {"stem", "cell", "head"}
    outer = {"mix": {"cell": torch.tensor([0.6, 0.4])}}
    problem = meta_network(found)
    h = estimator(problem, theta, outer, *batches())
    assert h.gradient["mix"]["cell"].isfinite().all()
    assert h.gradient["mix"]["cell"].abs().sum() > 0
    slopes = torch.func.grad(problem.outer_loss)(theta, outer, batches()[0])
    assert slopes["stem.0.weight"].abs().sum() > 0


def test_costs() -> None:
    architecture = {"cell": ("skip",)}
    ops = {**OPS, "backbone": frozen(pretrained())}
    price = cost(derived(space(), architecture, SHAPE, 3, ops=ops), SHAPE)
    assert price.parameters == (4 * 2 * 9 + 4) + (4 * 3 + 3)  # the stem and the head
    assert price.multiply_adds == 36 * (4 * 2 * 9 + 4) + 36 * (4 * 4 * 9 + 4) + (4 * 3 + 3)


def test_a_maker_that_gives_a_module_that_is_there_already() -> None:
    """Shapes are found on a copy without memory: the module itself is not run."""
    backbone = pretrained()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    found = supernet(space(), SHAPE, 3, ops={**OPS, "backbone": lambda op, shape, phase: backbone})
    assert found.get_submodule("features") is backbone
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_on_the_meta_device_no_memory_is_taken() -> None:
    with torch.device("meta"):
        assert all(x.is_meta for x in network(pretrained()).state_dict().values())


def test_the_fingerprint_is_that_of_the_weights() -> None:
    one, same, other = pretrained(), pretrained(), pretrained()
    with torch.no_grad():
        other[1].running_mean += 1
    prints = [frozen(module).fingerprint for module in (one, same, other)]  # type: ignore[attr-defined]
    assert prints[0] == prints[1] != prints[2]
