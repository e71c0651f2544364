"""Checkpoints: a tree of tensors and plain values, written whole or not at all, never half a one taken for whole.

    checkpoints/step-000000400.json                       the tree's skeleton, and the SHA-256 of both files
    checkpoints/step-000000400-0a1b2c3d4e5f.safetensors   the tensors, under the numbers the skeleton uses

A tree is what dicts (keys: str or int), lists and tuples make of tensors, int, float, bool, str and None.

    save:  tensors under a name that holds their hash; then the JSON, whose rename makes the checkpoint exist;
           then everything but the two newest is removed
    load:  the newest whose hashes hold; each one that was passed over becomes a warning

Nothing is ever unpickled: what is not safetensors and strict JSON is refused, and there is no second way to load it.
What knows torch is in `tensors`, which a tree without tensors does not load.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from metanas.errors import CheckpointError
from metanas.run.atomic import dump_json, explained, parse_json, remove_leftovers, write_bytes, write_json
from metanas.run.folder import check_schema

if TYPE_CHECKING:
    from torch import Tensor

    from metanas.run.tensors import Tensors

Tree: TypeAlias = "dict[Any, Any] | list[Any] | tuple[Any, ...] | Tensor | int | float | bool | str | None"

SCHEMA = 1
SINCE = "0.1.0"  # the first metanas that reads this schema
KEPT = 2

_MANIFEST = re.compile(r"step-([0-9]{9,})\.json")
_TENSORS = re.compile(r"step-([0-9]{9,})-[0-9a-f]{12}\.safetensors")
NO_TENSORS = b"\x08\0\0\0\0\0\0\0{}      "
"""A safetensors file without tensors."""


@dataclass(frozen=True)
class Checkpoint:
    """What `load` found: a tree with tensors on the CPU, its step, and the event log's length in bytes at that time."""

    step: int
    tree: Any
    event_offset: int
    warnings: tuple[str, ...] = ()


def save(folder: Path, step: int, tree: Tree, event_offset: int) -> Path:
    """Writes a checkpoint of `tree` into `folder` (made if need be) and keeps the one before; returns its JSON file.

    Checkpoints of later steps are removed: they belong to a future that was given up.  Raises CheckpointError naming
    the place in the tree of a value that is not finite or that a checkpoint cannot hold, and RunError as `write_bytes`
    does; the older checkpoints are then as they were.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save(Path(folder), 40, {"omega": torch.ones(2), "lr": 0.1}, event_offset=1024)
    ...     load(Path(folder))
    Checkpoint(step=40, tree={'omega': tensor([1., 1.]), 'lr': 0.1}, event_offset=1024, warnings=())
    """
    if step < 0:
        raise CheckpointError(f"step must be >= 0, got {step}")
    packed = _Packing()
    skeleton = packed.pack(tree, "tree")
    data = packed.to_bytes()
    digest = hashlib.sha256(data).hexdigest()
    body = {
        "schema": SCHEMA,
        "needs": SINCE,
        "step": step,
        "event_offset": event_offset,
        "tensors": {"bytes": len(data), "sha256": digest},
        "tree": skeleton,
    }
    with explained(folder):
        folder.mkdir(exist_ok=True)  # no parents: a run folder that was removed stays removed
        remove_leftovers(folder)
        _tidy(folder, _steps(folder))
    tensors, manifest = folder / _tensors_name(step, digest), folder / f"step-{step:09d}.json"
    write_bytes(tensors, data)
    write_json(manifest, {**body, "sha256": _digest(body)})
    with explained(folder):
        _tidy(folder, [found for found in _steps(folder) if found <= step][:KEPT], current=tensors.name)
    return manifest


