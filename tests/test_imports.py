"""What answers at once never imports torch: `import metanas`, `metanas --help`, `runs`, `show`, `spaces`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import metanas

SLOW = ("torch", "sklearn", "scipy", "pandas")

CHECK = """
import sys
from metanas.cli import main
sys.argv = ["metanas", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
print("SLOW:", *[name for name in {slow!r} if name in sys.modules])
"""


def run(code: str, folder: Path) -> str:
    """The last line that the code prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run in `runs/`, as small as `show` and `runs` take it."""
    from metanas.run import EventWriter, RunFolder
    from metanas.space import space_to_json

    root = tmp_path_factory.mktemp("imports")
    (root / "runs").mkdir()
    run = RunFolder.create("first", root=root / "runs")
    run.write_recipe({"schema": 1, "recipe": {"search": {"epochs": 3, "controller": "drnas"}}, "data": {}})
    run.write_space(space_to_json(metanas.load_space("nasbench201")))
    with EventWriter(run.events) as log:
        log.write("begin", step=0)
        log.write("end", status="finished", message="")
    return root


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["runs"], ["show", "first"], ["spaces"],
                                       ["spaces", "nasbench201"], ["search", "--help"], ["search", "--print-recipe"],
                                       ["stop", "--help"]], ids=" ".join)  # fmt: skip
def test_commands_that_answer_at_once(arguments: list[str], folder: Path) -> None:
    assert run(CHECK.format(arguments=arguments, slow=SLOW), folder) == "SLOW:"


def test_the_package_and_what_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, metanas; dir(metanas); metanas.__version__, metanas.MetanasError, metanas.Recipe, metanas.Space\n"
        "metanas.load_space('nasbench201'), metanas.Architecture\n"
        f"print('SLOW:', *[name for name in {SLOW!r} if name in sys.modules])"
    )
    assert run(code, tmp_path) == "SLOW:"


def test_the_check_can_see_torch(tmp_path: Path) -> None:
    assert run(f"import sys, metanas; metanas.search; print(*[n for n in {SLOW!r} if n in sys.modules])", tmp_path)


def test_every_public_name_is_there_and_no_other() -> None:
    assert set(dir(metanas)) == set(metanas.__all__)
    for name in metanas.__all__:
        assert getattr(metanas, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        _ = metanas.serch
