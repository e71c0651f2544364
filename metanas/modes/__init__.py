"""Modes: short functions that return a `Bilevel`."""

from metanas.modes.meta_network import TaskLoss as TaskLoss
from metanas.modes.meta_network import meta_network as meta_network
from metanas.modes.meta_parameter import Losses as Losses
from metanas.modes.meta_parameter import cross_entropies as cross_entropies
from metanas.modes.meta_parameter import meta_parameter as meta_parameter
from metanas.modes.part import Part as Part
from metanas.modes.part import assemble as assemble
from metanas.modes.stateless import Stateless as Stateless
