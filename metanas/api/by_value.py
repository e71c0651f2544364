"""`metanas.search_by_value`: a search over any function of architectures, a table first of all, with a run folder.

objective  <- a table's column, with what an evaluation would have taken charged; or a function of the user's
search     values -> events; the best architecture
result     result.json; what the table reports of the choice, which the search never saw
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from metanas import __version__
from metanas.api.documents import SCHEMA, space_identity, told_differences, versions
from metanas.api.handed import describe
from metanas.api.recorder import Recorder
from metanas.api.work import View, begin, go_on
from metanas.controllers import Controller, ValueController
from metanas.errors import RecipeError, RunError
from metanas.evaluation.tables import ArchitectureTable
from metanas.loop import Objective, ValueSearch
from metanas.network import space_of
from metanas.recipe import ValueRecipe, override, read_toml, read_values
from metanas.recipe.recipe import USUAL_SPACE
from metanas.recipe.spaces import load_space
from metanas.recipe.tables import controller_name, make_controller
from metanas.recipe.values import TableRecipe
from metanas.run import RunFolder, dump_json, finite, parse_json
from metanas.space import Architecture, Space, space_from_json, space_to_json

KIND = "values"
BY_ONE_VALUE = "take random, evolution, local_search, predictor or optuna"
FREE = ("checkpoint_seconds", "logs")
"""What of a recipe may change on the way."""


@dataclass(frozen=True, eq=False)
class ValueResult:
    """The outcome of a search by values.

    value:       of the architecture found, as the objective gave it; larger is better
    evaluations: how many there were
    spent:       seconds charged for them; None where the objective charges nothing
    report:      what the table says of the architecture found, by column
    """

    architecture: Architecture
    value: float
    evaluations: int
    spent: float | None
    report: Mapping[str, float]
    space: Space
    run: Path

    def __str__(self) -> str:
        told = "".join(f", {name} {value:.6g}" for name, value in self.report.items())
        return f"{self.architecture}: {self.value:.6g} after {self.evaluations} evaluations{told}"


@dataclass(frozen=True, eq=False)
class ValueParts:
    """What such a search works with. `table`: None where the objective is the user's own."""

    recipe: ValueRecipe
    space: Space
    controller: ValueController
    objective: Objective
    table: ArchitectureTable | None
    handed: Mapping[str, str]

    def facts(self) -> dict[str, Any]:
        """What a run says of its table, in the place of data."""
        if self.table is None:
            return {"name": self.handed["objective"], "fingerprint": None}
        return {
            "name": Path(self.recipe.table.source or "").name,
            "fingerprint": self.table.fingerprint,
            "rows": len(self.table),
        }

    def search(self) -> ValueSearch:
        """The search at its beginning."""
        section = self.recipe.search
        return ValueSearch(
            self.space,
            self.objective,
            self.controller,
            budget=section.budget,
            seed=self.recipe.seed,
            seconds=section.seconds,
        )


@dataclass(frozen=True)
class Nowhere:
    """Stands where other runs have data: no notes, and nothing on a device."""

    notes: tuple[str, ...] = ()
    device: str = "cpu"


