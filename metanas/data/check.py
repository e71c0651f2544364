"""What images and labels must be; all faults of a source are collected and said in one line, with counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metanas.errors import DataError

Pair = tuple[Tensor, Tensor]
SHOWN = 3


def require_sound(parts: Mapping[str, Pair], classes: Sequence[str] | None) -> None:
    """Raises DataError naming every fault of the images and labels of `parts`, each with its counts."""
    faults = [fault for name, pair in parts.items() for fault in _faults(name, *pair, classes)]
    faults += _differences(parts)
    if not faults:
        labels = torch.cat([y for _, y in parts.values()])
        if bool((labels == labels[0]).all()):
            faults.append(f"all {len(labels)} labels are {labels[0]}: at least 2 classes are needed")
    if faults:
        raise DataError("; ".join(faults))


def require_class_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The class names as a tuple; raises DataError unless they are at least two different, non-empty strings."""
    names = () if isinstance(classes, str) else tuple(classes)
    strings = [name for name in names if isinstance(name, str) and name]
    if len(names) < 2 or len(strings) < len(names) or len(set(names)) < len(names):
        raise DataError(f"classes must be at least 2 different names (strings), got {_short(repr(classes))}")
    return names


def require_every_class(targets: Mapping[str, Tensor], classes: Sequence[str]) -> None:
    """Raises DataError, with counts, where a class has no image in one of the splits."""
    counts = {name: torch.bincount(y, minlength=len(classes)).tolist() for name, y in targets.items()}
    missing = [
        f"class {name!r} has {', '.join(f'{row[i]} {split}' for split, row in counts.items())}"
        for i, name in enumerate(classes)
        if any(row[i] == 0 for row in counts.values())
    ]
    if missing:
        more = f" (and {len(missing) - SHOWN} more classes)" if len(missing) > SHOWN else ""
        raise DataError(
            f"every class must have images in every split: {'; '.join(missing[:SHOWN])}{more}; add images of them, "
            "make the smaller splits larger, or drop the class and number the labels from 0"
        )


def _faults(name: str, images: Tensor, labels: Tensor, classes: Sequence[str] | None) -> list[str]:
    faults = []
    if images.ndim not in (3, 4):
        faults.append(
            f"{name} images must be (N, H, W), (N, C, H, W) or (N, H, W, C), got {tuple(images.shape)}: reshape them"
        )
    elif len(images) == 0:
        faults.append(f"{name} is empty (0 images): at least one image of each class is needed")
    elif images.numel() == 0:
        faults.append(f"{name} images have no pixels, got {tuple(images.shape)}: each side must be >= 1")
    if labels.ndim != 1:
        faults.append(
            f"{name} labels must be (N,), got {tuple(labels.shape)}: turn one-hot rows into labels by argmax(1)"
        )
    elif images.ndim > 0 and len(images) != len(labels):
        faults.append(f"{name} has {len(images)} images but {len(labels)} labels: give one label for each image")
    return faults + _label_faults(name, labels, classes) + _pixel_faults(name, images)


def _label_faults(name: str, labels: Tensor, classes: Sequence[str] | None) -> list[str]:
    if labels.is_floating_point() or labels.dtype == torch.bool:
        kind = str(labels.dtype).removeprefix("torch.")
        return [f"{name} labels must be integers, got {len(labels.flatten())} of type {kind}: convert them to int64"]
    # Without names a class is known by its label alone; a label beyond the number of images leaves classes empty.
    count = len(classes) if classes is not None else labels.numel()
    outside = int(((labels < 0) | (labels >= count)).sum())
    if not outside:
        return []
    return [
        f"{outside} of {labels.numel()} {name} labels are out of range: allowed 0 to {count - 1}, "
        f"got {int(labels.min())} to {int(labels.max())}: number the classes from 0"
    ]


def _pixel_faults(name: str, images: Tensor) -> list[str]:
    if images.ndim not in (3, 4) or bool(images.isfinite().all()):
        return []
    bad = ~images.isfinite()
    touched = int(bad.flatten(1).any(1).sum())
    nans = int(images.isnan().sum())
    return [
        f"{name} has {nans} NaN and {int(bad.sum()) - nans} infinite pixels in {touched} of {len(images)} images: "
        "remove these images or replace the values"
    ]


def _differences(parts: Mapping[str, Pair]) -> list[str]:
    """Faults between parts: images of one data set have one shape and one pixel type."""
    faults = []
    shapes = {name: tuple(x.shape[1:]) for name, (x, _) in parts.items()}
    if len(set(shapes.values())) > 1:
        said = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        faults.append(f"images of all splits must have one shape, got {said}: resize them")
    kinds = {name: "uint8" if x.dtype == torch.uint8 else "float" for name, (x, _) in parts.items()}
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        faults.append(f"pixels of all splits must have one type and scale, got {said}: convert them alike")
    return faults


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
