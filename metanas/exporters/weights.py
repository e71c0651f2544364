"""Weights as safetensors: named tensors and a JSON header, nothing that could be executed.

The names are those of the written Python module, `stage0_cell0.node1.conv.weight`; a `Network` finds its own names
from its program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from metanas.errors import CheckpointError
from metanas.exporters.draft import Draft
from metanas.exporters.plan import weight_names
from metanas.exporters.precision import HALVES
from metanas.network import Network
from metanas.run.atomic import dump_json

ELSEWHERE = ("schema", "key", "parameters")
"""What architecture.json says and the header of a file of tensors does not: it has one text for the architecture."""


def weights_bytes(draft: Draft) -> bytes:
    """The file: all parameters and statistics on the CPU, and what is known of them as JSON strings beside them.

    Parameters have the draft's precision, statistics of norms stay as they are.
    """
    network = draft.held
    names, half = weight_names(network), HALVES.get(draft.precision)
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    tensors = {}
    for name, value in network.state_dict().items():
        kept = value.detach().cpu().to(half) if half is not None and name in parameters else value.detach().cpu()
        tensors[names[name]] = kept.contiguous().clone()
    facts = {key: value for key, value in draft.facts().items() if key not in ELSEWHERE}
    facts["architecture"] = str(draft.source.architecture)
    return _in_order(safetensors.torch.save(tensors, {key: dump_json(value) for key, value in facts.items()}))


def _in_order(file: bytes) -> bytes:
    """The same file with its header's keys sorted: safetensors writes the facts in an order that changes by process.

    Equal networks so give equal files, and a hash tells whether two are the same.
    """
    size = int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)  # the tensors behind it stay aligned
    return len(header).to_bytes(8, "little") + header + file[8 + size :]


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Fills `network` with the tensors of a safetensors file; changes nothing where they do not fit.

    Args:
        network: one that metanas built, the `Network` of an exported module, or any module with the file's names.

    Raises:
        CheckpointError: the file is missing or no safetensors file (a pickle is never opened), or names, shapes or
            kinds of number do not fit; the message lists every one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.safetensors")
    ...     _ = file.write_bytes(safetensors.torch.save({"weight": torch.ones(1, 2), "bias": torch.zeros(1)}))
    ...     layer = nn.Linear(2, 1)
    ...     load_weights(layer, file)
    >>> layer(torch.ones(2)).item()
    2.0
    """
    found = read_weights(Path(path))
    own = network.state_dict()
    names = {name: name for name in own}
    if isinstance(network, Network):
        exported = weight_names(network)
        names = max(exported, names, key=lambda candidates: len(set(candidates.values()) & set(found)))
    problems = _misfits({names[name]: value for name, value in own.items()}, found)
    if problems:
        raise CheckpointError(f"{path} does not fit the network: {'; '.join(problems)}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(found[names[name]])


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises CheckpointError for any other file."""
    try:
        return safetensors.torch.load(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, KeyError, ValueError) as error:  # KeyError: a dtype unknown to torch
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({str(error) or 'empty'}); other formats are never opened, "
            "since a pickle can run code; convert it with safetensors.torch.save_file"
        ) from error


def _misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    problems = [f"missing {name} {tuple(value.shape)}" for name, value in wanted.items() if name not in found]
    problems += [f"unexpected {name} {tuple(value.shape)}" for name, value in found.items() if name not in wanted]
    for name, value in wanted.items():
        other = found.get(name)
        if other is None:
            continue
        if other.shape != value.shape:
            problems.append(f"{name} is {tuple(other.shape)} in the file and {tuple(value.shape)} in the network")
        elif other.is_floating_point() != value.is_floating_point():
            problems.append(f"{name} is {other.dtype} in the file and {value.dtype} in the network")
    return problems
