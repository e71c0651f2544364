"""The interactive application (`metanas ui`): a list of runs, and each run as tabs, live or at any past event.

    start(Path("runs"))                       # until it is left
    Replay(state).at(1204)                    # the state at a past event, without a terminal

It needs textual, which nothing else in the view does.
"""

from metanas.ui.app.application import MetanasApp
from metanas.ui.app.replay import Replay
from metanas.ui.app.start import start

__all__ = ["MetanasApp", "Replay", "start"]
