"""One image file as pixels: upright, on white, grey or RGB, cut to a size.

upright   as its EXIF orientation says
on white  what is transparent is white
8 bits    grey of 16 bits is divided by 257, so that its white is 255
cut       scaled until it just covers the size (bicubic, antialiased), then cut around the centre

An exported network reads image files by the same rule (`exporters.tail`): change both or none.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metanas.errors import MissingDependencyError

SUFFIXES = frozenset(".bmp .gif .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no other decoder of Pillow is tried
MOST_PIXELS = 100_000_000
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
NEEDS_PILLOW = 'images as files need Pillow: pip install "Pillow>=11,<14"'


class UnreadableError(Exception):
    """Why an image cannot be read; caught by the reader, which counts the reasons."""


@dataclass(frozen=True)
class Header:
    """What a file says of its image: (width, height) when upright, and whether it is grey."""

    size: tuple[int, int]
    grey: bool


def require_pillow() -> None:
    """Raises MissingDependencyError where Pillow is not there."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(NEEDS_PILLOW) from error


def header(data: bytes) -> Header:
    """Size and kind, without decoding the pixels. Raises UnreadableError."""
    with _opened(data) as image:
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
            raise UnreadableError("pixels of 32 bits")  # nothing says which value is white
        turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
        width, height = image.size
        return Header((height, width) if turned else (width, height), image.mode in GREY)


def pixels(data: bytes, grey: bool, size: tuple[int, int]) -> Tensor:
    """The image as uint8: (height, width) when grey, else (height, width, 3); size is (width, height).

    Raises UnreadableError, as for a file that was cut short.
    """
    from PIL import Image, ImageOps

    with _opened(data) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):
            image = image.convert("I").point(lambda value: value / 257).convert("L")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = ImageOps.fit(image.convert("L" if grey else "RGB"), size, Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image))


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    from PIL import Image

    Image.init()  # a format that is named must be registered
    formats = [name for name in FORMATS if name in Image.OPEN]
    # A damaged file may raise nearly anything, far inside a decoder; it must be counted with the others.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as of a broken EXIF block
            with Image.open(BytesIO(data), formats=formats) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise UnreadableError(f"more than {MOST_PIXELS:,} pixels")
                yield image
    except UnreadableError:
        raise
    except Image.DecompressionBombError:
        raise UnreadableError(f"more than {MOST_PIXELS:,} pixels") from None
    except Exception:
        raise UnreadableError("damaged, cut short or no image") from None
