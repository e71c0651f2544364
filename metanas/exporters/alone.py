"""Run by itself, in a new process: loads exported files as their readers would, without metanas.

    python -I alone.py ORDERS.json

ORDERS.json says which packages must not be needed, and for each file where its inputs are and where its outputs go. The
last line on stdout is {"problems": [...]}. Nothing in the package imports this module.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


class Blocked(importlib.abc.MetaPathFinder):
    """Makes importing some packages an error, installed or not."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname.split(".")[0] in self.names:
            raise ImportError(f"the file needs {fullname}, which its reader may not have")


def by_torch(case: Mapping[str, str]) -> None:
    """A Python module with its weights, or the graph of torch.export."""
    import torch

    inputs = torch.load(case["in"], weights_only=True)
    network: Any
    if case["format"] == "pt2":
        network = torch.export.load(case["file"]).module()
    else:
        spec = importlib.util.spec_from_file_location("exported", case["file"])
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        network = module.load(case["weights"])
    with torch.no_grad():
        torch.save(network(*inputs), case["out"])


def by_onnx(case: Mapping[str, str]) -> None:
    """An ONNX file, by onnxruntime."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(case["file"], providers=["CPUExecutionProvider"])
    arrays = np.load(case["in"], allow_pickle=False)
    given = {put.name: arrays[f"arr_{k}"] for k, put in enumerate(session.get_inputs())}
    with open(case["out"], "wb") as file:
        np.save(file, session.run(None, given)[0])


READERS = {"torch": by_torch, "onnx": by_onnx}


def main(path: str) -> None:
    with open(path, encoding="ascii") as file:
        orders = json.load(file)
    sys.meta_path.insert(0, Blocked(orders["blocked"]))
    problems = []
    for case in orders["cases"]:
        try:
            READERS[orders["reader"]](case)
        except Exception as error:  # whatever it is, it is said, and the other files have their turn
            lines = str(error).strip().splitlines()
            problems.append(f"{case['format']}: {type(error).__name__}: {lines[0] if lines else ''}"[:300])
    found = sorted({name.split(".")[0] for name in sys.modules} & set(orders["blocked"]))
    problems += [f"{name} was imported" for name in found]
    print(json.dumps({"problems": problems}))


if __name__ == "__main__":
    main(sys.argv[1])
