"""What a tuning learned, as files: the outer variables as safetensors, and in natural units as JSON to read.

learned.safetensors   "decay.log", "example_weights.logit", ...: the outer variables as they are
learned.json          what they show: {"decay, mean": 0.0012, ...}, at the end and at the start, and what was chosen
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from metanas.errors import CheckpointError, ExportError
from metanas.run.atomic import explained, write_bytes, write_json

WEIGHTS, FACTS = "learned.safetensors", "learned.json"


def write_learned(folder: Path, learned: Mapping[str, Tensor], facts: Mapping[str, Any]) -> tuple[Path, ...]:
    """Writes both files into a folder that is there, and reads the tensors back.

    Args:
        learned: the outer variables by name.
        facts: plain data for the JSON file.

    Raises:
        RunError: the disk does not take them.
        ExportError: what is read back is not what was written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_learned(Path(folder), {"decay.log": torch.zeros(2)}, {"decay": 1.0})
    ...     read_learned(Path(folder))
    {'decay.log': tensor([0., 0.])}
    """
    path = folder / FACTS
    write_tensors(folder / WEIGHTS, learned)
    with explained(folder):
        write_json(path, dict(facts))
    return folder / WEIGHTS, path


def read_learned(folder: Path) -> dict[str, Tensor]:
    """The outer variables by name. Raises CheckpointError where the file is missing or not safetensors."""
    return read_tensors(folder / WEIGHTS)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes named tensors as safetensors and reads them back; raises as `write_learned`."""
    plain = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
    with explained(path.parent):
        write_bytes(path, safetensors.torch.save(plain))
    found = read_tensors(path)
    if found.keys() != plain.keys() or not all(torch.equal(found[name], x) for name, x in plain.items()):
        raise ExportError(f"{path} does not hold what was written to it; is the disk sound?")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name. Raises CheckpointError where it is missing or something else."""
    try:
        return dict(sorted(safetensors.torch.load(path.read_bytes()).items()))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error}); a pickle is never executed") from None
