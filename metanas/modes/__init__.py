"""Modes: short functions that return a `Bilevel`."""

from metanas.modes.augmentations import augmentation as augmentation
from metanas.modes.decays import decay as decay
from metanas.modes.hypernetworks import Hypernetwork as Hypernetwork
from metanas.modes.hypernetworks import hypernetwork as hypernetwork
from metanas.modes.losses import label_smoothing as label_smoothing
from metanas.modes.losses import learned_loss as learned_loss
from metanas.modes.meta_network import TaskLoss as TaskLoss
from metanas.modes.meta_network import meta_network as meta_network
from metanas.modes.meta_parameter import Losses as Losses
from metanas.modes.meta_parameter import cross_entropies as cross_entropies
from metanas.modes.meta_parameter import meta_parameter as meta_parameter
from metanas.modes.part import Part as Part
from metanas.modes.part import assemble as assemble
from metanas.modes.rates import rate as rate
from metanas.modes.stateless import Stateless as Stateless
from metanas.modes.weights import example_weights as example_weights
from metanas.modes.weights import kept as kept
