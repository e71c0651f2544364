"""Half precision in the formats of torch: what is stored, what is computed, and what is said of the loss."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import torch
from torch import Tensor, nn

from metanas.errors import ExportError
from metanas.exporters import Loss, Source, load_weights, write
from metanas.network import Network

Made = tuple[Network, Source]
FORMATS = ["json", "safetensors", "python", "pt2"]


def loaded(path: Path) -> object:
    spec = importlib.util.spec_from_file_location("written_in_half", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_stored_in_half_and_computed_in_float32(make: Callable[..., Made], tmp_path: Path, precision: str) -> None:
    network, source = make()
    half = getattr(torch, precision)
    formats = FORMATS if precision == "float16" else FORMATS[:3]  # tracing is slow
    done = write(network, source, folder=tmp_path, formats=formats, precision=precision)
    assert [p.suffix for p in done] == [".json", ".safetensors", ".py", ".pt2"][: len(formats)]
    expected = rounded(network, half)
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    with safetensors.safe_open(done[1], "pt") as file:
        kept = {name: file.get_tensor(name).dtype for name in file.keys()}
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
    assert kept["stem.conv.weight"] == kept["stem.norm.weight"] == half
    assert kept["stem.norm.running_var"] == torch.float32, "statistics have another range"
    module = loaded(done[2])
    own = module.load()  # type: ignore[attr-defined]
    assert {p.dtype for p in own.parameters()} == {torch.float32}
    torch.testing.assert_close(own(x), expected(x), rtol=1e-6, atol=1e-6)
    assert module.load(dtype=half)(x.to(half)).dtype == half  # type: ignore[attr-defined]
    for path in done[3:]:
        program = torch.export.load(path)
        assert program.state_dict["stem.conv.weight"].dtype == half
        torch.testing.assert_close(program.module()(x), expected(x), rtol=1e-6, atol=1e-6)
    back = make()[0]
    load_weights(back, done[1])
    assert torch.equal(back(x), expected(x))
    loss = done.losses["python"]
    assert 0 < loss.difference < {"float16": 5e-3, "bfloat16": 3e-2}[precision] and loss.agreement is not None
    assert facts["precision"] == precision and Loss(**facts["loss"]) == loss
    assert json.loads(done[0].read_text())["losses"].keys() == set(formats[1:])


def rounded(network: Network, half: torch.dtype) -> Network:
    import copy

    twin = copy.deepcopy(network)
    with torch.no_grad():
        for p in twin.parameters():
            p.copy_(p.to(half))
    return twin


def test_a_score_on_data_is_measured_before_and_after(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    x = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(5))

    def measure(call: Callable[..., Tensor]) -> float:
        return float(call(x).detach().double().mean())

    done = write(network, source, folder=tmp_path, formats=["safetensors"], precision="float16", measure=measure)
    loss = done.losses["safetensors"]
    assert loss.score == measure(network) and loss.reduced == measure(rounded(network, torch.float16))
    with pytest.raises(ExportError, match=r"float16: the score is not finite \(nan before, nan after\)"):
        write(
            network,
            source,
            folder=tmp_path / "x",
            precision="float16",
            formats=["json"],
            measure=lambda c: float("nan"),
        )


def test_a_full_file_says_nothing_of_a_loss(make: Callable[..., Made], tmp_path: Path) -> None:
    done = write(*make(), folder=tmp_path, formats=["json"])
    assert done.losses == {} and not {"precision", "loss", "losses"} & json.loads(done[0].read_text()).keys()


def test_a_weight_that_half_cannot_hold(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    nn.init.constant_(network.get_parameter("head.4.bias"), 1e6)
    match = r'float16 ends at 6\.55e\+04 and head\.4\.bias holds 1e\+06; choose "bfloat16"'
    with pytest.raises(ExportError, match=match):
        write(network, source, folder=tmp_path / "out", precision="float16")
    assert not (tmp_path / "out").exists()
    write(network, source, folder=tmp_path / "out", precision="bfloat16")


def test_outputs_that_become_infinite(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    with torch.no_grad():
        network.get_parameter("head.4.weight").fill_(3e38)
        network.get_parameter("head.4.bias").fill_(3e38)
    with pytest.raises(ExportError, match="not finite"):
        write(network, source, folder=tmp_path / "out", precision="bfloat16")
    assert not (tmp_path / "out").exists()
