"""What Optuna chooses: values reach the network, failed trials are never the best, trials are kept and not repeated."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import metanas
from metanas.api import choosing, journal
from metanas.errors import DivergedError, InterruptedSearchError, MissingDependencyError, RecipeError, RunError
from metanas.run import EventWriter, ask, latest, read_events

TINY = {
    "network.options": {"kind": "linear"},
    "data.inner": 40,
    "data.outer": 40,
    "data.test": 40,
    "inner.steps": 2,
    "evaluation.steps": 20,
    "choose.steps": 2,
    "choose.trials": 3,
    "threads": 1,
    "device": "cpu",
    "checkpoint_seconds": 1000.0,
}


def choosing_of(values: dict[str, Any], *, steps: int = 1, settings: Any = None, **named: Any) -> Any:
    """A quick run that chooses; `settings` on top of TINY."""
    return metanas.tune(
        **{"learn": ["decay"], **named}, steps=steps, settings={**TINY, **(settings or {}), "choose.values": values}
    )


def trials(run: Path) -> list[dict[str, Any]]:
    return [e for e in latest(read_events(run / "events.jsonl").events) if e["kind"] == "trial"]


def told(run: Path) -> list[Any]:
    """What a trial says, without what a clock measured."""
    return [(e["trial"], e["values"], e["value"], e["state"], e["reason"]) for e in trials(run)]


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int, **arguments: Any) -> Path:
    """The folder of a run that was stopped in the trial after that one."""
    write = EventWriter.write

    def watched(self: EventWriter, kind: str, **fields: Any) -> None:
        write(self, kind, **fields)
        if kind == "trial" and fields["trial"] == after:
            ask(self.path.parent, "stop")

    with monkeypatch.context() as patch:
        patch.setattr(EventWriter, "write", watched)
        with pytest.raises(InterruptedSearchError):
            choosing_of(**arguments)
    return Path("runs") / arguments["run"]


# Values


def test_values_reach_the_network_that_is_kept() -> None:
    values = {"network.options.width": {"low": 3, "high": 9, "whole": True}, "inner.rule": ["sgd", "adam"],
              "inner.lr": {"low": 0.01, "high": 0.1, "log": True}}  # fmt: skip
    result = choosing_of(values, settings={"network.options": {"kind": "perceptron"}}, run="first")
    rows = trials(result.run)
    assert [e["trial"] for e in rows] == [1, 2, 3] and {e["trials"] for e in rows} == {3}
    assert len({e["values"]["network.options.width"] for e in rows}) > 1
    for e in rows:
        assert 3 <= e["values"]["network.options.width"] <= 9 and isinstance(e["values"]["network.options.width"], int)
        assert 0.01 <= e["values"]["inner.lr"] <= 0.1 and e["values"]["inner.rule"] in ("sgd", "adam")
    best = min(rows, key=lambda e: e["value"])
    assert result.chosen == best["values"] and rows[-1]["best"] == best["value"]
    width = result.chosen["network.options.width"]
    assert result.learned.keys() >= {"decay.log.hidden1.0.weight"}
    assert next(result.network.parameters()).shape == (width, 64)
    again = metanas.load_run("first").result()
    assert next(again.network.parameters()).shape == (width, 64) and again.chosen == result.chosen
    assert json.loads((result.run / "learned.json").read_text())["chosen"] == result.chosen
    written = json.loads((result.run / "recipe.json").read_text())["recipe"]
    assert "width" not in written["network"]["options"], "the recipe says what was asked for"


def test_the_best_is_that_of_the_outer_loss() -> None:
    """Of these rates only one learns anything in two steps."""
    result = choosing_of({"inner.lr": [1e-9, 0.3]}, settings={"choose.trials": 4, "choose.sampler": "random"}, seed=1)
    values = {e["values"]["inner.lr"]: e["value"] for e in trials(result.run)}
    assert values[0.3] < values[1e-9] and result.chosen == {"inner.lr": 0.3}


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_deterministic_for_a_seed(sampler: str) -> None:
    values = {"inner.lr": {"low": 0.001, "high": 1.0}, "learn.decay.start": {"low": 1e-5, "high": 1.0, "log": True}}
    settings = {"choose.sampler": sampler, "choose.trials": 3, "choose.steps": 1}
    first, again, other = (
        told(choosing_of(values, settings=settings, seed=seed, run=f"r{k}").run) for k, seed in enumerate((0, 0, 1))
    )
    assert first == again and first[0][1] != other[0][1]
    assert len({str(row[1]) for row in first}) == 3, "trials are not all alike"


def test_an_own_module_and_what_shapes_it() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    result = choosing_of({"inner.lr": [0.01, 0.1]}, network=net)
    assert result.chosen["inner.lr"] in (0.01, 0.1) and result.test_score > 0


# Pruned and failed trials


def test_bad_trials_are_given_up() -> None:
    """After four trials the median is known: a rate that learns nothing is behind it from the beginning."""
    settings = {"choose.trials": 9, "choose.steps": 20, "choose.sampler": "random", "inner.steps": 1}
    result = choosing_of({"inner.lr": [1e-6, 1e-5, 0.02, 0.3]}, settings=settings, seed=3)
    rows = trials(result.run)
    pruned = [e for e in rows if e["state"] == "pruned"]
    assert len(rows) == 9 and pruned and all(e["values"]["inner.lr"] < 0.3 and e["trial"] > 4 for e in pruned)
    assert result.chosen == {"inner.lr": 0.3}
    settings["choose.pruner"] = "none"
    result = choosing_of({"inner.lr": [1e-6, 1e-5, 0.02, 0.3]}, settings=settings, seed=3)
    assert {e["state"] for e in trials(result.run)} == {"complete"}


def test_an_infinite_objective_is_a_failed_trial_and_never_the_best() -> None:
    """With a rate far beyond its bound the squares overflow; the hypergradients of those steps are not finite."""
    settings = {"choose.trials": 5, "choose.sampler": "random", "inner.steps": 40, "choose.steps": 3,
                "learn.decay.start": 50.0}  # fmt: skip
    result = choosing_of({"inner.lr": [0.01, 5.0]}, settings=settings, run="first")
    rows = trials(result.run)
    failed = [e for e in rows if e["state"] == "failed"]
    assert failed and all(e["values"]["inner.lr"] == 5.0 and "not finite" in e["reason"] for e in failed)
    assert all(e["value"] is None for e in failed)
    complete = [e for e in rows if e["state"] == "complete"]
    assert complete and all(e["values"]["inner.lr"] == 0.01 for e in complete)
    assert result.chosen == {"inner.lr": 0.01} and rows[-1]["best"] == min(e["value"] for e in complete)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_value_that_is_not_finite_fails_even_where_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    """Minus infinity would be the best of all."""
    tuned = choosing._tuned

    def noted(trial: Any, tuning: Any, recorder: Any) -> Any:
        value, pruned = tuned(trial, tuning, recorder)
        return (bad, pruned) if trial.params["inner.lr"] == 0.3 else (value, pruned)

    monkeypatch.setattr(choosing, "_tuned", noted)
    result = choosing_of({"inner.lr": [1e-9, 0.3]}, settings={"choose.trials": 4, "choose.sampler": "random"}, seed=1)
    failed = [e for e in trials(result.run) if e["state"] == "failed"]
    assert failed and {e["reason"] for e in failed} == {f"the outer loss is {bad}"}
    assert result.chosen == {"inner.lr": 1e-9}


def test_an_exception_in_a_trial_is_its_failure() -> None:
    """A network too deep for the images, an option that no space has, a combination that cannot be."""
    values = {"network.options.depth": [1, 4], "inner.nesterov": [True, False], "inner.rule": ["sgd", "adam"]}
    settings = {"network.options": {"kind": "conv", "width": 2}, "choose.trials": 8, "choose.steps": 1,
                "choose.sampler": "random"}  # fmt: skip
    result = choosing_of(values, settings=settings, seed=0)
    rows = trials(result.run)
    assert len(rows) == 8
    for e in rows:
        wrong = e["values"]["inner.nesterov"] and e["values"]["inner.rule"] == "adam"
        assert (e["state"] == "failed") == (wrong or e["values"]["network.options.depth"] == 4), e
        assert (e["reason"] is None) == (e["state"] != "failed")
        assert e["state"] != "failed" or "nesterov" in e["reason"] or "pool4" in e["reason"], e["reason"]
    assert {e["state"] for e in rows} >= {"failed", "complete"} and result.chosen["network.options.depth"] == 1


def test_every_trial_failing_stops_early_with_the_causes_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"network.options.widht": [3, 4], "inner.lr": {"low": 0.1, "high": 0.2}}
    with pytest.raises(DivergedError) as caught:
        choosing_of(values, settings={"choose.trials": 50}, run="first")
    said = str(caught.value)
    assert said.startswith("every trial failed (5 times: ") and "widht" in said and "\n" not in said
    assert said.endswith("; widen or mend choose.values")
    run = metanas.load_run("first")
    assert run.status == "failed" and len(trials(run.path)) == 5
    with pytest.raises(DivergedError, match=r"every trial failed \(5 times: "):
        run.resume()
    assert len(trials(run.path)) == 5, "those of before the resume count"


def test_a_bug_in_a_loss_is_grouped_too() -> None:
    calls = []

    def losses(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 2:  # the first two are the check before the run
            raise ValueError(f"bad {'shape' if len(calls) % 2 else 'value'}\nand more")
        return F.cross_entropy(outputs, targets, reduction="none")

    with pytest.raises(DivergedError) as caught:
        choosing_of({"inner.lr": [0.1, 0.2]}, losses=losses, settings={"choose.trials": 9})
    assert "times: ValueError: bad shape" in str(caught.value) and "\n" not in str(caught.value)


# What is kept


VALUES = {"inner.lr": {"low": 0.001, "high": 1.0, "log": True}, "learn.decay.per": ["all", "layer", "parameter"]}


@pytest.mark.parametrize(
    ("sampler", "pruner"), [("tpe", "hyperband"), ("random", "median"), ("gp", "none")], ids=lambda value: value
)
def test_finished_trials_are_not_repeated(monkeypatch: pytest.MonkeyPatch, sampler: str, pruner: str) -> None:
    settings = {"choose.trials": 5, "choose.sampler": sampler, "choose.pruner": pruner, "choose.steps": 20}
    whole = told(choosing_of(VALUES, settings=settings, run="whole").run)
    run = interrupted(monkeypatch, 3, values=VALUES, settings=settings, run="first")
    assert (run / "study.journal").exists() and [row[0] for row in told(run)] == [1, 2, 3]
    made = []
    one = choosing._one
    monkeypatch.setattr(choosing, "_one", lambda *arguments: (made.append(1), one(*arguments)))
    metanas.resume("first")
    assert len(made) == 2 and told(run) == whole


@pytest.mark.parametrize("torn", [b'{"op_code":5,"wor', b"\x00\x00", b"{}"], ids=str)
def test_a_torn_journal_is_mended(monkeypatch: pytest.MonkeyPatch, torn: bytes) -> None:
    """A writer that was killed in a line: what optuna would append goes on with it, and is lost with it."""
    settings = {"choose.trials": 4}
    whole = told(choosing_of(VALUES, settings=settings, run="whole").run)
    run = interrupted(monkeypatch, 2, values=VALUES, settings=settings, run="first")
    journal = run / "study.journal"
    before = journal.read_bytes()
    journal.write_bytes(before + torn)
    Path(f"{journal}.lock").touch()
    metanas.resume("first")
    after = journal.read_bytes()
    assert after.startswith(before) and torn + b"{" not in after
    assert all(isinstance(json.loads(line), dict) for line in after.splitlines())
    assert told(run) == whole and not Path(f"{journal}.lock").exists()


def test_optuna_itself_does_not_mend_it(tmp_path: Path) -> None:
    """Why it is done here: a torn line and one more cannot be read any longer."""
    path = tmp_path / "journal"
    path.write_bytes(b'{"whole":1}\n{"to')
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    assert list(backend.read_logs(0)) == [{"whole": 1}]
    backend.append_logs([{"next": 2}])
    backend.append_logs([{"last": 3}])
    with pytest.raises(ValueError):
        list(optuna.storages.journal.JournalFileBackend(str(path)).read_logs(0))


def test_a_journal_cut_anywhere_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"choose.trials": 3, "choose.steps": 1}
    run = interrupted(monkeypatch, 1, values=VALUES, settings=settings, run="first")
    journal = run / "study.journal"
    data = journal.read_bytes()
    recipe = metanas.recipe.read_tuning({"learn": {"decay": {}}, "choose": {"values": VALUES}})
    for cut in range(0, len(data), 7):
        journal.write_bytes(data[:cut])
        study = choosing._study(recipe.choose, run, lambda *parts: 0)
        assert journal.read_bytes().startswith(data[: data[:cut].rfind(b"\n") + 1])
        assert len(study.get_trials(deepcopy=False)) <= 2


def test_a_damaged_journal_says_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    run = interrupted(monkeypatch, 1, values=VALUES, run="first")
    journal = run / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"{broken\n", *lines[1:]]))
    with pytest.raises(
        RunError, match=r"runs/first/study\.journal is damaged .*; remove it, and the trials begin anew"
    ):
        metanas.resume("first")
    journal.unlink()
    assert metanas.resume("first").chosen


def test_the_trials_of_another_storage_are_shared(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    settings = {"choose.storage": url, "choose.study": "both", "choose.trials": 2}
    first = choosing_of(VALUES, settings=settings, run="first")
    assert len(trials(first.run)) == 2 and not (first.run / "study.journal").exists()
    second = choosing_of(VALUES, settings={**settings, "choose.trials": 3}, run="second")
    assert len(trials(second.run)) == 1, "two were there already"
    study = optuna.load_study(study_name="both", storage=url)
    assert len(study.trials) == 3 and second.chosen == study.best_trial.user_attrs["values"]
    alone = choosing_of(VALUES, settings={"choose.storage": url, "choose.trials": 1}, run="third")
    assert len(trials(alone.run)) == 1 and set(optuna.get_all_study_names(url)) == {"both", "third"}
    study._storage.remove_session()
    with pytest.raises(RecipeError, match=r"choose\.values\.inner\.lr: the study 'both' was made with other values"):
        choosing_of({"inner.lr": [0.1, 0.2]}, settings={**settings, "choose.trials": 9}, run="fourth")


def test_interrupted_in_a_shared_storage_leaves_no_trial_at_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    settings = {"choose.storage": url, "choose.trials": 2}
    interrupted(monkeypatch, 1, values=VALUES, settings=settings, run="first")
    states = [trial.state.name for trial in optuna.load_study(study_name="first", storage=url).trials]
    assert states == ["COMPLETE", "FAIL"]
    result = metanas.resume("first")
    assert [row[0] for row in told(result.run)] == [1, 2], "the one that was cut off does not count"


@pytest.mark.parametrize("url", ["sqlite:////nonexistent/x.db", "nosuchdriver://x", "what is this", ""])
def test_a_storage_that_cannot_be_opened_is_one_line(url: str) -> None:
    with pytest.raises(RecipeError, match=r"choose\.storage: .* cannot be opened \(.*\); give a URL") as caught:
        choosing_of(VALUES, settings={"choose.storage": url})
    assert "\n" not in str(caught.value)


def test_a_locked_database_is_tried_again_and_then_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    settings = {"choose.storage": f"sqlite:///{path}", "choose.trials": 2}
    choosing_of(VALUES, settings=settings, run="first")
    monkeypatch.setattr(journal, "BUSY_SECONDS", 0.2)
    holder = sqlite3.connect(path)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises((RunError, RecipeError)) as caught:
            choosing_of(VALUES, settings={**settings, "choose.study": "first", "choose.trials": 3}, run="second")
        assert "database is locked" in str(caught.value) and "\n" not in str(caught.value)
        assert "no other process holds it" in str(caught.value)
    finally:
        holder.rollback()
        holder.close()
    assert metanas.resume("second").chosen


def test_a_sampler_that_is_not_here_says_the_command(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    monkeypatch.setattr(choosing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'choose\.sampler "cmaes" needs .*: pip install cmaes'):
        choosing_of(VALUES, settings={"choose.sampler": "cmaes"})
    assert not runs.exists()
