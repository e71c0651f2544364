"""A run in the formats of other tools, beside its own log."""

from pathlib import Path
from typing import Any

import optuna
import pytest

import metanas
from metanas.api import mirrors
from metanas.api.journal import open_journal
from metanas.api.optuna_log import OptunaLog
from metanas.errors import MissingDependencyError, RecipeError

QUICK = {
    "search.batch_size": 256,
    "search.warmup": 0,
    "evaluation.epochs": 1,
    "evaluation.random": 1,
    "logs": ["optuna"],
    "checkpoint_seconds": 0,
}
CHOICES: list[dict[str, Any]] = [
    {"name": "op", "candidates": ["conv", "pool"], "take": 1},
    {"name": "in", "candidates": ["a", "b", "c"], "take": 2},
]


def studies(folder: Path) -> dict[str, list[optuna.trial.FrozenTrial]]:
    storage = open_journal(folder / "study.journal")
    return {name: optuna.load_study(study_name=name, storage=storage).trials for name in ("search", "from scratch")}


def test_a_search_is_a_study_with_a_trial_for_each_epoch_and_one_for_each_trained_network(tmp_path: Path) -> None:
    run = tmp_path / "first"
    result = metanas.search("nasbench201", "digits", epochs=2, settings=QUICK, run=run)
    found = studies(run)
    epochs = [event for event in metanas.load_run(run).events() if event["kind"] == "epoch"]
    assert [trial.value for trial in found["search"]] == [event["outer_score"] for event in epochs]
    assert [trial.params for trial in found["search"]] == [event["architecture"] for event in epochs]
    derived, random = found["from scratch"]
    assert (derived.value, derived.user_attrs["network"]) == (result.test_score, "derived")
    assert derived.params == result.architecture.to_json()
    assert random.user_attrs["parameters"] == result.random[0].parameters


def test_a_resumed_run_has_each_trial_once(tmp_path: Path) -> None:
    log = OptunaLog(tmp_path, CHOICES)
    events = [
        {"kind": "value", "step": n, "value": n / 10, "epochs": 3, "architecture": {"op": "conv", "in": ["a", "c"]}}
        for n in (1, 2)
    ]
    log.write(events[0])
    again = OptunaLog(tmp_path, CHOICES)
    for event in events:
        again.write(event)
    found = studies(tmp_path)["search"]
    assert [(trial.value, trial.user_attrs["epochs"]) for trial in found] == [(0.1, 3), (0.2, 3)]
    assert found[0].params == {"op": "conv", "in: a": "yes", "in: b": "no", "in: c": "yes"}


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "step", "step": 1, "inner_loss": 1.0},
        {"kind": "value", "step": 1, "value": None, "architecture": {"op": "conv"}},
        {"kind": "epoch", "step": 1, "outer_score": 0.5, "architecture": None},
    ],
    ids=["a step", "no value", "no architecture"],
)
def test_what_is_no_trial_is_passed_over(tmp_path: Path, event: dict[str, Any]) -> None:
    OptunaLog(tmp_path, CHOICES).write(event)
    assert studies(tmp_path) == {"search": [], "from scratch": []}


def test_a_mirror_that_fails_costs_a_line_and_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: OptunaLog, event: dict[str, Any]) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(OptunaLog, "write", broken)
    result = metanas.search("nasbench201", "digits", epochs=1, settings=QUICK, run=tmp_path / "first")
    lines = [
        e["message"] for e in metanas.load_run(result.run).events() if e["kind"] == "log" and "logs:" in e["message"]
    ]
    assert lines == ["logs: optuna is left out from here on (disk full)"]


def test_a_package_that_is_missing_is_named_before_there_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "metanas\[tensorboard\]"'):
        metanas.search("nasbench201", "digits", settings={"logs": ["tensorboard"]}, run=tmp_path / "first")
    assert not (tmp_path / "first").exists()


def test_an_unknown_log_is_a_mistake_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match="logs"):
        metanas.search("nasbench201", "digits", settings={"logs": ["wandb"]})
