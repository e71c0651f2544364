"""Controllers compared on equal budgets: every one of them with every seed is a run, and the runs share a queue.

    for each controller and seed:   a run; its test score
    table                           mean, spread, rank and a paired test against random search, which stands on top

    runs/mine/            comparison.json (what is compared, and the table), study.journal (the queue)
    runs/mine-darts-0/    a run as any other: metanas show, watch, resume, compare

A process that is given the same comparison joins it, on this host or, with a storage that both reach, on another.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metanas.api.by_value import BY_ONE_VALUE, ValueResult, search_by_value
from metanas.api.cells import Cells
from metanas.api.functions import resume, search
from metanas.api.handed import Handed
from metanas.api.host import threads
from metanas.api.pacing import epochs_within, evaluations_within
from metanas.api.ranking import Standing, standings
from metanas.api.result import Result
from metanas.api.work import prepare
from metanas.controllers import ValueController
from metanas.errors import InterruptedSearchError, MetanasError, RecipeError, RunError
from metanas.recipe import Recipe, ValueRecipe, override, parse_setting, read, read_values
from metanas.recipe.tables import make_controller
from metanas.run import COMPARISON, dump_json, read_json, run_path, runs_root, write_json

SCHEMA = 1
BASELINE = "random"
MANY = 10**9
HOPELESS = 5
"""Runs that fail at the beginning, without one that does not, after which the comparison gives up."""


@dataclass(frozen=True)
class Contender:
    """A controller with its options, and what it is called: "darts", "darts:beta=50"."""

    label: str
    name: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, label: str) -> Contender:
        """From its label. RecipeError for an unknown name or option, with the nearest.

        >>> Contender.of("darts:beta=50")
        Contender(label='darts:beta=50', name='darts', options={'beta': 50})
        """
        name, *settings = label.split(":")
        found = cls(label, name, dict(map(parse_setting, settings)))
        make_controller(found.name, found.options)
        return found


@dataclass(frozen=True)
class Comparison:
    """How the controllers stand.

    scores:  controller -> seed -> test score
    seconds: controller -> mean seconds of its searches (charged ones, by a table)
    failed:  reason -> how many runs
    missing: runs that other processes still have in hand
    """

    metric: str
    rows: tuple[Standing, ...]
    scores: Mapping[str, Mapping[int, float]]
    seconds: Mapping[str, float]
    failed: Mapping[str, int]
    missing: int
    folder: Path


def compare_controllers(
    recipe: Recipe | ValueRecipe,
    controllers: Sequence[str],
    *,
    budget: float,
    run: str,
    seeds: int = 5,
    data: Any = None,
    storage: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Runs controllers on equal budgets, each with every seed, and says how they stand beside random search.

    Given again, it goes on; given in a second process, that one takes its part of the runs.

    Args:
        recipe: what all the runs share: a Recipe, whose searches train, or a ValueRecipe with a table.
        controllers: `"drnas"`, `"darts:beta=50"`; random search is there in any case.
        budget: seconds of each search: on the clock, measured on a few steps before it begins and then held as a number
            of epochs or evaluations; or charged ones, by a table.
        run: name of the comparison, with which the names of its runs begin.
        seeds: how many, 0, 1, ...
        data: in place of the recipe's, where they are objects; as of `metanas.search`.
        storage: a URL of Optuna's that other hosts reach, `"postgresql+pg8000://user@host/name"`; None: a journal in
            the folder of the comparison.
        say: is told a line for each run that ends.

    Raises:
        RecipeError: an unknown controller, no budget or seed, a storage that cannot be opened.
        RunError: the name is taken by another comparison; every run failed, with the reasons.
        InterruptedSearchError: Ctrl-C or SIGTERM; the run at work has written a checkpoint.
    """
    plan = Plan.of(recipe, controllers, budget, seeds)
    folder = _opened(run_path(run), plan)
    cells = Cells(plan.cells, folder, storage, run_path(run).name)
    with contextlib.closing(cells), cells.trouble():
        cells.fill()
        while (taken := cells.claim()) is not None:
            trial, cell = taken
            try:
                score, facts = _run(plan, run, cell, data)
            except InterruptedSearchError as stop:
                line = "stopped with a checkpoint; the same command goes on"
                raise InterruptedSearchError(line, stop.signal) from None
            except MetanasError as error:
                cells.failed(trial, str(error))
                say(f"{cell}: failed: {error}")
                if cells.reasons().total() >= HOPELESS and not cells.results():
                    break
            else:
                cells.done(trial, score, facts)
                say(f"{cell}: {score:.4f}, searched for {facts['seconds']:.0f} s")
        found = _compared(plan, cells, folder)
    kept = {"metric": found.metric, "seconds": dict(found.seconds), "failed": dict(found.failed)}
    table = {**kept, "missing": found.missing, "rows": [asdict(row) for row in found.rows]}
    write_json(folder / COMPARISON, {**plan.to_json(), "table": table})
    return found