@dataclass(frozen=True)
class ValueJob:
    """A search by values, from its parts to its result (`work.Job`)."""

    parts: ValueParts
    data: Nowhere = field(default_factory=Nowhere)

    @property
    def recipe(self) -> ValueRecipe:
        return self.parts.recipe

    def document(self) -> dict[str, Any]:
        parts, table = self.parts, self.recipe.table
        document = {
            "schema": SCHEMA,
            "kind": KIND,
            "metanas": __version__,
            "versions": {**versions(), "device": "cpu"},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": self.recipe.to_json(),
            "data": parts.facts(),
            "handed": dict(parts.handed),
            "metric": table.report[0] if table.report else table.choose or "value",
        }
        dump_json(document)
        return document

    def space_document(self) -> dict[str, Any] | None:
        return space_to_json(self.parts.space)

    def identity(self) -> dict[str, Any]:
        recipe = {name: value for name, value in self.recipe.to_json().items() if name not in FREE}
        parts = {"space.json": space_identity(self.parts.space), "table handed over": self.parts.facts()}
        identity: dict[str, Any] = parse_json(dump_json({**recipe, **parts, "handed": dict(self.parts.handed)}))
        return identity

    def work(self, folder: RunFolder, recorder: Recorder, state: dict[str, Any] | None) -> dict[str, Any]:
        search = self.parts.search()
        if state is not None:
            search.restore(state["search"])
        for evaluation in search.steps():
            recorder.value(evaluation)
            recorder.pause_point(evaluation.step, lambda: {"phase": "search", "search": search.state()})
        found, table = search.derive(), self.parts.table
        report = {} if table is None else {name: table.test(found, name) for name in self.recipe.table.report}
        facts = {"key": found.key, "architecture": found.to_json()}
        if report:
            recorder.network({"network": "derived", **facts, "test_score": next(iter(report.values()))})
        return finite(
            {
                "schema": SCHEMA,
                "kind": KIND,
                "metanas": __version__,
                "metric": self.document()["metric"],
                **facts,
                "value": search.memory["value"],
                "steps": search.step,
                "spent": self._spent(search),
                "report": report,
                **({"test_score": next(iter(report.values()))} if report else {}),
                "search_seconds": recorder.log.elapsed,
            }
        )

    def _spent(self, search: ValueSearch) -> float | None:
        """What was charged; None where nothing is."""
        free = self.parts.table is not None and not self.recipe.table.charge
        return None if search.charged is None or free else search.charged.spent

    def result(self, folder: RunFolder, data: dict[str, Any]) -> ValueResult:
        return value_result_of(folder, data)


def search_by_value(
    space: str | Path | Space | nn.Module | None = None,
    objective: Objective | str | Path | None = None,
    *,
    choose: str | None = None,
    report: str | Sequence[str] | None = None,
    charge: Mapping[str, float] | None = None,
    recipe: ValueRecipe | str | Path | None = None,
    controller: str | Controller | None = None,
    budget: int | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    run: str | Path | None = None,
    view: View | None = None,
) -> ValueResult:
    """Searches the architecture with the largest value of an objective, and writes a run folder. Nothing is trained.

    Args:
        space: as of `metanas.search`.
        objective: the path of a table (`TableRecipe.source`), or any function from an architecture to a number, larger
            is better; one that has a number `spent` charges seconds.
        choose, report, charge: of the recipe's `table` section: the column that is maximised; columns that are read of
            what was found, and by no search; what an evaluation is charged, as {"train_seconds": 12 / 200}.
        recipe: where to start from, a ValueRecipe or the path of its TOML file; the other arguments override it.
        controller: `"random"`, `"evolution"`, `"local_search"`, `"predictor"`, `"optuna"`, or one of your own that
            needs values.
        budget, seconds: of the recipe's `search` section: evaluations, and charged seconds, at most.
        seed, settings, run, view: as of `metanas.search`.

    Returns:
        The best architecture, its value, and what the table reports of it.

    Raises:
        RecipeError, SpaceError, DataError, RunError: before the search, in one line; DataError also where the table has
            no row for an architecture.
        InterruptedSearchError: Ctrl-C or SIGTERM; a checkpoint was written, `resume` goes on.

    >>> import tempfile
    >>> import metanas
    >>> def skips(architecture):
    ...     return sum(label == ("skip_connect",) for label in architecture.values())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = metanas.search_by_value("nasbench201", skips, controller="local_search", budget=200,
    ...                                      run=Path(folder, "first"))
    >>> str(result.architecture), result.value
    ('|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|', 6.0)
    """
    base = read_values(read_toml(Path(recipe))) if isinstance(recipe, str | Path) else recipe or ValueRecipe()
    start = base.to_json()
    if isinstance(space, nn.Module):
        space = space_of(space)
    if isinstance(space, Space):
        start["space"] = {"name": None}
    elif space is not None and str(space) != base.space.name:
        start["space"] = {"name": str(space)}
    named = controller_name(controller) if isinstance(controller, Controller) else None
    own = controller if isinstance(controller, Controller) and named is None else None
    given: dict[str, Any] = {
        "table.source": str(objective) if isinstance(objective, str | Path) else None,
        "table.choose": choose,
        "table.report": [report] if isinstance(report, str) else None if report is None else list(report),
        "table.charge": None if charge is None else dict(charge),
        "search.budget": budget,
        "search.seconds": seconds,
        "seed": seed,
    }
    if isinstance(controller, Controller):
        given["search.controller"], given["search.options"] = named or (type(controller).__name__, {})
    else:
        given["search.controller"] = controller
    changes = {path: value for path, value in given.items() if value is not None}
    whole = read_values(override(start, {**(settings or {}), **changes}))
    function = None if objective is None or isinstance(objective, str | Path) else objective
    parts = prepare_values(whole, space if isinstance(space, Space) else None, function, own)
    stem = f"{parts.space.name}-{parts.facts()['name'].partition('.')[0]}"
    folder = partial(RunFolder.create_numbered, stem) if run is None else partial(RunFolder.create, run)
    return begin(ValueJob(parts), folder, view)


