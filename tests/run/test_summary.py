"""`list_runs` tells what every run is, and never raises, whatever a run has become."""

import json
import os
import random

import pytest

from metanas.run import EventWriter, RunFolder, ask, list_runs, summarise


def test_a_finished_run_in_one_line(make_run):
    run = make_run()
    (summary,) = list_runs()
    assert summary == summarise(run.path)
    assert (summary.name, summary.status, summary.space, summary.data) == ("first", "finished", "nasbench201", "digits")
    assert (summary.controller, summary.epoch, summary.epochs, summary.step) == ("drnas", 50, 50, 900)
    assert (summary.key, summary.test_score, summary.created[:4]) == ("|none~0|", 0.99, "2026")
    assert summary.elapsed >= 0


def test_status(make_run, root, dead_pid):
    make_run("interrupted", end="interrupted", result=False)
    make_run("failed", end="failed", result=False)
    make_run("killed", end=None, result=False)
    with EventWriter(make_run("resumed-and-killed").events) as log:
        log.write("begin", step=3, resumed=True)
    running, far = make_run("running", end=None), make_run("far", end=None)
    (far.path / "lock").write_text(json.dumps({"host": "far", "pid": 1, "start": ""}))
    new = RunFolder.create("new")
    new.write_recipe({"schema": 1})
    new.write_space({"schema": 1})
    with running.lock():
        status = {summary.name: summary.status for summary in list_runs()}
        ask(running.path, "pause")
        assert summarise(running.path).status == "running (asked to pause)"
    assert status == {
        "interrupted": "interrupted",
        "failed": "failed",
        "killed": "killed",
        "resumed-and-killed": "killed",
        "running": "running",
        "far": "running on far",
        "new": "new",
    }


def test_a_search_without_result_shows_its_last_step(make_run):
    make_run(end=None, result=False)
    (summary,) = list_runs()
    assert (summary.step, summary.epoch, summary.epochs, summary.key) == (3, 1, 50, "|nor_conv_3x3~0|")


def test_damaged_runs_are_listed_beside_the_others(make_run, root):
    make_run("good")
    (root / "empty").mkdir()
    for name in ("recipe.json", "space.json", "result.json"):
        make_run(f"cut-{name[:-5]}").file(name).write_text('{"schema": 1')
    make_run("newer").write_recipe({"schema": 3, "metanas": "9.1"})
    (root / "README.md").touch()
    (root / ".hidden").mkdir()
    (root / "bad\x1bname").mkdir()
    (root / "dangling").symlink_to(root / "nowhere")
    summaries = {summary.name: summary.status for summary in list_runs()}
    assert set(summaries) == {"good", "empty", "cut-recipe", "cut-space", "cut-result", "newer"}
    assert summaries.pop("good") == "finished"
    assert all(status.startswith("damaged: ") and "\n" not in status for status in summaries.values())
    assert "needs metanas >= 9.1" in summaries["newer"] and "recipe.json" in summaries["empty"]


def test_any_byte_of_any_record_changed_never_raises(make_run):
    run = make_run()
    generator = random.Random(0)
    for path in sorted(run.path.iterdir()):
        whole = path.read_bytes()
        for position in generator.sample(range(len(whole)), min(60, len(whole))):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << generator.randrange(8)
            path.write_bytes(bytes(damaged))
            summarise(run.path)
        for value in (
            b"null",
            b"[]",
            b'{"schema": 1}',
            b"9" * 5000,
            b'{"schema": 1, "test_score": 1' + b"0" * 400 + b"}",
        ):
            path.write_bytes(value)
            summarise(run.path)
        path.write_bytes(whole)


@pytest.mark.parametrize("value", [[], {}, 3, "x", None, True])
def test_fields_of_any_type_never_raise(make_run, value):
    run = make_run()
    run.write_recipe({"schema": 1, "recipe": value, "data": value, "created": value})
    run.write_recipe({"schema": 1, "recipe": {"space": value, "search": value}, "data": {"name": value}})
    run.write_result({"schema": 1, "test_score": value, "key": value, "epochs": value})
    with EventWriter(run.events) as log:
        log.write("epoch", epoch=value, epochs=value, step=value, key=value)
        log.write("end", status=value)
    (summary,) = list_runs()
    assert summary.status == "failed"


def test_folders_in_place_of_files_never_raise(make_run):
    run = make_run()
    for name in ("events.jsonl", "result.json", "recipe.json"):
        os.unlink(run.file(name))
        run.file(name).mkdir()
        summarise(run.path)


def make_tuning(root, *events, result=None):
    run = RunFolder.create("tuning", root=root)
    recipe = {"network": {"name": "mlp"}, "outer": {"estimator": "unrolled", "steps": 200}, "search": {"epochs": 3}}
    run.write_recipe(
        {"schema": 1, "kind": "tune", "metric": "R2", "created": "2026", "data": {"name": "digits"}, "recipe": recipe}
    )
    with EventWriter(run.events) as log:
        for kind, fields in events:
            log.write(kind, **fields)
    if result is not None:
        run.write_result({"schema": 1, **result})
    return run


TRIAL = ("trial", {"trial": 3, "trials": 20, "value": 0.5})
STEP = ("step", {"step": 120, "steps": 150, "outer_loss": 0.5})
LEARNED = ("network", {"network": "learned", "test_score": 0.75})
START = ("network", {"network": "start", "test_score": 0.5})


def test_a_tuning_in_one_line(root):
    make_tuning(root, TRIAL, STEP, LEARNED, START, ("end", {"status": "finished"}))
    (summary,) = list_runs()
    assert (summary.name, summary.status, summary.kind, summary.created) == ("tuning", "finished", "tune", "2026")
    assert (summary.network, summary.data, summary.estimator, summary.metric) == ("mlp", "digits", "unrolled", "R2")
    assert (summary.step, summary.steps, summary.trial, summary.trials) == (120, 150, 3, 20)
    assert summary.test_score == 0.75, "that of the learned network"
    assert (summary.epoch, summary.epochs, summary.space, summary.controller) == (None, None, None, None)


def test_the_result_of_a_tuning_comes_before_its_events(root):
    make_tuning(root, STEP, LEARNED, result={"kind": "tune", "steps": 200, "test_score": 0.875, "metric": "R2"})
    (summary,) = list_runs()
    assert (summary.step, summary.test_score, summary.status) == (200, 0.875, "killed")


def test_a_tuning_that_has_not_begun_needs_no_space(root):
    run = make_tuning(root)
    assert summarise(run.path).status == "new" and summarise(run.path).steps == 200
    run.file("space.json").write_text("[")
    assert summarise(run.path).status.startswith("damaged: "), "but one that is there must be whole"


def test_a_search_is_none(make_run):
    summary = summarise(make_run().path)
    assert (summary.kind, summary.network, summary.steps, summary.trial) == ("search", None, None, None)


@pytest.mark.parametrize("value", [[], {}, "x", None, True])
def test_fields_of_a_tuning_of_any_type_never_raise(root, value):
    names = ("trial", "trials", "step", "steps", "network", "test_score", "elapsed")
    events = [(kind, dict.fromkeys(names, value)) for kind in ("trial", "step", "network", "log")]
    run = make_tuning(root, *events, result={"learned": value, "test_score": value, "steps": value})
    parts = {"network": value, "outer": value}
    for recipe in (value, parts, {"network": {"name": value}, "outer": {"steps": value, "estimator": value}}):
        run.write_recipe({"schema": 1, "kind": "tune", "recipe": recipe, "data": value, "metric": value})
        assert summarise(run.path).kind == "tune"
