"""What inputs and targets must be; all faults of a source are collected and said in one line, with counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metanas.errors import DataError

Pair = tuple[Tensor, Tensor]
SHOWN = 3


def require_sound(parts: Mapping[str, Pair], classes: Sequence[str] | None, *, regression: bool = False) -> None:
    """Raises DataError naming every fault of the inputs and targets of `parts`, each with its counts.

    NaN is what is missing in a table of float64, and a fault elsewhere.
    """
    faults = [fault for name, pair in parts.items() for fault in _faults(name, *pair, classes, regression)]
    faults += _differences(parts)
    if not faults:
        targets = torch.cat([y for _, y in parts.values()])
        if bool((targets == targets[0]).all()):
            needed = "numbers that differ" if regression else "at least 2 classes"
            what = "targets" if regression else "labels"
            faults.append(f"all {len(targets)} {what} are {targets[0]}: {needed} are needed")
    if faults:
        raise DataError("; ".join(faults))


def require_class_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The class names as a tuple; raises DataError unless they are at least two different, non-empty strings."""
    names = () if isinstance(classes, str) else tuple(classes)
    strings = [name for name in names if isinstance(name, str) and name]
    if len(names) < 2 or len(strings) < len(names) or len(set(names)) < len(names):
        raise DataError(f"classes must be at least 2 different names (strings), got {_short(repr(classes))}")
    return names


def require_every_class(targets: Mapping[str, Tensor], classes: Sequence[str], what: str = "images") -> None:
    """Raises DataError, with counts, where a class has no image (or row: `what`) in one of the splits."""
    counts = {name: torch.bincount(y, minlength=len(classes)).tolist() for name, y in targets.items()}
    missing = [
        f"class {name!r} has {', '.join(f'{row[i]} {split}' for split, row in counts.items())}"
        for i, name in enumerate(classes)
        if any(row[i] == 0 for row in counts.values())
    ]
    if missing:
        more = f" (and {len(missing) - SHOWN} more classes)" if len(missing) > SHOWN else ""
        raise DataError(
            f"every class must have {what} in every split: {'; '.join(missing[:SHOWN])}{more}; add {what} of them, "
            "make the smaller splits larger, or drop the class and number the labels from 0"
        )


def _faults(name: str, inputs: Tensor, targets: Tensor, classes: Sequence[str] | None, regression: bool) -> list[str]:
    faults = []
    what, target = noun(inputs), "target" if regression else "label"
    if inputs.ndim not in (2, 3, 4):
        faults.append(
            f"{name} images must be (N, H, W), (N, C, H, W) or (N, H, W, C), rows (N, F), got {tuple(inputs.shape)}: "
            "reshape them"
        )
    elif len(inputs) == 0:
        faults.append(f"{name} is empty (0 {what}): at least one of each class is needed")
    elif inputs.numel() == 0:
        held, axis = ("pixels", "side") if what == "images" else ("features", "row")
        faults.append(f"{name} {what} have no {held}, got {tuple(inputs.shape)}: each {axis} must be >= 1")
    if targets.ndim != 1:
        mend = "give one number for each" if regression else "turn one-hot rows into labels by argmax(1)"
        faults.append(f"{name} {target}s must be (N,), got {tuple(targets.shape)}: {mend}")
    elif inputs.ndim > 0 and len(inputs) != len(targets):
        faults.append(
            f"{name} has {len(inputs)} {what} but {len(targets)} {target}s: give one {target} for each {what[:-1]}"
        )
    of_targets = _target_faults(name, targets) if regression else _label_faults(name, targets, classes)
    return faults + of_targets + _value_faults(name, inputs)


def noun(inputs: Tensor) -> str:
    """What the inputs are called: "rows" (N, F) or "images"."""
    return "rows" if inputs.ndim == 2 else "images"


def _target_faults(name: str, targets: Tensor) -> list[str]:
    bad = int((~targets.isfinite()).sum())
    return [f"{bad} of {targets.numel()} {name} targets are not finite: remove these or mend them"] if bad else []


def _label_faults(name: str, labels: Tensor, classes: Sequence[str] | None) -> list[str]:
    if labels.is_floating_point() or labels.dtype == torch.bool:
        kind = str(labels.dtype).removeprefix("torch.")
        asks = "" if labels.dtype == torch.bool else ', or ask for task="regression"'
        return [
            f"{name} labels must be integers, got {len(labels.flatten())} of type {kind}: convert them to int64{asks}"
        ]
    # Without names a class is known by its label alone; a label beyond the number of images leaves classes empty.
    count = len(classes) if classes is not None else labels.numel()
    outside = int(((labels < 0) | (labels >= count)).sum())
    if not outside:
        return []
    return [
        f"{outside} of {labels.numel()} {name} labels are out of range: allowed 0 to {count - 1}, "
        f"got {int(labels.min())} to {int(labels.max())}: number the classes from 0"
    ]


def _value_faults(name: str, inputs: Tensor) -> list[str]:
    held = "pixels" if noun(inputs) == "images" else "values"
    bad = inputs.isinf() if inputs.dtype == torch.float64 else ~inputs.isfinite()
    if inputs.ndim not in (2, 3, 4) or not bool(bad.any()):
        return []
    touched, nans = int(bad.flatten(1).any(1).sum()), int((bad & inputs.isnan()).sum())
    return [
        f"{name} has {nans} NaN and {int(bad.sum()) - nans} infinite {held} in {touched} of {len(inputs)} "
        f"{noun(inputs)}: remove these {noun(inputs)} or replace the values"
    ]


def _differences(parts: Mapping[str, Pair]) -> list[str]:
    """Faults between parts: the inputs of one data set have one shape and one type of numbers."""
    faults = []
    shapes = {name: tuple(x.shape[1:]) for name, (x, _) in parts.items()}
    if len(set(shapes.values())) > 1:
        said = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        faults.append(f"inputs of all splits must have one shape, got {said}: resize them")
    kinds = {name: "uint8" if x.dtype == torch.uint8 else "float" for name, (x, _) in parts.items()}
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        faults.append(f"pixels of all splits must have one type and scale, got {said}: convert them alike")
    return faults


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
