"""Controllers: what learns omega and derives architectures."""

from typing import TYPE_CHECKING

from metanas.lazy import lazily

if TYPE_CHECKING:
    from metanas.controllers.base import Evaluate as Evaluate
    from metanas.controllers.base import GradientController as GradientController
    from metanas.controllers.base import Omega as Omega
    from metanas.controllers.contract import Controller as Controller
    from metanas.controllers.contract import ParetoController as ParetoController
    from metanas.controllers.contract import ValueController as ValueController
    from metanas.controllers.darts import Darts as Darts
    from metanas.controllers.darts_pt import DartsPt as DartsPt
    from metanas.controllers.derivation import strongest as strongest
    from metanas.controllers.drnas import DrNas as DrNas
    from metanas.controllers.drnas import dirichlet as dirichlet
    from metanas.controllers.evolution import RegularisedEvolution as RegularisedEvolution
    from metanas.controllers.fair_darts import FairDarts as FairDarts
    from metanas.controllers.front import hypervolume as hypervolume
    from metanas.controllers.gdas import Gdas as Gdas
    from metanas.controllers.gumbel import GumbelSoftmax as GumbelSoftmax
    from metanas.controllers.local_search import LocalSearch as LocalSearch
    from metanas.controllers.nsga2 import Nsga2 as Nsga2
    from metanas.controllers.pc_darts import PcDarts as PcDarts
    from metanas.controllers.predictor import Predictor as Predictor
    from metanas.controllers.random_search import RandomSearch as RandomSearch
    from metanas.controllers.reinforce import Reinforce as Reinforce
    from metanas.controllers.rsps import Rsps as Rsps
    from metanas.controllers.scalarised import Scalarised as Scalarised
    from metanas.controllers.spos import Spos as Spos
    from metanas.controllers.uniform_path import UniformPath as UniformPath

_HOMES = {
    "Controller": "metanas.controllers.contract",
    "Darts": "metanas.controllers.darts",
    "DartsPt": "metanas.controllers.darts_pt",
    "DrNas": "metanas.controllers.drnas",
    "Evaluate": "metanas.controllers.base",
    "FairDarts": "metanas.controllers.fair_darts",
    "Gdas": "metanas.controllers.gdas",
    "GradientController": "metanas.controllers.base",
    "GumbelSoftmax": "metanas.controllers.gumbel",
    "LocalSearch": "metanas.controllers.local_search",
    "Nsga2": "metanas.controllers.nsga2",
    "Omega": "metanas.controllers.base",
    "ParetoController": "metanas.controllers.contract",
    "PcDarts": "metanas.controllers.pc_darts",
    "Predictor": "metanas.controllers.predictor",
    "RandomSearch": "metanas.controllers.random_search",
    "RegularisedEvolution": "metanas.controllers.evolution",
    "Reinforce": "metanas.controllers.reinforce",
    "Rsps": "metanas.controllers.rsps",
    "Scalarised": "metanas.controllers.scalarised",
    "Spos": "metanas.controllers.spos",
    "UniformPath": "metanas.controllers.uniform_path",
    "ValueController": "metanas.controllers.contract",
    "dirichlet": "metanas.controllers.drnas",
    "hypervolume": "metanas.controllers.front",
    "strongest": "metanas.controllers.derivation",
}

__all__ = [*_HOMES]

if not TYPE_CHECKING:  # else mypy would take any name
    __getattr__, __dir__ = lazily(__name__, _HOMES)
