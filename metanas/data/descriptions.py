"""Classes by their descriptions: attributes, vectors, or sentences, as vectors that a zero-shot learner reads.

    attributes  {"seven": {"digit": "7", "ink": "red", "size": 2.0}}
                words one-hot for each key, numbers (x - mean) / std; known are the keys and words of the known classes
    vectors     {"seven": [0.1, 0.9]}
    sentences   {"seven": "a red seven"}, by a text encoder (`data.words`, or any other)

A class may have several descriptions, as the wordings of a sentence: a list. `rows` holds them all, `vectors` the mean
of each class. New classes are read by what the known ones taught. Files:

    .json       {class: description or list of them}
    .csv        a column `class`; then columns of attributes, or `sentence`, `sentence 2`, ... with a wording each
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from metanas.data.csv_file import rows_of
from metanas.data.table import MISSING, NUMBER
from metanas.data.words import TextEncoder, Words
from metanas.errors import DataError, nearest

Attributes: TypeAlias = Mapping[str, str | float]
Kind: TypeAlias = Literal["attributes", "vectors", "sentences"]
Wordings: TypeAlias = Mapping[str, Any] | Iterable[tuple[str, Any]] | str | Path
"""{class: description or list of them}, pairs of the same, or the path of a .json or .csv file."""


@dataclass(frozen=True)
class Known:
    """Classes and their descriptions, one or more each: dicts of strings and floats, lists of floats, or strings."""

    kind: Kind
    classes: Mapping[str, tuple[Any, ...]]


ALIKE = 1e-6
"""Vectors nearer than this, relative to their length, are the same description."""


@dataclass(frozen=True)
class Key:
    """What is done with the values of a key of attributes.

    words:     the known ones; None for a key of numbers
    mean, std: of the numbers of the known classes
    """

    name: str
    words: tuple[str, ...] | None = None
    mean: float = 0.0
    std: float = 1.0

    @property
    def width(self) -> int:
        """How many numbers of a vector it becomes."""
        return 1 if self.words is None else len(self.words)

    def encode(self, name: str, value: str | float) -> list[float]:
        """The numbers of a value of class `name`. Raises DataError."""
        if self.words is None:
            if isinstance(value, str):
                raise DataError(f"class {name!r}: {self.name} must be a number, got {value!r}")
            return [(value - self.mean) / self.std]
        if value not in self.words:
            raise DataError(f"class {name!r}: {self.name} {value!r} is unknown{nearest(value, self.words)}")
        return [float(value == word) for word in self.words]


@dataclass(frozen=True, eq=False, repr=False)
class Descriptions:
    """Known classes and how new ones are read; made by `Descriptions.fit`.

    known:   the descriptions of each known class, as they came
    keys:    of attributes; () where they are vectors or sentences
    encoder: of sentences; None where they are not
    width:   d, the length of a vector

    >>> known = Descriptions.fit({"a": {"ink": "red", "size": 1}, "b": {"ink": "blue", "size": 3}})
    >>> known.vectors
    tensor([[ 0.,  1., -1.],
            [ 1.,  0.,  1.]])
    >>> known.encode({"c": {"ink": "red", "size": 3}})
    tensor([[0., 1., 1.]])
    >>> known.encode({"c": {"inc": "red", "size": 3}})
    Traceback (most recent call last):
    metanas.errors.DataError: class 'c': unknown key 'inc'; did you mean "ink"?
    """

    known: Known
    keys: tuple[Key, ...]
    encoder: TextEncoder | None
    width: int

    @classmethod
    def fit(cls, classes: Wordings, *, encoder: TextEncoder | None = None, dimension: int = 512) -> Descriptions:
        """Learns keys, words, means and deviations, or the weights of words, from the known classes.

        Args:
            classes: {class: description or list of them}, pairs of the same, or a .json or .csv file.
            encoder: n strings -> (n, d); None: `Words`, fitted here.
            dimension: of the vectors of `Words`.

        Raises:
            DataError: no class; one that is described twice, or as another is; descriptions of different kinds, keys or
                lengths; numbers that are not finite; an encoder that gives no vectors.
        """
        known = as_known(classes)
        kind = known.kind
        if encoder is not None and kind != "sentences":
            raise DataError(f"a text encoder reads sentences, the descriptions are {kind}: leave encoder out")
        if kind == "sentences" and encoder is None:
            encoder = Words.fit(list(known.classes.values()), dimension)
        keys = _keys(known) if kind == "attributes" else ()
        width = sum(key.width for key in keys)
        if kind == "vectors":
            width = len(next(iter(known.classes.values()))[0])
        elif encoder is not None:
            width = _texts(encoder, [next(iter(known.classes.values()))[0]], None).shape[1]
        made = cls(known, keys, encoder, width)
        _ = made.vectors  # raises where two classes are alike
        return made

    def __repr__(self) -> str:
        return f"Descriptions({len(self)} classes by {self.known.kind}, width {self.width})"

    def __len__(self) -> int:
        return len(self.known.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the known classes, in order."""
        return tuple(self.known.classes)

    @cached_property
    def rows(self) -> tuple[Tensor, ...]:
        """All descriptions of each known class, each (number, d), float32."""
        return self._rows(self.known)

    @cached_property
    def vectors(self) -> Tensor:
        """(classes, d), float32: the mean description of each known class."""
        return _means(self.names, self.rows)

    def encode(self, classes: Wordings) -> Tensor:
        """Vectors of other classes, (ways, d), float32, in order; a class with several descriptions gets their mean.

        Raises:
            DataError: in one line, with the class: an unknown key or word, a key that is missing, another kind or
                length, a sentence without a known word; a class described twice, or as another one is.
        """
        known = as_known(classes)
        if known.kind != self.known.kind:
            raise DataError(f"the known classes are described by {self.known.kind}, got {known.kind}")
        return _means(tuple(known.classes), self._rows(known))

    def draw(self, *, generator: torch.Generator) -> Tensor:
        """One description of each known class, drawn at random: (classes, d)."""
        picks = torch.rand(len(self), generator=generator).tolist()
        return torch.stack([rows[int(pick * len(rows))] for rows, pick in zip(self.rows, picks, strict=True)])

    def _rows(self, known: Known) -> tuple[Tensor, ...]:
        counts = [len(given) for given in known.classes.values()]
        if self.encoder is not None:
            owners = [name for name, given in known.classes.items() for _ in given]
            texts = [text for given in known.classes.values() for text in given]
            rows = _texts(self.encoder, texts, self.width)
            silent = (rows == 0).all(1).nonzero()
            if len(silent):
                at = int(silent[0])
                raise DataError(
                    f"class {owners[at]!r}: no word of {texts[at][:60]!r} is known; use words of the others"
                )
            return tuple(torch.split(rows, counts))
        encode = self._attributes if self.keys else self._vector
        lists = [[encode(name, one) for one in given] for name, given in known.classes.items()]
        return tuple(torch.tensor(rows, dtype=torch.float64).float() for rows in lists)

    def _attributes(self, name: str, given: Attributes) -> list[float]:
        names = [key.name for key in self.keys]
        for key in given:
            if key not in names:
                raise DataError(f"class {name!r}: unknown key {key!r}{nearest(key, names)}")
        for key in names:
            if key not in given:
                raise DataError(f"class {name!r}: the key {key!r} is missing; give all of {', '.join(names)}")
        return [number for key in self.keys for number in key.encode(name, given[key.name])]

    def _vector(self, name: str, given: Sequence[float]) -> list[float]:
        if len(given) != self.width:
            raise DataError(f"class {name!r}: a vector must have {self.width} numbers, got {len(given)}")
        return list(given)

    def to_json(self) -> dict[str, Any]:
        """Plain data, `from_json`'s argument. Of a text encoder other than `Words` nothing is kept."""
        words = self.encoder.to_json() if isinstance(self.encoder, Words) else None
        keys = [asdict(key) for key in self.keys]
        classes = {name: list(given) for name, given in self.known.classes.items()}
        return {"kind": self.known.kind, "classes": classes, "keys": keys, "width": self.width, "words": words}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, encoder: TextEncoder | None = None) -> Descriptions:
        """
        Args:
            encoder: the text encoder that it was made with, where that was none of `Words`.

        Raises:
            DataError: there is a text encoder to be given, or none.

        >>> known = Descriptions.fit({"a": "a red cat", "b": "a blue cat"})
        >>> torch.equal(Descriptions.from_json(known.to_json()).vectors, known.vectors)
        True
        """
        own = data["kind"] == "sentences" and data["words"] is None
        if own != (encoder is not None):
            raise DataError(
                "give the text encoder that these were made with" if own else "leave encoder out: it is kept"
            )
        keys = (Key(**{**key, "words": None if key["words"] is None else tuple(key["words"])}) for key in data["keys"])
        words = Words.from_json(data["words"]) if data["words"] is not None else encoder
        return cls(as_known(data["classes"]), tuple(keys), words, data["width"])


