"""The stand-alone module: right, on its own, in a formatter's layout, and safe whatever the names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metanas.errors import ExportError
from metanas.exporters import Source, weight_names, write
from metanas.exporters.blocks import _PARTS
from metanas.exporters.code import COLUMNS, identifier, literal
from metanas.exporters.python import python_code
from metanas.network import OPS, Network, derived
from metanas.space import Architecture, Space, chain, one_of, op, partial_channels

Made = tuple[Network, Source]
NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
CASES = [
    ("nasbench201", NONE),
    ("nasbench201", NONE.replace("none", "skip_connect")),
    ("nasbench201", NONE.replace("none", "nor_conv_3x3")),
    ("nasbench201", NONE.replace("none", "avg_pool_3x3")),
    ("nasbench201", "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"),
    ("nasbench201", "|none~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"),
    *[("nasbench201", seed) for seed in range(2)],
    *[("darts", seed) for seed in range(3)],
    ("everything", 0),
    ("recurrent", 0),
    ("tokens", 0),
]
ALONE = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("exported", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert not any(name.split(".")[0] in ("metanas", "safetensors", "PIL") for name in sys.modules), sorted(sys.modules)
network = module.load()
batch = torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    torch.save(network(batch), sys.argv[3])
"""


@pytest.mark.parametrize(("name", "which"), CASES)
@pytest.mark.parametrize("phase", ["scratch", "search"])
def test_every_kind_of_network(
    make: Callable[..., Made], tmp_path: Path, name: str, which: str | int, phase: str
) -> None:
    network, source = make(name, which, phase)
    text = written(network, source, tmp_path)
    assert "metanas" not in text
    names = set(weight_names(network).values())
    assert len(names) == len(network.state_dict())
    imported = {
        alias.name if isinstance(n, ast.Import) else str(n.module)
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
    }
    assert imported <= {"__future__", "json", "math", "sys", "pathlib", "typing", "torch", "torch.nn.functional", "PIL"}


def written(network: Network, source: Source, folder: Path) -> str:
    (path,) = write(network, source, folder=folder, formats=["python"])
    return path.read_text()


