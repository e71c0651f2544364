"""Evaluation: training from scratch, testing once, and what a network costs."""

from typing import TYPE_CHECKING

from metanas.lazy import lazily

if TYPE_CHECKING:
    from metanas.evaluation.additive_cost import AdditiveCost as AdditiveCost
    from metanas.evaluation.additive_cost import additive as additive
    from metanas.evaluation.costs import Cost as Cost
    from metanas.evaluation.costs import ExactCost as ExactCost
    from metanas.evaluation.costs import activation_bytes as activation_bytes
    from metanas.evaluation.costs import cost as cost
    from metanas.evaluation.episodes import EpisodicScore as EpisodicScore
    from metanas.evaluation.episodes import episodic_score as episodic_score
    from metanas.evaluation.limits import Limits as Limits
    from metanas.evaluation.measures import MEASURES as MEASURES
    from metanas.evaluation.measures import short_measures as short_measures
    from metanas.evaluation.operations import OperationTable as OperationTable
    from metanas.evaluation.proxies import zero_cost as zero_cost
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

_HOMES = {
    "AdditiveCost": "metanas.evaluation.additive_cost",
    "Briefly": "metanas.evaluation.training",
    "Carried": "metanas.evaluation.training",
    "Cost": "metanas.evaluation.costs",
    "EpisodicScore": "metanas.evaluation.episodes",
    "Epoch": "metanas.evaluation.training",
    "ExactCost": "metanas.evaluation.costs",
    "Limits": "metanas.evaluation.limits",
    "MEASURES": "metanas.evaluation.measures",
    "OperationTable": "metanas.evaluation.operations",
    "Retraining": "metanas.evaluation.retraining",
    "Score": "metanas.evaluation.training",
    "ScratchTraining": "metanas.evaluation.training",
    "Shaped": "metanas.evaluation.retraining",
    "Training": "metanas.evaluation.training",
    "activation_bytes": "metanas.evaluation.costs",
    "additive": "metanas.evaluation.additive_cost",
    "briefly_trained": "metanas.evaluation.training",
    "cost": "metanas.evaluation.costs",
    "episodic_score": "metanas.evaluation.episodes",
    "score": "metanas.evaluation.training",
    "short_measures": "metanas.evaluation.measures",
    "short_training": "metanas.evaluation.training",
    "zero_cost": "metanas.evaluation.proxies",
}

__all__ = [*_HOMES]

if not TYPE_CHECKING:  # else mypy would take any name
    __getattr__, __dir__ = lazily(__name__, _HOMES)
