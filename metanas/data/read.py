"""Where data comes from: each reader turns a source into images and labels of one or more parts.

parts are {"train"} (to be split), {"train", "test"} (the source brings its test), or {"inner", "outer", "test"}.
"""

from __future__ import annotations

import operator
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from metanas.data.check import Pair
from metanas.data.csv_file import SUFFIXES, read_csv
from metanas.data.folder import read_images
from metanas.data.loaders import loaders_of, read_loader
from metanas.data.table import Heading
from metanas.errors import DataError, MissingDependencyError, nearest

NAMES = ("digits",)
FORMS = ({"train"}, {"train", "test"}, {"inner", "outer", "test"})
KINDS = (
    '"digits", the path of an .npz, a .csv, a folder or .zip of images by class, a tuple (x, y), '
    "a mapping of splits to (x, y), a map-style Dataset, a DataLoader, or a Data"
)


@dataclass(frozen=True, eq=False)
class Source:
    """What a reader found: images as they came (uint8 or float32, any allowed layout) or rows (float32; float64 of a
    table, whose `headings` say what they mean), and labels (any integer) or quantities (floating point).
    """

    name: str
    parts: dict[str, Pair]
    classes: tuple[str, ...] | None = None
    headings: tuple[Heading, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What is said beside a source, each for one kind of it: the size of images, what to take from a table."""

    size: int | None = None
    target: str | None = None
    drop: tuple[str, ...] = ()
    task: str | None = None
    inputs: str | None = None


def read(source: object, asked: Asked = Asked()) -> Source:
    """The inputs and targets of any allowed source; whole numbers are kept where tokens are asked for. Raises DataError
    for an unknown source.
    """
    found = _read(source, asked)
    if asked.inputs == "tokens":
        return found
    parts = {
        part: (x.float() if x.dtype in (torch.int64, torch.bool) else x, y) for part, (x, y) in found.parts.items()
    }
    return replace(found, parts=parts)


def _read(source: object, asked: Asked) -> Source:
    table = isinstance(source, str | Path) and Path(source).suffix.lower() in SUFFIXES
    if (asked.target is not None or asked.drop) and not table:
        raise DataError("target and drop are for tables (.csv, .tsv): leave them out")
    if isinstance(source, str | Path):
        return _named(str(source), asked)
    if asked.size is not None:
        raise DataError("size is for folders and zips of images: leave it out, or resize the images before")
    loaders = loaders_of(source)
    if loaders is not None:
        return _loaded(loaders)
    if isinstance(source, Mapping):
        return _mapping(source)
    if isinstance(source, tuple) and len(source) == 2:
        return Source("tensors", {"train": _pair("train", source)})
    if isinstance(source, IterableDataset):
        raise DataError(
            "an IterableDataset came: it has no length; give a map-style Dataset, a DataLoader that ends, or (x, y)"
        )
    if isinstance(source, Tensor | np.ndarray):
        raise DataError("images without labels came: give a tuple (x, y)")
    if not isinstance(source, tuple | list) and hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _dataset(source)
    raise DataError(f"data must be {KINDS}; got {type(source).__name__}")


def _named(name: str, asked: Asked) -> Source:
    path, size = Path(name), asked.size
    if path.is_dir() or (path.suffix.lower() == ".zip" and path.is_file()):
        return Source(*read_images(path, size))
    if size is not None:
        raise DataError(f"size is for folders and zips of images, got {name!r}: leave it out")
    if name == "digits":
        return _digits()
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        cells = read_csv(path, asked.target, asked.drop, asked.task)
        return Source(path.stem, {"train": (cells.x, cells.y)}, cells.classes, cells.headings, cells.notes)
    if path.is_file():
        return _npz(path)
    known = list(NAMES)
    if path.suffix or len(path.parts) > 1:
        known = [str(found) for found in sorted(path.parent.glob("*")) if found.suffix in (".npz", *SUFFIXES)] + known
        raise DataError(f"there is no data file {name!r}{nearest(name, known)}")
    raise DataError(f"unknown data {name!r}{nearest(name, known)}, or the path of an .npz, a .csv, a folder or a .zip")


def _digits() -> Source:
    """Optical recognition of handwritten digits (Alpaydin and Kaynak, UCI 1998): 1,797 images 8x8, values 0 to 16."""
    parts = {"train": _pair("train", _pixels_and_labels())}
    return Source("digits", parts, tuple(str(digit) for digit in range(10)))


def _pixels_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 8, 8) and (1797,), as scikit-learn gives them. Its file is read without it: with SciPy, which it loads, it
    would be two seconds of every search's start."""
    spec = find_spec("sklearn")
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz" if spec and spec.origin else None
    if file is not None and file.is_file():
        rows = np.loadtxt(file, delimiter=",")  # (images, 64 pixels and the digit)
        return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(int)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError('data "digits" needs scikit-learn: pip install "scikit-learn>=1.5,<2"') from error
    bunch = load_digits()
    return bunch.images, bunch.target


def _npz(path: Path) -> Source:
    try:
        with path.open("rb") as handle:
            # Never a pickle: an array of Python objects could run code.
            file = np.load(handle, allow_pickle=False)
            named = isinstance(file, np.lib.npyio.NpzFile)
            arrays = {key: file[key] for key in file.files if _is_ours(key)} if named else {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{str(path)!r} is not an .npz of plain arrays ({reason}): save it with numpy.savez(path, x=, y=)"
        ) from error
    if not named:
        raise DataError(f"{str(path)!r} holds one array without a name: save it with numpy.savez(path, x=, y=)")
    return _arrays(path.stem, arrays)


def _is_ours(key: object) -> bool:
    return key in ("x", "y", "classes") or str(key).startswith(("x_", "y_"))


def _mapping(source: Mapping[Any, Any]) -> Source:
    if any(_is_ours(key) for key in source):
        return _arrays("arrays", {key: value for key, value in source.items() if _is_ours(key)})
    _require_form(set(source), [str(key) for key in source], "splits")
    return Source("splits", {name: _pair(name, source[name]) for name in _ordered(set(source))})


def _arrays(name: str, arrays: Mapping[str, Any]) -> Source:
    """Parts from names: x, y (or x_train, y_train), x_test, y_test, x_inner, ..., and classes."""
    keys = [key for key in arrays if key != "classes"]
    images = {key.removeprefix("x").removeprefix("_") or "train" for key in keys if key.startswith("x")}
    labels = {key.removeprefix("y").removeprefix("_") or "train" for key in keys if key.startswith("y")}
    twice = "x" in arrays and "x_train" in arrays
    if not images or images != labels or twice:
        raise DataError(
            f"{name} must hold one y for each x: x, y or x_train, y_train (and x_test, y_test) or x_inner, y_inner, "
            f"x_outer, ...; got {', '.join(sorted(keys)) or 'neither x nor y'}"
        )
    _require_form(images, keys, name)
    key_of = {part: "" if part == "train" and "x" in arrays else f"_{part}" for part in images}
    parts = {part: _pair(part, (arrays[f"x{key_of[part]}"], arrays[f"y{key_of[part]}"])) for part in _ordered(images)}
    return Source(name, parts, _names(arrays["classes"]) if "classes" in arrays else None)


def _require_form(parts: set[str], keys: list[str], name: str) -> None:
    if parts not in FORMS:
        raise DataError(
            f"{name} must hold train, or train and test, or inner, outer and test; got {', '.join(keys) or 'nothing'}"
        )


def _ordered(parts: set[str]) -> list[str]:
    return [part for part in ("train", "inner", "outer", "test") if part in parts]


def _loaded(loaders: Mapping[str, Any]) -> Source:
    """Loaders, read to their ends. The classes are named where the first one's data set names them."""
    _require_form(set(loaders), list(loaders), "a mapping of loaders")
    parts = {part: _pair(part, read_loader(part, loaders[part])) for part in _ordered(set(loaders))}
    classes = getattr(next(iter(loaders.values())).dataset, "classes", None)
    return Source("loaders", parts, None if classes is None else _names(classes))


def _dataset(dataset: Any) -> Source:
    """Every item of a map-style data set, read once; random transforms in it are frozen by that."""
    images, labels = [], []
    for i in range(len(dataset)):
        item = dataset[i]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"item {i} of the data set must be (image, label), got {type(item).__name__}")
        images.append(_tensor(f"image {i}", _plain_picture(item[0])))
        try:
            labels.append(operator.index(item[1]))
        except TypeError as error:
            raise DataError(f"label {i} of the data set must be an integer, got {item[1]!r}") from error
    kinds = {(tuple(image.shape), image.dtype) for image in images}
    if len(kinds) > 1:
        shapes = sorted({shape for shape, _ in kinds})[:3]
        raise DataError(f"images of a data set must have one shape and type, got {len(kinds)}, e.g. {shapes}: resize")
    pixels = torch.stack(images) if images else torch.zeros(0, 1, 1, 1)
    pair = _pair("train", (pixels, np.array(labels, dtype=np.int64)))
    classes = getattr(dataset, "classes", None)
    return Source(type(dataset).__name__, {"train": pair}, None if classes is None else _names(classes))


