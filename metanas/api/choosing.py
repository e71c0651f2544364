"""What has no derivative is chosen by Optuna: each trial is a tuning of its own with the values it is given.

    for each trial:  values <- sampler;  a tuning with them, reported as it goes, given up where the pruner says so
                     value = mean outer loss of its last quarter
    chosen = the values of the best

Trials are kept in a journal in the run folder, or in any storage that Optuna knows; those that are finished count when
the run goes on, and one that was cut off is made anew. A trial whose value is not finite failed, and is never the best.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metanas.api.journal import JOURNAL, open_database, open_journal, storage_trouble
from metanas.api.recorder import Recorder
from metanas.errors import (
    BilevelError,
    DivergedError,
    InterruptedSearchError,
    MetanasError,
    MissingDependencyError,
    RecipeError,
    RunError,
    ShapeError,
    SpaceError,
)
from metanas.loop import Tuning
from metanas.recipe import TuneRecipe, override, read_tuning
from metanas.recipe.tuning import ChooseRecipe, RangeRecipe
from metanas.run.atomic import explained

if TYPE_CHECKING:
    import optuna

STUDY = "tune"
"""Name of the study in a journal of our own: a run folder may be renamed."""
REPORTS = 20
"""How often a trial says where it is, for the pruner."""
HOPELESS = 5
"""Trials that fail at the beginning, without one that does not, after which the run gives up."""


def check_sampler(plan: ChooseRecipe) -> None:
    """Raises MissingDependencyError where the sampler needs a package that is not here.

    >>> check_sampler(ChooseRecipe())
    """
    if plan.values and plan.sampler == "cmaes" and importlib.util.find_spec("cmaes") is None:
        raise MissingDependencyError('choose.sampler "cmaes" needs the package of that name: pip install cmaes')


def choose(
    recipe: TuneRecipe,
    folder: Path,
    recorder: Recorder,
    build: Callable[[TuneRecipe], Tuning],
    *,
    number: Callable[..., int],
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """The values of the best trial, by dotted path; makes the trials that are left.

    Args:
        recipe: of the run; `recipe.choose` has values.
        folder: of the run, where the journal is kept; its lock is held.
        recorder: of the run; a trial is a pause point at every step.
        build: the tuning of a recipe.
        number: (purpose, ...) -> seed.
        more: as of `read_tuning`.

    Raises:
        RecipeError: a storage that cannot be opened, or a study that was made with other values.
        RunError: a storage that is locked or full, a damaged journal.
        DivergedError: every trial failed.
        InterruptedSearchError: it was asked to stop.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = recipe.choose
    salt = () if plan.storage is None else (folder.name,)  # runs that share a study must not draw the same
    with _trouble(plan, folder):
        study = _study(plan, folder, number)
        while (done := _finished(study)) < plan.trials and not _hopeless(study, plan):
            study.sampler = _sampler(plan, number("sampler", *salt, done))
            _one(study, recipe, recorder, build, done, more)
        if not _completed(study):
            grouped = "; ".join(f"{count} times: {reason}" for reason, count in _reasons(study).most_common(3))
            raise DivergedError(f"every trial failed ({grouped or 'all were given up'}); widen or mend choose.values")
        return dict(study.best_trial.user_attrs["values"])


@contextlib.contextmanager
def _trouble(plan: ChooseRecipe, folder: Path) -> Iterator[None]:
    """Whatever the storage raises while it is used, in one line."""
    try:
        with explained(folder / JOURNAL):
            yield
    except Exception as error:
        line = storage_trouble(error)
        if line is None:
            raise
        raise RunError(
            f"choose.storage: {plan.storage} does not take the trials ({line}); see that no other process holds it and "
            "that there is space, then resume"
        ) from error


def _study(plan: ChooseRecipe, folder: Path, number: Callable[..., int]) -> optuna.Study:
    import optuna

    pruner: optuna.pruners.BasePruner = {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=REPORTS // 4),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=REPORTS),
        "none": optuna.pruners.NopPruner,
    }[plan.pruner]()
    try:
        return optuna.create_study(
            storage=open_journal(folder / JOURNAL) if plan.storage is None else open_database(plan.storage),
            study_name=STUDY if plan.storage is None else plan.study or folder.name,
            sampler=_sampler(plan, number("sampler", 0)),
            pruner=pruner,
            direction="minimize",
            load_if_exists=True,
        )
    except OSError:  # `_trouble` has words for it, and for a database that is locked
        raise
    except Exception as error:  # whatever a database's driver raises
        line = str(error).partition("\n")[0]
        if "database is locked" in line:
            raise
        if plan.storage is None:
            raise RunError(f"{folder / JOURNAL} is damaged ({line}); remove it, and the trials begin anew") from None
        raise RecipeError(
            [f"choose.storage: {plan.storage} cannot be opened ({line}); give a URL as Optuna does"]
        ) from None


