"""Bilevel optimisation: the problem, update rules, hypergradient estimators, and one loop that solves it."""

from metanas.bilevel.advance import Adopt, Train, adopt, memory_of, restart, train
from metanas.bilevel.capture import Captured, CapturedEstimator, CudaGraphs, Graphs
from metanas.bilevel.curvature import largest_eigenvalue
from metanas.bilevel.estimator import Estimator, Hypergradient
from metanas.bilevel.evolution import EvolutionStrategies
from metanas.bilevel.finite_difference import FiniteDifference
from metanas.bilevel.forward import ForwardMode
from metanas.bilevel.implicit import T1T2, ConjugateGradient, Implicit, Neumann
from metanas.bilevel.learned import LearnedRule
from metanas.bilevel.nystrom import Nystrom
from metanas.bilevel.problem import Bilevel, descend, persists, same
from metanas.bilevel.ranks import over_ranks
from metanas.bilevel.reptile import Reptile
from metanas.bilevel.rules import SGD, Adam, AdamW, Rule, per_step
from metanas.bilevel.score_function import ScoreFunction
from metanas.bilevel.solve import solve
from metanas.bilevel.stepping import Report, TorchStep, torch_step
from metanas.bilevel.tasks import Tasks
from metanas.bilevel.trees import Tree
from metanas.bilevel.unrolled import FirstOrder, Unrolled

__all__ = [
    "SGD",
    "T1T2",
    "Adam",
    "AdamW",
    "Adopt",
    "Bilevel",
    "Captured",
    "CapturedEstimator",
    "ConjugateGradient",
    "CudaGraphs",
    "Estimator",
    "EvolutionStrategies",
    "FiniteDifference",
    "FirstOrder",
    "ForwardMode",
    "Graphs",
    "Hypergradient",
    "Implicit",
    "LearnedRule",
    "Neumann",
    "Nystrom",
    "Report",
    "Reptile",
    "Rule",
    "ScoreFunction",
    "Tasks",
    "TorchStep",
    "Train",
    "Tree",
    "Unrolled",
    "adopt",
    "descend",
    "largest_eigenvalue",
    "memory_of",
    "over_ranks",
    "per_step",
    "persists",
    "restart",
    "same",
    "solve",
    "torch_step",
    "train",
]
