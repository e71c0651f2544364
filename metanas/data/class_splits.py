"""Classes drawn into parts: every class gets at most one owner, and whole groups go to validation and test.

lists              a part that is given by names takes these
units              of the classes that no list names: a group together, a class of no group alone
test, validation   take units in a random order until they have what they ask for
train              takes the classes that are left, or so many of them
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from metanas.data.check import SHOWN, noun
from metanas.data.copies import image_keys
from metanas.data.splits import Share
from metanas.errors import DataError, nearest

Wanted = Share | Sequence[str] | None
"""What a part asks for: a share or a number of classes, their names, or nothing said."""

Unit = tuple[int, ...]
"""Classes that stay together."""

PARTS = ("train", "validation", "test")


def split_classes(
    names: Sequence[str],
    groups: Sequence[str],
    wanted: Mapping[str, Wanted],
    usual: Mapping[str, float],
    *,
    generator: torch.Generator,
) -> dict[str, tuple[int, ...]]:
    """Disjoint positions (ascending) of the classes of "train" and of every part in `usual`.

    names, groups: of the classes that came; "" for no group
    wanted: by part. A fraction in (0, 1), of the units for validation and test, of the classes for train; a number of
            classes, which validation and test reach or pass by whole units; names of classes; 0 for no validation
    usual:  the fractions that "validation" and "test" take where nothing is said; validation takes nothing where the
            others are given by names

    Raises DataError in one line: names that are unknown or twice, shares out of range, too few classes.

    >>> names = ["ant", "bee", "cat", "dog", "emu"]
    >>> split_classes(names, [""] * 5, {"test": ["dog"]}, {"validation": 0.2, "test": 0.2},
    ...     generator=torch.Generator().manual_seed(0))
    {'train': (1, 2, 4), 'validation': (0,), 'test': (3,)}
    """
    asked = {part: wanted.get(part) for part in PARTS if part == "train" or part in usual}
    lists = {part: value for part, value in asked.items() if value is not None and not isinstance(value, int | float)}
    shares = {part: value for part, value in asked.items() if value is None or isinstance(value, int | float)}
    _require_shares(shares)
    taken = _by_name(names, lists)
    named = {i for members in taken.values() for i in members}
    total = len(_units(groups, range(len(names))))
    units = _units(groups, (i for i in range(len(names)) if i not in named))
    queue = [units[i] for i in torch.randperm(len(units), generator=generator).tolist()]
    for part in [part for part in ("test", "validation") if part in shares]:
        share = shares[part]
        if share is None:
            share = 0 if _needs_none(part, asked) else usual[part]
        taken[part], queue = _take(queue, share, total)
    if "train" in shares:
        rest = [i for unit in queue for i in unit]
        shuffled = [rest[i] for i in torch.randperm(len(rest), generator=generator).tolist()]
        taken["train"] = shuffled[: _wanted_of_train(shares, len(rest), len(names))]
    _require_enough(names, asked, taken, grouped=total < len(names))
    return {part: tuple(sorted(taken[part])) for part in asked}


def _units(groups: Sequence[str], members: Iterable[int]) -> list[Unit]:
    """Of the classes `members`: the classes of each group, and each class of no group; by their first class."""
    units: dict[str | int, list[int]] = {}
    for i in members:
        units.setdefault(groups[i] or i, []).append(i)
    return [tuple(unit) for unit in units.values()]


def _take(queue: list[Unit], share: Share, total: int) -> tuple[list[int], list[Unit]]:
    """The first units of `queue`, a fraction of `total` or up to a number of classes; and the units that are left."""
    if isinstance(share, float) and share > 0:
        used = max(1, round(share * total))
    else:
        sizes = accumulate((len(unit) for unit in queue), initial=0)
        used = next((k for k, size in enumerate(sizes) if size >= share), len(queue))
    return [i for unit in queue[:used] for i in unit], queue[used:]


def _wanted_of_train(shares: Mapping[str, Share | None], left: int, total: int) -> int:
    """All that is left where nothing is said, or where the fractions of all parts are the whole; else as asked."""
    share = shares["train"]
    if share is None:
        return left
    if isinstance(share, int):
        return share
    fractions = [value for value in shares.values() if isinstance(value, float)]
    return left if sum(fractions) > 1 - 1e-9 else max(1, round(share * total))


def _require_shares(shares: Mapping[str, Share | None]) -> None:
    for part, share in shares.items():
        none = part == "validation" and share == 0 and not isinstance(share, bool)
        whole = isinstance(share, int) and not isinstance(share, bool) and share >= 1
        if share is not None and not none and not whole and not (isinstance(share, float) and 0 < share < 1):
            least = ", 0 for none," if part == "validation" else ""
            raise DataError(
                f"{part} must be a fraction in (0, 1), a number of classes >= 1{least} or a list of class names, "
                f"got {share!r}"
            )
    if sum(share for share in shares.values() if isinstance(share, float)) > 1 + 1e-9:
        raise DataError(f"{_said(shares)} are more than all classes: ask for less")


def _by_name(names: Sequence[str], lists: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """The positions of the classes that are given by names; each name in one list, once."""
    position = {name: i for i, name in enumerate(names)}
    owner: dict[str, str] = {}
    for part, listed in lists.items():
        if isinstance(listed, str) or not all(isinstance(name, str) for name in listed):
            raise DataError(f"{part} must be a share, a number of classes or a list of their names, got {listed!r}")
        for name in listed:
            if name not in position:
                raise DataError(f"{part} names an unknown class {name!r}{hint(name, names)}")
            if name in owner:
                where = f"in {owner[name]} and in {part}" if owner[name] != part else f"twice in {part}"
                raise DataError(f"class {name!r} is {where}: each class may stand in one part, once")
            owner[name] = part
    return {part: [position[name] for name in listed] for part, listed in lists.items()}


def hint(name: str, names: Sequence[str]) -> str:
    """`nearest`, which never lists more names than fit a line.

    >>> hint("x", ["ant", "bee", "cat", "dog", "emu"])
    '; allowed: ant, bee, cat, ...'
    """
    said = nearest(name, names)
    return said if "did you mean" in said else nearest(name, [*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])


def _require_enough(
    names: Sequence[str], asked: Mapping[str, Wanted], taken: Mapping[str, Sequence[int]], *, grouped: bool
) -> None:
    """Raises DataError where a part has no class, or less than the number that was asked for."""
    least = {
        part: value if isinstance(value, int) else 0 if _needs_none(part, asked) else 1 for part, value in asked.items()
    }
    short = [part for part in asked if len(taken[part]) < least[part]]
    if short:
        shown = ", ".join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])
        whole = ", of which validation and test take whole groups" if grouped else ""
        none = " (validation=0 for none)" if "validation" in asked else ""
        raise DataError(
            f"too few classes for {' and '.join(short)}, with {_said(asked)}: {len(names)} came ({shown}){whole}; "
            f"each part needs at least 1{none}: bring more, or ask for less"
        )


def _needs_none(part: str, asked: Mapping[str, Wanted]) -> bool:
    """No validation, as asked for: by 0 or an empty list, or unsaid where all the other parts are given by names."""
    value = asked[part]
    if part != "validation":
        return False
    if value is None:
        return all(v is not None and not isinstance(v, int | float) for p, v in asked.items() if p != part)
    return value == 0 if isinstance(value, int | float) else len(value) == 0


def _said(asked: Mapping[str, Wanted]) -> str:
    """What was asked for, in a few words."""
    said = [
        f"{part}={value!r}" if isinstance(value, int | float) else f"{part}: {len(value)} names"
        for part, value in asked.items()
        if value is not None
    ]
    return ", ".join(said) or "the usual shares"


def refuse_shared_images(parts: Mapping[str, tuple[Tensor, Sequence[str]]], *, rotations: bool) -> None:
    """Raises DataError where the same image (or row) is in classes of two parts; with rotations, also where one turned.

    parts: inputs (examples, ...), on the CPU, and the class of each by name
    """
    owner: dict[bytes, tuple[str, str]] = {}
    shared: list[str] = []
    for part, (inputs, names) in parts.items():
        if not names:  # no validation
            continue
        square = inputs.ndim == 4 and inputs.shape[2] == inputs.shape[3]
        turned = [inputs.rot90(k, (2, 3)).contiguous() for k in range(4)] if rotations and square else [inputs]
        for name, *keys in zip(names, *map(image_keys, turned), strict=True):
            other, known = owner.setdefault(min(keys), (part, name))
            if other != part:
                shared.append(f"one of {name!r} ({part}) is also in {known!r} ({other})")
    if shared:
        what = noun(next(iter(parts.values()))[0])
        more = f" (and {len(shared) - SHOWN} more)" if len(shared) > SHOWN else ""
        raise DataError(
            f"leakage between parts, {len(shared)} {what}: {'; '.join(shared[:SHOWN])}{more}; remove the copies, put "
            'these classes into one part by their names, or pass overlap="allow"'
        )
