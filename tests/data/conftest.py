"""Small data with known content for the tests of this room."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metanas.data import Split


@pytest.fixture
def pixels() -> np.ndarray:
    """60 different images (3, 6, 8) uint8; the class of image i is i % 4."""
    return np.random.default_rng(0).integers(0, 256, (60, 3, 6, 8), dtype=np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(60) % 4


@pytest.fixture
def split() -> Split:
    """23 examples; the example i is filled with i + 1 and has the label i."""
    return Split((torch.arange(23.0) + 1)[:, None, None, None].expand(23, 2, 5, 6).clone(), torch.arange(23))
