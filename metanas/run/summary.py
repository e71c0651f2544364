"""Runs at a glance: what each folder in `runs/` holds and how far it came, without torch and without reading it whole.

first                  finished      epoch 50/50   0.9917
nasbench201-digits-1   running       epoch 12/50
broken                 damaged: runs/broken/recipe.json is missing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metanas.errors import RunError
from metanas.run.atomic import explained
from metanas.run.events import Event, last_events
from metanas.run.folder import RunFolder
from metanas.run.lock import is_alive, read_holder
from metanas.run.names import is_name, runs_root
from metanas.run.requests import pending

COMPARISON = "comparison.json"
"""What the folder of a comparison of controllers holds, and that of a run does not."""

ENDED = ("finished", "interrupted", "failed")


@dataclass(frozen=True)
class RunSummary:
    """One line about a run; None where the run does not say.

    `status` is "new", "running", "running (asked to pause)", "running on HOST" (not this one), "finished",
    "interrupted" (asked to stop), "failed", "killed" (it never wrote an end), or "damaged: ..." with the reason.
    `elapsed` is seconds of work; `test_score` is
    what `metric` names (an accuracy: 0 to 1).  `kind` is "search", "tune" or "fewshot"; a tuning has outer steps
    (`step` of `steps`) and perhaps trials before them, a network in place of a space, and the score of the network that
    was trained with what was learned; a few-shot run has outer steps, a learner for `controller`, and a `task`.
    """

    name: str
    path: Path
    status: str
    created: str | None = None
    space: str | None = None
    data: str | None = None
    controller: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    elapsed: float | None = None
    key: str | None = None
    metric: str | None = None
    test_score: float | None = None
    kind: str = "search"
    network: str | None = None
    estimator: str | None = None
    steps: int | None = None
    trial: int | None = None
    trials: int | None = None
    task: str | None = None


def list_runs(root: Path | None = None) -> tuple[RunSummary, ...]:
    """A summary of every run in `root`, oldest first.  A damaged run is listed as such; no root means no runs, and a
    comparison of controllers is none.

    >>> list_runs(Path("/nonexistent"))
    ()
    """
    root = runs_root() if root is None else root
    if not root.is_dir():
        return ()
    with explained(root, "read"):
        folders = [path for path in root.iterdir() if is_name(path.name) and path.is_dir()]
    folders = [path for path in folders if not (path / COMPARISON).exists()]  # whose runs stand beside it
    return tuple(sorted(map(summarise, folders), key=lambda run: (run.created or "", run.name)))


def summarise(path: Path) -> RunSummary:
    """The summary of the run in one folder; never raises: what is wrong with the run is its status.

    >>> summarise(Path("/nonexistent/first")).status  # doctest: +ELLIPSIS
    'damaged: cannot read /nonexistent/first/recipe.json: No such file or directory; /nonexistent/first may...'
    """
    run = RunFolder(path)
    summary = RunSummary(run.name, path, "new")
    try:
        document = run.read_recipe()
        tunes = document.get("kind") in ("tune", "fewshot")
        if not tunes or run.file("space.json").exists():  # a module of the user's has no space
            run.read_space()
        result = run.read_result() or {}
    except RunError as error:
        return replace(summary, status=f"damaged: {error}")
    events = last_events(run.events)
    recipe = _mapping(document.get("recipe"))
    search = _mapping(recipe.get("search"))
    if tunes:
        return _tuning(run, document, result, events)
    return RunSummary(
        name=run.name,
        path=path,
        status=_status(path, events),
        created=_text(document.get("created")),
        space=_text(_mapping(recipe.get("space")).get("name")),
        data=_text(_mapping(document.get("data")).get("name")),
        controller=_text(_mapping(document.get("transfer")).get("how"), search.get("controller")),
        epoch=_whole(result.get("epochs"), *_last(events, "epoch", only="epoch")),
        epochs=_whole(search.get("epochs"), *_last(events, "epochs", only="epoch")),
        step=_whole(result.get("steps"), *_last(events, "step")),
        elapsed=_number(*_last(events, "elapsed")),
        key=_text(result.get("key"), *_last(events, "key", only="epoch")),
        metric=_text(result.get("metric"), "accuracy"),
        test_score=_number(result.get("test_score"), result.get("test_accuracy")),  # as it was called before
    )


def _tuning(
    run: RunFolder, document: Mapping[str, Any], result: Mapping[str, Any], events: tuple[Event, ...]
) -> RunSummary:
    recipe = _mapping(document.get("recipe"))
    outer = _mapping(recipe.get("outer"))
    learned = [event for event in events if event["kind"] == "network" and event.get("network") == "learned"][-1:]
    found, few_shot = [result, *learned], document.get("kind") == "fewshot"
    return RunSummary(
        name=run.name,
        path=run.path,
        status=_status(run.path, events),
        created=_text(document.get("created")),
        data=_text(_mapping(document.get("data")).get("name")),
        step=_whole(result.get("steps"), *_last(events, "step", only="step")),
        elapsed=_number(*_last(events, "elapsed")),
        metric=_text(document.get("metric"), "accuracy"),
        test_score=_number(*(one.get("test_score") for one in found)),
        kind="fewshot" if few_shot else "tune",
        controller=_text(_mapping(recipe.get("learner")).get("name")),
        task=_task(_mapping(recipe.get("evaluation"))) if few_shot else None,
        network=_text(_mapping(recipe.get("network")).get("name")),
        estimator=_text(outer.get("estimator")),
        steps=_whole(*_last(events, "steps", only="step"), outer.get("steps")),
        trial=_whole(*_last(events, "trial", only="trial")),
        trials=_whole(*_last(events, "trials", only="trial")),
    )


def _task(evaluation: Mapping[str, Any]) -> str:
    """`5-way 1-shot`."""
    ways, shots = (_whole(evaluation.get(name)) for name in ("ways", "shots"))
    return f"{'?' if ways is None else ways}-way {'?' if shots is None else shots}-shot"


def _status(path: Path, events: tuple[Event, ...]) -> str:
    holder = read_holder(path)
    alive = holder is not None and is_alive(holder)
    if alive:
        return "running (asked to pause)" if "pause" in pending(path) else "running"
    last = events[-1] if events else None
    if last is not None and last["kind"] == "end":
        return last["status"] if last.get("status") in ENDED else "failed"
    if holder is not None and alive is None:
        return f"running on {holder.host}"
    return "new" if last is None else "killed"


def _last(events: tuple[Event, ...], field: str, only: str | None = None) -> list[Any]:
    """The newest value of a field, of one kind of event or of any, as a list of at most one."""
    kinds = {event["kind"] for event in events} if only is None else {only}
    return [event[field] for event in reversed(events) if event["kind"] in kinds and field in event][:1]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(*values: object) -> str | None:
    return next((value for value in values if isinstance(value, str)), None)


def _whole(*values: object) -> int | None:
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _number(*values: object) -> float | None:
    return next((float(value) for value in values if isinstance(value, int | float) and abs(value) < 1e300), None)
