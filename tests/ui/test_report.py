"""The static report of a run, and the table of all runs."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from metanas.run import RunSummary
from metanas.ui import read, runs_table, show
from metanas.ui.paper import Paper
from metanas.ui.report import table

RUNS = (
    RunSummary(
        "first", Path(), "finished", "2025", "nasbench201", "digits", "drnas", 50, 50, 850, 53.4, "|k|", None, 0.9861
    ),
    RunSummary("nasbench201-digits-1", Path(), "running", "2025", "nasbench201", "digits", "darts", 12, 50, 204, 10.2),
    RunSummary("far", Path(), "running on gpu7", None, "darts", "photos", None, 3, None, 3, 4000.0),
    RunSummary("brok\x1ben", Path(), "damaged: runs/broken/recipe.json is missing"),
    RunSummary("x[/b]", Path(), "killed"),
    RunSummary("new", Path(), "new"),
)


def text(runs: tuple[RunSummary, ...], paper: Paper) -> str:
    return "\n" + "".join(line.plain.rstrip() + "\n" for line in table(runs, paper))


def test_runs() -> None:
    assert (
        text(RUNS, Paper(width=96))
        == r"""
run                   status                 epoch      test  elapsed  search
first                 ✓ finished             50/50     98.6%      53s  nasbench201 digits drnas
nasbench201-digits-1  ● running              12/50         -      10s  nasbench201 digits darts
far                   ● running on gpu7        3/?         -   1h 06m  darts photos
brok␛en               ✗ damaged: runs/broken/recipe.json is missing
x[/b]                 ✗ killed                   -         -        -
new                   ○ new                      -         -        -
"""
    )


def test_runs_in_a_narrow_ascii_terminal() -> None:
    assert (
        text(RUNS, Paper(width=60, ascii_only=True))
        == r"""
run                   status                 epoch      test  elapsed  search
first                 = finished             50/50     98.6%      53s  nasbench201 digits drnas
nasbench201-digits-1  * running              12/50         -      10s  nasbench201 digits darts
far                   * running on gpu7        3/?         -   1h 06m  darts photos
brok^[en              ! damaged: runs/broken/recipe.json is missing
x[/b]                 ! killed                   -         -        -
new                   o new                      -         -        -
"""
    )


def test_no_runs() -> None:
    assert text((), Paper()) == "\nno runs yet; metanas search makes one\n"
    stream = io.StringIO()
    Console(file=stream, width=60).print(runs_table([]))
    assert stream.getvalue().strip() == "no runs yet; metanas search makes one"


def test_the_report_of_a_finished_run_holds_every_panel(make_run: Callable[..., Path]) -> None:
    stream = io.StringIO()
    Console(file=stream, width=100).print(show(read(make_run())))
    shown = stream.getvalue()
    for part in ("✓ finished", "curves", "structure", "derived architectures", "trained from scratch", "98.4%★", "log"):
        assert part in shown


def test_the_report_of_a_folder_that_says_nothing(tmp_path: Path) -> None:
    stream = io.StringIO()
    Console(file=stream, width=60).print(show(read(tmp_path)))
    assert "○ waiting" in stream.getvalue()


def test_the_report_needs_no_torch(make_run: Callable[..., Path]) -> None:
    code = (
        "import sys; from rich.console import Console; from metanas.ui import read, show;"
        "Console().print(show(read(sys.argv[1]))); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(make_run())], check=True, capture_output=True)