def test_layout_is_the_formatters(make: Callable[..., Made], tmp_path: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    for k, (name, which) in enumerate(CASES):
        for phase in ("scratch", "search"):
            network, source = make(name, which, phase)
            (tmp_path / f"{phase}{k}.py").write_text(python_code(network, source, "network"))
    for command in (["format", "--diff"], ["check"]):
        done = subprocess.run([ruff, *command, "--isolated", "--no-cache", tmp_path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


TORCH = """
from typing import Any

class Tensor:
    def __getattr__(self, name: str) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, at: Any) -> Tensor: ...
    def __add__(self, other: Any) -> Tensor: ...
    def __mul__(self, other: Any) -> Tensor: ...
    def __truediv__(self, other: Any) -> Tensor: ...

class dtype:
    itemsize: int

def __getattr__(name: str) -> Any: ...
"""
NN = """
from typing import Any, Self
from torch import Tensor

class Module:
    def __init__(self) -> None: ...
    def __call__(self, *values: Any) -> Any: ...
    def __getattr__(self, name: str) -> Tensor | Module: ...
    def eval(self) -> Self: ...
    def to(self, dtype: Any) -> Self: ...
    def parameters(self) -> Any: ...
    def register_buffer(self, name: str, tensor: Tensor) -> None: ...
    def load_state_dict(self, state: dict[str, Tensor], assign: bool) -> None: ...

def __getattr__(name: str) -> Any: ...
"""
ANYTHING = """
from typing import Any

def __getattr__(name: str) -> Any: ...
"""
FUNCTIONAL = """
from typing import Any
from torch import Tensor

def batch_norm(x: Tensor, mean: Tensor | None, variance: Tensor | None, *others: Any) -> Tensor: ...
def __getattr__(name: str) -> Any: ...
"""


@pytest.mark.long
def test_types(make: Callable[..., Made], tmp_path: Path) -> None:
    """Strictly, against a few lines that say of torch what matters: torch's own types take mypy half a minute."""
    mypy = Path(sys.executable).with_name("mypy")
    if not mypy.exists():
        pytest.skip("mypy is not installed")
    (tmp_path / "torch" / "nn").mkdir(parents=True)
    (tmp_path / "torch" / "__init__.pyi").write_text(TORCH)
    (tmp_path / "torch" / "nn" / "__init__.pyi").write_text(NN)
    (tmp_path / "torch" / "nn" / "functional.pyi").write_text(FUNCTIONAL)
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.pyi").write_text(ANYTHING)
    written = []
    networks = {"everything": "float32", "tokens": "float32", "recurrent": "float16", "nasbench201": "bfloat16"}
    for name, precision in networks.items():
        written.append(tmp_path / f"{name}.py")
        written[-1].write_text(python_code(*make(name), "network", precision))
    command = [mypy, "--strict", "--cache-dir", "cache", *written]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"MYPYPATH": str(tmp_path)})
    assert done.stdout == "Success: no issues found in 4 source files\n", done.stdout + done.stderr


def test_runs_without_metanas(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make("nasbench201", CASES[5][1])
    write(network, source, folder=tmp_path / "out")
    batch = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    torch.save(batch, tmp_path / "in.pt")
    command = [sys.executable, "-I", "-W", "error", "-c", ALONE, tmp_path / "out" / "network.py", tmp_path / "in.pt"]
    done = subprocess.run([*command, tmp_path / "out.pt"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "out.pt"), network(batch), rtol=1e-5, atol=1e-6)


def test_classifies_image_files(make: Callable[..., Made], tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    network, source = make("nasbench201", 0)
    write(network, source, folder=tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    command = [sys.executable, "-I", "-W", "error", tmp_path / "network.py"]
    done = subprocess.run(
        [*command, tmp_path / "a.png"], capture_output=True, encoding="utf-8", env={"PYTHONUTF8": "1"}
    )
    assert done.returncode == 0, done.stderr
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (source.mean, source.std))
    with torch.no_grad():
        chances = network(((torch.from_numpy(pixels).permute(2, 0, 1) - mean) / std)[None])[0].softmax(0)
    best = int(chances.argmax())
    assert f"{chances[best]:6.1%}  {source.classes[best]}" in done.stdout
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_one_cell_at_three_widths_is_one_class(make: Callable[..., Made]) -> None:
    text = python_code(*make("nasbench201", NONE.replace("none", "nor_conv_3x3")), "network")
    assert len(re.findall(r"^class Cell\b", text, re.M)) == 1 and "Cell2" not in text
    assert all(f"Cell({width})" in text for width in (4, 8, 16))
    assert "self.node1 = ReLUConvBN(channels, channels, kernel=3)" in text


def test_a_network_as_it_reads(make: Callable[..., Made]) -> None:
    key = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    text = python_code(*make("nasbench201", key), "network")
    assert (
        text[text.index("class Cell") : text.index("class Network")].strip()
        == '''
class Cell(nn.Module):
    """A cell, used 6 times; it keeps the shape: (batch, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.node1 = ReLUConvBN(channels, channels, kernel=3)
        self.node2_from_1 = ReLUConvBN(channels, channels, kernel=1)
        self.node3_from_1 = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.node3_from_2 = ReLUConvBN(channels, channels, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        node1 = self.node1(x)
        node2 = self.node2_from_1(node1)
        return x + self.node3_from_1(node1) + self.node3_from_2(node2)
'''.strip()
    )


def test_partial_channels(tmp_path: Path) -> None:
    """No search derives such a network, and one that is built by hand is written all the same: `write` compares."""
    pick = {"max": op("max_pool", kernel=3, stride=2), "conv": op("preact_conv", width=8, stride=2, activation="relu")}
    steps = ("stem", op("conv", width=8)), ("y", one_of("y", pick)), ("head", op("classifier", width=5))
    space = partial_channels(Space(chain(*steps)))
    network = derived(space, {"y": ("max",)}, (3, 7, 7), 5).eval()
    text = written(network, Source(space.architecture({"y": "max"}), "mine", tuple("abcde")), tmp_path)
    assert "nn.ChannelShuffle(4)" in text and "[:, -6:]" in text


def test_every_operation_is_known() -> None:
    assert set(_PARTS) == set(OPS)


@pytest.mark.parametrize("kind", ["mine", "conv"])
def test_an_operation_of_the_users_own_is_named(tmp_path: Path, kind: str) -> None:
    space = Space(chain(("y", op(kind, width=4)), ("head", op("classifier", width=5))))
    ops = {**OPS, kind: lambda op, shape, phase: torch.nn.Conv2d(shape[0], 4, 1)}
    network = derived(space, Architecture({}), (3, 8, 8), 5, ops=ops)
    source = Source(Architecture({}), "s", tuple("abcde"))
    with pytest.raises(ExportError, match=f"operation '{kind}'"):
        write(network, source, folder=tmp_path / "out")
    kept = sorted(p.name for p in (tmp_path / "out").iterdir())  # row 31
    assert kept == ["architecture.json", "network.safetensors"]
    write(network, source, folder=tmp_path / "out", formats=["json", "safetensors", "pt2"], force=True)


@given(st.text(max_size=30))
def test_a_literal_is_its_text(text: str) -> None:
    if any("\ud800" <= c <= "\udfff" for c in text):
        return
    written = literal(text)
    assert ast.literal_eval(written) == text
    assert all(c.isprintable() for c in written)


@given(st.lists(st.text(max_size=40), max_size=8))
def test_identifiers_are_names_and_differ(texts: list[str]) -> None:
    names: list[str] = []
    for text in texts:
        names.append(identifier(text, names))
        assert names[-1].isidentifier() and len(names[-1]) <= COLUMNS // 3
    assert len(set(names)) == len(names)


def test_names_cannot_become_code(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make("nasbench201", 0)
    evil = Source(
        Architecture(dict(source.architecture), key='"""\nraise SystemExit'),
        '"""\nraise SystemExit\n',
        source.classes,
        mean=source.mean,
        std=source.std,
    )
    text = written(network, evil, tmp_path)
    module = ast.parse(text)
    constants = {n.targets[0].id: n.value for n in module.body if isinstance(n, ast.Assign)}  # type: ignore[attr-defined]
    assert ast.literal_eval(constants["CLASSES"]) == source.classes
    assert ast.literal_eval(constants["ARCHITECTURE"]) == '"""\nraise SystemExit'
    assert not any(isinstance(n, ast.Raise) for n in module.body)


@pytest.fixture
def exported(make: Callable[..., Made], tmp_path: Path) -> tuple[Path, dict[str, object]]:
    """The folder of an export, and the module's namespace."""
    write(*make("nasbench201", 0), folder=tmp_path)
    space: dict[str, object] = {"__name__": "exported", "__file__": str(tmp_path / "network.py")}
    exec(compile((tmp_path / "network.py").read_text(), "network.py", "exec"), space)
    return tmp_path, space


def rewritten(path: Path, change: Callable[[dict[str, dict[str, object]]], None]) -> bytes:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def changed(**facts: object) -> Callable[[dict[str, dict[str, object]]], None]:
    return lambda header: header["stem.conv.weight"].update(facts)


def test_the_modules_reader_refuses_what_is_not_whole(exported: tuple[Path, dict[str, object]]) -> None:
    folder, space = exported
    read: Callable[[Path], object] = space["read_safetensors"]  # type: ignore[assignment]
    good = folder / "network.safetensors"
    read(good)
    whole = good.read_bytes()
    (folder / "pickle.pt").write_bytes(b"")
    torch.save({"stem.conv.weight": torch.ones(2)}, folder / "pickle.pt")
    bad = {
        "empty": b"",
        "short": whole[:5],
        "no body": whole[: 8 + int.from_bytes(whole[:8], "little")],
        "cut": whole[:-1],
        "long": whole + b"\0",
        "garbage": bytes(range(256)) * 9,
        "pickle": (folder / "pickle.pt").read_bytes(),
        "huge header": b"\xff" * 8 + whole[8:],
        "list": (2).to_bytes(8, "little") + b"[]",
        "deep": (200_000).to_bytes(8, "little") + b"[" * 200_000,
        "dtype": rewritten(good, changed(dtype="F4")),
        "shape": rewritten(good, changed(shape=[4, 3, 3, 4])),
        "negative": rewritten(good, changed(shape=[-4, -3, 3, 3])),
        "offsets": rewritten(good, changed(data_offsets=[10**9, 10**9 + 432])),
        "before": rewritten(good, changed(data_offsets=[-432, 0])),
        "fraction": rewritten(good, changed(shape=[4.0, 3.0, 3.0, 3.0])),
        "no shape": rewritten(good, lambda h: h["stem.conv.weight"].pop("shape") and None),
    }
    for what, data in bad.items():
        (folder / "bad").write_bytes(data)
        with pytest.raises(ValueError, match="safetensors file"):
            read(folder / "bad")
            pytest.fail(what)


def test_the_module_takes_no_other_networks_weights(
    make: Callable[..., Made], exported: tuple[Path, dict[str, object]]
) -> None:
    folder, space = exported
    write(*make("nasbench201", NONE), folder=folder / "other", formats=["safetensors"])
    with pytest.raises(RuntimeError, match="Missing key"):
        space["load"](folder / "other" / "network.safetensors")  # type: ignore[operator]


def test_loading_draws_no_random_numbers(exported: tuple[Path, dict[str, object]]) -> None:
    _, space = exported
    before = torch.get_rng_state()
    space["load"]()  # type: ignore[operator]
    assert torch.equal(before, torch.get_rng_state())
    assert space["build"]().training  # type: ignore[operator]
