"""An architecture: what every choice that matters takes.

Frozen, hashable, equal by value. Labels, not positions, are kept: an architecture read next year means the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from metanas.errors import SpaceError


class Architecture(Mapping[str, tuple[str, ...]]):
    """An immutable mapping from a choice to the labels it takes, sorted by the choice's name.

    Args:
        taken: choice -> label, or labels for a choice that takes several.
        key: the benchmark's own string; `str()` gives it. It takes no part in equality.

    >>> a = Architecture({"2<-0": "skip", "1<-0": "conv"})
    >>> a["1<-0"], a == Architecture({"1<-0": ("conv",), "2<-0": "skip"}), str(a)
    (('conv',), True, '1<-0=conv 2<-0=skip')
    """

    __slots__ = ("_taken", "key")
    _taken: Mapping[str, tuple[str, ...]]
    key: str | None

    def __init__(self, taken: Mapping[str, str | tuple[str, ...] | list[str]], key: str | None = None) -> None:
        rows = {name: (v,) if isinstance(v, str) else tuple(v) for name, v in sorted(taken.items())}
        object.__setattr__(self, "_taken", rows)
        object.__setattr__(self, "key", key)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Architecture is frozen; build a new one instead of setting {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Architecture, (dict(self._taken), self.key))

    def __getitem__(self, choice: str) -> tuple[str, ...]:
        return self._taken[choice]

    def __iter__(self) -> Iterator[str]:
        return iter(self._taken)

    def __len__(self) -> int:
        return len(self._taken)

    def __hash__(self) -> int:
        return hash(tuple(self._taken.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._taken == other._taken

    def __str__(self) -> str:
        return self.key or " ".join(f"{name}={'+'.join(labels)}" for name, labels in self.items())

    def __repr__(self) -> str:
        return f"Architecture({self.to_json()})"

    def to_json(self) -> dict[str, str | list[str]]:
        """Plain data: choice -> label, or a list of labels where not exactly one is taken.

        >>> Architecture({"in": ("a", "b"), "op": "conv"}).to_json()
        {'in': ['a', 'b'], 'op': 'conv'}
        """
        return {name: labels[0] if len(labels) == 1 else list(labels) for name, labels in self.items()}

    @staticmethod
    def from_json(data: str | Mapping[str, Any], key: str | None = None) -> Architecture:
        """The architecture of `to_json`'s data or of its text. Raises SpaceError for anything else."""
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except json.JSONDecodeError as error:
                raise SpaceError(f"architecture: not JSON ({error}); give an object from choices to labels") from None
        if not isinstance(data, Mapping):
            raise SpaceError(f"architecture: expected an object from choices to labels, got {type(data).__name__}")
        for name, labels in data.items():
            if not isinstance(labels, str) and not (
                isinstance(labels, list | tuple) and all(isinstance(x, str) for x in labels)
            ):
                raise SpaceError(f"architecture: choice {name!r} must hold a label or a list of labels, got {labels!r}")
        return Architecture(data, key)
