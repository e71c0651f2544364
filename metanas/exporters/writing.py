"""One call writes what outlives the tool, and proves it: every file is read back and computes what its source does.

stage    all files in a hidden folder beside their place
verify   read each back; outputs on random batches within 1e-5 of the largest output
move     rename each to its place; what was there before is there until that moment
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metanas.errors import ExportError, RunError, nearest
from metanas.exporters.plan import check
from metanas.exporters.pt2 import pt2_bytes, read_pt2
from metanas.exporters.python import python_code
from metanas.exporters.source import Source
from metanas.exporters.weights import load_weights, weights_bytes
from metanas.network import Network
from metanas.run.atomic import dump_json, read_json, sync_folder, write_bytes
from metanas.space import Architecture

TOLERANCE = 1e-5
EXAMPLES = 4
SCHEMA = 1


@dataclass(frozen=True)
class Format:
    """A kind of file.

    file:   its name; `{name}` stands for the network's
    data:   (network, source, name) -> the file's content
    reload: (path, network, source, weights file) -> what the file computes, or None where it computes nothing; it
            raises where the file does not say what it should
    sizes:  of the batches on which it is compared
    """

    file: str
    data: Callable[[Network, Source, str], bytes]
    reload: Callable[[Path, Network, Source, Path], Callable[..., Tensor] | None]
    sizes: tuple[int, ...] = (EXAMPLES,)


def write(
    network: Network,
    source: Source,
    *,
    folder: str | Path,
    name: str = "network",
    formats: Sequence[str] = ("json", "safetensors", "python"),
    force: bool = False,
) -> tuple[Path, ...]:
    """Writes `network` in every format; returns the paths, in the order of `formats`.

    Args:
        network: a derived one, trained or not; it is not changed.
        source: the architecture, the classes, and how pixels become inputs.
        folder: made where it is missing.
        name: of the files: letters, digits, `_` and `-`, first a letter.
        formats: names from `FORMATS`.
        force: replace files that are there.

    Raises:
        ExportError: an unknown format, a file that is there, a disk that does not take it, or a file that does not
            compute what `network` does: nothing new is left behind then. Or a network that one of the formats cannot
            express: the others are written then, and the message says so.
    """
    for wanted in formats:
        if wanted not in FORMATS:
            raise ExportError(f"unknown format {wanted!r}{nearest(wanted, FORMATS)}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ExportError(f"name must be letters, digits, '_' and '-', first a letter, got {name!r}")
    check(network.program)
    _fits(network, source)
    folder = Path(folder)
    targets = {wanted: folder / FORMATS[wanted].file.format(name=name) for wanted in dict.fromkeys(formats)}
    there = [str(path) for path in targets.values() if path.exists() or path.is_symlink()]
    folders = [str(path) for path in targets.values() if path.is_dir()]
    if folders:
        raise ExportError(f"a folder is in the way: {', '.join(folders)}; choose another folder or name")
    if there and not force:
        raise ExportError(
            f"already there: {', '.join(there)}; choose another folder or name, or give force=True (--force)"
        )
    twin = copy.deepcopy(network).cpu().eval()
    try:
        _stage_and_move(twin, source, name, targets)
    except (OSError, RunError) as error:
        raise ExportError(f"cannot export to {folder}: {error}") from error
    return tuple(targets.values())


def _fits(network: Network, source: Source) -> None:
    shape, out = network.shapes[network.program.inputs[0]], network.shapes[network.program.output]
    if source.mean and len(source.mean) != shape[0]:
        raise ExportError(
            f"mean has {len(source.mean)} channels and the network's input {shape[0]}; give one a channel"
        )
    if (len(source.classes) or 1) != out[0]:
        raise ExportError(f"{len(source.classes)} classes for a network with {out[0]} outputs; name every output")
    if source.table is not None and (source.table.width,) != shape:
        raise ExportError(f"the table gives inputs ({source.table.width},) and the network takes {shape}; give its own")


def _stage_and_move(network: Network, source: Source, name: str, targets: Mapping[str, Path]) -> None:
    folder = next(iter(targets.values()), Path()).parent
    made = [f for f in (folder, *folder.parents) if not f.exists()]
    moved = False
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".export-", suffix=".tmp", dir=folder))
    try:
        weights = staging / FORMATS["safetensors"].file.format(name=name)
        write_bytes(weights, weights_bytes(network, source, name))  # the Python module is checked with it in any case
        written, problems = {}, []
        for wanted, target in targets.items():
            try:
                if wanted != "safetensors":
                    write_bytes(staging / target.name, FORMATS[wanted].data(network, source, name))
                written[wanted] = target
            except ExportError as error:
                problems.append(f"{wanted}: {error}")
        for wanted, target in written.items():
            reloaded = FORMATS[wanted].reload(staging / target.name, network, source, weights)
            if reloaded is not None:
                for size in FORMATS[wanted].sizes:
                    compare(network, reloaded, wanted, examples=size)
        for target in written.values():
            (staging / target.name).replace(target)
            moved = True
        sync_folder(folder)
        if problems:
            kept = f"; written: {', '.join(str(path) for path in written.values())}" if written else ""
            raise ExportError("; ".join(problems) + kept)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not moved:
            for new in made:
                with contextlib.suppress(OSError):  # what made it fail counts
                    new.rmdir()


def compare(network: Network, other: Callable[..., Tensor], what: str, *, examples: int = EXAMPLES) -> float:
    """The largest difference of the outputs on a random batch of so many examples, relative to the largest output.

    Raises ExportError where it is above `TOLERANCE`, the shapes differ, or an output of the source is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    shapes = [network.shapes[value] for value in network.program.inputs]
    batch = [torch.randn(examples, *shape, generator=generator).to(dtype) for shape in shapes]
    with torch.no_grad():
        expected: Tensor = network(*batch)
        got: Tensor = other(*batch)
    if not expected.isfinite().all():
        raise ExportError("the network's outputs are not finite, so nothing can be checked; export a trained network")
    if got.shape != expected.shape:
        raise ExportError(f"{what}: the file gives {tuple(got.shape)}, its source {tuple(expected.shape)}")
    difference = (got - expected).abs().max().item() / max(expected.abs().max().item(), torch.finfo(dtype).tiny)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{what}: outputs of the written file differ from the network's by {difference:.2e} of the largest output "
            f"(allowed: {TOLERANCE:.0e}); nothing was exported"
        )
    return difference


