"""The stand-alone Python module: one file that imports torch and the standard library, and reads as if written by
hand.

    constants      ARCHITECTURE, CLASSES, MEAN, STD, SHAPE
    classes        a block of each kind in use, a cell of each kind, Network
    functions      build, load, read_safetensors, classify; main takes image files
"""

from __future__ import annotations

import re

from metanas.exporters.classes import Book, network_class
from metanas.exporters.code import constant, identifier, literal, sequence
from metanas.exporters.plan import check
from metanas.exporters.source import Source
from metanas.exporters.tail import CLASSIFY, LOAD, MODES
from metanas.network import Network


def python_code(network: Network, source: Source, name: str) -> str:
    """The text of the module. `name`: of the file, without its ending. Raises ExportError for a user's operation."""
    check(network.program)
    shapes = [network.shapes[value] for value in network.program.inputs]
    inputs = ["x"] if len(shapes) == 1 else [identifier(value) for value in network.program.inputs]
    book = Book()
    network_class(network, "Network", book, inputs)
    images = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] in MODES and bool(source.mean)
    body = [*book.lines(), *LOAD.replace("<name>", name).strip("\n").splitlines()]
    if images:
        body += ["", "", *CLASSIFY.replace("<mode>", MODES[shapes[0][0]]).strip("\n").splitlines()]
    text = "\n".join(body)
    lines = [*_docstring(network, source, name, inputs, images), "", *_imports(text, images), ""]
    lines += [*_constants(network, source, name, images), "", "", text, ""]
    return "\n".join(lines)


def _docstring(network: Network, source: Source, name: str, inputs: list[str], images: bool) -> list[str]:
    count = sum(p.numel() for p in network.parameters())
    space = re.sub(r"[^\w .-]", "", source.space, flags=re.ASCII)
    calls = ", ".join("images" if images else x for x in inputs)
    shapes = ", ".join(f"(batch, {', '.join(map(str, network.shapes[v]))})" for v in network.program.inputs)
    result = f"(batch, {', '.join(map(str, network.shapes[network.program.output]))})"
    lines = [
        f'"""A network with {count:,} parameters, found in the search space {space}.',
        "",
        "This file needs torch and nothing else:",
        "",
        f"    network = load()           # in eval mode, with the weights of {name}.safetensors",
        f"    scores = network({calls})".ljust(31) + f"# {shapes} -> {result}",
    ]
    if images:
        lines += ["", f"    python {name}.py photo.png photo2.png", ""]
        lines += ["classifies image files (needs Pillow)."]
    return [*lines, '"""']


def _imports(text: str, images: bool) -> list[str]:
    lines = ["from __future__ import annotations", "", "import json", "import math"]
    lines += ["import sys"] if images else []
    lines += ["from pathlib import Path", "", "import torch"]
    lines += ["import torch.nn.functional as F"] if "F." in text else []
    return [*lines, "from torch import Tensor, nn"]


def _constants(network: Network, source: Source, name: str, images: bool) -> list[str]:
    lines = constant("ARCHITECTURE", literal(str(source.architecture)))
    lines += sequence("CLASSES", [literal(c) for c in source.classes])
    if images:
        shape = network.shapes[network.program.inputs[0]]
        lines.append(f"SHAPE = ({', '.join(map(str, shape))})  # channels, height, width")
        lines.append("# inputs are (pixels - MEAN) / STD, where a pixel is between the two PIXELS")
        lines += sequence("MEAN", [repr(float(m)) for m in source.mean])
        lines += sequence("STD", [repr(float(s)) for s in source.std])
        lines += sequence("PIXELS", [repr(float(p)) for p in source.pixels])
    return [*lines, f'WEIGHTS = Path(__file__).with_name("{name}.safetensors")']
