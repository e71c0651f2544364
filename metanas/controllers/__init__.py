"""Controllers: what learns omega and derives architectures."""

from metanas.controllers.base import Controller as Controller
from metanas.controllers.base import Evaluate as Evaluate
from metanas.controllers.base import GradientController as GradientController
from metanas.controllers.base import Omega as Omega
from metanas.controllers.base import ParetoController as ParetoController
from metanas.controllers.base import ValueController as ValueController
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