def _keys(known: Known) -> tuple[Key, ...]:
    """The keys of all known classes, from the first one's; words in alphabetical order."""
    names = list(next(iter(known.classes.values()))[0])
    found = []
    for name in names:
        values = [one[name] for given in known.classes.values() for one in given if name in one]
        numbers = [value for value in values if not isinstance(value, str)]
        if not numbers:
            found.append(Key(name, tuple(sorted({str(value) for value in values}))))
        elif len(numbers) == len(values):
            std, mean = torch.std_mean(torch.tensor(numbers, dtype=torch.float64), correction=0)
            found.append(Key(name, None, float(mean), float(std) or 1.0))
        else:
            raise DataError(f"the key {name!r} has numbers and words; write all of its values as one of both")
    return tuple(found)


def _texts(encoder: TextEncoder, texts: list[str], width: int | None) -> Tensor:
    """(n, d), float32, checked: an encoder may be anybody's."""
    rows = torch.as_tensor(encoder(texts))
    if (
        rows.dim() != 2
        or len(rows) != len(texts)
        or not rows.shape[1]
        or (width is not None and rows.shape[1] != width)
    ):
        wanted = f"({len(texts)}, {width or 'd'})"
        raise DataError(f"the text encoder must give {wanted} numbers for {len(texts)} texts, got {tuple(rows.shape)}")
    if not bool(rows.isfinite().all()):
        raise DataError("the text encoder gave numbers that are not finite")
    return rows.detach().cpu().float()


