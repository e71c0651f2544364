"""Evaluation: what a network costs."""

from metanas.evaluation.cost import Cost as Cost
from metanas.evaluation.cost import cost as cost
