"""The wheel and the editable install both find `search_spaces/`; the wheel holds the package and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import metanas

CHECKOUT = Path(metanas.__file__).parent.parent
FIND = """
from metanas.recipe import spaces
print(spaces.find_space("nasbench201"), spaces.__file__, spaces.load_space("nasbench201").size)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("metanas-*.whl")
    with zipfile.ZipFile(path) as file:
        file.extractall(folder / "unpacked")
    return folder / "unpacked"


def found(folder: Path, **env: str) -> list[str]:
    """The file of the space, the file of the package, and the size of the space, in a fresh interpreter."""
    clean = {k: v for k, v in os.environ.items() if k not in ("METANAS_SPACES", "PYTHONPATH")}
    done = subprocess.run([sys.executable, "-c", FIND], cwd=folder, capture_output=True, text=True, env=clean | env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_checkout(tmp_path: Path) -> None:
    space, package, size = found(tmp_path, PYTHONPATH=str(CHECKOUT))
    assert (space, size) == (str(CHECKOUT / "search_spaces/nasbench201.py"), "15625")
    assert package.startswith(str(CHECKOUT / "metanas"))


def test_the_wheel(wheel: Path, tmp_path: Path) -> None:
    space, package, _ = found(tmp_path, PYTHONPATH=str(wheel))
    assert package.startswith(str(wheel)), "the wheel's package is the one that is imported"
    assert space == str(wheel / "metanas/search_spaces/nasbench201.py")
    shipped = {path.name for path in (CHECKOUT / "search_spaces").glob("*.py")}
    assert {path.name for path in (wheel / "metanas/search_spaces").glob("*.py")} == shipped


def test_own_folders_come_first_in_the_wheel_too(wheel: Path, tmp_path: Path) -> None:
    own = tmp_path / "own/nasbench201.py"
    own.parent.mkdir()
    own.write_bytes((CHECKOUT / "search_spaces/nasbench201.py").read_bytes())
    assert found(tmp_path, PYTHONPATH=str(wheel), METANAS_SPACES=str(own.parent))[0] == str(own)


def test_what_the_wheel_holds(wheel: Path) -> None:
    assert {path.name.partition("-")[0] for path in wheel.iterdir()} == {"metanas"}
    assert (wheel / "metanas/py.typed").is_file()
    (info,) = wheel.glob("*.dist-info")
    assert "metanas = metanas.cli:main" in (info / "entry_points.txt").read_text()
    modules = {p.relative_to(CHECKOUT) for p in (CHECKOUT / "metanas").rglob("*.py")}
    assert modules == {
        p.relative_to(wheel) for p in (wheel / "metanas").rglob("*.py") if "search_spaces" not in p.parts
    }