def _means(names: Sequence[str], rows: Sequence[Tensor]) -> Tensor:
    """(classes, d). Raises DataError where two are alike."""
    means = torch.stack([of_class.mean(0) for of_class in rows])
    near = torch.cdist(means.double(), means.double(), compute_mode="donot_use_mm_for_euclid_dist")
    near = near.fill_diagonal_(torch.inf)
    alike = (near <= ALIKE * means.norm(dim=1).clamp(min=1.0)).nonzero()
    if len(alike):
        first, second = (names[int(k)] for k in alike[0])
        raise DataError(
            f"classes {first!r} and {second!r} have the same description, so nothing tells them apart: say what differs"
        )
    return means


def as_known(classes: Wordings) -> Known:
    """Raises DataError, in one line, for what cannot be descriptions.

    >>> as_known([("a", "a cat"), ("a", "a dog")])
    Traceback (most recent call last):
    metanas.errors.DataError: class 'a' is described twice; give all of its descriptions in one list
    >>> as_known({"a": ["a cat", "one cat"]}).classes
    {'a': ('a cat', 'one cat')}
    """
    if isinstance(classes, str | Path):
        return read_described(Path(classes))
    pairs = list(classes.items() if isinstance(classes, Mapping) else classes)
    if not pairs:
        raise DataError("there are no descriptions; give {class: description}, at least one")
    found: dict[str, tuple[Any, ...]] = {}
    kinds: dict[str, Kind] = {}
    for pair in pairs:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2 or not isinstance(pair[0], str):
            raise DataError(f"descriptions must be pairs of a class's name and its description, got {str(pair)[:60]!r}")
        name, given = pair
        if name in found:
            raise DataError(f"class {name!r} is described twice; give all of its descriptions in one list")
        kinds[name], found[name] = _sound(name, given)
    first, kind = next(iter(kinds.items()))
    for name, other in kinds.items():
        if other != kind:
            raise DataError(f"class {name!r} has {other}, class {first!r} {kind}: describe all classes in one way")
    return Known(kind, found)


