"""Files in a new process: they work there without metanas, and one that needs it, or differs, fails the export."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import metanas.exporters.process as process
import metanas.exporters.writing as writing
from metanas.errors import ExportError
from metanas.exporters import FORMATS, Source, write
from metanas.exporters.draft import Draft
from metanas.exporters.process import Case, outputs_alone
from metanas.network import OPS, Network, derived
from metanas.space import NEEDED, Architecture, Space, chain, op

Made = tuple[Network, Source]


@pytest.mark.long
def test_every_format_in_a_new_process(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[tuple[str, int]]]] = []

    def seen(reader: str, cases: list[Case], folder: Path) -> list[torch.Tensor]:
        asked.append((reader, [(case.format, len(case.inputs[0])) for case in cases]))
        return outputs_alone(reader, cases, folder)

    monkeypatch.setattr(writing, "outputs_alone", seen)
    formats = [name for name in FORMATS if name != "onnx"]
    monkeypatch.chdir(tmp_path)
    paths = write(*make("recurrent"), folder="out", formats=formats, verify="process")  # a relative folder
    assert asked == [("torch", [("python", 4), ("pt2", 1), ("pt2", 2), ("pt2", 5)])]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)


def test_a_difference_fails_the_export(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 32."""
    network, source = make()

    def other(reader: str, cases: list[Case], folder: Path) -> list[torch.Tensor]:
        return [network(*case.inputs).detach() + 1e-3 for case in cases]

    monkeypatch.setattr(writing, "outputs_alone", other)
    write(network, source, folder=tmp_path / "here", formats=["python"], verify="here")
    with pytest.raises(ExportError, match=r"python, in a new process: outputs of the written file differ .* by \d"):
        write(network, source, folder=tmp_path / "out", formats=["python"], verify="process")
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_file_that_needs_metanas_fails_the_export(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = FORMATS["python"]

    def data(draft: Draft) -> bytes:
        return right.data(draft).replace(b"import json\n", b"import json\nimport metanas.errors\n")

    monkeypatch.setattr(writing, "FORMATS", {**FORMATS, "python": replace(right, data=data)})
    write(*make(), folder=tmp_path / "here", formats=["python"], verify="here")
    # Isolated Python still finds an editable install.
    expected = "in a new process without metanas: python: ImportError: the file needs metanas, which its reader"
    with pytest.raises(ExportError, match=expected):
        write(*make(), folder=tmp_path / "out", formats=["json", "python"], verify="process")
    assert not (tmp_path / "out").exists()


def test_weights_alone_are_checked_with_the_module_that_goes_with_them(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Case] = []

    def fake(reader: str, cases: list[Case], folder: Path) -> list[torch.Tensor]:
        asked.extend(cases)
        return [network(*case.inputs).detach() for case in cases]

    network, source = make()
    monkeypatch.setattr(writing, "outputs_alone", fake)
    write(network, source, folder=tmp_path, formats=["safetensors"], verify="process")
    assert [(case.format, case.weights is not None) for case in asked] == [("python", True)]
    assert [p.name for p in tmp_path.iterdir()] == ["network.safetensors"]


def test_weights_of_a_users_operation_are_checked_here_alone(tmp_path: Path) -> None:
    space = Space(chain(("y", op("mine")), ("head", op("classifier", width=NEEDED))), "own")
    ops = {**OPS, "mine": lambda op, shape, phase: torch.nn.Conv2d(shape[0], 2, 1)}
    network = derived(space, Architecture({}), (1, 4, 4), 2, ops=ops)
    source = Source(Architecture({}), "own", ("a", "b"))
    (path,) = write(network, source, folder=tmp_path, formats=["safetensors"], verify="process")
    assert path.exists()


def test_a_process_that_cannot_be_started(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(
        ExportError, match=r"cannot check the files in a new process .*; verify='here' checks them here"
    ):
        write(*make(), folder=tmp_path / "out", formats=["python"], verify="process")
    assert not (tmp_path / "out").exists()


def test_a_process_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.py").write_text("raise SystemExit('out of memory')")
    monkeypatch.setattr(process, "SCRIPT", tmp_path / "script.py")
    with pytest.raises(ExportError, match="in a new process without metanas: out of memory; nothing was exported"):
        outputs_alone("torch", [Case("python", tmp_path / "x.py", [torch.zeros(1)])], tmp_path)


def test_an_unknown_way_to_verify(make: Callable[..., Made], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="verify must be one of here, process, got 'no'"):
        write(*make(), folder=tmp_path / "out", verify="no")
