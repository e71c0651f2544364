"""What has no derivative is chosen by Optuna: each trial is a tuning of its own with the values it is given.

    for each trial:  values <- sampler;  a tuning with them, reported as it goes, given up where the pruner says so
                     value = mean outer loss of its last quarter
    chosen = the values of the best

Trials are kept in a journal in the run folder, or in any storage that Optuna knows; those that are finished count when
the run goes on, and one that was cut off is made anew. A trial whose value is not finite failed, and is never the best.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metanas.api.recorder import Recorder
from metanas.errors import BilevelError, DivergedError, MetanasError, RecipeError
from metanas.loop import Tuning
from metanas.recipe import TuneRecipe, override, read_tuning
from metanas.recipe.tuning import ChooseRecipe, RangeRecipe

if TYPE_CHECKING:
    import optuna

REPORTS = 20
"""How often a trial says where it is, for the pruner."""
HOPELESS = 5
"""Trials that fail at the beginning, without one that does not, after which the run gives up."""


def choose(
    recipe: TuneRecipe,
    folder: Path,
    recorder: Recorder,
    build: Callable[[TuneRecipe], Tuning],
    *,
    number: Callable[..., int],
) -> dict[str, Any]:
    """The values of the best trial, by dotted path; makes the trials that are left.

    Args:
        recipe: of the run; `recipe.choose` has values.
        folder: of the run, where the journal is kept.
        recorder: of the run; a trial is a pause point at every step.
        build: the tuning of a recipe.
        number: (purpose, ...) -> seed.

    Raises:
        RecipeError: a storage that cannot be opened, values that make no recipe.
        DivergedError: every trial failed.
        InterruptedSearchError: it was asked to stop.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = recipe.choose
    study = _study(plan, folder, number)
    for cut in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        if plan.storage is None:  # nobody else works on a journal of our own
            study.tell(cut.number, state=optuna.trial.TrialState.FAIL)
    reasons: Counter[str] = Counter()
    while (done := _finished(study)) < plan.trials:
        study.sampler = _sampler(plan, number("sampler", done))
        _one(study, recipe, recorder, build, done, reasons)
        if sum(reasons.values()) >= min(HOPELESS, plan.trials) and not _completed(study):
            break
    if not _completed(study):
        grouped = "; ".join(f"{count} times: {reason}" for reason, count in reasons.most_common(3))
        raise DivergedError(f"every trial failed ({grouped or 'see the log'}); widen or mend choose.values")
    return dict(study.best_trial.user_attrs["values"])


def _study(plan: ChooseRecipe, folder: Path, number: Callable[..., int]) -> optuna.Study:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    pruner: optuna.pruners.BasePruner = {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=REPORTS // 4),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=REPORTS),
        "none": optuna.pruners.NopPruner,
    }[plan.pruner]()
    try:
        storage: Any = plan.storage
        if storage is None:
            journal = str(folder / "study.journal")
            storage = optuna.storages.JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
        return optuna.create_study(
            storage=storage,
            study_name=plan.study or folder.name,
            sampler=_sampler(plan, number("sampler", 0)),
            pruner=pruner,
            direction="minimize",
            load_if_exists=True,
        )
    except Exception as error:  # whatever a database's driver raises
        line = str(error).partition("\n")[0]
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


def _one(
    study: optuna.Study,
    recipe: TuneRecipe,
    recorder: Recorder,
    build: Callable[[TuneRecipe], Tuning],
    done: int,
    reasons: Counter[str],
) -> None:
    """One trial, from its values to what is told of it."""
    from optuna.trial import TrialState

    plan, trial = recipe.choose, study.ask()
    values = {path: _suggested(trial, path, wanted) for path, wanted in plan.values.items()}
    trial.set_user_attr("values", values)
    reason, value, state = None, math.nan, TrialState.FAIL
    try:
        changes = {**values, "outer.steps": plan.steps or recipe.outer.steps, "choose": {}}
        value, pruned = _tuned(trial, build(read_tuning(override(recipe.to_json(), changes))), recorder)
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
    except (DivergedError, BilevelError) as error:
        reason = str(error)
    except RecipeError:
        raise
    except MetanasError:
        raise
    except (RuntimeError, ValueError) as error:  # of torch: out of memory, shapes
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if state == TrialState.COMPLETE and not math.isfinite(value):
        state, reason = TrialState.FAIL, f"the outer loss is {value}"
    if reason is not None:
        reasons[reason] += 1
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
            trial.report(_late(losses), step.step // every)
            if trial.should_prune():
                return _late(losses), True
    return _late(losses), False


def _late(losses: list[float]) -> float:
    last = losses[-max(len(losses) // 4, 1) :]
    return sum(last) / len(last)


def _suggested(trial: optuna.Trial, path: str, wanted: tuple[Any, ...] | RangeRecipe) -> Any:
    if isinstance(wanted, tuple):
        return trial.suggest_categorical(path, wanted)
    if wanted.whole:
        return trial.suggest_int(path, math.ceil(wanted.low), math.floor(wanted.high), log=wanted.log)
    return trial.suggest_float(path, wanted.low, wanted.high, log=wanted.log)
