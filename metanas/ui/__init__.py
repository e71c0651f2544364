"""The terminal view: reads a run folder and nothing else, so it can watch any run and hurt none.

    with view_for(folder): ...          # while a search runs: live on a terminal, plain lines elsewhere
    watch(folder)                       # the same from another process
    console.print(show(read(folder)))   # the report, of any run
    console.print(runs_table(list_runs()))

Names are loaded when they are first used: plain lines never load rich.
"""

from typing import TYPE_CHECKING

from metanas.lazy import lazily

if TYPE_CHECKING:
    from metanas.ui.follow import Follower as Follower
    from metanas.ui.follow import read as read
    from metanas.ui.live import LiveView as LiveView
    from metanas.ui.pick import can_draw as can_draw
    from metanas.ui.pick import view_for as view_for
    from metanas.ui.pick import watch as watch
    from metanas.ui.plain import PlainView as PlainView
    from metanas.ui.report import runs_table as runs_table
    from metanas.ui.report import show as show
    from metanas.ui.state import RunState as RunState
    from metanas.ui.state import fold as fold
    from metanas.ui.text import inert as inert

_HOMES = {
    "Follower": "metanas.ui.follow",
    "LiveView": "metanas.ui.live",
    "PlainView": "metanas.ui.plain",
    "RunState": "metanas.ui.state",
    "can_draw": "metanas.ui.pick",
    "fold": "metanas.ui.state",
    "inert": "metanas.ui.text",
    "read": "metanas.ui.follow",
    "runs_table": "metanas.ui.report",
    "show": "metanas.ui.report",
    "view_for": "metanas.ui.pick",
    "watch": "metanas.ui.pick",
}

__all__ = [*_HOMES]

if not TYPE_CHECKING:  # else mypy would take any name
    __getattr__, __dir__ = lazily(__name__, _HOMES)