def _plain_picture(image: Any) -> Any:
    """A Pillow image as grey or RGB values: a palette's indices are not brightness. Anything else as it is."""
    if hasattr(image, "convert") and hasattr(image, "mode"):
        return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return image


def _names(classes: Any) -> tuple[str, ...]:
    listed = classes.tolist() if isinstance(classes, np.ndarray) else classes
    if isinstance(listed, str) or not hasattr(listed, "__iter__"):
        raise DataError(f"classes must be a list of names, got {listed!r}")
    return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in listed)


def _pair(part: str, pair: Any) -> Pair:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"{part} must be a pair (x, y) of images and labels, got {type(pair).__name__}")
    images, labels = _tensor(f"{part} images", pair[0]), _tensor(f"{part} labels", pair[1])
    return images, labels.long() if labels.dtype == torch.uint8 else labels


def _tensor(what: str, value: Any) -> Tensor:
    """uint8 and bool stay, other integers become int64, floats float32 (what is beyond it: infinite, refused later)."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_complex() or value.is_quantized:
            raise DataError(f"{what} must be dense numbers, got a tensor of type {value.dtype}, {value.layout}")
        dense = value.detach().cpu()
        if dense.dtype in (torch.uint8, torch.bool):
            return dense
        return dense.float() if dense.is_floating_point() else dense.long()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{what} must be one array, got rows of different lengths") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} must be numbers, got {array.dtype.name}: convert them to integers or floats")
    wanted = {"b": np.bool_, "f": np.float32}.get(array.dtype.kind, np.int64)
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.array(array, dtype=np.uint8 if array.dtype == np.uint8 else wanted, order="C"))
