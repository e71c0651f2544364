"""CIFAR-10 for benchmarks: decoded, halved, and taken by `load_data`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from metanas.data import load_data
from metanas.errors import DataError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cifar.py"


@pytest.fixture(scope="module")
def cifar():
    spec = importlib.util.spec_from_file_location("benchmarks_cifar", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder() -> Path:
    pytest.importorskip("PIL", reason="needs Pillow")
    if "METANAS_DATA" not in os.environ:
        pytest.skip("needs METANAS_DATA, a folder with cifar10_train.npz")
    return Path(os.environ["METANAS_DATA"])


def test_halved_is_the_rounded_mean_of_two_by_two(cifar):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    found = cifar.halved(images)
    assert found.shape == (5, 3, 2, 3) and found.dtype == np.uint8
    for i, c, y, x in np.ndindex(found.shape):
        mean = images[i, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2, c].astype(float).mean()
        assert found[i, c, y, x] == np.floor(mean + 0.5)


def test_cifar16_is_drawn_by_seed_and_loads(cifar, folder, tmp_path):
    arrays = cifar.cifar16(folder, train=300, test=100, seed=1, cache=tmp_path / "c.npz")
    data = load_data(arrays)
    assert data.shape == (3, 16, 16) and data.sizes == {"inner": 150, "outer": 150, "test": 100}
    assert data.classes[0] == "airplane" and data.pixels == (0.0, 255.0)
    cached = cifar.cifar16(tmp_path / "nowhere", train=300, test=100, seed=1, cache=tmp_path / "c.npz")
    assert load_data(cached).fingerprint == data.fingerprint == load_data(tmp_path / "c.npz").fingerprint
    other = cifar.cifar16(folder, train=300, seed=2, cache=tmp_path / "c.npz")
    assert "x_test" not in other and not np.array_equal(other["x_train"], arrays["x_train"])
    assert list(tmp_path.iterdir()) == [tmp_path / "c.npz"]


def test_more_images_than_there_are(cifar, folder):
    with pytest.raises(DataError, match=r"test must be in 1 .. 10000 images, got 10001"):
        cifar.cifar16(folder, train=0, test=10_001)