def _sampler(plan: ChooseRecipe, seed: int) -> optuna.samplers.BaseSampler:
    """A new one for each trial, seeded by how many there are: a resumed run draws what an uninterrupted one draws."""
    import optuna

    makers: Mapping[str, Callable[..., optuna.samplers.BaseSampler]] = {
        "tpe": optuna.samplers.TPESampler,
        "random": optuna.samplers.RandomSampler,
        "gp": optuna.samplers.GPSampler,
        "cmaes": optuna.samplers.CmaEsSampler,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return makers[plan.sampler](seed=seed % 2**31)


def _finished(study: optuna.Study) -> int:
    from optuna.trial import TrialState

    # One that was cut off has no reason, and does not count.
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
    return sum(trial.state != TrialState.FAIL or "reason" in trial.user_attrs for trial in trials)


def _completed(study: optuna.Study) -> bool:
    from optuna.trial import TrialState

    return bool(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))


def _reasons(study: optuna.Study) -> Counter[str]:
    """Why trials failed, those of before a resume included."""
    from optuna.trial import TrialState

    failed = study.get_trials(deepcopy=False, states=[TrialState.FAIL])
    return Counter(trial.user_attrs["reason"] for trial in failed if "reason" in trial.user_attrs)


def _hopeless(study: optuna.Study, plan: ChooseRecipe) -> bool:
    return _reasons(study).total() >= min(HOPELESS, plan.trials) and not _completed(study)


def _asked(study: optuna.Study, plan: ChooseRecipe) -> optuna.Trial:
    """The next trial. In a journal of our own, one that was cut off is made again under its number, on which some
    samplers and pruners look; where its values were not all written, it is left."""
    import optuna
    from optuna.trial import TrialState

    if plan.storage is None:
        for cut in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if cut.params.keys() == plan.values.keys():
                return optuna.trial.Trial(study, cut._trial_id)
            study.tell(cut.number, state=TrialState.FAIL)
    return study.ask()


def _one(
    study: optuna.Study,
    recipe: TuneRecipe,
    recorder: Recorder,
    build: Callable[[TuneRecipe], Tuning],
    done: int,
    more: Sequence[str],
) -> None:
    """One trial, from its values to what is told of it."""
    from optuna.trial import TrialState

    plan, trial = recipe.choose, _asked(study, recipe.choose)
    try:
        values = _suggested(trial, plan, study.study_name)
        trial.set_user_attr("values", values)
    except MetanasError:  # the study has other values: a trial that was asked for would stay there, as if at work
        study.tell(trial, state=TrialState.FAIL)
        raise
    reason, value, state = None, math.nan, TrialState.FAIL
    try:
        changes = {**values, "outer.steps": plan.steps or recipe.outer.steps, "choose": {}}
        value, pruned = _tuned(trial, build(read_tuning(override(recipe.to_json(), changes), more=more)), recorder)
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
    except InterruptedSearchError:
        if plan.storage is not None:  # nobody could tell it from one that is at work
            study.tell(trial, state=TrialState.FAIL)
        raise
    except (DivergedError, BilevelError, RecipeError, ShapeError, SpaceError) as error:
        reason = str(error)
    except (RuntimeError, ValueError) as error:  # of torch: out of memory, shapes
        if isinstance(error, MetanasError):
            raise
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if state == TrialState.COMPLETE and not math.isfinite(value):
        state, reason = TrialState.FAIL, f"the outer loss is {value}"
    if reason is not None:
        trial.set_user_attr("reason", reason)
    study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
    best = study.best_value if _completed(study) else None
    words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    recorder.log.write(
        "trial",
        trial=done + 1,
        trials=plan.trials,
        values=values,
        value=value,
        best=best,
        state=words[state],
        reason=reason,
    )


def _tuned(trial: optuna.Trial, tuning: Tuning, recorder: Recorder) -> tuple[float, bool]:
    """(mean outer loss of the last quarter of the steps, whether it was given up)."""
    losses: list[float] = []
    every = max(tuning.schedule.steps // REPORTS, 1)
    for step in tuning.steps():
        losses.append(float(step.outer_loss))
        recorder.pause_point(0, lambda: {"phase": "choose"})
        if step.step % every == 0 and math.isfinite(losses[-1]):
            with warnings.catch_warnings():  # of a trial that is made again, what was reported is there
                warnings.filterwarnings("ignore", "The reported value is ignored")
                trial.report(_late(losses), step.step // every)
            if trial.should_prune():
                return _late(losses), True
    return _late(losses), False


def _late(losses: list[float]) -> float:
    last = losses[-max(len(losses) // 4, 1) :]
    return sum(last) / len(last)


def _suggested(trial: optuna.Trial, plan: ChooseRecipe, study: str) -> dict[str, Any]:
    """Path -> value. RecipeError where the study knows another range under that path."""
    found: dict[str, Any] = {}
    for path, wanted in plan.values.items():
        try:
            found[path] = _value(trial, path, wanted)
        except ValueError as error:
            line = str(error).partition("\n")[0]
            raise RecipeError(
                [
                    f"choose.values.{path}: the study {study!r} was made with other values ({line}); give another "
                    "choose.study"
                ]
            ) from None
    return found


def _value(trial: optuna.Trial, path: str, wanted: tuple[Any, ...] | RangeRecipe) -> Any:
    if isinstance(wanted, tuple):
        return trial.suggest_categorical(path, wanted)
    if wanted.whole:
        return trial.suggest_int(path, math.ceil(wanted.low), math.floor(wanted.high), log=wanted.log)
    return trial.suggest_float(path, wanted.low, wanted.high, log=wanted.log)
