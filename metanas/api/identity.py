"""Whether a run that goes on is still the one that was started.

A checkpoint holds the run's *identity*: everything that decides its numbers, as plain data. A run is resumed only where
the identity of what is in the folder, and of what is handed over, equals that of the checkpoint.

Runs that need no torch say so with this module: it looks at torch only where something has loaded it.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Protocol

import numpy as np

from metanas import __version__
from metanas.api.ranks import started
from metanas.errors import RunError
from metanas.run import RunFolder, dump_json
from metanas.space import Space, space_to_json

SCHEMA = 1
FREE = ("device", "threads", "workers", "checkpoint_seconds", "logs")
"""What of a recipe may change on the way: where, how often, for whom. The first three may cost bit-exactness."""
FIRST_TASK = "classification"
"""What runs of the first version, which name no task, were."""


def loaded_torch() -> Any:
    """torch, where something has imported it; None: then no number depends on it."""
    return sys.modules.get("torch")


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    torch = loaded_torch()
    return {
        "metanas": __version__,
        **({} if torch is None else {"torch": torch.__version__}),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


class Placed(Protocol):
    """What a run works on, as far as every kind of run has it."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def device(self) -> object: ...


def surroundings(data: Placed) -> dict[str, Any]:
    """Everything beside the identity that a result depends on bit for bit."""
    torch = loaded_torch()
    threads = {} if torch is None else {"threads": torch.get_num_threads()}
    return {**versions(), **threads, "device": str(data.device), "ranks": started()}


def describe(value: object) -> str:
    """A word on an object of the user's.

    >>> describe(dump_json), describe(object())
    ('dump_json', 'object')
    """
    if is_dataclass(value):
        return repr(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def space_identity(space: Space) -> dict[str, Any]:
    """The choices in words; the graph, which may be large, by its hash."""
    data = space_to_json(space)
    digest = hashlib.sha256(dump_json([data["graph"], data["limits"]]).encode("ascii")).hexdigest()
    choices = {choice.pop("name"): choice for choice in data["choices"]}
    for choice in choices.values():
        del choice["skips"]  # follows from the graph, and older runs do not say it
    return {"settings": data["settings"], "template": data["template"], "choices": choices, "graph": digest[:16]}


def refuse_difference(folder: RunFolder, before: Any, now: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """RunError that shows what differs between the identity in a checkpoint and the one of what was handed over.

    Args:
        defaults: of the recipe; a setting that the version of the checkpoint did not know yet worked as they do.
    """
    found = list(differences(_with_defaults(before, defaults), now))
    if found:
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise RunError(f"{folder.path} was changed since its checkpoint: {shown}; undo that, or start a new run")


def _with_defaults(identity: Any, defaults: Mapping[str, Any]) -> Any:
    """An identity with the recipe's settings that are missing in it."""
    if not isinstance(identity, dict):
        return identity
    whole = dict(identity)
    if isinstance(facts := whole.get("data handed over"), dict):
        whole["data handed over"] = {"task": FIRST_TASK, **facts}
    for name, default in defaults.items():
        if name not in FREE:
            whole[name] = _filled(whole.get(name, default), default)
    return whole


def _filled(found: Any, default: Any) -> Any:
    """A section with what is missing in it and in the sections inside; options are whole, whatever is in them.

    >>> _filled({"guard": {"entropy": 0.1}, "options": {}}, {"guard": {"then": "end"}, "options": {"lr": 1}, "lr": 2})
    {'guard': {'entropy': 0.1, 'then': 'end'}, 'options': {}, 'lr': 2}
    """
    if not isinstance(found, dict) or not isinstance(default, dict):
        return found
    known = {key: value if key == "options" else _filled(value, default.get(key)) for key, value in found.items()}
    return known | {key: value for key, value in default.items() if key not in known}


def differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """The places where two plain values differ.

    >>> list(differences({"search": {"epochs": 3, "lr": 0.1}}, {"search": {"epochs": 5, "lr": 0.1}}))
    ['search.epochs was 3, is 5']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            where = f"{path}.{key}" if path else str(key)
            if key not in before:
                yield f"{where} is new"
            elif key not in now:
                yield f"{where} is missing"
            else:
                yield from differences(before[key], now[key], where)
    elif before != now or type(before) is not type(now):
        yield f"{path} was {_short(before)}, is {_short(now)}"


def told_differences(before: Any, now: Any) -> str:
    """The first four of them, on one line.

    >>> told_differences({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, {"a": 2, "b": 2, "c": 2, "d": 2, "e": 2})
    'a was 1, is 2; b was 1, is 2; c was 1, is 2; d was 1, is 2; and 1 more'
    """
    found = list(differences(before, now))
    more = [f"and {len(found) - 4} more"] if len(found) > 4 else []
    return "; ".join([*found[:4], *more])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else dump_json(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
