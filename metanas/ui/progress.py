"""How far a run is, and when it will be done: pure functions of its state.

A run searches (epochs; or evaluations, of a controller that needs only values), may refine what it found (evaluations
again), and then trains it, and some random networks beside it, from scratch. Each phase has its own bar; the time left
is that of the phase.
"""

from __future__ import annotations

from dataclasses import dataclass

from metanas.ui.state import RunState

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
    if state.training or state.networks:
        return _training(state)
    if state.values:
        return _evaluations(state)
    return _search(state)


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


def _evaluations(state: RunState) -> Phase:
    name, done = "refinement" if state.history else "search", float(state.values[-1].step)
    if not state.budget or not done:
        return Phase(name, done, state.budget, "networks", None)
    spent = max(state.elapsed - (state.history[-1].elapsed if state.history else 0.0), 0.0)
    return Phase(name, done, state.budget, "networks", max(state.budget - done, 0) * spent / done)


def _training(state: RunState) -> Phase:
    """Epochs over all networks: the derived one and the random ones that stand beside it."""
    seen = {run.network for run in state.training} | {net.network for net in state.networks}
    networks = max(1 + (state.random_networks or 0), len(seen))
    each = state.train_epochs or max((run.epochs or 0 for run in state.training), default=0)
    finished = {net.network for net in state.networks}
    done = len(finished) * each + sum(run.epoch for run in state.training if run.network not in finished)
    left = (networks * each - done) * max(state.elapsed - state.found_at, 0.0) / done if done else None
    return Phase("training", float(done), networks * each or None, "epochs", left)
