"""The public functions; `metanas.search` is `metanas.api.search`.

Names are loaded when they are first used: a search over a table starts before torch could be imported.
"""

from typing import TYPE_CHECKING

from metanas.api.requirements import require_torch
from metanas.lazy import lazily

if TYPE_CHECKING:
    from metanas.api.building import build as build
    from metanas.api.by_value import ValueResult as ValueResult
    from metanas.api.by_value import search_by_value as search_by_value
    from metanas.api.comparison import Comparison as Comparison
    from metanas.api.comparison import compare_controllers as compare_controllers
    from metanas.api.few_shot import FewShotResult as FewShotResult
    from metanas.api.few_shot import fewshot as fewshot
    from metanas.api.functions import export as export
    from metanas.api.functions import load_recipe as load_recipe
    from metanas.api.functions import resume as resume
    from metanas.api.functions import search as search
    from metanas.api.learner import Classifier as Classifier
    from metanas.api.learner import Learner as Learner
    from metanas.api.learner_files import load_learner as load_learner
    from metanas.api.result import Result as Result
    from metanas.api.result import Trained as Trained
    from metanas.api.runs import Run as Run
    from metanas.api.runs import load_run as load_run
    from metanas.api.tuning import TuneResult as TuneResult
    from metanas.api.tuning import tune as tune
    from metanas.data import load_classes as load_classes
    from metanas.data import load_data as load_data
    from metanas.recipe.spaces import load_space as load_space

_HOMES = {
    "Classifier": "metanas.api.learner",
    "Comparison": "metanas.api.comparison",
    "FewShotResult": "metanas.api.few_shot",
    "Learner": "metanas.api.learner",
    "Result": "metanas.api.result",
    "Run": "metanas.api.runs",
    "Trained": "metanas.api.result",
    "TuneResult": "metanas.api.tuning",
    "ValueResult": "metanas.api.by_value",
    "build": "metanas.api.building",
    "compare_controllers": "metanas.api.comparison",
    "export": "metanas.api.functions",
    "fewshot": "metanas.api.few_shot",
    "load_classes": "metanas.data",
    "load_data": "metanas.data",
    "load_learner": "metanas.api.learner_files",
    "load_recipe": "metanas.api.functions",
    "load_run": "metanas.api.runs",
    "load_space": "metanas.recipe.spaces",
    "resume": "metanas.api.functions",
    "search": "metanas.api.functions",
    "search_by_value": "metanas.api.by_value",
    "tune": "metanas.api.tuning",
}

__all__ = [*_HOMES]

_WITHOUT_TORCH = {"ValueResult", "load_space", "search_by_value"}

if not TYPE_CHECKING:  # else mypy would take any name
    _find, __dir__ = lazily(__name__, _HOMES)

    def __getattr__(name: str) -> object:
        if name in _HOMES and name not in _WITHOUT_TORCH:
            require_torch()  # before anything imports it
        return _find(name)
