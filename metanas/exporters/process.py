"""The last check of an export: every file does its work in a new process that has no metanas.

The process is `alone.py`, run by the same Python with its isolation on: it loads a file as its reader would, computes
what is asked for, and writes the outputs down; they are compared here. One process for all that torch reads, one for
ONNX.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metanas.errors import ExportError
from metanas.run.atomic import dump_json, write_bytes

SCRIPT = Path(__file__).with_name("alone.py")
SECONDS = 600
BLOCKED = {"torch": ("metanas", "safetensors"), "onnx": ("metanas", "torch", "onnx")}
"""Reader -> packages whose import is an error in its process."""


@dataclass(frozen=True, eq=False)
class Case:
    """A file, and a batch for it. `weights`: the file that it reads its own from; None: it holds them."""

    format: str
    file: Path
    inputs: Sequence[Tensor]
    weights: Path | None = None


def outputs_alone(reader: str, cases: Sequence[Case], folder: Path) -> list[Tensor]:
    """What the files compute in a new process.

    Args:
        reader: "torch" or "onnx".
        cases: in any order; the outputs come in the same.
        folder: for inputs and outputs, which stay there.

    Raises:
        ExportError: a file cannot be loaded or run there, by the name of its format; the process itself fails.
    """
    orders = []
    for k, case in enumerate(cases):
        stem = folder / f"{reader}-{k}"
        _save(reader, stem.with_suffix(".in"), case.inputs)
        paths = {"in": stem.with_suffix(".in"), "out": stem.with_suffix(".out"), "file": case.file}
        paths |= {} if case.weights is None else {"weights": case.weights}
        orders.append({"format": case.format, **{name: str(path) for name, path in paths.items()}})
    asked = {"reader": reader, "blocked": BLOCKED[reader], "cases": orders}
    write_bytes(folder / f"{reader}.json", dump_json(asked).encode("ascii"))
    command = [sys.executable, "-I", str(SCRIPT), str(folder / f"{reader}.json")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, cwd=folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExportError(
            f"cannot check the files in a new process ({error}); verify='here' checks them here"
        ) from None
    problems = _problems(done.stdout)
    if done.returncode != 0 or problems:
        said = "; ".join(problems) or (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(f"in a new process without metanas: {said}; nothing was exported")
    return [_load(reader, Path(order["out"])) for order in orders]


def _problems(said: str) -> list[str]:
    try:
        return list(json.loads(said.strip().splitlines()[-1])["problems"])
    except (IndexError, ValueError, KeyError, TypeError):
        return []


def _save(reader: str, path: Path, inputs: Sequence[Tensor]) -> None:
    if reader == "torch":
        torch.save(list(inputs), path)
        return
    with path.open("wb") as file:
        np.savez(file, *(x.numpy() for x in inputs))


def _load(reader: str, path: Path) -> Tensor:
    if reader == "torch":
        found: Tensor = torch.load(path, weights_only=True)
        return found
    return torch.from_numpy(np.load(path, allow_pickle=False))
