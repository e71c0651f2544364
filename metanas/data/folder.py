"""Images by class, from a folder or a zip of it, which is read where it lies.

    photos/cats/1.jpg  photos/dogs/7.png              to be split
    photos/train/cats/1.jpg  photos/test/cats/2.jpg   brings its test (or inner, outer and test)

Classes and images stand in the order of their names by code points, whatever the locale and the file system. What is
hidden (`.x`, `__MACOSX`, `Thumbs.db`) is passed over in silence, other files that are no images with a warning.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from metanas.data.check import SHOWN, Pair
from metanas.data.pictures import SUFFIXES, UnreadableError, header, pixels, require_pillow
from metanas.errors import DataError

T = TypeVar("T")

FORMS = ({"train", "test"}, {"inner", "outer", "test"})
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "inner", "outer"}
HIDDEN = {"__macosx", "thumbs.db", "desktop.ini"}
DEEPEST = 8
MOST_BYTES = 2**28
USUAL_SIZE, KEPT_SIZE = 32, 64
LAYOUT = "make one folder for each class with its images directly in it, also below train/ and test/"


def _outside() -> bytes:
    """Stands for what a link out of the folder leads to."""
    raise UnreadableError("outside the folder")


@dataclass(frozen=True)
class File:
    """A file below the root, or a folder (`read` is None)."""

    path: tuple[str, ...]
    read: Callable[[], bytes] | None

    @property
    def name(self) -> str:
        return "/".join(self.path)

    @property
    def is_image(self) -> bool:
        return self.read not in (None, _outside) and os.path.splitext(self.path[-1])[1].lower() in SUFFIXES


def read_images(path: Path, size: int | None) -> tuple[str, dict[str, Pair], tuple[str, ...]]:
    """(name, parts, classes) of a folder or a zip; every image (size, size), cut as `pictures` says.

    size: None keeps the images' own size where all have the same and no side is above 64; otherwise 32.

    Raises DataError with all faults in one line, and MissingDependencyError without Pillow.
    """
    require_pillow()
    if path.is_dir():
        return (path.resolve().name or "images", *_read(list(_walk(path)), size, path))
    try:
        with zipfile.ZipFile(path) as archive:
            return (path.stem, *_read(list(_members(archive, path)), size, path))
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{str(path)!r} is not a zip of images ({reason!r}): pack the folder again") from error


def _read(found: list[File], size: int | None, path: Path) -> tuple[dict[str, Pair], tuple[str, ...]]:
    files = _without_one_top([f for f in found if not any(_is_hidden(part) for part in f.path)])
    images = sorted((f for f in files if f.is_image), key=lambda f: f.path)
    depth = 2 if _has_splits(files, images, path) else 1
    classes = tuple(sorted({f.path[depth - 1] for f in images if len(f.path) > depth}))
    _refuse_layout(files, images, depth, classes, path)
    headers, faults = _each(images, header)
    grey = all(h.grey for h in headers)
    decoded: list[torch.Tensor] = []
    if not faults:
        decoded, faults = _each(images, partial(pixels, grey=grey, size=_target({h.size for h in headers}, size)))
    if faults:
        raise DataError(f"{str(path)!r} has {'; '.join(faults)}: repair or remove them")
    ignored = [f.name for f in files if f.read is not None and not f.is_image]
    if ignored:
        said = f"{_counted(ignored, 'file')} ignored: no image by name, or a link out of it"
        warnings.warn(f"{str(path)!r}: {said}", stacklevel=5)
    pairs: dict[str, Pair] = {}
    tops = {f.path[0] for f in images} if depth == 2 else {"train"}
    for part in (part for part in ("train", "inner", "outer", "test") if part in tops):
        chosen = [i for i, f in enumerate(images) if depth == 1 or f.path[0] == part]
        labels = torch.tensor([classes.index(images[i].path[depth - 1]) for i in chosen])
        stacked = torch.stack([decoded[i] for i in chosen])
        pairs[part] = (stacked[:, None] if grey else stacked.permute(0, 3, 1, 2).contiguous(), labels)
    return pairs, classes


def _has_splits(files: Sequence[File], images: Sequence[File], path: Path) -> bool:
    """Whether the top folders are splits: they bear such names, and no image lies directly in one."""
    tops = {f.path[0] for f in files if len(f.path) > 1 or f.read is None}
    if any(len(f.path) == 2 for f in images) or not any(top.lower() in SPLITS for top in tops):
        return False
    if tops not in FORMS:
        raise DataError(
            f"{str(path)!r} must hold the splits train and test, or inner, outer and test, or folders of classes; "
            f"got {_names(sorted(tops))}"
        )
    return True


def _refuse_layout(
    files: Sequence[File], images: Sequence[File], depth: int, classes: Sequence[str], path: Path
) -> None:
    folders = {f.path for f in files if f.read is None} | {f.path[:k] for f in files for k in range(1, len(f.path))}
    filled = {f.path[:k] for f in images for k in range(1, len(f.path))}
    empty = ["/".join(p) for p in sorted(folders - filled) if len(p) <= depth]
    loose = [f.name for f in images if len(f.path) <= depth]
    deep = [f.name for f in images if len(f.path) > depth + 1]
    faults = [f"{_counted(empty, 'folder')} without images"] if empty else []
    faults += [f"{_counted(loose, 'image')} outside a class folder"] if loose else []
    faults += [f"{_counted(deep, 'image')} in folders below a class"] if deep else []
    if not images:
        faults.append("no images (known by " + ", ".join(sorted(SUFFIXES)) + ")")
    elif len(classes) < 2:
        faults.append(f"{len(classes)} class folders ({_names(classes)}), where at least 2 are needed")
    if unclear := [name for name in classes if not _is_text(name)]:
        faults.append(f"{_counted(unclear, 'class name')} not in UTF-8")
    if faults:
        raise DataError(f"{str(path)!r} has {'; '.join(faults)}: {LAYOUT}")


def _each(images: Sequence[File], take: Callable[[bytes], T]) -> tuple[list[T], list[str]]:
    """What `take` makes of every file, and the files that cannot be read, counted by reason."""
    taken: list[T] = []
    unread: dict[str, list[str]] = {}
    for file in images:
        assert file.read is not None
        try:
            taken.append(take(file.read()))
        except UnreadableError as error:
            unread.setdefault(str(error), []).append(file.name)
    return taken, [f"{_counted(names, 'image')} unreadable ({reason})" for reason, names in unread.items()]


def _target(sizes: set[tuple[int, int]], size: int | None) -> tuple[int, int]:
    """(width, height) of every image."""
    if size is not None:
        return size, size
    alike = next(iter(sizes), (0, 0))
    return alike if len(sizes) == 1 and max(alike) <= KEPT_SIZE else (USUAL_SIZE, USUAL_SIZE)


def _walk(root: Path) -> Iterator[File]:
    """What is below a folder. Links are followed where they stay inside it, and never round in a circle."""
    inside = os.path.realpath(root)

    def below(folder: str, path: tuple[str, ...], above: frozenset[str]) -> Iterator[File]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"cannot read the folder {folder!r} ({error.strerror}): allow reading it") from error
        for entry in entries:
            here, real = (*path, entry.name), os.path.realpath(entry.path)
            if _is_hidden(entry.name):
                continue
            if entry.is_symlink() and os.path.commonpath([inside, real]) != inside:
                yield File(here, _outside)
            elif entry.is_dir():
                if real not in above and len(here) < DEEPEST:
                    yield File(here, None)
                    yield from below(entry.path, here, above | {real})
            elif entry.is_file():  # no pipe, no device
                yield File(here, partial(_bytes, entry.path))

    return below(str(root), (), frozenset({inside}))


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UnreadableError(error.strerror or "no reason given") from None
    if len(data) > MOST_BYTES:
        raise UnreadableError(f"more than {MOST_BYTES:,} bytes")
    return data


def _members(archive: zipfile.ZipFile, path: Path) -> Iterator[File]:
    """What a zip holds. Nothing is written, and a name that leads out of it is refused all the same."""
    members = archive.infolist()
    bad = [m.filename for m in members if ".." in m.filename.split("/") or m.filename.startswith("/")]
    if bad:
        raise DataError(f"{str(path)!r} has {_counted(bad, 'name')} leading out of it: pack the folder again")
    for member in members:
        parts = tuple(part for part in member.filename.split("/") if part not in ("", "."))
        if parts:
            yield File(parts, None if member.is_dir() else partial(_unpacked, archive, member))


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > MOST_BYTES:  # no more than it declares is ever unpacked
        raise UnreadableError(f"more than {MOST_BYTES:,} bytes")
    if member.flag_bits & 1:
        raise UnreadableError("encrypted")
    try:
        return archive.read(member)
    except Exception:  # every kind of compression has errors of its own
        raise UnreadableError("damaged in the zip") from None


def _without_one_top(files: list[File]) -> list[File]:
    """The files below the only top folder, where there is one that holds folders and no images itself."""
    tops = {f.path[0] for f in files}
    if len(tops) != 1 or not any(len(f.path) > 2 for f in files) or any(len(f.path) < 3 and f.is_image for f in files):
        return files
    return [File(f.path[1:], f.read) for f in files if len(f.path) > 1]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in HIDDEN


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _counted(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'} ({_names(names)})"


def _names(names: Iterable[str]) -> str:
    """The first names, quoted so that nothing in them acts on a terminal."""
    listed = list(names)
    shown = [repr(name if len(name) <= 60 else f"{name[:57]}...") for name in listed[:SHOWN]]
    return ", ".join([*shown, *(["..."] if len(listed) > SHOWN else [])])
