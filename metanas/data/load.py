"""`load_data`: any source to `Data`, through the same four steps.

read       images or rows, and labels or quantities, as they came
check      all faults at once; identical images or rows never stand in two splits
split      inner, outer and test, drawn stratified from the seed unless the source brings them
normalise  float32; images per channel, rows by the rules of `table`, quantities to mean 0 and deviation 1: all of them
           fitted on the inner split only
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from metanas.data.augment import Augmentation, default_augment
from metanas.data.check import Pair, noun, require_class_names, require_every_class, require_sound
from metanas.data.copies import first_copies, refuse_shared
from metanas.data.inputs import INPUTS, require_inputs, vocabulary_of
from metanas.data.read import Asked, Source, read
from metanas.data.seeds import seeded
from metanas.data.splits import Share, stratified
from metanas.data.table import Heading, encode, fit
from metanas.data.task import CLASSIFICATION, REGRESSION
from metanas.data.types import Data, Split
from metanas.errors import DataError, nearest

TASKS = (CLASSIFICATION.name, REGRESSION.name)


def load_data(
    source: object,
    *,
    inner: Share | None = None,
    outer: Share | None = None,
    test: Share | None = None,
    seed: int = 0,
    augment: Sequence[Augmentation] | None = None,
    device: torch.device | str = "cpu",
    name: str | None = None,
    classes: Sequence[str] | None = None,
    overlap: str = "refuse",
    size: int | None = None,
    target: str | None = None,
    drop: Sequence[str] = (),
    task: str | None = None,
    inputs: str | None = None,
) -> Data:
    """Reads a source and gives its inner, outer and test split, normalised, on `device`.

    source:  "digits" (scikit-learn's 1,797 images 8x8); the path of an `.npz` with x, y or x_train, y_train
             (and x_test, y_test) or x_inner, y_inner, x_outer, ..., and optionally classes; a mapping with the same
             names; a tuple (x, y) of tensors or arrays; a mapping {"inner": (x, y), "outer": ..., "test": ...} or
             {"train": ..., "test": ...}; a folder or a .zip of images by class (`data.folder`); a DataLoader, a pair of
             them (train, test) or a mapping, read once; a map-style Dataset of (image, label), read once; a .csv or
             .tsv with a header (`data.csv_file`); a Data, returned as it is.
             Images are (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or float; rows are (N, F); labels are integers
             from 0, the quantities of a regression any numbers (N,).
    inner, outer, test:
             fractions of the source or numbers of images or rows. 0.4, 0.4 and 0.2 where nothing is said; 0.5 and 0.5
             of the training part where the source brings its test. What no split asks for stays unused.
    seed:    decides what goes where; the same seed gives the same splits on every machine
    augment: what training batches go through. Where nothing is said, a shift by an eighth of the shorter side, and
             for colour images a flip as well: `(Crop(4), Flip())` for 32x32 RGB, `(Crop(1),)` for the digits. `()`
             for nothing.
    name, classes: what the data and its labels are called, where the source's own names will not do
    overlap: what to do where identical images or rows stand in two splits that the source brings: "refuse" or "allow".
             Splits that are drawn here keep identical ones together unless it says "allow".
    size:    side of the images from a folder or a zip: scaled until they cover the square, then cut around its centre.
             Where nothing is said, images that all have the same size up to 64 keep it, and others become 32x32.
    target:  of a table, the name of the column to be predicted
    drop:    of a table, columns to leave out, as one that numbers the rows
    task:    "classification" or "regression". Where nothing is said: of a table, by its target (words, or at most 20
             different whole numbers: classes); elsewhere classification.
    inputs:  "tokens" or "graphs" (`data.inputs`): sequences of whole numbers (N, T), or (N, nodes, features + nodes).
             Where nothing is said, images or rows.

    Raises DataError (one line: what came, what is allowed, how to mend it) and MissingDependencyError.

    >>> import torch
    >>> images, labels = torch.rand(60, 3, 16, 16), torch.arange(60) % 4
    >>> data = load_data((images, labels), inner=0.5, outer=0.25, test=12, classes=["cat", "dog", "emu", "fox"])
    >>> data.sizes, data.shape, data.augment
    ({'inner': 30, 'outer': 15, 'test': 12}, (3, 16, 16), (Crop(padding=2), Flip()))
    """
    shares = {"inner": inner, "outer": outer, "test": test}
    if isinstance(source, Data):
        asked = {**shares, "augment": augment, "name": name, "classes": classes, "size": size}
        return _as_it_is(source, {**asked, "target": target, "drop": drop or None, "task": task, "inputs": inputs})
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise DataError(f"seed must be an integer >= 0, got {seed!r}")
    if overlap not in ("refuse", "allow"):
        raise DataError(f"overlap must be one of two words, got {overlap!r}{nearest(overlap, ['refuse', 'allow'])}")
    if inputs is not None and inputs not in INPUTS:
        raise DataError(f"inputs must be one of two words, got {inputs!r}{nearest(inputs, INPUTS)}")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 4096):
        raise DataError(f"size must be an integer, 1 to 4096, got {size!r}")
    if task is not None and task not in TASKS:
        raise DataError(f"task must be one of two words, got {task!r}{nearest(task, TASKS)}")
    found = read(source, Asked(size, target, tuple(drop), task, inputs))
    table = found.headings is not None
    regression = found.classes is None if table else task == "regression"
    if regression and classes is not None:
        raise DataError("a regression has no classes: leave them out")
    names = classes if classes is not None else found.classes
    names = None if names is None or regression else require_class_names(names)
    parts = {part: (x, y.double()) for part, (x, y) in found.parts.items()} if regression else found.parts
    if inputs is not None:
        if table:
            raise DataError(f"inputs={inputs!r} is for arrays, not for tables: leave it out")
        require_inputs(inputs, parts)
    flat = {part: (x.flatten(1), y) for part, (x, y) in parts.items()} if inputs == "graphs" else parts
    require_sound(flat, names, regression=regression)
    what = noun(next(iter(flat.values()))[0])
    if inputs is not None:
        pass  # they stay what they are
    elif what == "images":
        parts = {part: (channels_first(x), y) for part, (x, y) in parts.items()}
    else:
        parts = {part: (x.double(), y) for part, (x, y) in parts.items()}
    if overlap == "refuse":
        refuse_shared({part: x for part, (x, _) in parts.items()}, what)
    splits = _split(Source(found.name, parts), shares, seed, keep_copies_together=overlap == "refuse")
    if names is None and not regression:
        names = tuple(str(label) for label in range(max(int(y.max()) for _, y in parts.values()) + 1))
    if names is not None:
        require_every_class({split: y for split, (_, y) in splits.items()}, names, what)
    make: Callable[..., Data] = _images if what == "images" else partial(_rows, headings=found.headings)
    if inputs is not None:
        make = partial(_as_they_come, vocabulary=vocabulary_of(splits) if inputs == "tokens" else 0)
    data = make(name or found.name, splits, names or (), augment)
    return replace(data, notes=(*found.notes, *data.notes)).to(device)


def fingerprint(splits: Mapping[str, Pair], classes: Sequence[str], headings: Sequence[Heading] | None = None) -> str:
    """SHA-256 (64 hex digits) of the splits' inputs and targets, in order, of the class names and a table's columns."""
    layout = {part: [str(x.dtype), list(x.shape)] for part, (x, _) in splits.items()}
    head: dict[str, Any] = {"schema": 1, "classes": list(classes), "splits": layout}
    if headings is not None:
        head["columns"] = [[heading.name, heading.words] for heading in headings]
    digest = hashlib.sha256(json.dumps(head).encode())
    for x, y in splits.values():
        digest.update(x.contiguous().numpy().data)
        digest.update(y.contiguous().numpy().data)
    return digest.hexdigest()


def _as_it_is(data: Data, asked: Mapping[str, object]) -> Data:
    changes = [name for name, value in asked.items() if value is not None]
    if changes:
        raise DataError(
            f"a Data is taken as it is, got {', '.join(changes)} as well: load it again from its source, "
            "or use dataclasses.replace"
        )
    return data


def _split(
    source: Source, shares: Mapping[str, Share | None], seed: int, *, keep_copies_together: bool
) -> dict[str, Pair]:
    given = [part for part in ("inner", "outer", "test") if part in source.parts]
    for part in given:
        if shares[part] is not None:
            raise DataError(f"{source.name} brings its own {part} split, got {part}={shares[part]!r}: leave it out")
    if "train" not in source.parts:
        return {part: source.parts[part] for part in given}
    usual: dict[str, Share] = {"inner": 0.5, "outer": 0.5} if given else {"inner": 0.4, "outer": 0.4, "test": 0.2}
    wanted = {part: share if (share := shares[part]) is not None else usual[part] for part in usual}
    x, y = source.parts["train"]
    first = first_copies(x) if keep_copies_together else None
    strata = _tenths(y) if y.is_floating_point() else y
    drawn = stratified(strata, wanted, generator=seeded(seed, "split"), first=first)
    splits = {part: (x[chosen], y[chosen]) for part, chosen in drawn.items()}
    return {**splits, **{part: source.parts[part] for part in given}}


def channels_first(images: Tensor) -> Tensor:
    """(N, H, W), (N, C, H, W) or (N, H, W, C) to (N, C, H, W).

    Channels are the axis of length 1, 3 or 4; where both or neither could be it, the one that leaves square images,
    and otherwise the first.
    """
    if images.ndim == 3:
        return images[:, None].contiguous()
    _, a, b, c = images.shape
    first, last = a in (1, 3, 4), c in (1, 3, 4)
    if first == last:
        first, last = b == c, a == b
    if not first and not last and a not in (1, 3, 4):
        raise DataError(
            f"images of shape {(a, b, c)} have no axis of 1, 3 or 4 channels and are not square: permute them to "
            "(N, C, H, W) with square images"
        )
    return (images.permute(0, 3, 1, 2) if last and not first else images).contiguous()


def _tenths(quantities: Tensor) -> Tensor:
    """Which tenth of all, by size, each quantity is in: what splits of a regression are stratified by."""
    places = torch.empty(len(quantities), dtype=torch.long)
    places[quantities.argsort(stable=True)] = torch.arange(len(quantities))
    return places * 10 // len(quantities)


def _images(
    name: str, splits: Mapping[str, Pair], classes: tuple[str, ...], augment: Sequence[Augmentation] | None
) -> Data:
    fitted = splits["inner"][0]
    pixels = (0.0, 255.0) if fitted.dtype == torch.uint8 else (float(fitted.min()), float(fitted.max()))
    mean, std = _moments(fitted.float())
    _, channels, height, width = fitted.shape
    targets, scale = _targets(splits, classes)
    ready = {part: Split((x.float() - mean) / std, targets[part]) for part, (x, _) in splits.items()}
    return Data(
        name=name,
        inner=ready["inner"],
        outer=ready["outer"],
        test=ready["test"],
        classes=classes,
        augment=default_augment((channels, height, width)) if augment is None else tuple(augment),
        fingerprint=fingerprint(splits, classes),
        mean=tuple(mean.flatten().tolist()),
        std=tuple(std.flatten().tolist()),
        pixels=pixels,
        task=CLASSIFICATION if classes else REGRESSION,
        scale=scale,
    )


def _rows(
    name: str,
    splits: Mapping[str, Pair],
    classes: tuple[str, ...],
    augment: Sequence[Augmentation] | None,
    *,
    headings: Sequence[Heading] | None,
) -> Data:
    if augment:
        raise DataError(f"augmentations are for images, got {', '.join(map(str, augment))} for rows: leave them out")
    fitted = splits["inner"][0]
    named = headings or [Heading(f"x{k}") for k in range(fitted.shape[1])]
    table, notes = fit(named, fitted)
    targets, scale = _targets(splits, classes)
    ready = {part: Split(encode(table, named, x), targets[part]) for part, (x, _) in splits.items()}
    return Data(
        name=name,
        inner=ready["inner"],
        outer=ready["outer"],
        test=ready["test"],
        classes=classes,
        augment=(),
        fingerprint=fingerprint(splits, classes, named),
        mean=(),
        std=(),
        pixels=(0.0, 1.0),
        task=CLASSIFICATION if classes else REGRESSION,
        table=table,
        scale=scale,
        notes=notes,
    )


def _as_they_come(
    name: str,
    splits: Mapping[str, Pair],
    classes: tuple[str, ...],
    augment: Sequence[Augmentation] | None,
    *,
    vocabulary: int,
) -> Data:
    """Tokens or graphs, which nothing normalises."""
    if augment:
        raise DataError(f"augmentations are for images, got {', '.join(map(str, augment))}: leave them out")
    targets, scale = _targets(splits, classes)
    ready = {part: Split(x.float(), targets[part]) for part, (x, _) in splits.items()}
    return Data(
        name=name,
        inner=ready["inner"],
        outer=ready["outer"],
        test=ready["test"],
        classes=classes,
        augment=(),
        fingerprint=fingerprint(splits, classes),
        mean=(),
        std=(),
        pixels=(0.0, 1.0),
        task=CLASSIFICATION if classes else REGRESSION,
        scale=scale,
        vocabulary=vocabulary,
    )


def _targets(splits: Mapping[str, Pair], classes: tuple[str, ...]) -> tuple[dict[str, Tensor], tuple[float, float]]:
    """Labels as they are; quantities normalised, with their (mean, std)."""
    if classes:
        return {part: y.clone() for part, (_, y) in splits.items()}, (0.0, 1.0)
    fitted = splits["inner"][1]
    mean, std = float(fitted.mean()), float(fitted.std(correction=0))
    if not std > 0:
        raise DataError(f"all {len(fitted)} targets of the inner split are {mean}: numbers that differ are needed")
    return {part: ((y - mean) / std).float() for part, (_, y) in splits.items()}, (mean, std)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (1, C, 1, 1) of every channel; a channel that is constant keeps its scale."""
    mean = images.mean((0, 2, 3), keepdim=True, dtype=torch.float64)
    variance = (images - mean.float()).square().mean((0, 2, 3), keepdim=True, dtype=torch.float64)
    std = variance.sqrt().float()
    return mean.float(), torch.where(std > 0, std, torch.ones_like(std))
