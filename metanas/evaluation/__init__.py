"""Evaluation: training from scratch, testing once, and what a network costs."""

from metanas.evaluation.additive import AdditiveCost as AdditiveCost
from metanas.evaluation.additive import additive as additive
from metanas.evaluation.cost import Cost as Cost
from metanas.evaluation.cost import ExactCost as ExactCost
from metanas.evaluation.cost import activation_bytes as activation_bytes
from metanas.evaluation.cost import cost as cost
from metanas.evaluation.episodes import EpisodicScore as EpisodicScore
from metanas.evaluation.episodes import episodic_score as episodic_score
from metanas.evaluation.limits import Limits as Limits
from metanas.evaluation.measures import MEASURES as MEASURES
from metanas.evaluation.measures import short_measures as short_measures
from metanas.evaluation.operations import OperationTable as OperationTable
from metanas.evaluation.retraining import Retraining as Retraining
from metanas.evaluation.retraining import Shaped as Shaped
from metanas.evaluation.training import Briefly as Briefly
from metanas.evaluation.training import Carried as Carried
from metanas.evaluation.training import Epoch as Epoch
from metanas.evaluation.training import Score as Score
from metanas.evaluation.training import ScratchTraining as ScratchTraining
from metanas.evaluation.training import Training as Training
from metanas.evaluation.training import briefly_trained as briefly_trained
from metanas.evaluation.training import score as score
from metanas.evaluation.training import short_training as short_training
from metanas.evaluation.zero_cost import zero_cost as zero_cost
