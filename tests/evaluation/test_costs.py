"""Costs against NAS-Bench-201's published table, against counts by hand, and what counting must leave alone."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import os
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from metanas.errors import ShapeError
from metanas.evaluation.costs import Cost, cost
from metanas.network import derived, supernet
from metanas.space import Space

CIFAR = (3, 32, 32)
# architecture, parameters, multiply-adds: rows of the published table for CIFAR-10 (C = 16, N = 5)
PUBLISHED = [
    ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 73_306, 7_783_050),
    (
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
        73_306,
        7_783_050,
    ),
    (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        1_531_546,
        220_119_690,
    ),
    (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
        129_306,
        15_647_370,
    ),
    ("|none~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_1x1~1|skip_connect~2|", 830_426, 117_883_530),
]


@cache
def nasbench201() -> Space:
    path = Path(__file__).parents[2] / "search_spaces" / "nasbench201.py"
    spec = importlib.util.spec_from_file_location("nasbench201", path)
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    space: Space = module.space(channels=16, cells=5)
    return space


def cost_of(key: str) -> Cost:
    space = nasbench201()
    return cost(derived(space, space.parse(key), CIFAR, 10), CIFAR)


@pytest.mark.parametrize(("key", "parameters", "multiply_adds"), PUBLISHED)
def test_nasbench201_facts(key: str, parameters: int, multiply_adds: int) -> None:
    assert cost_of(key) == Cost(parameters, multiply_adds)


@pytest.mark.skipif("METANAS_DATA" not in os.environ, reason="METANAS_DATA (folder of the benchmark tables) is not set")
def test_rows_spread_over_the_whole_table() -> None:
    with gzip.open(Path(os.environ["METANAS_DATA"]) / "nasbench201.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))[::2111]
    assert len(rows) == 8
    for row in rows:
        expected = Cost(int(row["parameters"]), round(float(row["mega_multiply_adds"]) * 1e6))
        assert cost_of(row["arch"]) == expected, row["arch"]


def test_counts_by_hand() -> None:
    grouped = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
    assert cost(grouped, (4, 6, 6)) == Cost(
        8 * 2 * 9 + 8, 8 * 9 * (2 * 9 + 1)
    )  # 8 x 3 x 3 outputs, 18 products, a bias
    assert cost(nn.Linear(5, 7, bias=False), (5,)) == Cost(35, 35)
    assert cost(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2)), (3, 4, 4)) == Cost(6, 0)


def test_frozen_and_shared_parameters() -> None:
    shared = nn.Linear(4, 4)
    network = nn.Sequential(shared, shared, nn.Linear(4, 2).requires_grad_(False))
    assert cost(network, (4,)) == Cost(20, 2 * 20 + 10)


def test_the_network_is_left_alone() -> None:
    space = nasbench201()
    network = derived(space, space.parse(PUBLISHED[3][0]), CIFAR, 10).train()
    network.stem[0].weight.grad = torch.ones_like(network.stem[0].weight)  # type: ignore[index, union-attr]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    cost(network, CIFAR)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [n for n, p in network.named_parameters() if p.grad is not None] == ["stem.0.weight"]
    assert torch.equal(random_state, torch.get_rng_state())


def test_a_supernet_costs_all_its_candidates() -> None:
    space = nasbench201()
    whole = cost(supernet(space, CIFAR, 10), CIFAR)
    assert whole.multiply_adds > 220_119_690


def test_a_refusal_without_a_word() -> None:
    class Silent(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError

    with pytest.raises(ShapeError, match="no reason given"):
        cost(Silent(), (1, 4, 4))


def test_untracked_norm_on_a_single_pixel() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 4), nn.BatchNorm2d(3, track_running_stats=False))
    assert cost(network, (1, 4, 4)).multiply_adds == 3 * 17


@pytest.mark.parametrize("shape", [(4,), (3, 8, 8), (1, 0, 8), (1, 2.5, 8)])
def test_a_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=str(shape[0])):
        cost(nn.Conv2d(1, 3, 3), shape)
