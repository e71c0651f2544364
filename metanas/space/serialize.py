"""Spaces as JSON: plain data, read back without running Python, equal to what was written.

Every frozen value is an object with its class under `"is"`; fields that hold their default are left out.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from metanas.errors import SpaceError, nearest
from metanas.space.counting import Limit
from metanas.space.graph import Choice, Edge, Graph, Needed, Node, OneOf, Op, Scan, Size
from metanas.space.space import Space

SCHEMA = 1
CLASSES: dict[str, type[Any]] = {
    c.__name__: c for c in (Op, Size, Needed, OneOf, Edge, Node, Graph, Scan, Choice, Limit)
}


def space_to_json(space: Space) -> dict[str, Any]:
    """Everything of a space as plain data; `choices` repeats what the graph holds, for readers that only look.

    >>> from metanas.space import chain, op
    >>> space_to_json(Space(chain(("y", op("skip"))), "tiny"))["name"]
    'tiny'
    """
    return {
        "schema": SCHEMA,
        "name": space.name,
        "settings": dict(space.settings),
        "template": space.template,
        **({} if space.auxiliary is None else {"auxiliary": space.auxiliary}),
        "limits": [_write(limit) for limit in space.limits],
        "graph": _write(space.graph),
        "choices": [
            {
                "name": c.name,
                "candidates": list(c.candidates),
                "take": c.take,
                "never": list(c.never),
                "skips": list(space.skips.get(c.name, ())),
            }
            for c in space.choices
        ],
    }


def space_from_json(data: Any) -> Space:
    """The space that `space_to_json` wrote.

    Raises:
        SpaceError: a newer schema, an unknown class or field, or a graph that cannot be.
    """
    if not isinstance(data, dict) or "graph" not in data:
        raise SpaceError("space: expected an object with a 'graph'; give what space_to_json wrote")
    if data.get("schema") != SCHEMA:
        raise SpaceError(f"space: schema {data.get('schema')!r}, this version reads {SCHEMA}; update metanas")
    graph, limits = _read(data["graph"]), _read(data.get("limits", []))
    if not isinstance(graph, Graph) or not isinstance(limits, tuple) or not all(isinstance(x, Limit) for x in limits):
        raise SpaceError("space: 'graph' must be a Graph and 'limits' a list of Limit; give what space_to_json wrote")
    try:
        named = {key: data[key] for key in ("name", "template", "settings", "auxiliary") if key in data}
        return Space(graph, limits=limits, **named)
    except (TypeError, AttributeError) as error:
        raise SpaceError(f"space: cannot be read ({error}); give what space_to_json wrote") from None


def op_to_json(op: Op) -> dict[str, Any]:
    """One operation as plain data.

    >>> op_to_json(Op("conv", width=8, options=(("groups_of", 2),)))
    {'is': 'Op', 'kind': 'conv', 'width': 8, 'options': [['groups_of', 2]]}
    """
    row: dict[str, Any] = _write(op)
    return row


def op_from_json(data: Any) -> Op:
    """The operation that `op_to_json` wrote. Raises SpaceError for anything else."""
    op = _read(data)
    if not isinstance(op, Op):
        raise SpaceError(f"operation: expected what op_to_json wrote, got {data!r}")
    return op


def _write(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        row: dict[str, Any] = {"is": type(value).__name__}
        for f in dataclasses.fields(value):
            held = getattr(value, f.name)
            if f.init and held != f.default:
                row[f.name] = _write(held)
        return row
    if isinstance(value, tuple):
        return [_write(x) for x in value]
    return value


def _read(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(_read(x) for x in data)
    if not isinstance(data, dict):
        return data
    name = data.get("is")
    if not isinstance(name, str) or name not in CLASSES:
        raise SpaceError(f"space: unknown class {name!r}{nearest(name, CLASSES)}")
    cls = CLASSES[name]
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    fields = {k: _read(v) for k, v in data.items() if k != "is"}
    for key in fields:
        if key not in known:
            raise SpaceError(f"space: {name} has no field {key!r}{nearest(key, known)}")
    try:
        return cls(**fields)
    except (TypeError, AttributeError) as error:
        raise SpaceError(f"space: {name} cannot be read ({error}); give what space_to_json wrote") from None
