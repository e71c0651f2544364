"""What `e` writes: the screen as SVG, and all its lines as text, under names that are free."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from metanas.run.atomic import explained


def write_screen(folder: Path, stem: str, svg: str, text: str) -> tuple[Path, Path]:
    """Writes STEM.svg and STEM.txt, or STEM-2 and so on where either exists; never over a file.

    Raises RunError where the folder cannot be written to.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [[path.name for path in write_screen(Path(folder), "a/b", "<svg/>", "x")] for _ in range(2)]
    [['a-b.svg', 'a-b.txt'], ['a-b-2.svg', 'a-b-2.txt']]
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:200] or "screen"
    for number in itertools.count(1):
        name = stem if number == 1 else f"{stem}-{number}"
        picture, lines = folder / f"{name}.svg", folder / f"{name}.txt"
        if picture.exists() or lines.exists():
            continue
        with explained(picture):
            try:
                _write(picture, offline(svg))
                _write(lines, text)
            except FileExistsError:  # another one was quicker
                continue
        return picture, lines
    raise AssertionError("there is always a free name")


def offline(svg: str) -> str:
    """The picture without fonts from elsewhere: letters are those of any monospaced font that is there.

    >>> offline('<style>@font-face { src: url("https://a/b.woff2") } .a { fill: red }</style>')
    '<style> .a { fill: red }</style>'
    """
    return re.sub(r"@font-face\s*{[^}]*}", "", svg)


def _write(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
