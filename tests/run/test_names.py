"""What a run may be called, and that every way to write a run finds the same folder (FAULTS row 26)."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metanas.errors import RunError
from metanas.run import RunFolder, check_name, is_name, next_name, run_path, runs_root

REFUSED = [
    "../x",
    "..",
    ".",
    "",
    "/etc",
    "/etc/x",
    "a/b",
    "runs/../x",
    "runs//x",
    "runs/",
    "a\0b",
    "x" * 256,
    ".hidden",
    "-rf",
    "_x",
    "a b",
    "a\n",
    "a\x1b[31m",
    "a\u202eb",
    "a\u200bb",
    "ä",
    "a\\b",
    "x[/b]",
    "a:b",
    "~",
    "$HOME",
    "\udc80",
]


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_refused_with_one_inert_line_that_says_what_is_allowed(name, root):
    with pytest.raises(RunError, match="is not allowed; use letters, digits") as caught:
        run_path(name)
    message = str(caught.value)
    assert message.isascii() and message.isprintable() and len(message) < 300
    before = sorted(root.parent.iterdir())
    with pytest.raises(RunError):
        RunFolder.create(name)
    assert sorted(root.parent.iterdir()) == before and not list(root.iterdir())


@pytest.mark.parametrize("name", ["a", "first", "nasbench201-digits-3", "v1.0_b", "3", "x" * 255])
def test_allowed(name, root):
    assert check_name(name) == name
    assert RunFolder.create(name).path == root / name


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=20))
def test_an_allowed_name_is_one_component_inside_the_root(name):
    if is_name(name):
        assert Path("/r", name).resolve().parent == Path("/r") and name.isascii() and name.isprintable()


def test_every_way_to_write_a_run_finds_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("METANAS_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    made = RunFolder.create("runs/first")
    made.write_recipe({"schema": 1})
    for way in ("first", "runs/first", "runs/first/", "first/", Path("runs/first"), tmp_path / "runs" / "first"):
        assert RunFolder.open(way).path.samefile(tmp_path / "runs" / "first"), way


def test_the_environment_moves_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv("METANAS_RUNS", str(tmp_path / "elsewhere"))
    assert runs_root() == tmp_path / "elsewhere"
    expected = tmp_path / "elsewhere" / "first"
    assert run_path("first") == run_path("runs/first") == run_path(str(expected)) == expected
    with pytest.raises(RunError, match="not allowed"):
        run_path(str(tmp_path / "other" / "first"))
    monkeypatch.setenv("METANAS_RUNS", "")
    assert runs_root() == Path("runs")


def test_a_path_is_a_place_but_its_last_part_is_a_name(tmp_path):
    assert run_path(tmp_path / "a") == tmp_path / "a"
    for bad in (tmp_path / ".hidden", tmp_path / "..", tmp_path / "a\0b", Path("x\0y", "a")):
        with pytest.raises(RunError):
            run_path(bad)


def test_next_name_is_one_above_the_highest(root):
    assert next_name("space-digits") == "space-digits-1"
    for name in ("space-digits-1", "space-digits-7", "space-digits-x", "other-9", "space-digits-8b"):
        (root / name).mkdir()
    assert next_name("space-digits") == "space-digits-8"


@pytest.mark.parametrize("stem", ["../../x", "-rf", "", "\0", "a b\n", "ä", "x" * 400, "my photos/"])
def test_a_stem_of_any_kind_gives_an_allowed_name(stem, root):
    assert is_name(next_name(stem))
