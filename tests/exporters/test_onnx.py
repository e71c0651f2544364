"""ONNX: computes what the network does at any batch size, says what it is, holds nothing of this machine."""

from __future__ import annotations

import copy
import getpass
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import metanas.exporters.onnx as module
from metanas.errors import ExportError, MissingDependencyError
from metanas.exporters import FORMATS, Source, Written, read_weights, weight_names, write
from metanas.network import OPS, Maker, Network, derived
from metanas.recipe.spaces import load_space
from metanas.space import NEEDED, Architecture, Space, chain, op

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CLASSES = ("cat", 'dog "big"', "鳥\u202e")
SOURCE = Source(Architecture({}), "tiny", CLASSES, mean=(0.5, 0.25), std=(2.0, 4.0))
TINY = Space(
    chain(
        ("stem", op("conv", width=6, kernel=3, norm="batch")),
        ("mid", op("preact_conv", width=8, kernel=3, activation="gelu")),
        ("pool", op("avg_pool", kernel=3, stride=2)),
        ("head", op("classifier", width=NEEDED, norm="batch", activation="relu")),
    ),
    "tiny",
)


def tiny() -> Network:
    network = derived(TINY, Architecture({}), (2, 8, 8), len(CLASSES), seed=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, 2, 8, 8, generator=generator))
    return network.eval()


@dataclass(frozen=True)
class Made:
    """`translated`: the model as torch.onnx gives it, for those who change it."""

    network: Network
    translated: onnx.ModelProto
    model: onnx.ModelProto
    path: Path
    weights: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("onnx")
    network = tiny()
    right, translated = module._translated, []

    def kept(network: Network) -> onnx.ModelProto:
        translated.append(copy.deepcopy(model := right(network)))
        return model

    with warnings.catch_warnings(record=True) as said, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(module, "_translated", kept)
        weights, path = write(network, SOURCE, folder=folder, formats=["safetensors", "onnx"])
    assert [str(w.message) for w in said] == []
    return Made(network, translated[0], onnx.load(path), path, weights)


def ran(path: Path, x: Tensor, name: str = "images") -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@pytest.mark.parametrize("batch", [1, 2, 5, 17])
def test_any_batch_size(made: Made, batch: int) -> None:
    x = torch.randn(batch, 2, 8, 8, generator=torch.Generator().manual_seed(batch))
    torch.testing.assert_close(ran(made.path, x), made.network(x).detach(), rtol=1e-5, atol=1e-5)


def test_opset_and_names(made: Made) -> None:
    graph = made.model.graph
    assert [(entry.domain, entry.version) for entry in made.model.opset_import] == [("", 20)]
    sizes = [[d.dim_param or d.dim_value for d in p.type.tensor_type.shape.dim] for p in (*graph.input, *graph.output)]
    assert [p.name for p in (*graph.input, *graph.output)] == ["images", "scores"]
    assert sizes == [["batch", 2, 8, 8], ["batch", 3]]
    assert (graph.name, made.model.producer_name) == ("network", "metanas")
    weights = {tensor.name for tensor in graph.initializer if not tensor.name.startswith("val_")}
    assert {"stem.conv.weight", "mid.conv.weight", "head.linear.weight", "head.linear.bias"} <= weights
    assert {"stem.conv.weight", "head.linear.weight"} <= weights & set(read_weights(made.weights))
    onnx.checker.check_model(made.model, full_check=True)


def test_metadata_is_that_of_the_json(made: Made, tmp_path: Path) -> None:
    (path,) = write(made.network, SOURCE, folder=tmp_path, formats=["json"])
    found = {entry.key: json.loads(entry.value) for entry in made.model.metadata_props}
    assert found == json.loads(path.read_text())
    assert (found["classes"], found["mean"], found["shape"]) == (list(CLASSES), [0.5, 0.25], [2, 8, 8])


def test_nothing_of_this_machine(made: Made) -> None:
    data = made.path.read_bytes()
    places = [Path(torch.__file__).parents[1], Path(module.__file__).parents[2], Path.home(), Path(__file__).parent]
    assert [str(place) for place in places if str(place) != "/" and str(place).encode() in data] == []
    for word in (b"stack_trace", b"pkg.torch", b"File ", b"namespace", b".py", f"/{getpass.getuser()}/".encode()):
        assert word not in data, word
    assert not any(node.metadata_props or node.doc_string for node in made.model.graph.node)


