"""Pictures as files of an export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from metanas.errors import ExportError
from metanas.exporters.pictures.making import Shapes, picture
from metanas.exporters.pictures.picture import Picture
from metanas.space import Space


def picture_bytes(
    write: Callable[[Picture], str],
    space: Space | None,
    architecture: Mapping[str, Sequence[str]],
    shapes: Shapes | None = None,
) -> bytes:
    """The file of a picture: `write` is `svg`, `dot` or `mermaid`; other arguments as of `picture`.

    Raises:
        ExportError: there is no space: an architecture alone does not say what is connected to what.

    >>> from metanas.exporters.pictures import mermaid
    >>> from metanas.space import chain, op
    >>> picture_bytes(mermaid, Space(chain(("stem", op("conv", width=8))), "tiny"), {})[:13]
    b'flowchart LR\\n'
    """
    if space is None:
        raise ExportError("a picture shows how a space connects its operations; give the space of the architecture")
    return f"{write(picture(space, architecture, shapes)).rstrip()}\n".encode()


def check_svg(path: Path) -> None:
    """Raises ExportError where a written SVG file is not well-formed."""
    try:
        ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise ExportError(f"svg: {path.name} is not well-formed ({error}); this is a fault of metanas") from None