def load(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in `folder` that is whole; None where none was ever finished.

    `warnings` says which newer ones were passed over and why, and which unknown files were not opened.  Raises
    CheckpointError where there are checkpoints or unknown files but none can be used, and RunError where the newest
    was written by a newer metanas.

    >>> load(Path("/nonexistent"))
    """
    if not folder.is_dir():
        return None
    warnings = [f"{folder.name}: {name!a} is no checkpoint and was not opened" for name in _unknown(folder)]
    unknown = len(warnings)
    for step in _steps(folder):
        try:
            checkpoint = _load_one(folder, step)
        except CheckpointError as error:
            warnings.append(str(error))
            continue
        if len(warnings) > unknown:
            warnings.append(f"went back to the checkpoint of step {step}")
        return replace(checkpoint, warnings=tuple(warnings))
    if warnings:
        raise CheckpointError(f"no usable checkpoint in {folder}: {'; '.join(warnings)}; start a new run")
    return None


class _Packing:
    """Takes a tree apart into a JSON skeleton and numbered tensors."""

    def __init__(self) -> None:
        self._tensors: Tensors | None = None

    def pack(self, value: Any, where: str) -> Any:
        """A list stands for itself; every other container and each tensor is an object with one key, its kind."""
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            if not math.isfinite(value):
                raise CheckpointError(f"{where} is {value}; a checkpoint holds finite numbers only")
            return value
        if isinstance(value, dict):
            return {"dict": [self._pack_item(key, item, where) for key, item in value.items()]}
        if kind in (list, tuple):
            items = [self.pack(item, f"{where}[{index}]") for index, item in enumerate(value)]
            return items if kind is list else {"tuple": items}
        return {"tensor": self._number_of(value, where)}

    def _pack_item(self, key: Any, item: Any, where: str) -> list[Any]:
        if type(key) not in (str, int):
            raise CheckpointError(f"{where} has the key {key!a}; keys must be str or int")
        return [key, self.pack(item, f"{where}[{key!a}]")]

    def _number_of(self, value: Any, where: str) -> str:
        from metanas.run.tensors import Tensors  # torch: a tree of plain values goes without it

        self._tensors = self._tensors or Tensors()
        return self._tensors.add(value, where)

    def to_bytes(self) -> bytes:
        """The content of the safetensors file."""
        return NO_TENSORS if self._tensors is None else self._tensors.to_bytes()


def _unpack(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(skeleton, list):
        return [_unpack(item, tensors) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, value),) = skeleton.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "tuple":
        return tuple(_unpack(item, tensors) for item in value)
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in value}
    raise ValueError(f"unknown kind of node {kind!a}")


def _load_one(folder: Path, step: int) -> Checkpoint:
    manifest = folder / f"step-{step:09d}.json"
    body = _read_manifest(manifest)
    check_schema(body, manifest, known=SCHEMA)
    try:
        expected, event_offset, skeleton = body["tensors"]["sha256"], body["event_offset"], body["tree"]
        path = folder / _tensors_name(step, expected)
        if body["step"] != step or type(event_offset) is not int or not _TENSORS.fullmatch(path.name):
            raise ValueError("a step, an offset or a hash that cannot be")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != expected:
            raise CheckpointError(f"{path.name} was refused: its SHA-256 is not the one in {manifest.name}")
        return Checkpoint(step, _unpack(skeleton, _tensors_of(data, path.name)), event_offset)
    except OSError as error:
        raise CheckpointError(f"{path.name} was refused: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{manifest.name} was refused: it does not describe a checkpoint ({error!r})") from error


def _tensors_of(data: bytes, name: str) -> Mapping[str, Tensor]:
    if data == NO_TENSORS:
        return {}
    from metanas.run.tensors import from_bytes  # torch

    return from_bytes(data, name)


def _read_manifest(manifest: Path) -> dict[str, Any]:
    try:
        body = parse_json(manifest.read_bytes())
        expected = body.pop("sha256")
        if _digest(body) != expected:
            raise CheckpointError(f"{manifest.name} was refused: its SHA-256 does not match its content")
    except OSError as error:
        raise CheckpointError(f"{manifest.name} was refused: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(f"{manifest.name} was refused: it is not the JSON of a checkpoint") from error
    return cast("dict[str, Any]", body)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(dump_json(body).encode("ascii")).hexdigest()


def _tensors_name(step: int, digest: str) -> str:
    return f"step-{step:09d}-{digest[:12]}.safetensors"


def _steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in `folder`, damaged ones included, newest first."""
    return sorted((int(match[1]) for match in map(_MANIFEST.fullmatch, os.listdir(folder)) if match), reverse=True)


def _unknown(folder: Path) -> list[str]:
    known = (_MANIFEST.fullmatch, _TENSORS.fullmatch, re.compile(r"\..*\.tmp").fullmatch)
    return sorted(name for name in os.listdir(folder) if not any(matches(name) for matches in known))


def _tidy(folder: Path, keep: Collection[int], current: str | None = None) -> None:
    """Removes the checkpoints of other steps, and tensors that belong to none."""
    names = os.listdir(folder)
    # JSON first: a kill in between leaves tensors that nothing names, not a JSON file without its tensors
    for pattern in (_MANIFEST, _TENSORS):
        for name in names:
            match = pattern.fullmatch(name)
            if match is None:
                continue
            step = int(match[1])
            replaced = pattern is _TENSORS and current is not None and current.startswith(f"step-{step:09d}-")
            if step not in keep or (replaced and name != current):
                os.unlink(folder / name)