def prepare_values(
    recipe: ValueRecipe, space: Space | None, objective: Objective | None, controller: Controller | None
) -> ValueParts:
    """The parts of a run; everything that can be wrong with a recipe is found here, before a folder is made.

    Raises:
        RecipeError, SpaceError, DataError: as `metanas.search_by_value` says.
    """
    section, table = recipe.search, None
    learned = controller or make_controller(section.controller, section.options)
    if not isinstance(learned, ValueController):
        raise RecipeError([f"search.controller: {section.controller} does not go with one value; {BY_ONE_VALUE}"])
    if space is not None and recipe.space.options:
        raise RecipeError(["space.options: needs a space by name, and a Space was handed over; build it with them"])
    built = load_space(recipe.space.name or USUAL_SPACE, **recipe.space.options) if space is None else space
    handed = {} if controller is None else {"controller": describe(controller)}
    if objective is None:
        if recipe.table.source is None:
            raise RecipeError(["table.source: which table? give a CSV file, or an objective"])
        table = ArchitectureTable.read(recipe.table.source, key=recipe.table.key, test=recipe.table.report)
        objective = table.objective(recipe.table.choose or "", seconds=table.charged(recipe.table.charge))
        table.place(built.sample(np.random.default_rng(0)))  # another space's architectures are not there
    else:
        section_of_table = recipe.table.model_dump()
        odd = [name for name, usual in TableRecipe().model_dump().items() if section_of_table[name] != usual]
        if odd:
            raise RecipeError([f"table.{name}: goes with a table, and a function was handed over" for name in odd])
        handed["objective"] = str(getattr(objective, "__name__", type(objective).__name__))
    parts = ValueParts(recipe, built, learned, objective, table, handed)
    parts.search()
    return parts


def resume_values(
    folder: RunFolder,
    document: Mapping[str, Any],
    *,
    objective: Objective | None = None,
    controller: Controller | None = None,
    view: View | None = None,
) -> ValueResult:
    """Goes on with a search by values that is not finished; see `metanas.resume`."""
    try:
        recipe = read_values(document["recipe"])
    except RecipeError as error:
        raise RecipeError([f"{folder.file('recipe.json')}: {problem}" for problem in error.problems]) from None
    given = {"objective": objective, "controller": controller}
    missing = [name for name in document["handed"] if given.get(name) is None]
    if missing:
        raise RunError(f"{folder.path} was started with your own {', '.join(missing)}; hand it over again to resume()")
    parts = prepare_values(_unnamed(recipe), space_from_json(folder.read_space()), objective, controller)
    parts = ValueParts(recipe, parts.space, parts.controller, parts.objective, parts.table, parts.handed)
    if parts.facts() != document["data"]:
        shown = told_differences(document["data"], parts.facts())
        raise RunError(f"the table is not that of {folder.path}: {shown}; give the same table")
    return go_on(ValueJob(parts), folder, view)


def _unnamed(recipe: ValueRecipe) -> ValueRecipe:
    """The recipe for the space that the run's folder holds."""
    return read_values({**recipe.to_json(), "space": {"name": None}})


def value_result_of(folder: RunFolder, data: Mapping[str, Any] | None = None) -> ValueResult:
    """The result of a search by values. RunError where there is none yet, or its file is damaged."""
    data = folder.read_result() if data is None else data
    if data is None:
        raise RunError(f"{folder.path} has no result yet; resume it: {folder.resumed_by}")
    space = space_from_json(folder.read_space())
    try:
        return ValueResult(
            architecture=space.architecture(data["architecture"]),
            value=data["value"],
            evaluations=data["steps"],
            spent=data["spent"],
            report=data["report"],
            space=space,
            run=folder.path.absolute(),
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder.file('result.json')} is damaged: {error!r}") from error
