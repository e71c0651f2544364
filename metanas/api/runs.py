"""Runs on disk: what their folders tell, while they work and afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from metanas.api.by_value import KIND as BY_VALUE
from metanas.api.by_value import ValueResult, value_result_of
from metanas.api.few_shot import FewShotResult, few_shot_result_of
from metanas.api.functions import resume
from metanas.api.result import Result, result_of
from metanas.api.tuning import TuneResult, tune_result_of
from metanas.network import Maker
from metanas.run import RunFolder, read_events, summarise
from metanas.space import Space, space_from_json


@dataclass(frozen=True)
class Run:
    """A run on disk, live or finished.

    `resume(**handed)` goes on with it, where objects that the run was started with (data, ops, loss) are handed over
    again.
    """

    folder: RunFolder

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def status(self) -> str:
        """`"finished"`, `"interrupted"`, `"failed"`, `"killed"`, `"running"`, ..."""
        return summarise(self.path).status

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as plain data."""
        recipe: dict[str, Any] = self.folder.read_recipe()["recipe"]
        return recipe

    @property
    def space(self) -> Space:
        return space_from_json(self.folder.read_space())

    def events(self) -> tuple[dict[str, Any], ...]:
        """Everything that happened so far."""
        return read_events(self.folder.events).events

    def result(
        self, ops: Mapping[str, Maker] | None = None, module: nn.Module | str | Path | None = None
    ) -> Result | TuneResult | FewShotResult | ValueResult:
        """The result; `ops`, or a module in place of the space, as given to `search`. RunError while there is none."""
        kind = self.folder.read_recipe().get("kind")
        if kind == "fewshot":
            return few_shot_result_of(self.folder)
        if kind == "tune":
            return tune_result_of(self.folder)
        if kind == BY_VALUE:
            return value_result_of(self.folder)
        return result_of(self.folder, ops, module)

    def resume(self, **handed: Any) -> Result | TuneResult | FewShotResult | ValueResult:
        """Goes on from the last checkpoint; arguments as in `metanas.resume`."""
        return resume(self.folder.path, **handed)


def load_run(run: str | Path) -> Run:
    """A run by its name in `runs/` or its Path. Raises RunError, with the nearest name, where there is none.

    >>> load_run("runs/no-such-run").status
    Traceback (most recent call last):
    ...
    metanas.errors.RunError: there is no run at runs/no-such-run...
    """
    return Run(RunFolder.open(run))
