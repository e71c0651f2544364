"""Examples by class, for few-shot learning: classes are split, not examples, so that a test is of classes never seen.

    source    any source of `load_data`, all parts of it joined, or Omniglot; examples sorted by class
    split     whole classes to train, validation and test, from the seed; groups (alphabets) are kept whole
    rotate    where asked for, after the split: each class becomes four, which share their rows of memory
    moments   mean and deviation per channel, of the training classes only

Images stay as they came (uint8: a quarter of the memory) and become float32 where they are gathered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from metanas.data.check import SHOWN, noun, require_class_names, require_sound
from metanas.data.class_splits import Wanted, hint, refuse_shared_images, split_classes
from metanas.data.load import channels_first
from metanas.data.moments import moments
from metanas.data.omniglot import Characters, read_omniglot
from metanas.data.read import Asked, Source, read
from metanas.data.seeds import seeded
from metanas.data.types import Data
from metanas.errors import DataError, nearest

TURNS = ("", "@90", "@180", "@270")


@dataclass(frozen=True, eq=False, repr=False)
class Classes:
    """Examples grouped by class, on one device.

    inputs: (examples, channels, height, width) or (examples, features), uint8 or float32 as they came; the examples of
            a class stand together
    counts: how many examples each class has
    names:  of the classes
    groups: the group of each class, as its alphabet; "" where there is none
    turns:  quarter turns, counterclockwise, that the images of a class get when they are gathered
    first:  the row where each class begins; the rotated copies of a class begin in the same row

    >>> two = Classes(torch.arange(12.0).view(3, 1, 2, 2), (2, 1), ("a", "b"), ("", ""), (0, 0), (0, 2))
    >>> two, len(two), two.rotated().names
    (Classes(2 of (1, 2, 2), cpu), 2, ('a', 'a@90', 'a@180', 'a@270', 'b', 'b@90', 'b@180', 'b@270'))
    """

    inputs: Tensor
    counts: tuple[int, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    turns: tuple[int, ...]
    first: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.counts)

    def __repr__(self) -> str:
        return f"Classes({len(self)} of {self.shape}, {self.inputs.device})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (channels, height, width) or (features,)."""
        return tuple(self.inputs.shape[1:])

    def within(self, group: str) -> tuple[int, ...]:
        """The classes of a group, by position."""
        return self.by_group.get(group, ())

    @cached_property
    def by_group(self) -> Mapping[str, tuple[int, ...]]:
        """The classes of every group, by position, groups in the order in which they come; "" is none."""
        found: dict[str, tuple[int, ...]] = {}
        for i, group in enumerate(self.groups):
            if group:
                found[group] = (*found.get(group, ()), i)
        return found

    def rotated(self) -> Classes:
        """Four classes for each: as it is, and turned by 90, 180 and 270 degrees counterclockwise ("x@90").

        Raises DataError unless the inputs are square images that are not turned yet.
        """
        if len(self.shape) != 3 or self.shape[1] != self.shape[2]:
            raise DataError(f"rotations are for square images, got inputs of shape {self.shape}: leave rotations out")
        if any(self.turns):
            raise DataError("these classes are rotated already: rotate the ones they came from")
        return replace(
            self,
            counts=tuple(count for count in self.counts for _ in TURNS),
            names=tuple(name + turn for name in self.names for turn in TURNS),
            groups=tuple(group for group in self.groups for _ in TURNS),
            turns=tuple(range(len(TURNS))) * len(self),
            first=tuple(first for first in self.first for _ in TURNS),
        )

    def subset(self, indices: Sequence[int]) -> Classes:
        """The classes at `indices`, in that order, with their own rows only; rotated copies go on sharing theirs."""
        blocks = list(dict.fromkeys((self.first[i], self.counts[i]) for i in indices))
        begins = dict(zip(blocks, accumulate((count for _, count in blocks), initial=0), strict=False))
        rows = [torch.arange(first, first + count) for first, count in blocks] or [torch.arange(0)]
        return Classes(
            inputs=self.inputs[torch.cat(rows).to(self.inputs.device)],
            counts=tuple(self.counts[i] for i in indices),
            names=tuple(self.names[i] for i in indices),
            groups=tuple(self.groups[i] for i in indices),
            turns=tuple(self.turns[i] for i in indices),
            first=tuple(begins[self.first[i], self.counts[i]] for i in indices),
        )

    def to(self, device: torch.device | str) -> Classes:
        return replace(self, inputs=self.inputs.to(device))

    def gather(self, classes: Tensor, examples: Tensor) -> Tensor:
        """Examples by class and number within it, as float32 in the units of the source, turned: (..., *shape).

        classes, examples: long, of shapes that broadcast to (...); best on the CPU, where indices are worked out

        Raises DataError where there is no such example: the next row is another class's.

        >>> two = Classes(torch.arange(12.0).view(3, 1, 2, 2), (2, 1), ("a", "b"), ("", ""), (0, 0), (0, 2))
        >>> two.rotated().gather(torch.tensor([0, 1, 4]), torch.tensor([1, 1, 0])).flatten(1)
        tensor([[ 4.,  5.,  6.,  7.],
                [ 5.,  7.,  4.,  6.],
                [ 8.,  9., 10., 11.]])
        """
        classes, examples = classes.cpu(), examples.cpu()
        shape = np.broadcast_shapes(classes.shape, examples.shape)
        classes, examples = classes.expand(shape), examples.expand(shape)
        first, counts, turns = self._tables
        if not bool(((classes >= 0) & (classes < len(self))).all()):
            raise DataError(f"there are {len(self)} classes, from 0; got {int(classes.min())} to {int(classes.max())}")
        if not bool(((examples >= 0) & (examples < counts[classes])).all()):
            raise DataError("examples must be numbers from 0, each below the count of its class")
        rows, turn = (first[classes] + examples).reshape(-1), turns[classes].reshape(-1)
        return self._turned(rows, turn).float().view(*shape, *self.shape)

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        first, counts, turns = (torch.tensor(t, dtype=torch.long) for t in (self.first, self.counts, self.turns))
        return first, counts, turns

    def _turned(self, rows: Tensor, turn: Tensor) -> Tensor:
        """The rows, each turned: those of one turn together, then put back in order; (rows, *shape), as they came."""
        device = self.inputs.device
        if not any(self.turns):
            return self.inputs.index_select(0, rows.to(device))
        order = turn.argsort(stable=True)
        parts = torch.split(rows[order].to(device), torch.bincount(turn, minlength=len(TURNS)).tolist())
        images = [self.inputs.index_select(0, part).rot90(k, (2, 3)) for k, part in enumerate(parts)]
        return torch.cat(images).index_select(0, order.argsort().to(device))


