"""All that a view knows of a run, as one frozen value folded from its records.

    state = described(RunState("first"), recipe, space)      # what was asked for
    for event in events: state = fold(state, event)          # what happened
    state = concluded(state, result)                         # what came out

`fold` is pure and total: an event of an unknown kind, or with fields missing, null or of the wrong type, changes what
it can and never raises. A resumed run repeats steps and epochs; the last of a repeated one counts, and what followed it
before the resume is forgotten. Durations come from `elapsed` (a monotonic clock), never from a difference of two `at`.
What is called a score here was called an accuracy in runs of the first version.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from metanas.ui.cells import cells_of
from metanas.ui.few_shot import FewShot, few_shot_of, measured, outcome, rewound, validated
from metanas.ui.fields import Label, Record, architecture, as_record, flattened, number, string, strings, weights, whole
from metanas.ui.fronts import joined, objectives, stretched
from metanas.ui.points import (
    Cell,
    Choice,
    Derivation,
    EpochPoint,
    LogLine,
    StepPoint,
    Trained,
    Training,
    ValuePoint,
)
from metanas.ui.tuning import Tuning, started, stepped, tells_of_tuning, tried, tuning_of
from metanas.ui.units import ACCURACY

RECENT = 400  # steps kept for the curve of a run that has no epoch yet
LOGGED = 100  # log lines kept
QUIET = 30.0  # seconds without an event after which a run that holds no lock counts as killed
UNDER_WAY = ("waiting", "running")
WITHOUT = ("finetune", "frozen")  # transfers that carry a network over and search none
BEST = 10  # evaluated architectures kept for the leaderboard
TUNED = ("learned", "start")  # networks of a tuning: trained with the learned values, and with those at the start


@dataclass(frozen=True)
class RunState:
    """A run, as far as its folder tells; every field has a value for a run that has said nothing yet."""

    name: str
    space: str | None = None
    data: str | None = None
    controller: str | None = None
    estimator: str | None = None
    metric: str = ACCURACY  # what a score is
    device: str | None = None
    seed: int | None = None
    batch_size: int | None = None
    inner_size: int | None = None
    epochs: int | None = None
    train_epochs: int | None = None
    random_networks: int | None = None
    choices: tuple[Choice, ...] = ()
    cells: tuple[Cell, ...] = ()
    recipe: Mapping[str, str] = field(default_factory=dict)  # what was asked for, by dotted path

    status: str = "waiting"  # waiting | running | finished | interrupted | failed
    writer: str = "none"  # who holds the run's lock: none | alive | dead | elsewhere (on another host)
    message: str | None = None
    host: str | None = None
    pid: int | None = None
    resumes: int = 0
    at: float | None = None  # unix seconds of the last event
    elapsed: float = 0.0  # seconds of work, over all resumes
    found_at: float = 0.0  # `elapsed` when the last epoch or evaluation of the search was over
    step: int | None = None
    budget: int | None = None
    skipped: int = 0
    gradient_norm: float | None = None
    memory: float | None = None  # bytes of the device that were in use at most
    host_memory: float | None = None
    needed: float | None = None  # bytes, by the estimate before the search
    spent: Mapping[str, float] = field(default_factory=dict)  # part of a step -> its seconds, in the last epoch

    steps: tuple[StepPoint, ...] = ()
    history: tuple[EpochPoint, ...] = ()
    derivation: Derivation | None = None  # None: it takes no evaluations, or has not begun
    values: tuple[ValuePoint, ...] = ()
    best: tuple[ValuePoint, ...] = ()
    front: tuple[ValuePoint, ...] = ()  # of several objectives
    extent: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of each objective, over all evaluations
    training: tuple[Training, ...] = ()
    networks: tuple[Trained, ...] = ()
    log: tuple[LogLine, ...] = ()
    guard: str | None = None  # what a guard did, and why
    guarded_at: int | None = None  # after which epoch
    tuning: Tuning | None = None  # None: a search
    few_shot: FewShot | None = None  # its outer steps are in `tuning`
    how: str | None = None  # of a transfer: finetune, frozen, search
    carried: Mapping[str, Label] = field(default_factory=dict)  # the architecture that a transfer without a search has

    @property
    def planned(self) -> tuple[str, ...]:
        """The networks that are trained, all but the first of a transfer from scratch."""
        if self.tuning:
            return TUNED
        scratch = ("scratch",) if self.how else ()
        return ("derived", *scratch, *(f"random {n + 1}" for n in range(self.random_networks or 0)))

    @property
    def searches(self) -> bool:
        """Whether an architecture is looked for."""
        return not (self.tuning or self.few_shot or self.how in WITHOUT)

    @property
    def last(self) -> EpochPoint | None:
        """The last finished epoch."""
        return self.history[-1] if self.history else None


def described(state: RunState, recipe: object, space: object) -> RunState:
    """The state with what recipe.json and space.json tell (None: missing); finetune and frozen asked for no search."""
    written = as_record(recipe)
    transfer = as_record(written.get("transfer"))
    how = string(transfer, "how")
    asked = {k: v for k, v in as_record(written.get("recipe")).items() if k != "search" or how not in WITHOUT}
    search, evaluation = as_record(asked.get("search")), as_record(asked.get("evaluation"))
    data, graph = as_record(written.get("data")), as_record(space)
    listed = graph.get("choices")
    choices = [as_record(entry) for entry in listed] if isinstance(listed, list) else []
    return replace(
        state,
        space=string(graph, "name") or string(as_record(asked.get("space")), "name") or state.space,
        data=string(data, "name") or state.data,
        controller=how or string(search, "controller") or string(as_record(search.get("controller")), "name"),
        estimator=string(search, "estimator"),
        metric=string(written, "metric") or state.metric,
        device=string(as_record(written.get("versions")), "device") or string(asked, "device"),
        seed=whole(asked, "seed"),
        batch_size=whole(search, "batch_size"),
        inner_size=whole(as_record(data.get("sizes")), "inner"),
        epochs=whole(search, "epochs") or state.epochs,
        train_epochs=whole(evaluation, "epochs"),
        random_networks=whole(evaluation, "random"),
        choices=tuple(
            Choice(
                string(entry, "name") or "?",
                strings(entry, "candidates"),
                strings(entry, "skips") if isinstance(entry.get("skips"), list) else None,
            )
            for entry in choices
            if entry
        ),
        cells=cells_of(graph),
        recipe=flattened(asked),
        tuning=tuning_of(state.tuning, written),
        few_shot=few_shot_of(state.few_shot, written),
        how=how,
        carried=architecture(transfer, "architecture") if how in WITHOUT else {},
    )


def concluded(state: RunState, result: object) -> RunState:
    """The state with the networks of result.json, where the events do not tell of them already.

    Of a tuning also with the values that it started from: its events tell of those after each step.
    """
    found = as_record(result)
    if state.few_shot or string(found, "kind") == "fewshot":
        state = replace(state, tuning=state.tuning or Tuning(), few_shot=outcome(state.few_shot or FewShot(), found))
    elif state.tuning or string(found, "kind") == "tune":
        state = replace(state, tuning=started(state.tuning or Tuning(), found))
    if not found or state.networks:
        return state
    listed = found.get("random")
    random = [as_record(entry) for entry in listed] if isinstance(listed, list) else []
    rivals = [("scratch", as_record(found.get("scratch")))] if found.get("scratch") else []
    rivals += [(f"random {n}", entry) for n, entry in enumerate(random, start=1)]
    if state.tuning:
        rivals = [("start", _start(as_record(found.get("start"))))] if found.get("start") else []
    trained = tuple(_trained(name, entry) for name, entry in [(state.planned[0], found), *rivals])
    return replace(state, networks=trained, status="finished" if state.status == "waiting" else state.status)


def fold(state: RunState, event: object) -> RunState:
    """The state after one event.

    >>> state = fold(RunState("first"), {"kind": "begin", "at": 5.0, "elapsed": 0.0, "host": "a", "pid": 7})
    >>> state.status, state.pid, fold(state, {"kind": "never heard of"}).status, fold(state, None) == state
    ('running', 7, 'running', True)
    """
    record = as_record(event)
    reader = READERS.get(string(record, "kind") or "")
    at, elapsed = number(record, "at"), number(record, "elapsed")
    state = replace(
        state,
        at=state.at if at is None else at,
        elapsed=state.elapsed if elapsed is None else elapsed,
        status="running" if state.status == "waiting" and record else state.status,
    )
    return reader(state, record) if reader else state


def age_at(state: RunState, now: float | None) -> float | None:
    """Seconds since the last event; a clock that was set back is not a heartbeat from the future.

    >>> state = RunState("first", at=10.0)
    >>> age_at(state, 12.0), age_at(state, 7.0), age_at(state, None)
    (2.0, 0.0, None)
    """
    return None if state.at is None or now is None else max(now - state.at, 0.0)


def status_at(state: RunState, now: float | None) -> str:
    """The status that the run wrote, or "killed" where it never wrote its end and its writer is gone.

    >>> status_at(RunState("first", status="running", writer="dead"), None)
    'killed'
    """
    if state.status != "running" or state.writer in ("alive", "elsewhere"):
        return state.status
    age = age_at(state, now)
    gone = state.writer == "dead" or (age is not None and age >= QUIET)
    return "killed" if gone else "running"


def _begin(state: RunState, event: Record) -> RunState:
    return replace(
        state,
        status="running",
        message=None,
        host=string(event, "host"),
        pid=whole(event, "pid"),
        resumes=state.resumes + (event.get("resumed") is True),
    )


def _step(state: RunState, event: Record) -> RunState:
    step = whole(event, "step")
    if step is None:
        return state
    if state.tuning or tells_of_tuning(event):
        state = _tuned(state, event, step)
    kept = state.steps
    if kept and kept[-1].step >= step:  # resumed from an earlier checkpoint
        kept = tuple(point for point in kept if point.step < step)
    inner, outer = number(event, "inner_loss"), number(event, "outer_loss")
    point = StepPoint(step, inner, outer, number(event, "outer_gradient_norm"))
    skipped = whole(event, "skipped")
    return replace(
        state,
        step=step,
        steps=(*kept[-RECENT + 1 :], point),
        derivation=None,
        gradient_norm=number(event, "gradient_norm"),
        skipped=state.skipped if skipped is None else skipped,
    )


def _tuned(state: RunState, event: Record, step: int) -> RunState:
    """An outer step of a tuning; one that is repeated was followed by no training from scratch."""
    before = state.tuning or Tuning()
    again = before.last is not None and before.last.step >= step
    return replace(
        state,
        tuning=stepped(before, event, state.elapsed),
        few_shot=rewound(state.few_shot, step) if again and state.few_shot else state.few_shot,
        found_at=state.elapsed,
        training=() if again else state.training,
        networks=() if again else state.networks,
    )


def _validation(state: RunState, event: Record) -> RunState:
    found = validated(state.few_shot or FewShot(), event)
    return replace(state, tuning=state.tuning or Tuning(), few_shot=found, found_at=state.elapsed)


def _trial(state: RunState, event: Record) -> RunState:
    before = state.tuning or Tuning()
    return replace(state, tuning=tried(before, event, state.elapsed), found_at=state.elapsed)


def _epoch(state: RunState, event: Record) -> RunState:
    epoch, step = whole(event, "epoch"), whole(event, "step")
    if epoch is None:
        return state
    rewound = bool(state.history) and state.history[-1].epoch >= epoch
    kept = tuple(point for point in state.history if point.epoch < epoch) if rewound else state.history
    derived = architecture(event, "architecture")
    before = kept[-1].architecture if kept else {}
    point = EpochPoint(
        epoch=epoch,
        step=step,
        elapsed=state.elapsed,
        inner_loss=number(event, "inner_loss"),
        outer_loss=number(event, "outer_loss"),
        inner_score=number(event, "inner_score", "inner_accuracy"),
        outer_score=number(event, "outer_score", "outer_accuracy"),
        entropy=number(event, "entropy"),
        gap=number(event, "gap"),
        key=string(event, "key"),
        weights=weights(event, "weights"),
        architecture=derived,
        before=before,
        changed=tuple(name for name, label in derived.items() if before and before.get(name) != label),
        derived_score=number(event, "derived_score"),
        eigenvalue=number(event, "eigenvalue"),
        cost=number(event, "cost"),
    )
    memory, host_memory = number(event, "memory"), number(event, "host_memory")
    return replace(
        state,
        history=(*kept, point),
        derivation=None,
        found_at=state.elapsed,
        epochs=whole(event, "epochs") or state.epochs,
        step=state.step if step is None else step,
        memory=state.memory if memory is None else memory,
        host_memory=state.host_memory if host_memory is None else host_memory,
        values=() if rewound else state.values,
        best=() if rewound else state.best,
        training=() if rewound else state.training,
        networks=() if rewound else state.networks,
        guard=None if rewound and (state.guarded_at is None or point.epoch <= state.guarded_at) else state.guard,
    )


def _guard(state: RunState, event: Record) -> RunState:
    """The search is over, and no epoch is to come; or another controller goes on."""
    epoch, reason, instead = (
        whole(event, "epoch"),
        string(event, "reason") or "no reason given",
        string(event, "instead"),
    )
    state = replace(state, guarded_at=epoch)
    if instead:
        return replace(state, guard=f"a guard handed the search over to {instead}: {reason}")
    return replace(state, guard=f"a guard ended the search: {reason}", epochs=epoch or state.epochs)


def _pace(state: RunState, event: Record) -> RunState:
    spent = {part: number(event, f"{part}_seconds") for part in ("data", "inner", "outer", "other")}
    known = {part: seconds for part, seconds in spent.items() if seconds is not None and 0 <= seconds < math.inf}
    return replace(state, spent=known)


def _need(state: RunState, event: Record) -> RunState:
    return replace(state, needed=number(event, "bytes"))


def _derivation(state: RunState, event: Record) -> RunState:
    """One more evaluation of those by which an architecture is derived; what followed before a resume is forgotten."""
    done, before = whole(event, "done"), state.derivation
    if done is None:
        return state
    begun = before.begun if before and before.done < done else state.elapsed
    now = Derivation(done, whole(event, "total"), begun, state.elapsed)
    return replace(state, derivation=now, found_at=state.elapsed, values=(), best=(), training=(), networks=())


def _value(state: RunState, event: Record) -> RunState:
    step = whole(event, "step")
    if step is None:
        return state
    kept = state.values
    if kept and kept[-1].step >= step:
        kept = tuple(point for point in kept if point.step < step)
    point = ValuePoint(
        step,
        number(event, "value"),
        number(event, "best"),
        string(event, "key"),
        architecture(event, "architecture"),
        objectives(event),
        whole(event, "epochs"),
    )
    known = _once([other for other in state.best if other.step < step], point)
    ranked = sorted(known, key=lambda other: other.rank, reverse=True)
    return replace(
        state,
        step=state.step if state.history else step,  # a refinement follows a search, whose steps are the run's
        found_at=state.elapsed,
        budget=whole(event, "budget") or state.budget,
        values=(*kept[-RECENT + 1 :], point),
        best=tuple(ranked[:BEST]),
        front=joined(state.front, point),
        extent=stretched(state.extent, point.values),
    )


def _train(state: RunState, event: Record) -> RunState:
    name, epoch = string(event, "network"), whole(event, "epoch")
    if name is None or epoch is None:
        return state
    now = Training(name, epoch, whole(event, "epochs"), number(event, "loss"), number(event, "score", "accuracy"))
    others = tuple(run for run in state.training if run.network != name)
    return replace(state, training=(*others, now))


def _network(state: RunState, event: Record) -> RunState:
    name = string(event, "network")
    if name is None:
        return state
    others, now = tuple(net for net in state.networks if net.network != name), _trained(name, event)
    few_shot = measured(state.few_shot, name, now.test_score) if state.few_shot else None
    return replace(state, networks=(*others, now), few_shot=few_shot)


def _log(state: RunState, event: Record) -> RunState:
    message = string(event, "message")
    if message is None:
        return state
    line = LogLine(string(event, "level") or "info", message, state.elapsed)
    return replace(state, log=(*state.log[-LOGGED + 1 :], line))


def _end(state: RunState, event: Record) -> RunState:
    return replace(state, status=string(event, "status") or "finished", message=string(event, "message"))


READERS: Mapping[str, Callable[[RunState, Record], RunState]] = {
    "begin": _begin,
    "step": _step,
    "epoch": _epoch,
    "guard": _guard,
    "pace": _pace,
    "need": _need,
    "derivation": _derivation,
    "value": _value,
    "trial": _trial,
    "validation": _validation,
    "train": _train,
    "network": _network,
    "log": _log,
    "end": _end,
}


def _once(others: list[ValuePoint], point: ValuePoint) -> list[ValuePoint]:
    """All of them, each architecture once: its longest training, of equally long ones the newest."""
    same = [other for other in others if other.architecture == point.architecture]
    if any(other.rank[:2] > point.rank[:2] for other in same):
        return others
    return [*(other for other in others if other not in same), point]


def _start(record: Record) -> Record:
    """What stands beside the first network; of a few-shot run it has an accuracy and no more."""
    return {"test_score": record.get("accuracy"), **record}


def _trained(name: str, record: Record) -> Trained:
    return Trained(
        network=name,
        key=string(record, "key"),
        architecture=architecture(record, "architecture"),
        test_score=number(record, "test_score", "test_accuracy"),
        test_loss=number(record, "test_loss"),
        parameters=number(record, "parameters"),
        multiply_adds=number(record, "multiply_adds"),
        seconds=number(record, "seconds"),
    )