def _facts(network: Network, source: Source, name: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": name,
        "space": source.space,
        "architecture": source.architecture.to_json(),
        "key": source.architecture.key,
        "classes": list(source.classes),
        "mean": list(source.mean),
        "std": list(source.std),
        "pixels": list(source.pixels),
        "shape": list(network.shapes[network.program.inputs[0]]),
        "parameters": sum(p.numel() for p in network.parameters()),
        **({} if source.table is None else {"table": source.table.to_json()}),
        **({} if source.classes else {"scale": list(source.scale)}),
    }


def _json(network: Network, source: Source, name: str) -> bytes:
    return (dump_json(_facts(network, source, name), indent=1) + "\n").encode("ascii")


def _read_json(path: Path, network: Network, source: Source, weights: Path) -> None:
    if Architecture.from_json(read_json(path)["architecture"]) != source.architecture:
        raise ExportError(f"json: {path.name} does not hold the architecture {source.architecture}")


def _read_weights(path: Path, network: Network, source: Source, weights: Path) -> Network:
    blank = copy.deepcopy(network)
    with torch.no_grad():
        for value in blank.state_dict().values():
            value.fill_(7)  # so that a tensor that is not read shows
    load_weights(blank, path)
    return blank


def _read_python(path: Path, network: Network, source: Source, weights: Path) -> Callable[..., Tensor]:
    """Runs the written file in a namespace of its own."""
    spec = importlib.util.spec_from_file_location(f"metanas_exported_{id(path)}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        loaded: Callable[..., Tensor] = module.load(weights).eval()
    except RuntimeError as error:
        raise ExportError(f"python: the written module does not take the weights ({error})") from error
    return loaded


FORMATS: Mapping[str, Format] = {
    "json": Format("architecture.json", _json, _read_json),
    "safetensors": Format("{name}.safetensors", weights_bytes, _read_weights),
    "python": Format("{name}.py", lambda *a: python_code(*a).encode(), _read_python),
    "pt2": Format(
        "{name}.pt2",
        lambda *a: pt2_bytes(a[0], _facts(*a)),
        lambda path, network, source, _: read_pt2(path, _facts(network, source, path.stem)),
        sizes=(1, 2, 5),
    ),
}
"""Name of a format -> what it is; a new one is a line here."""