@dataclass(frozen=True, eq=False)
class ClassData:
    """Classes in three disjoint parts: a search learns on `train` and `validation`, and tests once on `test`.

    name:        what the data is called in a run
    mean, std:   per channel (per feature of rows), over the training classes, in the units of the source's pixels
    pixels:      (lowest, highest) value of a source pixel: (0, 255) for uint8, else what the training classes hold
    fingerprint: SHA-256 (hex) of the inputs as they came, the counts, names and turns, of all three parts
    notes:       what was decided where the source left it open

    >>> data = load_classes("digits")
    >>> data.shape, data.sizes
    ((1, 8, 8), {'train': 6, 'validation': 2, 'test': 2})
    """

    name: str
    train: Classes
    validation: Classes
    test: Classes
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: tuple[float, float]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: (channels, height, width) of an image, (features,) of a row."""
        return self.train.shape

    @property
    def sizes(self) -> dict[str, int]:
        """How many classes each part has."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}

    @property
    def device(self) -> torch.device:
        return self.train.inputs.device

    def to(self, device: torch.device | str) -> ClassData:
        """The same data with every part on `device`."""
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )

    def normalised(self, x: Tensor) -> Tensor:
        """Inputs (..., *shape) in the units of the source, as a network reads them: (x - mean) / std, float32."""
        mean, std = self._scale if x.device == self.device else (t.to(x.device) for t in self._scale)
        return torch.sub(x, mean).div_(std)

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        axes = (-1, 1, 1) if len(self.shape) == 3 else (-1,)
        mean, std = (torch.tensor(t, device=self.device).view(axes) for t in (self.mean, self.std))
        return mean, std


