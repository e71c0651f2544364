"""The .pt2 file: computes what the network does at any batch size, needs neither metanas nor pickle."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import metanas.exporters.writing as writing
from metanas.errors import ExportError
from metanas.exporters import FORMATS, Source, read_weights, write
from metanas.exporters.draft import Draft
from metanas.network import OPS, Maker, Network, derived, frozen
from metanas.recipe.spaces import load_space
from metanas.space import NEEDED, Architecture, Space, chain, op

Made = tuple[Network, Source]

ALONE = """
import sys
sys.modules["metanas"] = None  # importing it is an error from here on
import torch
facts = {"metanas.json": ""}
program = torch.export.load(sys.argv[1], extra_files=facts).module()
cases = torch.load(sys.argv[2], weights_only=True)
for x, y in cases:
    torch.testing.assert_close(program(x), y, rtol=1e-5, atol=1e-5)
print(len(cases), facts["metanas.json"])
"""


LONG = pytest.mark.long


@pytest.mark.parametrize("phase", ["scratch", "search"])
@pytest.mark.parametrize(
    "space", ["everything", "recurrent", pytest.param("darts", marks=LONG), pytest.param("nasbench201", marks=LONG)]
)
def test_every_space_and_batch_size(make: Callable[..., Made], tmp_path: Path, space: str, phase: str) -> None:
    network, source = make(space, 1, phase)
    (path,) = write(network, source, folder=tmp_path, formats=["pt2"])
    program = torch.export.load(path).module()
    for batch in (1, 3, 17):
        x = torch.randn(batch, *network.shapes[network.program.inputs[0]], generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(program(x), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_in_a_process_without_metanas(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    (path,) = write(network, source, folder=tmp_path, formats=["pt2"])
    inputs = [torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (1, 4)]
    torch.save([(x, network(x).detach()) for x in inputs], tmp_path / "cases.pt")
    command = [sys.executable, "-W", "error", "-c", ALONE, str(path), str(tmp_path / "cases.pt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    count, _, facts = done.stdout.partition(" ")
    found = json.loads(facts)
    assert count == "2"
    assert Architecture.from_json(found["architecture"]) == source.architecture
    assert found["classes"] == list(source.classes)
    assert (found["mean"], found["std"], found["pixels"]) == ([120.5, 110.0, 100.25], [60.0, 61.0, 62.0], [0.0, 255.0])
    assert found["shape"] == [3, 8, 8]


def test_holds_no_pickle_and_no_path(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 19: neither in the file nor on the way back is anything unpickled."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    (path,) = write(*make(), folder=tmp_path, formats=["pt2"])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickles = [name for name, data in parts.items() if data[:2] in (b"PK", b"\x80\x02") and "weight" not in name]
    assert pickles == []
    assert not [name for name, data in parts.items() if str(Path(torch.__file__).parent).encode() in data]
    assert not [name for name, data in parts.items() if str(Path(writing.__file__).parents[1]).encode() in data]


def test_weights_have_the_names_of_the_safetensors_file(make: Callable[..., Made], tmp_path: Path) -> None:
    weights, path = write(*make("everything"), folder=tmp_path, formats=["safetensors", "pt2"])
    program = torch.export.load(path)
    assert set(program.state_dict) == set(read_weights(weights))


def test_a_file_that_computes_something_else_only_at_one_size(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = FORMATS["pt2"]

    def bent(path: Path, draft: Draft, weights: Path) -> Callable[..., Tensor]:
        program = right.reload(path, draft, weights)
        assert program is not None
        return lambda x: program(x) + (1e-3 if len(x) == 1 else 0.0)

    monkeypatch.setattr(writing, "FORMATS", {**FORMATS, "pt2": replace(right, reload=bent)})
    with pytest.raises(ExportError, match="pt2: outputs of the written file differ"):
        write(*make(), folder=tmp_path / "out", formats=["json", "pt2"])
    assert not (tmp_path / "out").exists()


SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "search_spaces").glob("*.py"))
FEWER: dict[str, dict[str, int]] = {
    "nasbench201": {"channels": 4, "cells": 1},
    "nasbench101": {"channels": 8, "cells": 1, "stacks": 2, "vertices": 5},
    "darts": {"channels": 4, "layers": 3},
    "hierarchical": {"channels": 4, "cells": 1, "nodes": 3},
    "mobile": {"channels": 4, "stages": 2, "depth": 2},
    "graph_network": {"width": 4, "depth": 2},
    "mixers": {"depth": 2},
    "sequence": {"width": 8, "nodes": 3},
    "vit": {"depth": 2},
}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_space(tmp_path: Path, name: str) -> None:
    space = load_space(name, **FEWER.get(name, {}))
    architecture = space.sample(np.random.default_rng(0))
    shape = {"mlp": (6,), "graph_network": (5, 8)}.get(name, (3, 16, 16))
    network = derived(space, architecture, shape, 3).eval()
    assert len(write(network, Source(architecture, space.name, tuple("abc")), folder=tmp_path, formats=["pt2"])) == 1


class Tied(nn.Module):
    """One convolution under two names, a buffer that no file of weights holds, and a part without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.Conv2d(1, 1, 3, padding=1)
        self.register_buffer("scale", torch.full((1, 1, 1), 2.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.first(x) * self.scale
        return self.second(x)


@pytest.mark.parametrize("maker", [frozen(Tied()), lambda op, shape, phase: Tied()], ids=["frozen", "trained"])
def test_modules_of_the_users(tmp_path: Path, maker: Maker) -> None:
    space = Space(chain(("mine", op("mine")), ("head", op("classifier", width=NEEDED))), "mine")
    network = derived(space, Architecture({}), (1, 6, 6), 2, ops={**OPS, "mine": maker}).eval()
    (path,) = write(network, Source(Architecture({}), "mine", ("a", "b")), folder=tmp_path, formats=["pt2"])
    x = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.export.load(path).module()(x), network(x))


class Branching(nn.Module):
    """What it computes depends on the values: no graph can say it."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.is_meta or x.sum() > 0 else -x


def branching(maker: Maker = lambda op, shape, phase: Branching()) -> Made:
    space = Space(
        chain(("stem", op("skip")), ("odd", op("branching")), ("head", op("classifier", width=NEEDED))), "odd"
    )
    ops = {**OPS, "branching": maker}
    architecture = Architecture({})
    return derived(space, architecture, (1, 4, 4), 2, ops=ops), Source(architecture, "odd", ("a", "b"))


def test_an_operation_that_cannot_be_traced_is_named_and_the_other_formats_are_kept(tmp_path: Path) -> None:
    """Row 31."""
    with pytest.raises(ExportError) as caught:
        write(*branching(), folder=tmp_path / "out", formats=["json", "safetensors", "python", "pt2"])
    message = str(caught.value)
    assert "pt2: operation 'branching' (odd, a Branching) cannot be traced by torch.export" in message
    assert "python: operation 'branching' is not one of metanas's own" in message
    assert message.count("\n") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["architecture.json", "network.safetensors"]
    assert message.endswith(f"written: {tmp_path / 'out/architecture.json'}, {tmp_path / 'out/network.safetensors'}")


def test_alone_it_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"operation 'branching' \(odd, a Branching\)"):
        write(*branching(frozen(Branching())), folder=tmp_path / "out", formats=["pt2"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [pytest.param(torch.float64, marks=LONG), torch.bfloat16], ids=str)
def test_other_precisions(make: Callable[..., Made], tmp_path: Path, dtype: torch.dtype) -> None:
    network, source = make()
    (path,) = write(network.to(dtype), source, folder=tmp_path, formats=["pt2"])
    assert torch.export.load(path).module()(torch.randn(3, 3, 8, 8).to(dtype)).dtype == dtype
