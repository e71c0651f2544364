"""The call as a whole: refusals, nothing half-made left behind, and checks that see a wrong file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import metanas.exporters.writing as writing
from metanas.errors import ExportError
from metanas.exporters import FORMATS, Source, write
from metanas.exporters.draft import Draft
from metanas.network import Network, supernet
from metanas.space import Architecture, Space, chain, one_of, op

Made = tuple[Network, Source]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_files_in_the_order_of_formats(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    paths = write(network, source, folder=tmp_path / "a" / "b", name="net", formats=["python", "json", "safetensors"])
    assert [p.name for p in paths] == ["net.py", "architecture.json", "net.safetensors"]
    assert sorted(content(tmp_path / "a" / "b")) == ["architecture.json", "net.py", "net.safetensors"]


def test_the_network_is_left_alone(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    random_state = torch.get_rng_state()
    write(network, source, folder=tmp_path)
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


def test_json(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    (path,) = write(network, source, folder=tmp_path, formats=["json"])
    facts = json.loads(path.read_text())
    assert Architecture.from_json(facts["architecture"]) == source.architecture
    assert facts["key"] == source.architecture.key
    assert (facts["space"], facts["shape"], facts["classes"]) == ("nasbench201", [3, 8, 8], list(source.classes))


def test_an_unknown_format_gets_the_nearest_name(make: Callable[..., Made], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match='did you mean "safetensors"'):
        write(*make(), folder=tmp_path, formats=["safetensor"])


@pytest.mark.parametrize("name", ["", "../up", "a/b", "1a", "a b", "a.b"])
def test_a_name_that_is_no_file_name(make: Callable[..., Made], tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="name must be"):
        write(*make(), folder=tmp_path, name=name)


def test_what_is_there_stays_without_force(make: Callable[..., Made], tmp_path: Path) -> None:
    """Row 30."""
    (tmp_path / "network.py").write_text("mine")
    with pytest.raises(ExportError, match=r"network\.py.*force"):
        write(*make(), folder=tmp_path)
    assert content(tmp_path) == {"network.py": b"mine"}
    write(*make(), folder=tmp_path, force=True)
    assert b"class Network" in content(tmp_path)["network.py"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("format_", ["python", "safetensors"])
def test_a_file_that_computes_something_else(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str, force: bool
) -> None:
    """Row 32: a wrong file is seen, and nothing of the export stays."""
    folder = tmp_path / "out"
    if force:
        folder.mkdir()
        (folder / "network.py").write_text("mine")
    right = FORMATS["safetensors"], FORMATS["python"]

    def bent(draft: Draft) -> bytes:
        data = right[1].data(draft)
        assert b"count_include_pad=False" in data
        return data.replace(b", count_include_pad=False", b"")

    def scaled(draft: Draft) -> bytes:
        with torch.no_grad():
            bias = draft.network.get_parameter("head.4.bias")
            bias += 1e-3
            data = right[0].data(draft)
            bias -= 1e-3
        return data

    wrong = replace(right[1], data=bent) if format_ == "python" else replace(right[0], data=scaled)
    monkeypatch.setattr(writing, "FORMATS", {**FORMATS, format_: wrong})
    monkeypatch.setattr(writing, "weights_bytes", scaled if format_ == "safetensors" else right[0].data)
    key = "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|skip_connect~0|avg_pool_3x3~1|none~2|"
    with pytest.raises(ExportError, match=rf"{format_}: outputs of the written file differ .* by \d\.\d\de"):
        write(*make("nasbench201", key), folder=folder, force=force)
    assert (content(folder) == {"network.py": b"mine"}) if force else not folder.exists()


def test_a_disk_that_refuses(make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_bytes", full)
    with pytest.raises(ExportError, match="No space left"):
        write(*make(), folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be(make: Callable[..., Made], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ExportError, match="out"):
        write(*make(), folder=tmp_path / "out")


def test_a_folder_where_a_file_should_be(make: Callable[..., Made], tmp_path: Path) -> None:
    (tmp_path / "network.py").mkdir()
    with pytest.raises(ExportError, match="a folder is in the way"):
        write(*make(), folder=tmp_path, force=True)
    assert content(tmp_path) == {}


def test_outputs_that_are_not_finite(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    nn.init.constant_(network.get_parameter("stem.0.weight"), float("nan"))
    with pytest.raises(ExportError, match="not finite"):
        write(network, source, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_supernet_is_refused(tmp_path: Path) -> None:
    space = Space(chain(("y", one_of("y", {"a": op("skip"), "b": op("none")})), ("head", op("classifier", width=2))))
    with pytest.raises(ExportError, match="still holds the choice 'y'"):
        write(supernet(space, (1, 4, 4), 2), Source(Architecture({}), "s", ("a", "b")), folder=tmp_path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"mean": (float("nan"),), "std": (1.0,)}, "mean must hold finite"),  # row 39: never reaches a JSON file
        ({"mean": (0.0,), "std": (0.0,)}, "std must be > 0"),
        ({"mean": (0.0, 0.0), "std": (1.0,)}, "mean has 2 channels"),
        ({"pixels": (1.0, 0.0)}, "pixels must be"),
    ],
)
def test_a_source_that_cannot_be(facts: dict[str, tuple[float, ...]], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        Source(Architecture({}), "s", ("a",), **facts)  # type: ignore[arg-type]


def test_a_source_that_does_not_fit(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    with pytest.raises(ExportError, match="2 classes for a network with 5 outputs"):
        write(network, replace(source, classes=("a", "b")), folder=tmp_path)
    with pytest.raises(ExportError, match="mean has 1 channels and the network's input 3"):
        write(network, replace(source, mean=(0.0,), std=(1.0,)), folder=tmp_path)


def test_half_precision_and_double(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    for k, dtype in enumerate((torch.float64, torch.bfloat16)):
        network.to(dtype)
        write(network, source, folder=tmp_path / str(k))
