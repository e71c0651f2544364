"""The public functions; `metanas.search` is `metanas.api.search`."""

from metanas.api.functions import export as export
from metanas.api.functions import load_recipe as load_recipe
from metanas.api.functions import load_run as load_run
from metanas.api.functions import resume as resume
from metanas.api.functions import search as search
from metanas.api.result import Result as Result
from metanas.api.result import Run as Run
from metanas.api.result import Trained as Trained