def _sound(name: str, given: Any) -> tuple[Kind, tuple[Any, ...]]:
    """The kind of a class's descriptions, and each of them as plain data."""
    if isinstance(given, Tensor | np.ndarray):
        given = given.tolist()
    one = isinstance(given, str | Mapping) or _is_vector(given)
    several = [given] if one else list(given) if isinstance(given, Sequence) else []
    several = [x.tolist() if isinstance(x, Tensor | np.ndarray) else x for x in several]
    if several and all(isinstance(x, str) for x in several):
        if not all(x.strip() for x in several):
            raise DataError(f"class {name!r} has an empty sentence; say what it looks like")
        return "sentences", tuple(several)
    if several and all(isinstance(x, Mapping) and x for x in several):
        return "attributes", tuple({str(key): _value(name, key, v) for key, v in x.items()} for x in several)
    if several and all(_is_vector(x) for x in several):
        vectors = tuple([float(number) for number in x] for x in several)
        if not all(math.isfinite(number) for vector in vectors for number in vector):
            raise DataError(f"class {name!r}: a vector must hold finite numbers")
        return "vectors", vectors
    raise DataError(
        f"class {name!r} must be described by attributes (a dict), a vector of numbers, a sentence, or a list of "
        f"them, got {str(given)[:60]!r}"
    )


def _is_vector(given: Any) -> bool:
    return isinstance(given, Sequence) and len(given) > 0 and all(isinstance(number, int | float) for number in given)


def _value(name: str, key: Any, value: Any) -> str | float:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | np.number) and math.isfinite(value):
        return float(value)
    raise DataError(f"class {name!r}: {key} must be a word or a finite number, got {str(value)[:60]!r}")


def read_described(path: Path) -> Known:
    """The descriptions of a file. Raises DataError."""
    if path.suffix.lower() == ".csv":
        return as_known([_row(path, row) for row in rows_of(path)])
    if path.suffix.lower() != ".json":
        raise DataError(f"descriptions are read from .json or .csv files, got {str(path)!r}")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{path.name}: {twice!r} is described twice; give all of its descriptions in one list")
        return dict(pairs)

    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{str(path)!r} cannot be read as JSON ({reason}); save it in UTF-8") from error
    if not isinstance(data, dict):
        raise DataError(f"{path.name} must hold one object, {{class: description}}, got a {type(data).__name__}")
    return as_known(data)


def _row(path: Path, row: Mapping[str, str]) -> tuple[str, Any]:
    if "class" not in row:
        raise DataError(f"{path.name} has no column 'class'{nearest('class', row)}")
    name = row["class"]
    wordings = [text for key, text in row.items() if key.partition(" ")[0] == "sentence" and text]
    others = {key: text for key, text in row.items() if key != "class" and key.partition(" ")[0] != "sentence"}
    if wordings and others:
        raise DataError(f"{path.name} has sentences and attributes ({', '.join(others)}); leave one of both out")
    empty = next((key for key, text in others.items() if text.lower() in MISSING), None)
    if not name or empty is not None:
        raise DataError(f"{path.name}: class {name!r} has an empty cell in {empty or 'class'!r}; fill it in")
    return name, wordings or {key: float(text) if NUMBER.fullmatch(text) else text for key, text in others.items()}
