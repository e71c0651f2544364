"""The examples in the docstrings of this room run."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = ("augment", "batches", "copies", "load", "loaders", "seeds", "splits", "types")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"metanas.data.{name}"))
    assert result.attempted and not result.failed
