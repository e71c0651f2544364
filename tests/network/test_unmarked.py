"""What is derived from a module with marks: bit for bit what one writes by hand, and nothing of metanas in it."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.network import choose, own_derived, own_supernet, shared_weights, space_of
from metanas.network.unmarked import names_in, unmarked

TAKEN = {
    "width": "3", "act": "sigmoid", "kernel0": "3x3", "kernel1": "depthwise", "depth": "2", "extra": "on",
    "pool": "max", "skip": "late",
}  # fmt: skip


class HandBlock(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.act = conv, nn.BatchNorm2d(3), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.norm(self.conv(x)))


class Hand(nn.Module):
    """`problems.Marked` at TAKEN, as one would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.Sigmoid()
        kernels = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.blocks = nn.Sequential(*map(HandBlock, kernels))
        self.extra = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(3))
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.extra(self.blocks(self.act(self.stem(x))))
        return self.head(F.avg_pool2d(x, 2).flatten(1))


def images() -> Tensor:
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def taken(problems: Any) -> Any:
    return space_of(problems.marked()).architecture(TAKEN)


def test_bit_for_bit_what_is_written_by_hand(problems: Any) -> None:
    """Names of the weights, outputs, gradients, and what norms keep, with the same weights."""
    found, hand = unmarked(problems.marked(), taken(problems)), Hand()
    assert list(found.state_dict()) == list(hand.state_dict())
    hand.load_state_dict(found.state_dict())
    x = images()
    for mode in (True, False):
        one, two = found.train(mode)(x), hand.train(mode)(x)
        assert torch.equal(one, two)
    slopes = [torch.autograd.grad(m.train()(x).square().sum(), list(m.parameters())) for m in (found, hand)]
    assert all(torch.equal(a, b) for a, b in zip(*slopes, strict=True))
    assert all(torch.equal(found.state_dict()[n], v) for n, v in hand.state_dict().items())


def test_nothing_of_metanas_is_left(problems: Any) -> None:
    space = space_of(problems.marked())
    rng = np.random.default_rng(0)
    for _ in range(3):
        found = unmarked(problems.marked(), space.sample(rng))
        inside = [type(inner) for inner in found.modules()]
        own = [kind for kind in inside if kind.__module__.split(".")[0] not in ("torch", "metanas_tests_problems")]
        assert all(kind.__qualname__.endswith("Inputs") for kind in own), own  # torch.fx makes a class for each
        for inner in found.modules():
            held = {type(value) for value in vars(inner).values()}
            assert not [kind for kind in held if kind.__module__.startswith("metanas.")]
            assert not inner._forward_pre_hooks and not inner._forward_hooks
        problems_free = copy.deepcopy(found.skip), nn.Sequential(found.stem, found.extra)
        for part in problems_free:
            file = io.BytesIO()
            pickle.dump(part, file)
            assert b"metanas" not in file.getvalue()


def test_the_module_itself_is_left_alone(problems: Any) -> None:
    module, x = problems.marked(), images()
    before, state = module.eval()(x), copy.deepcopy(module.state_dict())
    found = unmarked(module, taken(problems))
    with torch.no_grad():
        for p in found.parameters():
            p.fill_(0)
    assert torch.equal(module(x), before)
    assert all(torch.equal(v, state[n]) for n, v in module.state_dict().items())
    assert module.blocks.choice.name == "depth"


def test_called_by_itself_a_module_is_its_default(problems: Any) -> None:
    default = {
        "width": "5", "act": "relu", "kernel0": "1x1", "kernel1": "1x1", "depth": "2", "extra": "on", "pool": "avg",
        "skip": "early",
    }  # fmt: skip
    module, x = problems.marked(), images()
    assert torch.equal(module.eval()(x), unmarked(module, space_of(module).architecture(default)).eval()(x))


def test_weights_are_found_by_name(problems: Any) -> None:
    module, architecture = problems.marked(), taken(problems)
    names = names_in(module, architecture)
    found = unmarked(module, architecture).state_dict()
    assert names.keys() == found.keys()
    state = module.state_dict()
    for new, old in names.items():
        assert torch.equal(found[new], state[old][tuple(slice(n) for n in found[new].shape)])
    assert names["blocks.1.conv.weight"] == "blocks.1.conv.depthwise.weight"


def test_a_mark_that_is_the_whole_module_and_shared_ones() -> None:
    whole = choose("y", {"relu": nn.ReLU(), "tanh": nn.Tanh()})
    assert isinstance(unmarked(whole, {"y": ("tanh",)}), nn.Tanh)
    pair = nn.Sequential(whole, nn.Linear(2, 2), whole)
    found = unmarked(pair, {"y": ("relu",)})
    assert isinstance(found[0], nn.ReLU) and found[0] is found[2]
    again = unmarked(choose("y", {"a": choose("z", [nn.ReLU(), nn.Tanh()])}), {"y": ("a",), "z": ("1",)})
    assert isinstance(again, nn.Tanh)


def test_weights_that_are_shared_stay_shared() -> None:
    width = choose.size("width", (2, 4))
    pair = nn.Sequential(nn.Embedding(5, width), nn.Linear(width, 5))
    pair[1].weight = pair[0].weight
    found = unmarked(pair, {"width": ("2",)})
    assert found[1].weight is found[0].weight and found[0].weight.shape == (5, 2)


def test_a_depth_of_none_is_nothing() -> None:
    found = unmarked(choose.repeat("d", (0, 1), [nn.ReLU()]), {"d": ("0",)})
    assert repr(found) == "Sequential()" and torch.equal(found(-torch.ones(1)), -torch.ones(1))


@pytest.mark.parametrize("seed", range(4))
def test_one_path_of_the_supernet_is_the_derived_network(problems: Any, seed: int) -> None:
    """By one-hot weights, in float64; the derived one inherits by name."""
    module = problems.marked()
    space = space_of(module)
    architecture = space.sample(np.random.default_rng(seed))
    network = own_supernet(space, module, (3, 8, 8)).double()
    part = own_derived(space, module, architecture, (3, 8, 8), phase="search").double()
    for p in network.parameters():
        p.data += 0.1
    part.load_state_dict(
        {n: v[tuple(slice(k) for k in part.state_dict()[n].shape)]
         for n, v in shared_weights(module, architecture, network.state_dict()).items()}
    )  # fmt: skip
    mix = {}
    for choice in space.choices:
        index = choice.index(architecture[choice.name][0]) if choice.name in architecture else 0
        mix[choice.name] = torch.eye(len(choice.candidates), dtype=torch.float64)[index]
    x = images().double()
    torch.testing.assert_close(network(x, mix=mix), part(x), rtol=0, atol=1e-12)
