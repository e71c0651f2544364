"""NAS-Bench-Macro: its networks have the parameters and the multiply-adds that the benchmark prints."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from metanas.errors import SpaceError
from metanas.evaluation import cost
from metanas.network import derived

FACTS = [
    ("00000000", 387_882, 7_713_280),
    ("11111111", 1_588_874, 53_246_464),
    ("22222222", 2_932_586, 105_660_928),
    ("22212220", 1_985_514, 85_164_544),
    ("01201201", 1_283_434, 46_109_184),
]
"""Key, parameters and FLOPs (multiply-adds without the biases of the classifier) in the benchmark's table."""


@pytest.fixture(scope="module")
def macro(problems: ModuleType) -> ModuleType:
    return problems.shipped("nasbench_macro")


@pytest.mark.parametrize(("key", "parameters", "multiply_adds"), FACTS)
def test_published_networks(macro: ModuleType, key: str, parameters: int, multiply_adds: int) -> None:
    space = macro.space()
    with torch.device("meta"):
        network = derived(space, space.parse(key), (3, 32, 32), 10)
    found = cost(network, (3, 32, 32))
    assert (found.parameters, found.multiply_adds - 10) == (parameters, multiply_adds)


def test_keys(macro: ModuleType) -> None:
    space = macro.space(4, 8)
    architecture = space.parse("22212220")
    assert str(architecture) == "22212220" and [architecture[f"layer{k}"] for k in (1, 4, 8)] == [
        ("2",),
        ("1",),
        ("0",),
    ]
    with pytest.raises(SpaceError, match="choice 'layer8' has no candidate 'x'; allowed: 0, 1, 2"):
        space.parse("2221222x")
    with pytest.raises(SpaceError, match=r"'2221222' is not of the form '\{layer1\}\{layer2\}"):
        space.parse("2221222")


def test_identities_are_there_where_the_shape_stays(macro: ModuleType) -> None:
    space = macro.space(4, 8)
    network = derived(space, space.parse("00000000"), (3, 32, 32), 10)
    assert [network.shapes[f"layer{k}.0"] for k in (1, 2, 3, 6)] == [(8, 16, 16), (8, 16, 16), (16, 8, 8), (32, 4, 4)]
    weighed = {name.split("/")[0] for name, _ in network.named_parameters() if name.startswith("layer")}
    assert weighed == {"layer1", "layer3", "layer6"}


@pytest.mark.parametrize("options", [{"channels": 0}, {"head": 0}])
def test_settings_that_cannot_be(macro: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="channels and head must be >= 1, got"):
        macro.space(**options)
