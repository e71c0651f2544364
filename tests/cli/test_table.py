"""`metanas table` as a process: what is printed, and what goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SPACE = """from metanas.space import Space, chain, one_of, op

def space():
    \"\"\"One choice of three.\"\"\"
    return Space(chain(("y", one_of("y", {name: op(name) for name in ("skip", "none", "avg_pool")}))), "small")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.py").write_text(SPACE)
    (tmp_path / "table.csv").write_text(
        "arch,valid,test,seconds\ny=skip,0.5,0.9,10\ny=none,0.7,0.6,20\ny=avg_pool,0.6,0.8,30\n"
    )
    return tmp_path


def test_a_search_of_a_table(commands: Any, folder: Path) -> None:
    words = ["table", "table.csv", "--space=small.py", "--choose=valid", "--report=test", "--charge=seconds=0.5"]
    job = commands.run([*words, "--controller=random", "--budget=20", "--run=first", "--plain"], folder)
    assert (job.code, job.errors) == (0, "")
    lines = job.output.splitlines()
    assert lines[-5] == "first: finished after 0s" and lines[-4] == "found     y=none"
    assert lines[-3].startswith("value     0.7 after 20 evaluations, ") and lines[-3].endswith(" seconds charged")
    assert lines[-2:] == ["report    test 0.6", "files     runs/first/result.json"]
    again = commands.run(["resume", "first", "--plain"], folder)
    assert again.output.splitlines() == lines[-4:] and "already finished" in again.errors
    shown = commands.run(["show", "first"], folder).output
    assert "small · table.csv · random" in shown.splitlines()[0] and "20 evaluations" in shown
    for words in (["runs"], ["report", "first"]):
        assert commands.run(words, folder).code == 0
    refused = commands.run(["export", "first", "--to=out"], folder)
    assert refused.code == 1 and refused.errors.startswith("error: runs/first has no network")


def test_a_recipe_is_printed_and_read(commands: Any, folder: Path) -> None:
    words = ["table", "table.csv", "--space=small.py", "--choose=valid", "--charge=seconds", "--seconds=50", "--seed=4"]
    printed = commands.run([*words, "--print-recipe"], folder).output
    assert "charge = { seconds = 1.0 }" in printed.replace(
        "[table.charge]\nseconds = 1.0", "charge = { seconds = 1.0 }"
    )
    (folder / "recipe.toml").write_text(printed)
    job = commands.run(["table", "--recipe=recipe.toml", "--plain", "--set=search.options.population=2"], folder)
    assert job.code == 0 and "found     y=" in job.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "table.source: which table?"),
        (["table.csv"], "table.choose: which column is maximised?"),
        (["table.csv", "--choose=valdi"], "the table has no column 'valdi' of numbers; did you mean \"valid\"?"),
        (["table.csv", "--choose=valid", "--charge=seconds=x"], "--charge seconds=x: expected COLUMN=FACTOR"),
        (["nothing.csv", "--choose=valid"], "cannot read nothing.csv: No such file or directory"),
        (["table.csv", "--choose=valid", "--controller=evolutoin"], "did you mean \"evolution\"?"),
        (["table.csv", "--choose=valid", "--space=nasbench201"], "is it of another space?"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line(commands: Any, folder: Path, words: list[str], message: str) -> None:
    job = commands.run(["table", "--space=small.py", *words], folder)
    assert job.code == 1 and message in job.errors and job.errors.count("\n") == 1
    assert not (folder / "runs").exists()
