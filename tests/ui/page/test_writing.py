"""The file: where it goes, what it never replaces; and the command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from metanas.cli.page import report
from metanas.errors import ExportError, RunError
from metanas.ui.page import write_page

Make = Callable[..., Path]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_report_goes_to_the_current_folder_and_leaves_the_run_alone(make_run: Make, here: Path) -> None:
    run = make_run()
    before = files(run)
    assert write_page(run) == Path("first-report.html")
    assert os.listdir(here) == ["first-report.html"]  # and no temporary file
    assert (here / "first-report.html").read_text().startswith("<!DOCTYPE html>\n")
    assert files(run) == before


def test_what_is_there_is_kept_without_force(make_run: Make, here: Path) -> None:
    run, target = make_run(), here / "a.html"
    target.write_text("mine")
    with pytest.raises(ExportError) as error:
        write_page(run, target)
    assert str(error.value) == (f"already there: {target}; choose another file with --to, or give force=True (--force)")
    assert target.read_text() == "mine"
    assert write_page(run, target, force=True) == target
    assert target.read_text().startswith("<!DOCTYPE html>")


def test_a_link_is_replaced_and_never_written_through(make_run: Make, here: Path) -> None:
    run, target, mine = make_run(), here / "a.html", here / "mine"
    target.symlink_to(mine)  # to nothing yet
    with pytest.raises(ExportError, match="already there"):
        write_page(run, target)
    mine.write_text("mine")
    write_page(run, target, force=True)
    assert mine.read_text() == "mine" and not target.is_symlink()


def test_a_folder_as_target_and_folders_that_are_missing(make_run: Make, here: Path) -> None:
    run = make_run()
    (here / "reports").mkdir()
    assert write_page(run, here / "reports") == here / "reports" / "first-report.html"
    assert write_page(run, here / "new" / "deep" / "x.html").is_file()
    (here / "reports" / "other-report.html").mkdir()
    with pytest.raises(ExportError, match="a folder is in the way"):
        write_page(make_run(name="other"), here / "reports", force=True)


@pytest.mark.parametrize("name", ["events.jsonl", "recipe.json", "result.json"])
def test_the_files_of_a_run_are_never_replaced(make_run: Make, name: str) -> None:
    run = make_run()
    before = files(run)
    with pytest.raises(ExportError, match=f"{name} is a file of a run"):
        write_page(run, run / name, force=True)
    assert files(run) == before


def test_nothing_goes_into_a_run_by_default(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    (run / "checkpoints").mkdir()
    for folder in (run, run / "checkpoints"):
        monkeypatch.chdir(folder)
        with pytest.raises(ExportError, match=r"the current folder is in a run .*--to FILE"):
            write_page(run)
    assert write_page(run, run / "report.html") == run / "report.html"  # who says so may


def test_a_place_that_cannot_be_written_to(make_run: Make, here: Path) -> None:
    (here / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_page(make_run(), here / "file" / "a.html")


def test_a_run_of_any_name_and_without_documents(tmp_path: Path, here: Path) -> None:
    folder = tmp_path / "..\x1b[2J a b"
    folder.mkdir()
    (folder / "recipe.json").write_text("{cut")
    assert write_page(folder) == Path("2J-a-b-report.html")
    assert "<h1>..␛[2J a b " in (here / "2J-a-b-report.html").read_text()


def test_the_command(make_run: Make, here: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    make_run().rename(here / "first")
    (here / "runs").mkdir()
    (here / "first").rename(here / "runs" / "first")

    def run(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, arguments)
        return done.exit_code, done.stdout, done.stderr

    assert run("first") == (0, "first-report.html\n", "")
    there = "error: already there: first-report.html; choose another file with --to, or give force=True (--force)\n"
    assert run("first") == (1, "", there)
    assert run("first", "--force") == (0, "first-report.html\n", "")
    assert run("first", "--to", "other.html") == (0, "other.html\n", "")
    code, _, errors = run("frist")
    assert code == 1 and 'did you mean "first"?' in errors
