"""Bilevel optimisation of trees of tensors: one problem, one estimator contract, one loop, and no graph."""

from metanas.bilevel.advance import Adopt, Train, adopt, memory_of, restart, train
from metanas.bilevel.estimator import Estimator, Hypergradient
from metanas.bilevel.finite_difference import FiniteDifference
from metanas.bilevel.implicit import T1T2, ConjugateGradient, Implicit, Neumann
from metanas.bilevel.problem import Bilevel, descend, persists, same
from metanas.bilevel.rules import SGD, Adam, Rule, per_step
from metanas.bilevel.solve import solve
from metanas.bilevel.stepping import Report, TorchStep, torch_step
from metanas.bilevel.tasks import Tasks
from metanas.bilevel.trees import Tree
from metanas.bilevel.unrolled import FirstOrder, Unrolled

__all__ = [
    "SGD",
    "T1T2",
    "Adam",
    "Adopt",
    "Bilevel",
    "ConjugateGradient",
    "Estimator",
    "FiniteDifference",
    "FirstOrder",
    "Hypergradient",
    "Implicit",
    "Neumann",
    "Report",
    "Rule",
    "Tasks",
    "TorchStep",
    "Train",
    "Tree",
    "Unrolled",
    "adopt",
    "descend",
    "memory_of",
    "per_step",
    "persists",
    "restart",
    "same",
    "solve",
    "torch_step",
    "train",
]
