"""The log of a run in the formats of other tools, beside its own: what they need is written as it happens.

    logs = ["tensorboard"]     runs/first/tensorboard/events.out.tfevents.*    tensorboard --logdir runs
                               (and a folder in it for each network that is trained, for trials, for evaluations)
    logs = ["optuna"]          runs/first/study.journal                        optuna-dashboard runs/first/study.journal

A mirror that fails is left out from there on, with one line in the log: it must not cost a search.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from metanas.api.optuna_log import OptunaLog
from metanas.errors import MissingDependencyError
from metanas.run import EventWriter
from metanas.run.events import Event


class Mirror(Protocol):
    """Takes the events of a run one by one."""

    def write(self, event: Event) -> None: ...

    def close(self) -> None: ...


def check_mirrors(names: Sequence[str]) -> None:
    """Raises MissingDependencyError where a mirror needs a package that is not here.

    >>> check_mirrors(["optuna"])
    """
    if "tensorboard" in names and importlib.util.find_spec("tensorboard") is None:
        raise MissingDependencyError(
            'logs: "tensorboard" needs the package of that name: pip install "metanas[tensorboard]"'
        )


@contextlib.contextmanager
def mirrored(
    log: EventWriter, folder: Path, names: Sequence[str], space: Mapping[str, Any] | None, begun: Event
) -> Iterator[None]:
    """While the block runs, what is written to `log` is also written in the formats of `names`.

    Args:
        space: the content of space.json; None where the run has no space.
        begun: the event with which this run began, or goes on: mirrors are told of it first.
    """
    mirrors: dict[str, Mirror] = {}

    def given_up(name: str, error: Exception) -> None:
        mirrors.pop(name, None)
        log.write("log", level="warning", message=f"logs: {name} is left out from here on ({error})")

    def write(event: Event) -> None:
        for name, mirror in list(mirrors.items()):
            try:
                mirror.write(event)
            except Exception as error:  # whatever it is, the search goes on
                given_up(name, error)

    for name in names:
        try:
            mirrors[name] = _made(name, folder, space)
        except Exception as error:
            given_up(name, error)
    write(begun)
    log.also = write if mirrors else None
    try:
        yield
    finally:
        log.also = None
        for mirror in mirrors.values():
            with contextlib.suppress(Exception):
                mirror.close()


def _made(name: str, folder: Path, space: Mapping[str, Any] | None) -> Mirror:
    if name == "optuna":
        return OptunaLog(folder, [] if space is None else space["choices"])
    from metanas.api.tensorboard import TensorBoardLog  # torch looks for the package when it is imported

    return TensorBoardLog(folder / "tensorboard")
