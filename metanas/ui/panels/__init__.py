"""The panels of the view: pure functions `(state, paper) -> lines`, shared by the live view and the static report."""

from metanas.ui.panels.cell import cell
from metanas.ui.panels.curves import curves
from metanas.ui.panels.episodes import episodes
from metanas.ui.panels.header import header
from metanas.ui.panels.health import health
from metanas.ui.panels.hypergradient import hypergradient
from metanas.ui.panels.leaderboard import leaderboard
from metanas.ui.panels.learned import learned
from metanas.ui.panels.log import log
from metanas.ui.panels.networks import networks
from metanas.ui.panels.pareto import pareto
from metanas.ui.panels.resources import resources
from metanas.ui.panels.structure import structure
from metanas.ui.panels.timeline import timeline
from metanas.ui.panels.trials import trials

__all__ = [
    "cell",
    "curves",
    "episodes",
    "header",
    "health",
    "hypergradient",
    "leaderboard",
    "learned",
    "log",
    "networks",
    "pareto",
    "resources",
    "structure",
    "timeline",
    "trials",
]
