"""Errors that cross a process: what was said stays said."""

from __future__ import annotations

import pickle

import pytest

from metanas.errors import InterruptedSearchError, MetanasError, RankError, RecipeError

ERRORS: list[MetanasError] = [
    RecipeError(["search.lr: must be > 0, got -1", "seed: should be an integer, got 0.5"]),
    InterruptedSearchError("stopped", 2),
    RankError.of(RuntimeError("gone")),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_a_process_pool(error: MetanasError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
