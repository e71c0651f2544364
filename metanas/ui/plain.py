"""Plain lines instead of the live view, where the output is a pipe, a file or a terminal that cannot draw.

    first: search nasbench201 on digits with drnas, 50 epochs
    epoch  1/50       2s  inner loss  2.303  outer loss  2.301  11.8%  entropy 0.9987  |none~0|+...
    derived: test accuracy 97.2%, test loss 0.1031, 73.4k parameters, 2.31M multiply-adds
    first: finished after 1m 12s

    second: tune mlp on digits, learns decay per layer with unrolled, 200 steps
    trial  3/20  pruned    value  0.4100  best  0.2900  rule adam, width 64
    step  10/200      2s  outer loss  2.301  hypergradient  0.0214  decay, mean 0.0012
    step  57/200: not converged: the residual is 2.0e-04 (allowed: 1.0e-05)

ASCII only, one line per epoch, per trained network, per log line and for the end; DERIVED for a derivation that takes
evaluations; of a tuning, one per trial, TOLD for its steps, and one for the first that has not converged. No rich.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO, final

from metanas.ui.few_shot import plus_minus
from metanas.ui.fields import Record, number, string, whole
from metanas.ui.follow import Follower
from metanas.ui.state import UNDER_WAY, RunState, status_at
from metanas.ui.text import inert
from metanas.ui.tuning import OuterPoint, Tuning, chosen, doubts
from metanas.ui.units import count, duration, lasting, loss, percent, score, size
from metanas.ui.verdict import verdict

PERIOD = 0.25  # seconds between two looks at the folder
TOLD = 20  # lines for all outer steps of a tuning; the numbers of all of them are in the log
DERIVED = 10  # lines for all evaluations by which an architecture is derived
NAMED = 4  # learned numbers in such a line


def lines(event: Record, state: RunState) -> list[str]:
    """What there is to say about an event, given the state after it.

    >>> lines({"kind": "log", "level": "warning", "message": "slow \\x1b[31mdisk"}, RunState("first"))
    ['warning: slow ^[[31mdisk']
    >>> lines({"kind": "end", "status": "finished"}, RunState("first", status="finished", elapsed=72.0))
    ['first: finished after 1m 12s']
    """
    say = SAYS.get(string(event, "kind") or "")
    return [inert(line, ascii_only=True) for line in say(event, state)] if say else []


def _begin(event: Record, state: RunState) -> list[str]:
    verb = "resumed" if event.get("resumed") is True else "tune" if state.tuning else "search"
    if state.few_shot:
        few_shot, steps = state.few_shot, state.tuning.steps if state.tuning else None
        verb = "resumed" if event.get("resumed") is True else "few-shot"
        line = f"{state.name}: {verb} {few_shot.learner or '?'} on {few_shot.network or 'a network'}"
        return [f"{line}, {state.data or '?'}, {few_shot.task}" + (f", {steps} steps" if steps else "")]
    if state.tuning:
        return [_tunes(f"{state.name}: {verb} {state.tuning.network or '?'} on {state.data or '?'}", state.tuning)]
    if state.how:
        return [f"{state.name}: transfer {state.space or '?'} to {state.data or '?'}, {state.how}"]
    line = f"{state.name}: {verb} {state.space or '?'} on {state.data or '?'} with {state.controller or '?'}"
    return [line + (f", {state.epochs} epochs" if state.epochs else "")]


def _tunes(line: str, tuning: Tuning) -> str:
    line += f", learns {', '.join(tuning.learn) or '?'} with {tuning.method or '?'}"
    line += f", {tuning.trials} trials" if tuning.trials else ""
    return line + (f", {tuning.steps} steps" if tuning.steps else "")


def _trial(event: Record, state: RunState) -> list[str]:
    tuning = state.tuning
    if tuning is None or not tuning.recent or tuning.recent[-1].trial != whole(event, "trial"):
        return []
    now, total = tuning.recent[-1], str(tuning.trials or "?")
    parts = [f"trial {now.trial:>{len(total)}}/{total}", f"{now.state:<8}", f"value {loss(now.value):>7}"]
    parts += [f"best {loss(now.best):>7}", chosen(now), now.reason or ""]
    return ["  ".join(part for part in parts if part).rstrip()]


def _step(event: Record, state: RunState) -> list[str]:
    """Of a tuning: the first step, the last, and TOLD in between; and the first that had not converged."""
    tuning, step = state.tuning, whole(event, "step")
    if tuning is None or tuning.last is None or step != tuning.last.step:
        return []
    last, total = tuning.last, tuning.steps or 0
    head = f"step {step:>{len(str(total or '?'))}}/{total or '?'}"
    found = []
    if last.converged is False and last.told - last.sound == 1:
        found.append(f"{head}: not converged: {'; '.join(doubts(last, tuning)) or 'its numbers do not say why'}")
    if len(tuning.trace) == 1 or (step * TOLD // total > (step - 1) * TOLD // total if total else step % TOLD == 0):
        found.append("  ".join([head, f"{duration(state.elapsed):>7}", *_numbers(last, state)]))
    return found


def _numbers(last: OuterPoint, state: RunState) -> list[str]:
    parts = [] if last.inner_loss is None else [f"inner loss {loss(last.inner_loss):>6}"]
    parts += [f"outer loss {loss(last.outer_loss):>6}", f"hypergradient {loss(last.norm):>7}"]
    if last.sound < last.told:
        parts.append(f"converged {last.sound} of {last.told}")
    if state.skipped:
        parts.append(f"skipped {state.skipped}")
    parts += [f"{name} {loss(value)}" for name, value in list(last.learned.items())[:NAMED]]
    return [*parts, f"and {len(last.learned) - NAMED} more"] if len(last.learned) > NAMED else parts


def _need(event: Record, state: RunState) -> list[str]:
    needed, free, images = number(event, "bytes"), number(event, "free"), whole(event, "batch_size")
    there = "" if free is None else f", {size(free)} free"
    return [] if needed is None else [f"{state.name}: batches of {images} need about {size(needed)} of memory{there}"]


def _epoch(event: Record, state: RunState) -> list[str]:
    last = state.last
    if last is None:
        return []
    total = str(state.epochs or "?")
    parts = [f"epoch {last.epoch:>{len(total)}}/{total}", f"{duration(state.elapsed):>7}"]
    for name in ("inner", "outer"):
        found = getattr(last, f"{name}_score")
        shown = "" if found is None else f" {score(found, state.metric):>6}"
        parts.append(f"{name} loss {loss(getattr(last, f'{name}_loss')):>6}{shown}")
    if last.entropy is not None:
        parts.append(f"entropy {loss(last.entropy)}")
    if state.skipped:
        parts.append(f"skipped {state.skipped}")
    if last.changed:
        parts.append(f"changed {len(last.changed)}")
    if last.key and (last.changed or not last.before or last.epoch == state.epochs):  # not the same line after line
        parts.append(last.key)
    return ["  ".join(parts)]


def _derivation(event: Record, state: RunState) -> list[str]:
    """That it begins, and DERIVED lines on the way."""
    now = state.derivation
    if now is None or not now.total or whole(event, "done") != now.done:
        return []
    if not now.done:
        return [f"derivation: {now.total} evaluations of the supernet"]
    told = now.done * DERIVED // now.total > (now.done - 1) * DERIVED // now.total
    far = f"evaluation {now.done:>{len(str(now.total))}}/{now.total}"
    return [f"{far}  {duration(state.elapsed):>7}"] if told else []


def _value(event: Record, state: RunState) -> list[str]:
    point = state.values[-1] if state.values else None
    if point is None:
        return []
    far = f"{point.step}/{state.budget or '?'}"
    reason = string(event, "reason")
    found = f"value {loss(point.value)}" if reason is None else f"failed: {reason}"
    found += lasting(point.epochs)
    found += " as before" if event.get("repeated") is True else ""
    return [f"{far}  {found}  best {loss(point.best)}  {point.key or ''}".rstrip()]


def _validation(event: Record, state: RunState) -> list[str]:
    few_shot, step = state.few_shot, whole(event, "step")
    if few_shot is None or not few_shot.validations or few_shot.validations[-1].step != step:
        return []
    now, best = few_shot.validations[-1], few_shot.best
    line = f"step {step}: validation {plus_minus(now.score, ascii_only=True)}"
    return [
        f"{line}, the best"
        if best is now
        else f"{line}, best {percent(best.score.accuracy)} at {best.step}"
        if best
        else line
    ]


def _train(event: Record, state: RunState) -> list[str]:
    """The first epoch of a network only: its result has a line of its own."""
    run = next((run for run in state.training if run.network == string(event, "network")), None)
    if run and state.tuning:
        far = f"{state.tuning.retrain or '?'} steps"
        return [f"{run.network}: training from scratch for {far}"] if run.epoch == 1 else []
    return [f"{run.network}: training for {run.epochs or '?'} epochs"] if run and run.epoch == 1 else []


def _network(event: Record, state: RunState) -> list[str]:
    net = next((net for net in state.networks if net.network == string(event, "network")), None)
    if net is None:
        return []
    if state.tuning:
        tested = f"test {state.metric} {score(net.test_score, state.metric)}, test loss {loss(net.test_loss)}"
        return [f"{net.network}: {tested}, {count(net.parameters)} parameters", *filter(None, [verdict(state)])]
    return [
        f"{net.network}: test {state.metric} {score(net.test_score, state.metric)}, test loss {loss(net.test_loss)}, "
        f"{count(net.parameters)} parameters, {count(net.multiply_adds)} multiply-adds  {net.key or ''}".rstrip()
    ]


def _log(event: Record, state: RunState) -> list[str]:
    message = string(event, "message")
    return [f"{string(event, 'level') or 'info'}: {message}"] if message else []


def _end(event: Record, state: RunState) -> list[str]:
    line = f"{state.name}: {state.status} after {duration(state.elapsed)}"
    return [line + (f": {state.message}" if state.message else "")]


SAYS = {
    "begin": _begin,
    "need": _need,
    "epoch": _epoch,
    "derivation": _derivation,
    "value": _value,
    "trial": _trial,
    "validation": _validation,
    "step": _step,
    "train": _train,
    "network": _network,
    "log": _log,
    "end": _end,
}


@final
class PlainView:
    """Follows a run folder and prints its lines to `stream` while the body of `with` runs, and the rest at its end.

    A stream that cannot be written to any more (a closed pipe) ends the view, never the body.
    """

    def __init__(self, folder: str | Path, stream: TextIO) -> None:
        self._follower = Follower(folder)
        self._stream = stream
        self._done = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="metanas plain view", daemon=True)

    def wait(self) -> RunState:
        """Waits until the run is over, or nobody can read the lines any more; returns the state that was reached."""
        self._over.wait()
        return self._follower.state

    def __enter__(self) -> PlainView:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        last = False
        while not last:
            last = self._done.is_set()  # then looks once more, at what was written since
            try:
                for event, state in self._follower.poll():
                    for line in lines(event, state):
                        self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # a pipe that nobody reads; a stream that was closed
                break
            if status_at(self._follower.state, time.time()) not in UNDER_WAY:
                self._over.set()
            self._done.wait(PERIOD)
        self._over.set()
