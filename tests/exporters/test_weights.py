"""Weights: metadata, the way back into a network, every mismatch listed, no pickle opened."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from metanas.errors import CheckpointError
from metanas.exporters import Source, load_weights, write
from metanas.network import Network

Made = tuple[Network, Source]


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_metadata(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    (path,) = write(network, source, folder=tmp_path, name="net", formats=["safetensors"])
    with safetensors.safe_open(path, "pt") as file:
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
        kept = {name: file.get_tensor(name) for name in file.keys()}
    assert facts == {
        "name": "net",
        "settings": dict(source.structure.settings),
        "space": "nasbench201",
        "architecture": str(source.architecture),
        "classes": list(source.classes),
        "mean": list(source.mean),
        "std": list(source.std),
        "pixels": [0.0, 255.0],
        "shape": [3, 8, 8],
    }
    assert len(kept) == len(network.state_dict())
    assert torch.equal(kept["stem.norm.running_mean"], network.state_dict()["stem.1.running_mean"])
    assert kept["stem.norm.num_batches_tracked"].item() == 3


@pytest.mark.parametrize("name", ["nasbench201", "darts", "everything", "recurrent"])
def test_back_into_a_network(make: Callable[..., Made], tmp_path: Path, name: str) -> None:
    network, source = make(name)
    (path,) = write(network, source, folder=tmp_path, formats=["safetensors"])
    other = copy.deepcopy(network)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.fill_(3)
    load_weights(other, path)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_names_of_the_network_itself_are_taken_too(make: Callable[..., Made], tmp_path: Path) -> None:
    network, _ = make()
    own = {name: value.contiguous() for name, value in network.state_dict().items()}
    own["stem.0.weight"] = own["stem.0.weight"] + 1
    safetensors.torch.save_file(own, tmp_path / "own")
    load_weights(network, tmp_path / "own")
    assert torch.equal(network.get_parameter("stem.0.weight"), own["stem.0.weight"])


def test_every_mismatch_is_listed_and_nothing_is_changed(tmp_path: Path) -> None:
    """Row 20."""
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    tensors = {k: v.clone() for k, v in network.state_dict().items()}
    before = {k: v.clone() for k, v in tensors.items()}
    del tensors["0.bias"], tensors["1.running_mean"]
    tensors["0.weight"] = torch.ones(3, 2)
    tensors["2.weight"] = torch.ones(2, 2, dtype=torch.int64)
    tensors["2.bias"] += 1
    tensors["extra"] = torch.ones(4)
    safetensors.torch.save_file(tensors, tmp_path / "bad")
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, tmp_path / "bad")
    for part in (
        "missing 0.bias (2,)",
        "missing 1.running_mean (2,)",
        "unexpected extra (4,)",
        "0.weight is (3, 2) in the file and (2, 3) in the network",
        "2.weight is torch.int64 in the file and torch.float32 in the network",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_a_pickle_is_refused_and_never_executed(tmp_path: Path) -> None:
    """Row 19."""
    mark = tmp_path / "executed"
    for legacy in (False, True):
        torch.save({"weight": Bomb(mark)}, tmp_path / "bad.pt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            load_weights(nn.Linear(1, 1), tmp_path / "bad.pt")
    assert not mark.exists()
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert mark.exists()  # the bomb works: the refusal is what kept it quiet


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "long", "missing", "folder"])
def test_damage_is_refused(tmp_path: Path, damage: str) -> None:
    whole = safetensors.torch.save(nn.Linear(2, 2).state_dict())
    path = tmp_path / "w"
    content = {"empty": b"", "cut": whole[:-3], "garbage": b"\x80\x04" * 40, "long": whole + b"x"}
    if damage in content:
        path.write_bytes(content[damage])
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(CheckpointError, match="w"):
        load_weights(nn.Linear(2, 2), path)


def test_equal_networks_are_equal_files_in_any_process(make: Callable[..., Made], tmp_path: Path) -> None:
    """safetensors itself orders the facts by a hash that differs by process."""
    network, source = make()
    (path,) = write(network, source, folder=tmp_path, formats=["safetensors"])
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert size % 8 == 0 and list(header) == sorted(header)
    assert list(header["__metadata__"]) == sorted(header["__metadata__"]) and len(header["__metadata__"]) > 2
