"""The tensors of a checkpoint, numbered, as one safetensors file: the part of `run` that knows torch.

    tensors = Tensors(); number = tensors.add(tensor, "tree['omega']"); data = tensors.to_bytes()
    from_bytes(data, "step-1.safetensors")[number]

Nothing is ever unpickled: what is not safetensors is refused, and there is no second way to load it.
"""

from __future__ import annotations

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from metanas.errors import CheckpointError

_FLOATING = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
_WHOLE = {torch.int64, torch.int32, torch.int16, torch.int8, torch.bool}
_DTYPES = _FLOATING | _WHOLE | {torch.uint8, torch.uint16, torch.uint32, torch.uint64}


class Tensors:
    """Tensors by number; the same memory twice becomes one number."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._numbers: dict[object, str] = {}
        self._storages: set[int] = set()

    def add(self, value: object, where: str) -> str:
        """The number of a tensor. Raises CheckpointError naming `where` for what a checkpoint cannot hold."""
        if not isinstance(value, Tensor):
            kind, allowed = type(value), "dict, list, tuple, tensor, int, float, bool, str or None"
            raise CheckpointError(f"{where} is a {kind.__module__}.{kind.__qualname__}; a checkpoint holds {allowed}")
        plain = _plain(value, where)
        memory = value.untyped_storage().data_ptr()
        same = (memory, value.device, value.storage_offset(), value.shape, value.stride(), value.dtype)
        if same in self._numbers:
            return self._numbers[same]
        # safetensors refuses two tensors in one storage, so a second view of it becomes a tensor of its own
        number = self._numbers[same] = str(len(self._tensors))
        self._tensors[number] = plain.clone() if memory in self._storages else plain
        self._storages.add(memory)
        return number

    def to_bytes(self) -> bytes:
        """The content of a safetensors file."""
        data: bytes = safetensors.torch.save(self._tensors)
        return data


def from_bytes(data: bytes, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file by number. Raises CheckpointError for anything else, under this name."""
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        refusal = f"{name} was refused: it is not a safetensors file; a pickle is never executed"
        raise CheckpointError(refusal) from error


def _plain(tensor: Tensor, where: str) -> Tensor:
    """The tensor's values as a contiguous CPU tensor; CheckpointError for what a checkpoint cannot hold."""
    if tensor.dtype not in _DTYPES or tensor.layout is not torch.strided or tensor.is_meta:
        kind = f"{tensor.dtype} {tensor.layout} tensor on {tensor.device}"
        raise CheckpointError(f"{where} is a {kind}; a checkpoint holds dense real tensors with values")
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype in _FLOATING and not bool(torch.isfinite(plain).all()):
        bad = int((~torch.isfinite(plain)).sum())
        raise CheckpointError(
            f"{where}: {bad} of {plain.numel()} values are not finite; the checkpoint was not written"
        )
    return plain
