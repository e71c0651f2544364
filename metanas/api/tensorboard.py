"""A run as event files of TensorBoard, written beside its own log; `tensorboard --logdir runs` shows them as they grow.

    first/tensorboard              loss/inner, loss/outer, gradient_norm/*, score/*, structure/*, hypergradient/*,
                                   learned/*, validation/*, by outer step; text: derived, log
    first/tensorboard/derived      train/loss, train/score by epoch; test/score and what the network costs
    first/tensorboard/random 1     the same: networks lie over each other in one chart
    first/tensorboard/trials       trial/value, trial/best by trial
    first/tensorboard/evaluations  value/value, value/best by evaluation

Each place counts its own steps. That is what lets a resumed run take back what it repeats: TensorBoard forgets all
points of a place from a step on, whatever their names. What stood in the way of a place's first event is taken back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, final

from metanas.errors import MissingDependencyError
from metanas.run.events import Event
from metanas.ui.fields import as_number, as_record, number, string, whole
from metanas.ui.text import inert

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSH_SECONDS = 5
LARGEST = 3e38  # an event file holds numbers in single precision; larger ones become infinite

STEPS = {  # by kind of event: the field, and what TensorBoard calls it
    "step": {
        "inner_loss": "loss/inner",
        "outer_loss": "loss/outer",
        "gradient_norm": "gradient_norm/inner",
        "outer_gradient_norm": "gradient_norm/outer",
        "skipped": "skipped updates",
        "stationarity": "hypergradient/stationarity",
        "residual": "hypergradient/residual",
        "curvature": "hypergradient/curvature",
    },
    "epoch": {
        "inner_loss": "epoch/inner_loss",
        "outer_loss": "epoch/outer_loss",
        "outer_score": "score/outer",
        "derived_score": "score/derived",
        "entropy": "structure/entropy",
        "gap": "structure/gap",
        "lr": "lr",
    },
    "validation": {"accuracy": "validation/accuracy", "interval": "validation/interval", "loss": "validation/loss"},
    "value": {"value": "value/value", "best": "value/best", "epochs": "value/epochs"},
    "trial": {"value": "trial/value", "best": "trial/best"},
    "train": {"loss": "train/loss", "score": "train/score"},
    "network": {
        "test_score": "test/score",
        "test_loss": "test/loss",
        "parameters": "network/parameters",
        "multiply_adds": "network/multiply_adds",
    },
}
ASIDE = {"value": "evaluations", "trial": "trials"}  # what has a place of its own, beside the networks
COUNTED = {"train": "epoch", "trial": "trial"}  # what counts the steps of an event, where it is not its step


@final
class TensorBoardLog:
    """Writes the events of a run; of an unknown kind, or with fields missing, it writes what it can.

    Args:
        folder: of the event files; made where it is missing.

    Raises:
        MissingDependencyError: the package is not installed.
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                f'event files need the package tensorboard: pip install "metanas[tensorboard]" ({error})'
            ) from error
        self.folder = folder
        self._writers: dict[str, SummaryWriter] = {}
        self._step = 0
        self._derived: str | None = None
        self._epochs: dict[str, int] = {}  # of the networks, how far each is

    def write(self, event: Event) -> None:
        """Adds what the event tells; OSError where the disk does not take it."""
        kind, at = event.get("kind"), number(event, "at")
        if kind == "begin":
            self._begin(event)
        elif kind == "log":
            said = f"{string(event, 'level') or 'info'}: {string(event, 'message') or ''}"
            self._say("log", said, at)
        elif kind in STEPS:
            self._numbers(kind, event, at)

    def close(self) -> None:
        """Writes what waits, and closes the files."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _begin(self, event: Event) -> None:
        """The steps after the one that the run goes on from come again."""
        self._step = whole(event, "step") or 0
        self._writer("", self._step + 1)

    def _numbers(self, kind: str, event: Event, at: float | None) -> None:
        network = string(event, "network") if kind in ("train", "network") else None
        place = ASIDE.get(kind, network or "")
        told = self._epochs.get(place)
        step = told or 0 if kind == "network" else whole(event, COUNTED.get(kind, "step"))
        if step is None or (kind in ("train", "network") and network is None):
            return
        writer = self._writer(place, None if kind == "network" and told is None else step)
        for tag, value in _scalars(kind, event):
            writer.add_scalar(tag, math.copysign(math.inf, value) if abs(value) > LARGEST else value, step, at)
        if not place:
            self._step = step
            self._tell_derived(event, at)
        if kind == "train":
            self._epochs[place] = step
        if kind == "network":
            self._writers.pop(place).close()

    def _tell_derived(self, event: Event, at: float | None) -> None:
        """The derived architecture, where it is another than before."""
        lines = [f"{name}  {label}" for name, label in as_record(event.get("architecture")).items()]
        found = "\n".join([*([key] if (key := string(event, "key")) else []), *lines])
        if found and found != self._derived:
            self._derived = found
            self._say("derived", found, at)

    def _say(self, tag: str, text: str, at: float | None) -> None:
        """Text as it is: TensorBoard reads Markdown, in which four spaces begin what is not to be read so."""
        shown = "\n".join(f"    {inert(line)}" for line in text.splitlines() or [""])
        self._writer("", self._step + 1).add_text(tag, shown, self._step, at)

    def _writer(self, place: str, first: int | None) -> SummaryWriter:
        """That of a place; what an earlier process wrote there from step `first` on is taken back (None: nothing)."""
        if place not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            folder = self.folder / _file_name(place)
            folder.mkdir(parents=True, exist_ok=True)
            earlier = max((path.name for path in folder.glob("events.out.tfevents.*")), default=None)
            if earlier is not None:
                _wait_for_a_later_name(earlier)
            self._writers[place] = SummaryWriter(
                str(folder), purge_step=None if earlier is None else first, flush_secs=FLUSH_SECONDS
            )
        return self._writers[place]


def _scalars(kind: str, event: Event) -> Iterator[tuple[str, float]]:
    """(tag, value) of what was measured; what is not finite is a value too, and TensorBoard marks it."""
    for field, tag in STEPS[kind].items():
        value = number(event, field)
        if value is not None:
            yield tag, value
    for name, learned in as_record(event.get("learned")).items() if kind == "step" else ():
        value = as_number(learned)
        if value is not None:
            yield f"learned/{inert(name)}", value


def _wait_for_a_later_name(earlier: str) -> None:
    """Files are read in the order of their names, which hold the second they were begun in: ours comes later."""
    while earlier.split(".")[3] == f"{int(time.time()):010d}":
        time.sleep(0.05)


def _file_name(place: str) -> str:
    """
    >>> _file_name("random 1"), _file_name("../up"), _file_name("")
    ('random 1', '___up', '')
    """
    return "".join(letter if letter.isalnum() or letter in " _-" else "_" for letter in place)[:100]
