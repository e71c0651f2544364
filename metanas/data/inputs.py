"""Inputs that are neither images nor rows of a table: `load_data(inputs="tokens")` and `load_data(inputs="graphs")`.

tokens   (examples, time) whole numbers from 0, places in a vocabulary; they stay what they are, as float32, which
         holds them exactly
graphs   (examples, nodes, features + nodes): in the row of a node its features and then, for each node, whether it
         reads that one (above 0). A node is there where it reads itself; the rest fills up to the largest graph.
         Features are taken as they come: scale them before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from metanas.data.check import Pair
from metanas.errors import DataError

INPUTS = ("tokens", "graphs")
MOST_TOKENS = 2**24
"""Whole numbers up to here are exact in float32."""


def pack_graphs(features: ArrayLike, adjacency: ArrayLike) -> NDArray[np.float32]:
    """Graphs as one array, for `load_data((x, y), inputs="graphs")` or an .npz with x and y.

    Args:
        features: (examples, nodes, features); what is not there is 0.
        adjacency: (examples, nodes, nodes): not 0 where the node of the row reads that of the column. A node that
            reads itself is there; so is one that has an edge or a feature that is not 0.

    Raises:
        DataError: arrays that do not fit.

    >>> edge = [[[0, 1, 0], [1, 0, 0], [0, 0, 0]]]          # of three nodes the third is not there
    >>> pack_graphs([[[5.0], [6.0], [0.0]]], edge)[0].tolist()
    [[5.0, 1.0, 1.0, 0.0], [6.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    x, edges = np.asarray(features, dtype=np.float32), np.asarray(adjacency) != 0
    if x.ndim != 3 or edges.shape != (*x.shape[:2], x.shape[1]):
        raise DataError(
            f"graphs need features (examples, nodes, features) and adjacency (examples, nodes, nodes), got {x.shape} "
            f"and {edges.shape}"
        )
    there = edges.any(1) | edges.any(2) | (x != 0).any(2)  # (examples, nodes)
    return np.concatenate([x, edges | (there[:, :, None] & np.eye(x.shape[1], dtype=bool))], 2, dtype=np.float32)


def require_inputs(kind: str, parts: Mapping[str, Pair]) -> None:
    """Raises DataError, with counts, for inputs that are not of the kind."""
    faults = [fault for name, (x, _) in parts.items() for fault in (_tokens if kind == "tokens" else _graphs)(name, x)]
    if faults:
        raise DataError("; ".join(faults))


def vocabulary_of(parts: Mapping[str, Pair]) -> int:
    """One more than the largest token of all parts."""
    return max(int(x.max()) for x, _ in parts.values()) + 1


def _tokens(name: str, x: Tensor) -> list[str]:
    if x.dtype not in (torch.int64, torch.uint8):
        kind = str(x.dtype).removeprefix("torch.")
        return [f"{name} tokens must be integers, got {kind}: give the places in a vocabulary, from 0, as int64"]
    if x.ndim != 2 or not x.numel():
        return [f"{name} tokens must be (examples, time), got {tuple(x.shape)}: fill sequences up to one length"]
    outside = int(((x < 0) | (x >= MOST_TOKENS)).sum())
    if outside:
        found = f"got {int(x.min())} to {int(x.max())}: number the vocabulary from 0"
        return [f"{outside} of {x.numel()} {name} tokens are out of range: allowed 0 to {MOST_TOKENS - 1}, {found}"]
    return []


def _graphs(name: str, x: Tensor) -> list[str]:
    if x.ndim != 3 or not x.numel() or x.shape[2] <= x.shape[1]:
        return [
            f"{name} graphs must be (examples, nodes, features + nodes) with at least one feature, got "
            f"{tuple(x.shape)}: pack them with metanas.data.pack_graphs(features, adjacency)"
        ]
    edges = x[:, :, -x.shape[1] :] > 0
    there = edges.diagonal(dim1=1, dim2=2)
    loose = (edges & ~(there[:, :, None] & there[:, None, :])).flatten(1).any(1)
    empty = int((~there).all(1).sum())
    faults = [f"{int(loose.sum())} of {len(x)} {name} graphs have edges of nodes that do not read themselves"]
    faults += [f"{empty} of {len(x)} {name} graphs have no node"]
    mend = ": pack them with metanas.data.pack_graphs(features, adjacency)"
    return [text + mend for text, found in zip(faults, (bool(loose.any()), empty > 0), strict=True) if found]
