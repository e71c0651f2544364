"""The terminal view: reads a run folder and nothing else, so it can watch any run and hurt none.

    with view_for(folder): ...          # while a search runs: live on a terminal, plain lines elsewhere
    watch(folder)                       # the same from another process
    console.print(show(read(folder)))   # the report, of any run
    console.print(runs_table(list_runs()))

Names are loaded when they are first used: plain lines never load rich.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metanas.ui.follow import Follower, read
    from metanas.ui.live import LiveView
    from metanas.ui.pick import can_draw, view_for, watch
    from metanas.ui.plain import PlainView
    from metanas.ui.report import runs_table, show
    from metanas.ui.state import RunState, fold
    from metanas.ui.text import inert

__all__ = [
    "Follower",
    "LiveView",
    "PlainView",
    "RunState",
    "can_draw",
    "fold",
    "inert",
    "read",
    "runs_table",
    "show",
    "view_for",
    "watch",
]

_HOMES = {
    "Follower": "follow",
    "LiveView": "live",
    "PlainView": "plain",
    "RunState": "state",
    "can_draw": "pick",
    "fold": "state",
    "inert": "text",
    "read": "follow",
    "runs_table": "report",
    "show": "report",
    "view_for": "pick",
    "watch": "pick",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
