"""Fixtures that several rooms share: the spaces with known answers, and the folder of benchmark data."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

# The same examples in every run: what fails here fails everywhere, and a slow machine fails nothing.
settings.register_profile("steady", derandomize=True, deadline=None)
# What looks for more: HYPOTHESIS_PROFILE=wide make test ARGS="tests/ui"
settings.register_profile("wide", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# What a shell starts in the background ignores Ctrl-C, and so does all that it starts; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two workers on two cores: one thread each, or the OpenMP threads of one wait, spinning, for the core of the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _load(path: Path) -> ModuleType:
    """The test run puts no folder on the import path, so what tests share is loaded by path."""
    spec = importlib.util.spec_from_file_location(f"metanas_tests_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PROBLEMS = _load(Path(__file__).parent / "problems.py")


@pytest.fixture(scope="session")
def problems() -> ModuleType:
    """The spaces with known answers, `tests/problems.py`."""
    return PROBLEMS


@pytest.fixture
def replays() -> Any:
    """What records functions where there is no GPU, `tests/replays.py`: called for a new one."""
    return _load(Path(__file__).parent / "replays.py").Replays


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `known` runs on every space of the table."""
    if "known" in metafunc.fixturenames:
        metafunc.parametrize("known", PROBLEMS.KNOWN, ids=str)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("long") and not os.environ.get("METANAS_LONG"):
        pytest.skip("takes long: set METANAS_LONG=1")


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`metanas` commands as processes of their own that start in milliseconds, `tests/forks.py`."""
    server = _load(Path(__file__).parent / "forks.py").Commands(tmp_path_factory.mktemp("commands"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """The folder with the benchmark tables; the test is skipped without it."""
    folder = os.environ.get("METANAS_DATA")
    if not folder:
        pytest.skip("needs the benchmark tables: set METANAS_DATA to their folder")
    return Path(folder)
