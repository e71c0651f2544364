"""Data in three disjoint splits on one device, its augmentation, and batches as a pure function of a seed;
classes in three disjoint parts, and episodes as such a function.
"""

from metanas.data.augment import Augmentation, Crop, Cutout, Flip, augmented
from metanas.data.batches import batches, in_order, steps
from metanas.data.classes import ClassData, Classes, load_classes
from metanas.data.compositions import Compositions, compositions
from metanas.data.descriptions import Descriptions
from metanas.data.episodes import Episode, Episodes
from metanas.data.inputs import pack_graphs
from metanas.data.load import load_data
from metanas.data.splits import stratified
from metanas.data.table import Column, Table
from metanas.data.task import CLASSIFICATION, REGRESSION, Task
from metanas.data.types import Data, Split
from metanas.data.words import TextEncoder, Words, sentence_encoder

__all__ = [
    "CLASSIFICATION",
    "REGRESSION",
    "Augmentation",
    "ClassData",
    "Classes",
    "Column",
    "Compositions",
    "Crop",
    "Cutout",
    "Data",
    "Descriptions",
    "Episode",
    "Episodes",
    "Flip",
    "Split",
    "Table",
    "Task",
    "TextEncoder",
    "Words",
    "augmented",
    "batches",
    "compositions",
    "in_order",
    "load_classes",
    "load_data",
    "pack_graphs",
    "sentence_encoder",
    "steps",
    "stratified",
]
