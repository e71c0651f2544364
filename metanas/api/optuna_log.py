"""A search as studies of Optuna, in `study.journal` of its run folder, for the dashboards and tools that read those.

    study "search"        a trial for every evaluation, or for the architecture that each epoch derives; its value is
                          what the search judges by, larger is better; where trainings differ in length, the
                          attribute "epochs" says how long each was: values of different lengths do not compare
    study "from scratch"  a trial for every network that was trained and tested; its value is the test score

The parameters of a trial are the choices of its architecture: a label where one is taken, else one yes or no for each
label. Nothing is read back by a search.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from metanas.api.journal import JOURNAL, open_journal
from metanas.run.events import Event

if TYPE_CHECKING:
    import optuna

SEARCH, SCRATCH = "search", "from scratch"
NUMBERS = {  # what is kept of an event beside its value
    "epoch": ("epoch", "inner_loss", "outer_loss", "entropy", "gap"),
    "value": ("step", "best", "epochs"),
    "network": ("network", "test_loss", "parameters", "multiply_adds", "seconds"),
}


@final
class OptunaLog:
    """Writes the events of a search as trials; those that a resumed run repeats are there already and are left out.

    Args:
        folder: of the run; its lock is held.
        choices: of space.json: objects with a name, candidates, and how many are taken.
    """

    def __init__(self, folder: Path, choices: list[dict[str, Any]]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = open_journal(folder / JOURNAL)
        self._choices = {choice["name"]: choice for choice in choices}
        self._studies = {
            name: optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
            for name in (SEARCH, SCRATCH)
        }
        trials = {name: study.get_trials(deepcopy=False) for name, study in self._studies.items()}
        self._there = {(name, trial.user_attrs.get("event")) for name in trials for trial in trials[name]}

    def write(self, event: Event) -> None:
        """Adds a trial where the event tells of an architecture and its value; any other event is passed over."""
        kind = event["kind"]
        value = event.get({"epoch": "outer_score", "value": "value", "network": "test_score"}.get(kind, ""))
        taken = event.get("architecture")
        name = SCRATCH if kind == "network" else SEARCH
        identity = f"{kind} {event.get('network' if kind == 'network' else 'step')}"
        if value is None or not isinstance(taken, Mapping) or (name, identity) in self._there:
            return
        kept = {key: event[key] for key in NUMBERS[kind] if event.get(key) is not None}
        self._studies[name].add_trial(self._trial(taken, float(value), {"event": identity, **kept}, event.get("key")))
        self._there.add((name, identity))

    def close(self) -> None:
        """Nothing is open between two trials."""

    def _trial(
        self, taken: Mapping[str, Any], value: float, facts: dict[str, Any], key: str | None
    ) -> optuna.trial.FrozenTrial:
        from optuna.distributions import CategoricalDistribution
        from optuna.trial import create_trial

        params: dict[str, Any] = {}
        space: dict[str, CategoricalDistribution] = {}
        for name, labels in taken.items():
            choice = self._choices.get(name)
            if choice is None:
                continue
            if choice["take"] == 1:
                params[name], space[name] = labels, CategoricalDistribution(choice["candidates"])
                continue
            chosen = {labels} if isinstance(labels, str) else set(labels)
            for label in choice["candidates"]:
                params[f"{name}: {label}"] = "yes" if label in chosen else "no"
                space[f"{name}: {label}"] = CategoricalDistribution(("no", "yes"))
        facts |= {} if key is None else {"architecture": key}
        return create_trial(value=value, params=params, distributions=dict(space), user_attrs=facts)
