"""metanas: neural architecture meta-search for PyTorch.

    result = metanas.search("nasbench201", "digits", controller="drnas", epochs=30)
    result.architecture, result.test_accuracy, result.network

Names are loaded when they are first used, so `import metanas` does not import torch.
"""

from typing import TYPE_CHECKING

from metanas.errors import MetanasError as MetanasError
from metanas.lazy import lazily

if TYPE_CHECKING:
    from metanas.api import build as build
    from metanas.api import compare_controllers as compare_controllers
    from metanas.api import export as export
    from metanas.api import fewshot as fewshot
    from metanas.api import load_classes as load_classes
    from metanas.api import load_data as load_data
    from metanas.api import load_learner as load_learner
    from metanas.api import load_recipe as load_recipe
    from metanas.api import load_run as load_run
    from metanas.api import resume as resume
    from metanas.api import search as search
    from metanas.api import search_by_value as search_by_value
    from metanas.api import tune as tune
    from metanas.network import choose as choose
    from metanas.network import space_of as space_of
    from metanas.recipe import FewShotRecipe as FewShotRecipe
    from metanas.recipe import Recipe as Recipe
    from metanas.recipe import TuneRecipe as TuneRecipe
    from metanas.recipe import ValueRecipe as ValueRecipe
    from metanas.recipe.spaces import load_space as load_space
    from metanas.space import Architecture as Architecture
    from metanas.space import Space as Space

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "metanas.space",
    "FewShotRecipe": "metanas.recipe",
    "Recipe": "metanas.recipe",
    "Space": "metanas.space",
    "TuneRecipe": "metanas.recipe",
    "ValueRecipe": "metanas.recipe",
    "build": "metanas.api",
    "choose": "metanas.network",
    "compare_controllers": "metanas.api",
    "export": "metanas.api",
    "fewshot": "metanas.api",
    "load_classes": "metanas.api",
    "load_data": "metanas.api",
    "load_learner": "metanas.api",
    "load_recipe": "metanas.api",
    "load_run": "metanas.api",
    "load_space": "metanas.recipe.spaces",
    "resume": "metanas.api",
    "search": "metanas.api",
    "search_by_value": "metanas.api",
    "space_of": "metanas.network",
    "tune": "metanas.api",
}

__all__ = ["MetanasError", "__version__", *_HOMES]

if not TYPE_CHECKING:  # else mypy would take any name
    __getattr__, __dir__ = lazily(__name__, _HOMES)
