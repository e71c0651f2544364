"""How far exported files are from their source: random architectures of every space, random weights, every format.

    python benchmarks/exports.py [architectures] [seconds]

For each space, `architectures` networks (50) are written as safetensors and as a Python module; as many of them as fit
in `seconds` (80) also as graphs of torch.export and of ONNX, whose making is slow, and as ONNX in 8 bits. Each file is
read back and runs random batches of 1, 2 and 5. Printed: the largest difference, relative to the largest output; what a
full file may differ by is `metanas.exporters.TOLERANCE`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import machine

from metanas.exporters import FORMATS, TOLERANCE, Source
from metanas.exporters.draft import Draft
from metanas.exporters.loss import random_batch, relative
from metanas.network import Network, derived
from metanas.recipe.spaces import load_space
from metanas.space import Space

CLASSES = tuple("abcdefg")
SPACES: Mapping[str, tuple[str, dict[str, object], tuple[int, ...]]] = {
    "nasbench201": ("nasbench201", {"channels": 4, "cells": 1}, (3, 16, 16)),
    "darts": ("darts", {"channels": 4, "layers": 3}, (3, 16, 16)),
    "conv4, a choice": ("conv4", {"width": 8, "depth": 3, "search": True}, (3, 16, 16)),
    "conv4, flat": ("conv4", {"width": 8, "depth": 3, "flat": True}, (3, 16, 16)),
    "plain, conv": ("plain", {"kind": "conv", "width": 4, "depth": 2}, (3, 16, 16)),
    "mlp": ("mlp", {"width": 16, "blocks": 3}, (9,)),
}
"""Row of the table -> space, its options, shape of an input."""
WHOLE, GRAPHS = ("safetensors", "python"), ("pt2", "onnx")
SIZES = (1, 2, 5)


def made(space: Space, shape: tuple[int, ...], seed: int) -> Draft:
    """A random architecture with random weights, whose norms have seen data."""
    architecture = space.sample(np.random.default_rng(seed))
    network = derived(space, architecture, shape, len(CLASSES), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, *shape, generator=generator))
    return Draft(network.eval(), Source(architecture, space.name, CLASSES), "network")


@torch.no_grad()
def difference(draft: Draft, wanted: str, folder: Path) -> float:
    """Of the outputs of the file and of its source: the largest over the batches."""
    weights = folder / "network.safetensors"
    weights.write_bytes(FORMATS["safetensors"].data(draft))
    path = folder / FORMATS[wanted].file.format(name=draft.name)
    path.write_bytes(FORMATS[wanted].data(draft))
    call = FORMATS[wanted].reload(path, draft, weights)
    assert call is not None
    network: Network = draft.network
    batches = [random_batch(network, size) for size in SIZES]
    return max(relative(network(*batch), call(*batch)) for batch in batches)


def row(label: str, architectures: int, seconds: float, folder: Path) -> None:
    name, options, shape = SPACES[label]
    space = load_space(name, **options)
    drafts = [made(space, shape, seed) for seed in range(architectures if space.choices else 1)]
    worst = {wanted: max(difference(draft, wanted, folder) for draft in drafts) for wanted in WHOLE}
    start, count = time.monotonic(), 0
    for draft in drafts:
        if count and time.monotonic() - start > seconds:
            break
        for wanted in GRAPHS:
            worst[wanted] = max(worst.get(wanted, 0.0), difference(draft, wanted, folder))
        eight = difference(replace(draft, precision="int8"), "onnx", folder)
        worst["int8"] = max(worst.get("int8", 0.0), eight)
        count += 1
    shown = "  ".join(f"{value:11.1e}" for value in worst.values())
    print(f"{label:16} {len(drafts):13} {count:7}  {shown}", flush=True)
    assert all(value <= TOLERANCE for wanted, value in worst.items() if wanted != "int8"), worst


def main(architectures: int = 50, seconds: float = 80.0) -> None:
    print(machine())
    columns = "  ".join(f"{wanted:>11}" for wanted in (*WHOLE, *GRAPHS, "onnx int8"))
    print(f"{'space':16} {'architectures':>13} {'graphs':>7}  {columns}   (allowed: {TOLERANCE:.0e})")
    with tempfile.TemporaryDirectory() as folder:
        for label in SPACES:
            row(label, architectures, seconds, Path(folder))


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]))