@dataclass(frozen=True)
class Plan:
    """What is compared. `recipe`: what all runs share, as plain data."""

    recipe: Mapping[str, Any]
    by_table: bool
    contenders: tuple[Contender, ...]
    budget: float
    seeds: int

    @classmethod
    def of(cls, recipe: Recipe | ValueRecipe, controllers: Sequence[str], budget: float, seeds: int) -> Plan:
        """Checked. RecipeError with everything that cannot be."""
        problems = [] if budget > 0 else [f"budget: must be > 0 seconds, got {budget}"]
        problems += [] if seeds >= 1 else [f"seeds: must be >= 1, got {seeds}"]
        by_table = isinstance(recipe, ValueRecipe)
        if isinstance(recipe, ValueRecipe) and not recipe.table.charge:
            problems.append("table.charge: a budget needs to know what an evaluation takes; name columns of seconds")
        contenders = []
        for label in dict.fromkeys((BASELINE, *controllers)):
            try:
                contenders.append(found := Contender.of(label))
            except RecipeError as error:
                problems += [f"{label}: {problem}" for problem in error.problems]
            else:
                if by_table and not isinstance(make_controller(found.name, found.options), ValueController):
                    problems.append(f"{label}: a table gives one value and no gradient; {BY_ONE_VALUE}")
        if problems:
            raise RecipeError(problems)
        return cls(recipe.to_json(), by_table, tuple(contenders), float(budget), seeds)

    @property
    def cells(self) -> tuple[str, ...]:
        """Controller and seed of each run: all controllers with the first seed, then with the next."""
        return tuple(f"{c.label} {seed}" for seed in range(self.seeds) for c in self.contenders)

    def of_cell(self, cell: str) -> tuple[Contender, int]:
        label, _, seed = cell.rpartition(" ")
        return next(c for c in self.contenders if c.label == label), int(seed)

    def changes(self, cell: str) -> dict[str, Any]:
        """What the recipe of a run has of its own."""
        contender, seed = self.of_cell(cell)
        return {"search.controller": contender.name, "search.options": dict(contender.options), "seed": seed}

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "recipe": dict(self.recipe),
            "controllers": [c.label for c in self.contenders],
            "budget": self.budget,
            "seeds": self.seeds,
        }


def _opened(folder: Path, plan: Plan) -> Path:
    """The folder of the comparison, new or the one that it had."""
    path, said = folder / COMPARISON, plan.to_json()
    if path.exists():
        there = {name: value for name, value in read_json(path).items() if name != "table"}
        changed = [name for name, value in said.items() if there.get(name) != value]
        if dump_json(there) != dump_json(said):
            raise RunError(
                f"{folder} compares something else ({', '.join(changed)} differ); give it another name, or the same "
                "arguments"
            )
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} exists and is no comparison; choose another name")
    runs_root().mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    write_json(path, said)
    return folder


def _run(plan: Plan, run: str, cell: str, data: Any) -> tuple[float, dict[str, Any]]:
    """One run to its end: its test score, and what stands beside it."""
    name = f"{run}-{re.sub('[^A-Za-z0-9._]+', '-', cell)}"
    if (run_path(name) / "recipe.json").exists():
        result = resume(name, data=data)
    elif plan.by_table:
        changes = {**plan.changes(cell), "search.seconds": plan.budget, "search.budget": MANY}
        result = search_by_value(recipe=read_values(override(plan.recipe, changes)), run=name)
    else:
        result = search(recipe=_paced(plan, cell, data), data=data, run=name)
    if isinstance(result, ValueResult):
        if not result.report:
            return result.value, {"seconds": result.spent, "run": name}
        return next(iter(result.report.values())), {"seconds": result.spent, "run": name}
    assert isinstance(result, Result)
    return result.test_score, {"seconds": result.search_seconds, "run": name, "metric": result.metric}


def _paced(plan: Plan, cell: str, data: Any) -> Recipe:
    """The recipe of a run that searches about as long as the budget says."""
    recipe = read(override(plan.recipe, plan.changes(cell)))
    with threads(recipe.threads):
        parts = prepare(recipe, None, data, Handed())
        if parts.by_gradient:
            fitting = {"search.epochs": epochs_within(parts, plan.budget)}
        else:
            fitting = {"search.budget": evaluations_within(parts, plan.budget)}
    return read(override(recipe.to_json(), fitting))


def _compared(plan: Plan, cells: Cells, folder: Path) -> Comparison:
    results, reasons = cells.results(), cells.reasons()
    if not results:
        told = "; ".join(f"{count} times: {reason}" for reason, count in reasons.most_common(3)) or "none is finished"
        raise RunError(f"every run failed ({told}); mend the recipe and give the same command again")
    scores: dict[str, dict[int, float]] = {c.label: {} for c in plan.contenders}
    seconds: dict[str, list[float]] = {}
    metric = "value"
    for cell, (score, facts) in results.items():
        contender, seed = plan.of_cell(cell)
        scores[contender.label][seed] = score
        seconds.setdefault(contender.label, []).append(facts["seconds"])
        metric = facts.get("metric", metric)
    if plan.by_table:
        table = plan.recipe["table"]
        metric = (table["report"] or [table["choose"]])[0]
    return Comparison(
        metric=metric,
        rows=tuple(standings(scores, BASELINE)),
        scores=scores,
        seconds={label: sum(row) / len(row) for label, row in seconds.items()},
        failed=dict(reasons),
        missing=cells.at_work(),
        folder=folder,
    )