def load_classes(
    source: object,
    *,
    train: Wanted = None,
    validation: Wanted = None,
    test: Wanted = None,
    rotations: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    name: str | None = None,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    groups: Mapping[str, str] | None = None,
    overlap: str = "refuse",
    target: str | None = None,
    drop: Sequence[str] = (),
) -> ClassData:
    """Reads a source and gives its training, validation and test classes, on `device`.

    source:  what `load_data` takes, but for a Data: all its parts are joined, since classes are split, not examples;
             "digits"; an `.npz` or a mapping of Omniglot (`data.omniglot`), whose background gives the training and
             validation classes and whose evaluation is the test; a ClassData, returned as it is
    train, validation, test:
             a fraction, a number of classes, or a list of their names. Where nothing is said: validation and test 0.2
             each (of Omniglot, validation 0.1), and train what they leave. `validation=0` is none
    rotations: each class becomes four, turned by 0, 90, 180 and 270 degrees; after the split, so that all four are in
             one part
    seed:    decides which class goes where; the same seed gives the same parts on every machine
    name, classes, size, target, drop: as in `load_data`
    groups:  the group of each class by name: validation and test take whole groups. Omniglot's are its alphabets.
    overlap: what to do where classes of two parts hold identical images: "refuse" or "allow"

    Raises DataError (one line: what came, what is allowed, how to mend it) and MissingDependencyError.

    >>> images, labels = torch.rand(60, 3, 16, 16), torch.arange(60) % 6
    >>> data = load_classes((images, labels), test=["4", "5"], validation=1, rotations=True)
    >>> data.sizes, data.test.names[:4]
    ({'train': 12, 'validation': 4, 'test': 8}, ('4', '4@90', '4@180', '4@270'))
    """
    asked = {"train": train, "validation": validation, "test": test}
    if isinstance(source, ClassData):
        given = {**asked, "rotations": rotations or None, "name": name, "classes": classes, "size": size}
        return _as_it_is(source, {**given, "groups": groups, "target": target, "drop": drop or None}).to(device)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise DataError(f"seed must be an integer >= 0, got {seed!r}")
    if overlap not in ("refuse", "allow"):
        raise DataError(f"overlap must be one of two words, got {overlap!r}{nearest(overlap, ['refuse', 'allow'])}")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 4096):
        raise DataError(f"size must be an integer, 1 to 4096, got {size!r}")
    generator = seeded(seed, "classes")
    omniglot = read_omniglot(source)
    if omniglot is not None:
        fixed: dict[str, object] = {"test": test, "classes": classes, "size": size, "groups": groups, "target": target}
        found, parts, notes = _omniglot(omniglot, asked, {**fixed, "drop": drop or None}, generator)
    else:
        if isinstance(source, Data):
            raise DataError("a Data is split by example, classes cannot be split any more: give the source it is from")
        came = _read(source, Asked(size, target, tuple(drop)))
        pool, left_out = _pool(came, classes, groups)
        found, notes = came.name, (*came.notes, *left_out)
        usual = {"validation": 0.2, "test": 0.2}
        drawn = split_classes(pool.names, pool.groups, asked, usual, generator=generator)
        parts = {part: pool.subset(chosen) for part, chosen in drawn.items()}
    if overlap == "refuse":
        labelled = {
            part: (c.inputs, [name for name, count in zip(c.names, c.counts, strict=True) for _ in range(count)])
            for part, c in parts.items()
        }
        refuse_shared_images(labelled, rotations=rotations)
    return _made(name or found, parts, notes, rotations).to(device)


def _as_it_is(data: ClassData, asked: Mapping[str, object]) -> ClassData:
    changes = [name for name, value in asked.items() if value is not None]
    if changes:
        raise DataError(f"a ClassData is taken as it is, got {', '.join(changes)} as well: load it from its source")
    return data


def _omniglot(
    omniglot: tuple[str, Characters, Characters],
    asked: Mapping[str, Wanted],
    given: Mapping[str, object],
    generator: torch.Generator,
) -> tuple[str, dict[str, Classes], tuple[str, ...]]:
    """Its name, its parts, and which alphabets are for validation."""
    name, background, evaluation = omniglot
    too_much = [key for key, value in given.items() if value is not None]
    if too_much:
        raise DataError(f"{name} brings its own classes, alphabets and test, got {too_much[0]} as well: leave it out")
    pool, test = (_of_characters(part) for part in (background, evaluation))
    inputs = {"background": pool.inputs, "evaluation": test.inputs}
    require_sound({part: (x, torch.arange(len(x))) for part, x in inputs.items()}, None)
    drawn = split_classes(pool.names, pool.groups, asked, {"validation": 0.1}, generator=generator)
    parts = {**{part: pool.subset(chosen) for part, chosen in drawn.items()}, "test": test}
    alphabets = ", ".join(parts["validation"].by_group)
    return name, parts, (f"validation alphabets: {alphabets}",) if alphabets else ()


