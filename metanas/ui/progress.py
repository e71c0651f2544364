"""How far a run is, and when it will be done: pure functions of its state.

A run searches (epochs; or evaluations, of a controller that needs only values), may derive what it found by evaluations
of the supernet, may refine it (evaluations again), and then trains it, and some random networks beside it, from
scratch. A tuning may begin with trials, takes outer steps, and trains a network with what was learned, and one without.
A few-shot run takes outer steps only. Each phase has its own bar; the time left is that of the phase.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanas.ui.few_shot import FewShot
from metanas.ui.points import Derivation
from metanas.ui.state import RunState
from metanas.ui.tuning import Tuning

WINDOW = 10  # epochs over which the speed is measured: recent enough to follow a change, long enough to be calm


@dataclass(frozen=True)
class Phase:
    """What the run is doing; `share` is of this phase, 0 to 1, and `seconds_left` is None where nothing is known."""

    name: str
    done: float
    total: float | None
    unit: str
    seconds_left: float | None

    @property
    def share(self) -> float:
        return min(max(self.done / self.total, 0.0), 1.0) if self.total else 0.0


def phase(state: RunState) -> Phase:
    """The phase that the run is in.

    >>> phase(RunState("first"))
    Phase(name='search', done=0.0, total=None, unit='epochs', seconds_left=None)
    """
    if state.few_shot and state.tuning:
        return _episodic(state.few_shot, state.tuning, state.elapsed)
    if state.training or state.networks:
        return _training(state)
    if state.tuning:
        return _steps(state.tuning, state.elapsed) if state.tuning.trace else _trials(state.tuning)
    if state.values:
        return _evaluations(state)
    return _derivation(state.derivation) if state.derivation else _search(state)


def steps_per_epoch(state: RunState) -> float | None:
    """From the last finished epoch, or from the recipe while there is none."""
    last = state.last
    if last and last.step and last.epoch:
        return last.step / last.epoch
    if state.inner_size and state.batch_size:
        return max(state.inner_size // state.batch_size, 1)
    return None


def _search(state: RunState) -> Phase:
    last = state.last
    done = float(last.epoch) if last else 0.0
    per = steps_per_epoch(state)
    if per and state.step is not None:
        done = min(max(done, state.step / per), done + 1)
    if state.epochs:
        done = min(done, float(state.epochs))
    if not state.epochs or not last:
        return Phase("search", done, state.epochs, "epochs", None)
    first = state.history[-WINDOW - 1] if len(state.history) > WINDOW else state.history[0]
    if first is last:
        pace = last.elapsed / last.epoch if last.epoch else 0.0
    else:
        pace = (last.elapsed - first.elapsed) / (last.epoch - first.epoch)
    left = max(pace, 0.0) * (state.epochs - done)
    return Phase("search", done, state.epochs, "epochs", left)


def _derivation(now: Derivation) -> Phase:
    left = None
    if now.total and now.done:
        left = max(now.total - now.done, 0) * max(now.elapsed - now.begun, 0.0) / now.done
    return Phase("derivation", float(now.done), now.total, "evaluations", left)


def _evaluations(state: RunState) -> Phase:
    name, done = "refinement" if state.history else "search", float(state.values[-1].step)
    if not state.budget or not done:
        return Phase(name, done, state.budget, "networks", None)
    before = state.derivation or state.last
    spent = max(state.elapsed - (before.elapsed if before else 0.0), 0.0)
    return Phase(name, done, state.budget, "networks", max(state.budget - done, 0) * spent / done)


def _trials(tuning: Tuning) -> Phase:
    """Before the first outer step: what Optuna tries, where it was asked to."""
    done = float(sum(tuning.counts.values()))
    if not tuning.trials or done >= tuning.trials:
        return Phase("tuning", 0.0, tuning.steps, "steps", None)
    left = (tuning.trials - done) * tuning.tried_at / done if done else None
    return Phase("trials", done, tuning.trials, "trials", left)


def _steps(tuning: Tuning, elapsed: float) -> Phase:
    last = tuning.trace[-1]
    if not tuning.steps:
        return Phase("tuning", float(last.step), None, "steps", None)
    first = tuning.trace[max(len(tuning.trace) - 1 - WINDOW, 0)]
    spent, steps = last.elapsed - first.elapsed, last.step - first.step
    if not steps:  # the first one of all
        spent, steps = elapsed - tuning.tried_at, max(last.step, 1)
    return Phase(
        "tuning", float(last.step), tuning.steps, "steps", max(tuning.steps - last.step, 0) * max(spent, 0.0) / steps
    )


def _episodic(few_shot: FewShot, tuning: Tuning, elapsed: float) -> Phase:
    """All outer steps are one phase, also where a structure is derived between them."""
    found = _steps(tuning, elapsed) if tuning.trace else _trials(tuning)
    return replace(found, name="structure" if found.done < few_shot.structure_steps else "learning")


def _training(state: RunState) -> Phase:
    """Epochs over all networks: the one that was found and those that stand beside it. A tuning counts parts."""
    seen = {run.network for run in state.training} | {net.network for net in state.networks}
    networks = max(len(state.planned), len(seen))
    each = state.train_epochs or max((run.epochs or 0 for run in state.training), default=0)
    finished = {net.network for net in state.networks}
    done = float(len(finished) * each + sum(run.epoch for run in state.training if run.network not in finished))
    left = (networks * each - done) * max(state.elapsed - state.found_at, 0.0) / done if done else None
    total, unit = networks * each, "epochs"
    if state.tuning:
        total, unit = (networks * state.tuning.retrain, "steps") if state.tuning.retrain and each else (total, "parts")
        done = done * total / (networks * each) if each else done
    return Phase("training", done, total or None, unit, left)
