"""What happens in a run, written to its folder: events, checkpoints; and requests read from it.

The search knows nothing of this: it yields values, and the recorder turns them into the events that every view reads.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from metanas.api.identity import loaded_torch
from metanas.api.ranks import GO, PAUSE, STOP, Ranks
from metanas.api.signals import Stop
from metanas.errors import InterruptedSearchError
from metanas.run import EventWriter, Lock, RunFolder, pending
from metanas.run.checkpoints import save
from metanas.space import Architecture

if TYPE_CHECKING:
    from metanas.evaluation import Epoch
    from metanas.loop import Evaluation, Report, Step

READ_EVERY = 10
KILOBYTES = 1 if sys.platform == "darwin" else 1024  # what getrusage counts in
PAUSE_SECONDS = 0.2


class Recorder:
    """Writes the events and checkpoints of one run; owns the steps that were not read from the device yet.

    `identity`: of the run (`documents.identity_of`), kept in every checkpoint.
    """

    def __init__(
        self,
        run: RunFolder,
        lock: Lock,
        log: EventWriter,
        stop: Stop,
        checkpoint_seconds: float,
        identity: dict[str, Any],
        ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    ) -> None:
        self.run, self.lock, self.log, self.stop, self.ranks = run, lock, log, stop, ranks
        self.checkpoint_seconds, self.identity = checkpoint_seconds, identity
        self.saved_at = time.monotonic()
        self.waiting: list[Step] = []

    def step(self, step: Step) -> None:
        """One step of a search by gradient; the host reads the device only now and then."""
        self.waiting.append(step)
        if step.report is not None or len(self.waiting) >= READ_EVERY:
            self.read_steps()
        if step.report is not None:
            self._report(step.step, step.report)

    def read_steps(self) -> None:
        """Writes the steps that wait."""
        if not self.waiting:
            return
        import torch  # slow, and loaded where there are steps

        rows = torch.stack(
            [
                torch.stack([s.inner_loss, s.outer_loss, s.gradient_norm, s.outer_gradient_norm, s.skipped])
                for s in self.waiting
            ]
        )
        for step, (inner, outer, norm, outer_norm, skipped) in zip(self.waiting, rows.tolist(), strict=True):
            self.log.write(
                "step",
                step=step.step,
                epoch=step.epoch + 1,
                inner_loss=inner,
                outer_loss=outer,
                gradient_norm=norm,
                outer_gradient_norm=outer_norm,
                skipped=int(skipped),
            )
        self.waiting = []

    def _report(self, step: int, report: Report) -> None:
        self.log.write(
            "epoch",
            epoch=report.epoch,
            epochs=report.epochs,
            step=step,
            inner_loss=report.inner_loss,
            outer_loss=report.outer_loss,
            outer_score=report.outer_score,
            derived_score=report.derived_score,
            gap=report.gap,
            entropy=report.entropy,
            lr=report.lr,
            weights={name: list(w) for name, w in report.weights.items()},
            architecture=None if report.architecture is None else report.architecture.to_json(),
            key=None if report.architecture is None else report.architecture.key,
            skip_share=report.skip_share,
            **({} if report.eigenvalue is None else {"eigenvalue": report.eigenvalue}),
            **({} if report.cost is None else {"cost": report.cost}),
            **peak_memory(),
        )
        if report.kept is not None:
            counts = sorted({len(labels) for labels in report.kept.values()})
            shown = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "all"
            self.say(f"after epoch {report.epoch} every choice goes on with its {shown} strongest candidates")
        if report.verdict is not None:
            then = {"back_to": report.verdict.epoch} if report.instead is None else {"instead": report.instead}
            self.log.write("guard", step=step, epoch=report.epoch, **then, reason=report.verdict.reason)
            self.say(ended_by_guard(report), "warning")

    def pace(self, step: int, seconds: Mapping[str, float]) -> None:
        """Where the time of the steps since the last pace went."""
        self.log.write("pace", step=step, **{f"{part}_seconds": spent for part, spent in seconds.items()})

    def need(self, batch_size: int, bytes_: float, free: float | None) -> None:
        """What a search needs in memory, by an estimate, and what there was of it."""
        self.log.write("need", batch_size=batch_size, bytes=bytes_, free=free)

    def derivation(self, done: int, total: int) -> None:
        """How many evaluations of the supernet are done, of those by which an architecture is derived."""
        self.log.write("derivation", done=done, total=max(done, total))

    def value(self, e: Evaluation) -> None:
        """One evaluation of a search by value."""
        self.log.write(
            "value",
            step=e.step,
            budget=e.budget,
            key=e.architecture.key,
            architecture=e.architecture.to_json(),
            value=e.value,
            best=e.best_value,
            best_key=None if e.best is None else e.best.key,
            **({} if e.reason is None else {"reason": e.reason}),
            **({"values": dict(e.values)} if e.values else {}),
            **({} if e.epochs is None else {"epochs": e.epochs}),
            **({"repeated": True} if e.repeated else {}),
        )

    def train(self, network: str, architecture: Architecture, epoch: Epoch) -> None:
        """One epoch of a training from scratch."""
        self.log.write(
            "train",
            network=network,
            key=architecture.key,
            epoch=epoch.epoch,
            epochs=epoch.epochs,
            loss=epoch.loss,
            score=epoch.score,
        )

    def network(self, row: dict[str, Any]) -> None:
        """A network that was trained and tested."""
        self.log.write("network", **row)

    def say(self, message: str, level: str = "info") -> None:
        """A line of the log."""
        self.log.write("log", level=level, message=message)

    def pause_point(self, place: int, tree: Callable[[], Any]) -> None:
        """Between two steps: checkpoints when it is time; waits or stops when that was asked.

        Args:
            place: how far the run is, growing over all its phases.
            tree: gives what a checkpoint holds.

        Raises:
            InterruptedSearchError: a signal or a request asked for a stop; the checkpoint is written.
            RunError: the folder is gone, the disk is full, or another process took the run over.
        """
        while (asked := self.ranks.most(self._asked())) == PAUSE:
            time.sleep(PAUSE_SECONDS if self.ranks.leads else 0)
        stopping = asked == STOP
        due = stopping or time.monotonic() - self.saved_at >= self.checkpoint_seconds
        if due and self.ranks.leads:  # the others' state would be copied for nothing
            self.checkpoint(place, tree())
        if stopping:
            raise InterruptedSearchError(
                f"stopped with a checkpoint; go on with: {self.run.resumed_by}", self.stop.signal
            )

    def _asked(self) -> int:
        asked = pending(self.run.path)
        if self.stop.signal is not None or "stop" in asked:
            return STOP
        return PAUSE if "pause" in asked else GO

    def alone(self) -> None:
        """What comes now, this rank does by itself."""
        self.ranks = Ranks()

    def checkpoint(self, place: int, tree: Any) -> None:
        """Writes a checkpoint now; of several ranks the first does."""
        self.read_steps()
        if not self.ranks.leads:
            return
        self.lock.check()
        save(self.run.checkpoints, place, {"identity": self.identity, "state": tree}, self.log.flush(sync=True))
        self.saved_at = time.monotonic()


def ended_by_guard(report: Report) -> str:
    """The verdict of a guard, as it is told.

    >>> from types import SimpleNamespace as Some
    >>> verdict = Some(epoch=5, reason="skip share 0.50 reached 0.5")
    >>> ended_by_guard(Some(epoch=9, verdict=verdict, instead=None))
    'a guard ended the search after epoch 9, with the structure of epoch 5: skip share 0.50 reached 0.5'
    >>> ended_by_guard(Some(epoch=9, verdict=verdict, instead="DartsPt"))
    'a guard hands the search over to DartsPt after epoch 9: skip share 0.50 reached 0.5'
    """
    assert report.verdict is not None  # who asks has looked
    if report.instead is not None:
        return f"a guard hands the search over to {report.instead} after epoch {report.epoch}: {report.verdict.reason}"
    back = f", with the structure of epoch {report.verdict.epoch}" if report.verdict.epoch != report.epoch else ""
    return f"a guard ended the search after epoch {report.epoch}{back}: {report.verdict.reason}"


def peak_memory() -> dict[str, int]:
    """Bytes that this process held at most so far: `host_memory`, and on a CUDA device `memory`.

    >>> peak_memory()["host_memory"] > 1e6
    True
    """
    found = {"host_memory": KILOBYTES * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    torch = loaded_torch()
    if torch is not None and torch.cuda.is_available():
        found["memory"] = torch.cuda.max_memory_allocated()
    return found
