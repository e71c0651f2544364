"""Sentences as vectors: words and what stands beside them, counted and hashed. Nothing is downloaded.

    features    words; pairs of words of one clause, in either order, that stand at most three apart; letter n-grams
    weight      log(classes / classes that have it)  *  (share of the wordings of these classes that have it)^2
    vector      sum over features of  +-(1 + log count) * weight,  at the place that a hash gives, of length 1

What all classes say is filler and weighs nothing. So does what no known sentence has. A feature that comes with one
wording of a class and not with the others tells how it was said, not what: hence the second factor, for which a class
needs several wordings. Pairs tell "red ink, blue background" from "blue ink, red background".

`sentence_encoder` wraps a trained sentence encoder instead. Any other function from a list of n strings to (n, d)
numbers serves as well.

Sources: Weinberger et al. 2009, arXiv:0902.2206 (hashing with signs); Sparck Jones 1972 (inverse document frequency).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from metanas.errors import DataError, MissingDependencyError

TextEncoder: TypeAlias = Callable[[list[str]], Any]
"""n strings -> (n, d), a tensor or an array; the same text always gives the same numbers."""

CLAUSE = re.compile(r"[.,;:!?()\n]+(?:\s|$)")
WORD = re.compile(r"[-+]?\d+(?:\.\d+)?(?![^\W_])|[^\W_]+(?:['-][^\W_]+)*")
NEAR = 3
"""How far apart the words of a pair may stand."""
LETTERS = (3, 4)
KINDS = {"word": 1.0, "pair": 1.0, "letters": 0.25}
"""What a feature of each kind weighs beside the others."""
NEEDS = 'a trained sentence encoder needs sentence-transformers: pip install "sentence-transformers>=3,<6"'


@dataclass(frozen=True)
class Words:
    """A text encoder that was fitted on known sentences; made by `Words.fit`.

    weights:   of the features that the known sentences have
    dimension: of the vectors

    >>> words = Words.fit([["a red cat"], ["a blue cat"], ["a red dog"]], dimension=64)
    >>> same, other = words(["the red cat", "a blue dog"]) @ words(["this cat is red"])[0]
    >>> bool(same > other)
    True
    """

    weights: Mapping[str, float]
    dimension: int = 512

    def __post_init__(self) -> None:
        if not isinstance(self.dimension, int) or isinstance(self.dimension, bool) or self.dimension < 1:
            raise DataError(f"dimension must be an integer >= 1, got {self.dimension!r}")

    @classmethod
    def fit(cls, classes: Sequence[Sequence[str]], dimension: int = 512) -> Words:
        """The weights, from the wordings of each known class. Raises DataError where no word tells any two apart."""
        seen: Counter[str] = Counter()  # in how many classes
        share: dict[str, float] = {}  # of their wordings, summed over these classes
        for wordings in classes:
            found = Counter(feature for text in wordings for feature in features(text))
            for feature, count in found.items():
                seen[feature] += 1
                share[feature] = share.get(feature, 0.0) + count / len(wordings)
        weights = {
            feature: KINDS[feature.partition(" ")[0]] * math.log(len(classes) / number) * (share[feature] / number) ** 2
            for feature, number in sorted(seen.items())
            if number < len(classes)
        }
        if not weights:
            raise DataError(f"no word tells the {len(classes)} sentences apart: at least two must differ")
        return cls(weights, dimension)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(n, dimension), float32, each of length 1; all 0 for a text of which nothing is known."""
        rows = np.zeros((len(texts), self.dimension))
        for row, text in zip(rows, texts, strict=True):
            for feature, count in features(text).items():
                weight = self.weights.get(feature, 0.0)
                if weight:
                    place, sign = hashed(feature, self.dimension)
                    row[place] += sign * (1 + math.log(count)) * weight
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return torch.from_numpy(rows / np.where(norms > 0, norms, 1.0)).float()

    def to_json(self) -> dict[str, Any]:
        """Plain data, `from_json`'s argument."""
        return {"dimension": self.dimension, "weights": dict(self.weights)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Words:
        """
        >>> words = Words.fit([["a red cat"], ["a blue cat"]])
        >>> Words.from_json(words.to_json()) == words
        True
        """
        return cls({str(k): float(v) for k, v in data["weights"].items()}, data["dimension"])


def features(text: str) -> Counter[str]:
    """How often each feature is in a text, upper and lower case alike.

    >>> sorted(name for name in features("Red ink, blue") if name[0] in "pw")
    ['pair ink red', 'word blue', 'word ink', 'word red']
    """
    found: Counter[str] = Counter()
    for clause in CLAUSE.split(text.casefold()):
        words = WORD.findall(clause)
        found.update(f"word {word}" for word in words)
        found.update(_pairs(words))
        found.update(
            f"letters {edged[k : k + n]}"
            for edged in (f"<{word}>" for word in words)
            for n in LETTERS
            for k in range(len(edged) - n + 1)
        )
    return found


def _pairs(words: Sequence[str]) -> Iterable[str]:
    for k, word in enumerate(words):
        for other in words[k + 1 : k + 1 + NEAR]:
            yield "pair " + " ".join(sorted((word, other)))


def hashed(feature: str, dimension: int) -> tuple[int, int]:
    """The place of a feature and its sign, the same on every machine.

    >>> hashed("word red", 8) == hashed("word red", 8)
    True
    """
    number = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "little")
    return (number >> 1) % dimension, 1 if number & 1 else -1


def sentence_encoder(source: str | Path | Any) -> TextEncoder:
    """A trained sentence encoder as a text encoder: float32 vectors of length 1.

    Args:
        source: the folder of a model of sentence-transformers on this disk, from which alone it is read; or a model,
            any object with `encode(texts) -> (n, d)`.

    Raises:
        DataError: no such folder, or no model in it.
        MissingDependencyError: sentence-transformers is not installed.

    >>> class Lengths:
    ...     def encode(self, texts): return np.array([[len(text), 1.0] for text in texts])
    >>> sentence_encoder(Lengths())(["abc"])
    tensor([[0.9487, 0.3162]])
    """
    model: Any = _read(Path(source)) if isinstance(source, str | Path) else source
    if not callable(getattr(model, "encode", None)):
        raise DataError(f"a sentence encoder needs a method encode(texts), {type(model).__name__} has none")

    def encoded(texts: list[str]) -> Tensor:
        rows = torch.as_tensor(np.asarray(model.encode(list(texts)), dtype=np.float64))
        return torch.nn.functional.normalize(rows, dim=-1).float()

    return encoded


def _read(folder: Path) -> Any:
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {str(folder)!r} with a sentence encoder; save one there, none is downloaded"
        )
    try:
        library = import_module("sentence_transformers")
    except ImportError as error:
        raise MissingDependencyError(NEEDS) from error
    try:
        return library.SentenceTransformer(str(folder), local_files_only=True, device="cpu")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{str(folder)!r} holds no sentence encoder that can be read ({reason[:120]})") from error
