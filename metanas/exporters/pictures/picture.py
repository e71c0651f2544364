"""A picture of an architecture before it is drawn: boxes, arrows, and the groups that they stand in.

    network   what comes after what, equal cells in a row as one box with a number
    cells     each different cell once, however often and however wide it stands in the network

`svg`, `dot` and `mermaid` write one as text; none of them looks at a space.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST = 48
"""Characters of a line of a label; more are cut."""


@dataclass(frozen=True)
class Vertex:
    """A box.

    Args:
        id: unique in the picture: letters and digits.
        label: one line or several.
        kind: of `palette.PALETTE`: what it is.
        rank: the length of the longest way to it, inside its group.
        group: the id of its group.
    """

    id: str
    label: str
    kind: str = "node"
    rank: int = 0
    group: str = ""


@dataclass(frozen=True)
class Arrow:
    """From the box `source` to the box `target`; `label` and `kind`: of the operation that it carries, if any."""

    source: str
    target: str
    label: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Group:
    """Boxes that are drawn together, apart from others."""

    id: str
    title: str


@dataclass(frozen=True)
class Picture:
    """All that is drawn. Arrows join boxes of one group, and every box comes after those that lead to it."""

    title: str
    groups: tuple[Group, ...]
    nodes: tuple[Vertex, ...]
    edges: tuple[Arrow, ...]

    @property
    def description(self) -> str:
        """The picture in words, for those who cannot see it."""
        return "; ".join(f"{group.title}: {', '.join(self._words(group))}" for group in self.groups)

    def _words(self, group: Group) -> list[str]:
        label = {v.id: " ".join(v.label.splitlines()) for v in self.nodes if v.group == group.id}
        words = [
            f"{label[a.source]} to {label[a.target]}{f' by {a.label}' if a.label else ''}"
            for a in self.edges
            if a.source in label
        ]
        return words or list(label.values())


def visible(text: str) -> str:
    """One line of text without anything that is not seen: control and bidirectional characters stand as their codes.

    >>> visible("conv" + chr(27) + "[31m" + chr(8238) + "x")
    'conv\\\\x1b[31m\\\\u202ex'
    """
    shown = "".join(c if _is_seen(c) else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _is_seen(character: str) -> bool:
    return character == " " or unicodedata.category(character)[0] not in "CZ"


def ranks_of(count: int, arrows: Mapping[int, list[int]]) -> list[int]:
    """The longest way to each of `count` vertices that come after what leads to them; `arrows`: vertex -> sources.

    >>> ranks_of(4, {1: [0], 2: [0, 1], 3: [2]})
    [0, 1, 2, 3]
    """
    ranks: list[int] = []
    for vertex in range(count):
        ranks.append(max((ranks[s] + 1 for s in arrows.get(vertex, [])), default=0))
    return ranks
