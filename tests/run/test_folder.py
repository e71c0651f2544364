"""The run folder: made, found, read, refused (FAULTS rows 2, 5, 8, 26)."""

import os
import subprocess
import sys

import pytest

from metanas.errors import RunError
from metanas.run import RunFolder, ask, check_schema, pending


def test_created_written_opened_read(root):
    run = RunFolder.create("first")
    assert (run.name, run.path, run.read_result()) == ("first", root / "first", None)
    run.write_recipe({"schema": 1, "recipe": {"seed": 0}})
    run.write_space({"schema": 1, "name": "s"})
    run.write_result({"schema": 1, "test_score": 0.5})
    again = RunFolder.open("runs/first")
    assert again == run
    assert again.read_recipe()["recipe"] == {"seed": 0} and again.read_space()["name"] == "s"
    assert again.read_result() == {"schema": 1, "test_score": 0.5}


def test_a_run_is_never_made_over_another_thing(root, tmp_path):
    RunFolder.create("first").write_recipe({"schema": 1})
    (root / "file").touch()
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("first", "file", "link", "dangling"):
        with pytest.raises(RunError, match=rf"exists; resume it \(metanas resume {name}\) or choose another name"):
            RunFolder.create(name)
    assert not list((tmp_path / "outside").iterdir()) and not (tmp_path / "nowhere").exists()


def test_an_empty_folder_becomes_a_run(root):
    (root / "first").mkdir()
    assert RunFolder.create("first").path == root / "first"


def test_numbered_runs_do_not_collide(root):
    names = [RunFolder.create_numbered("a-b").name for _ in range(3)]
    assert names == ["a-b-1", "a-b-2", "a-b-3"]


def test_the_root_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("METANAS_RUNS", str(tmp_path / "new" / "runs"))
    RunFolder.create("a")
    RunFolder.create_numbered("b")
    assert sorted(os.listdir(tmp_path / "new" / "runs")) == ["a", "b-1"]


def test_what_is_not_there_is_named_with_the_nearest(make_run, root):
    with pytest.raises(RunError, match=r"there is no run at .*; metanas search makes one"):
        RunFolder.open("first")
    make_run("first")
    with pytest.raises(RunError, match=r'there is no run at .*frist; did you mean "first"'):
        RunFolder.open("frist")
    (root / "empty").mkdir()
    with pytest.raises(RunError, match=r"is not a run: recipe\.json is missing"):
        RunFolder.open("empty")


@pytest.mark.parametrize("document", ["recipe.json", "space.json", "result.json"])
def test_a_newer_schema_is_refused_with_the_version_that_reads_it(make_run, document):
    run = make_run()
    run.file(document).write_text('{"schema": 2, "metanas": "0.4.0"}')
    read = {"recipe.json": run.read_recipe, "space.json": run.read_space, "result.json": run.read_result}[document]
    with pytest.raises(RunError, match=rf"{document} needs metanas >= 0\.4\.0 \(its schema is 2"):
        read()


@pytest.mark.parametrize("schema", [None, "1", 0, -1, True, 1.0, [1]])
def test_a_schema_that_cannot_be_is_damage(tmp_path, schema):
    with pytest.raises(RunError, match="schema must be a whole number >= 1"):
        check_schema({"schema": schema}, tmp_path / "a", known=1)


def test_a_version_is_shown_only_if_it_looks_like_one(tmp_path):
    with pytest.raises(RunError, match="needs a newer metanas"):
        check_schema({"schema": 9, "metanas": "\x1b[2J"}, tmp_path / "a", known=1)


def test_locking_removes_leftovers_and_past_requests_and_says_so(make_run):
    run = make_run()
    run.checkpoints.mkdir()
    (run.path / ".result.json.12ab.tmp").touch()
    (run.checkpoints / ".step-000000001.json.12ab.tmp").touch()
    ask(run.path, "stop")
    with run.lock() as lock:
        assert lock.notes == (
            "removed the unfinished file .result.json.12ab.tmp",
            "removed the unfinished file .step-000000001.json.12ab.tmp",
        )
        assert not pending(run.path) and not list(run.checkpoints.iterdir())
        with pytest.raises(RunError, match="in use"):
            run.lock()
    with run.lock() as lock:
        assert lock.notes == ()


def test_a_read_only_place_is_refused_before_anything_is_made(open_folder, as_nobody):
    open_folder.chmod(0o555)
    for make in (RunFolder.create, RunFolder.create_numbered):
        with pytest.raises(RunError, match="Permission denied; check the permissions of"):
            as_nobody(lambda make=make: make("first", root=open_folder))
    assert not list(open_folder.iterdir())


def test_a_read_only_run_is_read_but_not_locked_or_written(open_folder, as_nobody):
    run = as_nobody(lambda: RunFolder.create("first", root=open_folder))
    as_nobody(lambda: run.write_recipe({"schema": 1}))
    run.path.chmod(0o555)
    assert as_nobody(lambda: RunFolder.open("first", root=open_folder).read_recipe()) == {"schema": 1}
    for write in (run.lock, lambda: run.write_result({"schema": 1})):
        with pytest.raises(RunError, match="Permission denied"):
            as_nobody(write)
    assert os.listdir(run.path) == ["recipe.json"]


def test_a_run_removed_while_it_is_used_is_an_error_and_not_made_again(make_run):
    run = make_run()
    for file in run.path.iterdir():
        file.unlink()
    run.path.rmdir()
    for call in (run.read_recipe, run.lock, lambda: run.write_result({"schema": 1})):
        with pytest.raises(RunError, match="may have been removed or moved"):
            call()
    assert not run.path.exists()


def test_the_records_are_standard_library_only():
    heavy = {"torch", "numpy", "safetensors", "pydantic", "networkx", "rich"}
    script = "import sys, metanas.run; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "metanas" in done.stdout.split() and not heavy & set(done.stdout.split())


def test_what_goes_on_with_a_run_of_a_module_hands_it_over(root):
    own = {"handed": {"module": "Net 0123"}}
    for name, made, advice in (
        ("a", {**own, "recipe": {"space": {"name": "my nets/net.py"}}}, "metanas resume a --module 'my nets/net.py'"),
        ("b", {**own, "recipe": {"space": {"name": None}}}, "metanas.resume('b', module=...)"),
        ("c", {"handed": {"loss": "mse_loss"}, "recipe": {"space": {"name": "darts"}}}, "metanas resume c"),
        ("d", {**own, "recipe": 3}, "metanas resume d"),  # of another hand
    ):
        folder = RunFolder.create(name)
        folder.write_recipe({"schema": 1, **made})
        assert folder.resumed_by == advice
