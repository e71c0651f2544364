"""What answers at once never imports torch: `import metanas`, `metanas --help`, `runs`, `show`, `spaces`, and a search
over a table, which stays small as well. No search loads at its start what it does not need.
"""

from __future__ import annotations

import gzip
import itertools
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
    return lines(code, folder)[-1]


def lines(code: str, folder: Path) -> list[str]:
    """All of them."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


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


MEGABYTES = 200
MEASURE = """
import resource, sys
from pathlib import Path
status = Path("/proc/self/status")  # on Linux getrusage counts what the process held before it became this one
if status.exists():
    peak = int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(peak, *[name for name in {slow!r} if name in sys.modules])
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of all 15,625 cells of NAS-Bench-201, with a dozen columns of numbers."""
    cell = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
    labels = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    rows = [",".join(["arch", "valid", "test", *(f"more_{k}" for k in range(10))])]
    for k, taken in enumerate(itertools.product(labels, repeat=6)):
        rows.append(",".join([cell.format(*taken), *(f"{(k * 7919 + 31 * n) % 10007 / 100:.4f}" for n in range(12))]))
    path = tmp_path_factory.mktemp("table") / "nasbench201.csv.gz"
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    return path


def assert_light(code: str, folder: Path) -> None:
    peak, *slow = run(code + MEASURE.format(slow=(*SLOW, "optuna", "networkx")), folder).split()
    assert slow == [] and 20 < float(peak) < MEGABYTES


def test_a_search_over_a_table_by_command(table: Path, tmp_path: Path) -> None:
    words = ["table", str(table), "--choose=valid", "--report=test", "--budget=50", "--run=first"]
    assert_light(CHECK.format(arguments=words, slow=SLOW), tmp_path)
    assert (tmp_path / "runs" / "first" / "result.json").exists()


def test_a_search_over_a_table_from_python(table: Path, tmp_path: Path) -> None:
    code = (
        "import sys, metanas\n"
        "from metanas.ui import view_for\n"
        f"result = metanas.search_by_value('nasbench201', {str(table)!r}, choose='valid', report='test', budget=30,\n"
        "    controller='predictor', settings={'checkpoint_seconds': 0.0}, run='first', view=view_for)\n"
        "assert result.evaluations == 30 and result.value > 50\n"
    )
    assert_light(code, tmp_path)
    assert len(list((tmp_path / "runs" / "first" / "checkpoints").glob("*.safetensors"))) == 2


IDLE = ("scipy", "sklearn", "pandas", "matplotlib", "optuna", "onnx", "textual", "plotext", "torch.utils.tensorboard")
STARTS = """
import sys, metanas
from metanas.loop import GradientSearch, ValueSearch
def begun(search):
    print("IDLE:", type(search).__name__, *[name for name in {idle!r} if name in sys.modules])
    raise KeyboardInterrupt
GradientSearch.steps = ValueSearch.steps = begun
for controller in ("drnas", "evolution"):
    settings = {{"space.options": {{"channels": 2, "cells": 1}}}}
    try:
        metanas.search("nasbench201", "digits", controller=controller, settings=settings)
    except KeyboardInterrupt:
        pass
"""


def test_a_search_starts_without_what_it_does_not_need(tmp_path: Path) -> None:
    """SciPy alone would be two seconds; Optuna is for the controllers that ask it."""
    done = lines(STARTS.format(idle=IDLE), tmp_path)
    assert done == ["IDLE: GradientSearch", "IDLE: ValueSearch"]


@pytest.mark.long
def test_the_check_can_see_torch(tmp_path: Path) -> None:
    assert run(f"import sys, metanas; metanas.search; print(*[n for n in {SLOW!r} if n in sys.modules])", tmp_path)


def test_every_public_name_is_there_and_no_other() -> None:
    assert set(dir(metanas)) == set(metanas.__all__)
    for name in metanas.__all__:
        assert getattr(metanas, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        _ = metanas.serch