def _of_characters(part: Characters) -> Classes:
    count, drawers = part.images.shape[:2]
    first = tuple(range(0, count * drawers, drawers))
    return Classes(part.images.flatten(0, 1), (drawers,) * count, part.names, part.alphabets, (0,) * count, first)


def _read(source: object, asked: Asked) -> Source:
    """A table with many classes numbered by whole numbers looks like a regression; here it is none."""
    came = read(source, asked)
    counted = came.classes is None and all(bool((y == y.round()).all()) for _, y in came.parts.values())
    if came.headings is not None and counted:
        return read(source, replace(asked, task="classification"))
    return came


def _pool(
    source: Source, classes: Sequence[str] | None, groups: Mapping[str, str] | None
) -> tuple[Classes, tuple[str, ...]]:
    """All classes of a source, in the order of their labels, and which of them have no example and are left out."""
    given = classes if classes is not None else source.classes
    names = None if given is None else require_class_names(given)
    floating = [y.dtype for _, y in source.parts.values() if y.is_floating_point()]
    if floating:
        raise DataError(
            f"few-shot learning needs classes, got targets of type {str(floating[0]).removeprefix('torch.')} "
            "(a regression): give integer labels"
        )
    worded = [heading.name for heading in source.headings or () if heading.words is not None]
    if worded:
        raise DataError(f"{source.name}: columns must be numbers, {worded[0]!r} holds words: drop it, or number them")
    pairs = {part: (x.float() if x.dtype == torch.float64 else x, y) for part, (x, y) in source.parts.items()}
    require_sound(pairs, names)
    x, y = (torch.cat([pair[i] for pair in pairs.values()]) for i in (0, 1))
    if noun(x) == "images":
        x = channels_first(x)
    counts = torch.bincount(y, minlength=len(names or ())).tolist()
    held = [i for i, count in enumerate(counts) if count]
    labels = names or tuple(map(str, range(len(counts))))
    kept = tuple(labels[i] for i in held)
    of = _groups(groups, kept)
    sizes = tuple(counts[i] for i in held)
    first = tuple(accumulate(sizes[:-1], initial=0))
    pool = Classes(x[y.argsort(stable=True)], sizes, kept, of, (0,) * len(kept), first)
    empty = [label for label, count in zip(names or (), counts, strict=False) if not count]
    shown = ", ".join([*empty[:SHOWN], *(["..."] if len(empty) > SHOWN else [])])
    return pool, (f"classes without {noun(x)} left out: {shown}",) if empty else ()


def _groups(groups: Mapping[str, str] | None, names: Sequence[str]) -> tuple[str, ...]:
    given = {} if groups is None else groups
    if not isinstance(given, Mapping) or not all(isinstance(group, str) for group in given.values()):
        raise DataError(f"groups must be a mapping from class to group, both by name, got {str(groups)[:60]}")
    unknown = sorted(set(given) - set(names), key=str)
    if unknown:
        raise DataError(f"groups names an unknown class {unknown[0]!r}{hint(unknown[0], names)}")
    return tuple(given.get(name, "") for name in names)


def _made(name: str, parts: Mapping[str, Classes], notes: tuple[str, ...], rotations: bool) -> ClassData:
    fitted = parts["train"].inputs
    mean, std = moments(fitted)
    whole = (0.0, 255.0) if fitted.dtype == torch.uint8 else (float(fitted.min()), float(fitted.max()))
    ready = {part: classes.rotated() if rotations else classes for part, classes in parts.items()}
    return ClassData(
        name=name,
        train=ready["train"],
        validation=ready["validation"],
        test=ready["test"],
        mean=mean,
        std=std,
        pixels=whole if fitted.ndim == 4 else (0.0, 1.0),
        fingerprint=_fingerprint(ready),
        notes=notes,
    )


def _fingerprint(parts: Mapping[str, Classes]) -> str:
    """SHA-256 (64 hex digits) of the inputs, counts, names and turns of the parts, in order."""
    layout = {p: [str(c.inputs.dtype), list(c.inputs.shape), c.counts, c.names, c.turns] for p, c in parts.items()}
    digest = hashlib.sha256(json.dumps({"schema": 1, "parts": layout}).encode())
    for classes in parts.values():
        digest.update(classes.inputs.contiguous().numpy().data)
    return digest.hexdigest()
