"""The panels of the view: pure functions `(state, paper) -> lines`, shared by the live view and the static report."""

from metanas.ui.panels.curves import curves
from metanas.ui.panels.header import header
from metanas.ui.panels.log import log
from metanas.ui.panels.networks import networks
from metanas.ui.panels.structure import structure
from metanas.ui.panels.timeline import timeline

__all__ = ["curves", "header", "log", "networks", "structure", "timeline"]
