"""The stand-alone Python module: one file that imports torch and the standard library, and reads as if written by
hand.

    constants      ARCHITECTURE, CLASSES, MEAN, STD, SHAPE, COLUMNS
    classes        a block of each kind in use, a cell of each kind, Network
    functions      build, load, read_safetensors; main takes image files, or tables
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from metanas.data import Column, Table
from metanas.data.table import MISSING
from metanas.exporters.classes import Book, network_class
from metanas.exporters.code import COLUMNS, columns, constant, identifier, literal, sequence
from metanas.exporters.plan import check
from metanas.exporters.precision import HALVES
from metanas.exporters.source import Source
from metanas.exporters.tail import ANSWERS, CAST, CLASSIFY, LOAD, MODES, PREDICT, WHOLE
from metanas.network import Network

UNTYPED = "# (to a type checker, what a module of torch gives is Any)"
"""Why the line before it is there."""


def python_code(network: Network, source: Source, name: str, precision: str = "float32") -> str:
    """The text of the module. Raises ExportError for a user's operation.

    `name`: of the file, without its ending; `precision`: of the weights in the file that it loads.
    """
    check(network.program)
    shapes = [network.shapes[value] for value in network.program.inputs]
    inputs = ["x"] if len(shapes) == 1 else [identifier(value) for value in network.program.inputs]
    book = Book()
    network_class(network, "Network", book, inputs)
    images = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] in MODES and bool(source.mean and source.classes)
    body = [*book.lines(), *_load(name, precision)]
    if images:
        body += ["", "", *CLASSIFY.replace("<mode>", MODES[shapes[0][0]]).strip("\n").splitlines()]
    elif source.table is not None:
        body += ["", "", *_predict(source, source.table)]
    text = "\n".join(body)
    main = "image" if images else "row" if source.table is not None else ""
    lines = [*_docstring(network, source, name, inputs, main), "", *_imports(text, main), ""]
    lines += [*_constants(network, source, name, images), "", "", text, ""]
    return "\n".join(lines)


def _load(name: str, precision: str) -> list[str]:
    load = (CAST if precision in HALVES else WHOLE).strip("\n")
    return LOAD.replace("<load>", load).replace("<name>", name).strip("\n").splitlines()


def _predict(source: Source, table: Table) -> list[str]:
    answer, answers = ANSWERS[bool(source.classes)]
    text = PREDICT.replace("<features>", str(table.width)).replace("<answers>", answers)
    return text.replace("<answer>", answer).strip("\n").splitlines()


def _docstring(network: Network, source: Source, name: str, inputs: list[str], main: str) -> list[str]:
    count = sum(p.numel() for p in network.parameters())
    space = re.sub(r"[^\w .-]", "", source.space, flags=re.ASCII)
    calls = ", ".join({"image": "images", "row": "encode(rows)"}.get(main, x) for x in inputs)
    shapes = ", ".join(f"(batch, {', '.join(map(str, network.shapes[v]))})" for v in network.program.inputs)
    result = f"(batch, {', '.join(map(str, network.shapes[network.program.output]))})"
    lines = [
        f'"""A network with {count:,} parameters, found in the search space {space}.',
        "",
        "This file needs torch and nothing else:",
        "",
        f"    network = load()           # in eval mode, with the weights of {name}.safetensors",
        f"{f'    scores = network({calls})':<29}  # {shapes} -> {result}",
    ]
    if main == "image":
        lines += ["", f"    python {name}.py photo.png photo2.png", ""]
        lines += ["classifies image files (needs Pillow)."]
    elif main == "row":
        lines += ["", f"    python {name}.py rows.csv", ""]
        lines += ["prints what it predicts for each row of a table."]
        if not source.classes:
            lines += ["", "Scores are normalised: predict() gives scores * STD + MEAN."]
    return [*lines, '"""']


def _imports(text: str, main: str) -> list[str]:
    lines = ["# mypy: disable-error-code=no-any-return", UNTYPED, "from __future__ import annotations", ""]
    lines += ["import csv"] if main == "row" else []
    lines += ["import json", "import math", *(["import sys"] if main else [])]
    lines += ["from pathlib import Path", "from typing import Any", "", "import torch"]
    lines += ["import torch.nn.functional as F"] if "F." in text else []
    return [*lines, "from torch import Tensor, nn"]


def _constants(network: Network, source: Source, name: str, images: bool) -> list[str]:
    lines = constant("ARCHITECTURE", literal(str(source.architecture)))
    if source.classes:
        lines += sequence("CLASSES", [literal(c) for c in source.classes])
    if source.table is not None:
        lines += _columns(source, source.table)
    if images:
        shape = network.shapes[network.program.inputs[0]]
        lines.append(f"SHAPE = ({', '.join(map(str, shape))})  # channels, height, width")
        lines.append("# inputs are (pixels - MEAN) / STD, where a pixel is between the two PIXELS")
        lines += sequence("MEAN", [repr(float(m)) for m in source.mean])
        lines += sequence("STD", [repr(float(s)) for s in source.std])
        lines += sequence("PIXELS", [repr(float(p)) for p in source.pixels])
    if not images and not source.classes:
        lines.append(f"MEAN, STD = {float(source.scale[0])!r}, {float(source.scale[1])!r}  # of what is predicted")
    return [*lines, f'WEIGHTS = Path(__file__).with_name("{name}.safetensors")']


def _columns(source: Source, table: Table) -> list[str]:
    """The rules of a table, a line for each column, its words on lines of their own where they are many."""
    lines = ["# name, words, mean, std, median, whether a missing cell is marked", "COLUMNS = ("]
    for column in table.columns:
        words = "None"
        if column.words is not None:
            words = f"({', '.join(literal(word) for word in column.words)}{',' if len(column.words) == 1 else ''})"
        numbers = [repr(float(number)) for number in (column.mean, column.std, column.median)]
        items = [literal(column.name), words, *numbers, str(column.missing)]
        line = f"    ({', '.join(items)}),"
        lines += [line] if columns(line) <= COLUMNS else _broken(items, column)
    return [*lines, ")", f"MISSING = {{{', '.join(literal(word) for word in sorted(MISSING))}}}"]


def _broken(items: Sequence[str], column: Column) -> list[str]:
    rows = [f"        {item}," for item in items]
    if columns(rows[1]) > COLUMNS and column.words is not None:
        rows[1:2] = ["        (", *(f"            {literal(word)}," for word in column.words), "        ),"]
    return ["    (", *rows, "    ),"]
