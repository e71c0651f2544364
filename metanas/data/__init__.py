"""Data in three disjoint splits on one device, its augmentation, and batches as a pure function of a seed."""

from metanas.data.augment import Augmentation, Crop, Cutout, Flip, augmented
from metanas.data.batches import batches, in_order, steps
from metanas.data.load import load_data
from metanas.data.splits import stratified
from metanas.data.table import Column, Table
from metanas.data.task import CLASSIFICATION, REGRESSION, Task
from metanas.data.types import Data, Split

__all__ = [
    "CLASSIFICATION",
    "REGRESSION",
    "Augmentation",
    "Column",
    "Crop",
    "Cutout",
    "Data",
    "Flip",
    "Split",
    "Table",
    "Task",
    "augmented",
    "batches",
    "in_order",
    "load_data",
    "steps",
    "stratified",
]