SMALL = {  # the rest of them, and larger ones: benchmarks/exports.py
    "nasbench201": ({"channels": 2, "cells": 1}, (1, 8, 8)),
    "mlp": ({"width": 8, "blocks": 1}, (5,)),
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_shipped_spaces(tmp_path: Path, name: str) -> None:
    options, shape = SMALL[name]
    space = load_space(name, **options)
    architecture = space.sample(np.random.default_rng(3))
    network = derived(space, architecture, shape, 3, seed=2).eval()
    _, path = write(network, Source(architecture, name, CLASSES), folder=tmp_path, formats=["python", "onnx"])
    x = torch.randn(7, *shape, generator=torch.Generator().manual_seed(0))
    expected = network(x).detach()
    got = ran(path, x, "images" if len(shape) == 3 else "rows")
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


class Bessel(nn.Module):
    """An operator that torch traces and ONNX has no words for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def own(maker: Maker) -> tuple[Network, Source]:
    space = Space(chain(("stem", op("skip")), ("odd", op("mine")), ("head", op("classifier", width=NEEDED))), "own")
    network = derived(space, Architecture({}), (1, 4, 4), 3, ops={**OPS, "mine": maker}).eval()
    return network, Source(Architecture({}), "own", CLASSES)


def test_an_operator_without_a_mapping_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    """Row 31."""
    network, source = own(lambda op, shape, phase: Bessel())
    with pytest.raises(ExportError) as caught:
        write(network, source, folder=tmp_path / "out", formats=["json", "safetensors", "pt2", "onnx"])
    message = str(caught.value)
    expected = "onnx: operation 'mine' (odd, a Bessel) uses prims.bessel_j0, which has no mapping to ONNX; leave"
    assert message.startswith(expected) and "\n" not in message
    kept = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert kept == ["architecture.json", "network.pt2", "network.safetensors"]


def test_an_operation_of_the_users_own(tmp_path: Path) -> None:
    network, source = own(lambda op, shape, phase: nn.Conv2d(shape[0], shape[0], 3, padding=1))
    with pytest.raises(ExportError, match="python: operation 'mine'") as caught:
        write(network, source, folder=tmp_path / "out", formats=["json", "safetensors", "python", "onnx"])
    assert "onnx:" not in str(caught.value)
    kept = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert kept == ["architecture.json", "network.onnx", "network.safetensors"]
    assert set(weight_names(network).values()) >= {"odd.weight", "odd.bias"}


def test_missing_packages_are_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 33."""
    right = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxscript" else right(name, *a))
    with pytest.raises(MissingDependencyError, match=r'format "onnx" needs onnxscript: pip install "metanas\[onnx\]"$'):
        write(tiny(), SOURCE, folder=tmp_path / "out", formats=["json", "onnx"])
    assert not (tmp_path / "out").exists()


def test_another_dtype_is_refused_and_the_others_are_kept(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"onnx: onnxruntime computes in float32, and weights are torch\.float64"):
        write(tiny().double(), SOURCE, folder=tmp_path, formats=["json", "onnx"])
    assert [p.name for p in tmp_path.iterdir()] == ["architecture.json"]


def test_a_graph_that_computes_something_else(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 32."""

    def bent(network: Network) -> onnx.ModelProto:
        model = copy.deepcopy(made.translated)
        (bias,) = (t for t in model.graph.initializer if t.name == "head.linear.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1e-3), bias.name))
        return model

    monkeypatch.setattr(module, "_translated", bent)
    with pytest.raises(ExportError, match=r"^onnx: outputs of the written file differ .* by \d\.\d\de"):
        write(tiny(), SOURCE, folder=tmp_path / "out", formats=["json", "onnx"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ExportError, match=r"onnx: the graph's outputs differ by .* before weights are reduced"):
        write(tiny(), SOURCE, folder=tmp_path / "out", formats=["json", "onnx"], precision="int8")


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_fewer_bits(
    made: Made, tmp_path: Path, precision: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_translated", lambda network: copy.deepcopy(made.translated))
    with caplog.at_level(logging.WARNING):
        done: Written = write(
            made.network, SOURCE, folder=tmp_path, formats=["onnx", "json"], precision=precision, measure=measure
        )
    assert caplog.records == []
    loss = done.losses["onnx"]
    low, high = {"float16": (1e-6, 5e-3), "bfloat16": (1e-4, 3e-2), "int8": (1e-4, 0.1)}[precision]
    assert low < loss.difference < high and loss.agreement is not None and loss.agreement > 0.9
    assert loss.score == measure(made.network) and loss.reduced is not None and loss.reduced != loss.score
    model = onnx.load(done[0])
    found = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert (found["precision"], found["loss"]) == (precision, loss.to_json())
    document = json.loads(done[1].read_text())
    assert (document["precision"], document["losses"]) == (precision, {"onnx": loss.to_json()})
    kinds = {t.name: onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer if t.dims}
    expected = {"float16": "FLOAT16", "bfloat16": "BFLOAT16", "int8": "UINT8"}[precision]
    assert expected in [kind for name, kind in kinds.items() if name.startswith("head.linear.weight")]
    if precision == "int8":
        assert {"ConvInteger", "MatMulInteger"} <= {node.op_type for node in model.graph.node}
    else:
        assert done[0].stat().st_size < made.path.stat().st_size


def measure(call: Callable[..., Tensor]) -> float:
    x = torch.randn(50, 2, 8, 8, generator=torch.Generator().manual_seed(9))
    return float(call(x).detach().softmax(1)[:, 0].double().mean())


def test_int8_is_for_onnx_alone(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match='int8 is for "onnx" only; leave "python", "pt2" out of formats'):
        write(tiny(), SOURCE, folder=tmp_path / "out", formats=["python", "onnx", "pt2"], precision="int8")
    with pytest.raises(ExportError, match="unknown precision 'float61'; did you mean \"float16\""):
        write(tiny(), SOURCE, folder=tmp_path / "out", precision="float61")
    assert not (tmp_path / "out").exists() and "onnx" in FORMATS
