"""Weights of fewer bits: which formats have them, and what a network becomes.

float16, bfloat16   parameters are stored in half, statistics of norms as they are (they are few, and their range is
                    another); computed in float32, so that a file gives the same on every machine
int8                ONNX alone, by onnxruntime's dynamic quantisation: weights are stored, and linear maps and
                    convolutions computed, in 8 bits; torch's own quantisation is deprecated
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch

from metanas.errors import ExportError, nearest
from metanas.network import Network

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
INT8 = "int8"
PRECISIONS = ("float32", *HALVES, INT8)
WITHOUT_INT8 = ("python", "safetensors", "pt2")


def check_precision(precision: str, formats: Iterable[str]) -> None:
    """Raises ExportError for an unknown precision, or one that a format does not have.

    >>> check_precision("int8", ["json", "onnx"])
    """
    if precision not in PRECISIONS:
        raise ExportError(f"unknown precision {precision!r}{nearest(precision, PRECISIONS)}")
    without = [f'"{name}"' for name in formats if name in WITHOUT_INT8]
    if precision == INT8 and without:
        raise ExportError(f'int8 is for "onnx" only; leave {", ".join(without)} out of formats, or choose "float16"')


def rounded(network: Network, precision: str) -> Network:
    """A copy whose parameters are such as `precision` can hold, in the dtype that they had.

    Raises ExportError for a parameter that becomes infinite.
    """
    half = HALVES[precision]
    twin = copy.deepcopy(network)
    for name, parameter in twin.named_parameters():
        kept = parameter.data.to(half).to(parameter.dtype)
        if not kept.isfinite().all() and parameter.data.isfinite().all():
            raise ExportError(
                f"{precision} ends at {torch.finfo(half).max:.4g} and {name} holds {parameter.data.abs().max():.4g}; "
                'choose "bfloat16"'
            )
        parameter.data.copy_(kept)
    return twin
