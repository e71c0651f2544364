"""Modes: short functions that return a `Bilevel`."""

from metanas.modes.meta_network import TaskLoss as TaskLoss
from metanas.modes.meta_network import meta_network as meta_network
from metanas.modes.stateless import Stateless as Stateless
