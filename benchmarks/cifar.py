"""CIFAR-10 at 16x16 for benchmarks: decoded from JPEG, halved by 2x2 means, as arrays that `load_data` takes.

CIFAR-10: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The folder holds `cifar10_train.npz`
and `cifar10_test.npz`: `jpeg` (uint8, all files end to end), `offset` (n + 1), `label` (uint8), `classes`. Image i is
`jpeg[offset[i]:offset[i + 1]]`. The compression costs a little accuracy against the lossless files.

    data = load_data(cifar16(os.environ["METANAS_DATA"], train=10_000, test=2_000))
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from metanas.errors import DataError, MissingDependencyError


def cifar16(
    folder: str | Path, *, train: int = 50_000, test: int = 0, seed: int = 0, cache: str | Path | None = None
) -> dict[str, np.ndarray]:
    """`train` training images drawn by `seed`, `test` test images: x_train (train, 3, 16, 16) uint8, y_train, classes.

    With test=0 there is no x_test: `load_data` then draws a test split as well. `cache` is an .npz that is written
    once and read afterwards, as long as it was made with the same numbers. About 10 s for all 50,000 images on 1 core.
    """
    settings = np.array([train, test, seed])
    if cache is not None and Path(cache).is_file():
        with np.load(cache, allow_pickle=False) as file:
            if "settings" in file and np.array_equal(file["settings"], settings):
                return {key: file[key] for key in file.files}
    arrays = {"settings": settings}
    for part, count in (("train", train), ("test", test)):
        if count:
            arrays |= _part(Path(folder), part, count, seed)
    if cache is not None:
        _write(Path(cache), arrays)
    return arrays


def _part(folder: Path, part: str, count: int, seed: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"cifar10_{part}.npz", allow_pickle=False) as file:
        jpeg, offset, label, classes = (file[key] for key in ("jpeg", "offset", "label", "classes"))
    if not 0 < count <= len(label):
        raise DataError(f"{part} must be in 1 .. {len(label)} images, got {count}")
    chosen = np.sort(np.random.default_rng([seed, len(label)]).permutation(len(label))[:count])
    images = np.stack([_decode(jpeg[offset[i] : offset[i + 1]].tobytes()) for i in chosen])
    return {f"x_{part}": halved(images), f"y_{part}": label[chosen].astype(np.int64), "classes": classes}


def _decode(jpeg: bytes) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError('JPEG images need Pillow: pip install "Pillow>=11,<14"') from error
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB"))


def halved(images: np.ndarray) -> np.ndarray:
    """Means over 2x2 pixels, rounded to the nearest (half up): (N, H, W, 3) uint8 to (N, 3, H/2, W/2) uint8."""
    n, height, width, channels = images.shape
    blocks = images.reshape(n, height // 2, 2, width // 2, 2, channels).sum((2, 4), dtype=np.uint16)
    return np.ascontiguousarray(((blocks + 2) // 4).astype(np.uint8).transpose(0, 3, 1, 2))


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    # Under a temporary name first: a cache that was cut off half-way must not be taken for whole.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.replace(path)
