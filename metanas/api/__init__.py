"""The public functions; `metanas.search` is `metanas.api.search`."""

from metanas.api.requirements import require_torch

require_torch()  # before anything imports it

from metanas.api.building import build as build  # noqa: E402
from metanas.api.by_value import ValueResult as ValueResult  # noqa: E402
from metanas.api.by_value import search_by_value as search_by_value  # noqa: E402
from metanas.api.comparison import Comparison as Comparison  # noqa: E402
from metanas.api.comparison import compare_controllers as compare_controllers  # noqa: E402
from metanas.api.few_shot import FewShotResult as FewShotResult  # noqa: E402
from metanas.api.few_shot import fewshot as fewshot  # noqa: E402
from metanas.api.functions import export as export  # noqa: E402
from metanas.api.functions import load_recipe as load_recipe  # noqa: E402
from metanas.api.functions import resume as resume  # noqa: E402
from metanas.api.functions import search as search  # noqa: E402
from metanas.api.learner import Classifier as Classifier  # noqa: E402
from metanas.api.learner import Learner as Learner  # noqa: E402
from metanas.api.learner_files import load_learner as load_learner  # noqa: E402
from metanas.api.result import Result as Result  # noqa: E402
from metanas.api.result import Trained as Trained  # noqa: E402
from metanas.api.runs import Run as Run  # noqa: E402
from metanas.api.runs import load_run as load_run  # noqa: E402
from metanas.api.tuning import TuneResult as TuneResult  # noqa: E402
from metanas.api.tuning import tune as tune  # noqa: E402
from metanas.data import load_classes as load_classes  # noqa: E402
from metanas.data import load_data as load_data  # noqa: E402
from metanas.recipe.spaces import load_space as load_space  # noqa: E402
