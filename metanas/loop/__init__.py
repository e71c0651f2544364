"""The loops: generators of frozen steps; no printing, no files, no view."""

from metanas.loop.by_gradient import GradientSearch as GradientSearch
from metanas.loop.by_value import VALUE as VALUE
from metanas.loop.by_value import Objective as Objective
from metanas.loop.by_value import ValueSearch as ValueSearch
from metanas.loop.failures import measured as measured
from metanas.loop.halving import Brief as Brief
from metanas.loop.halving import Halving as Halving
from metanas.loop.halving import Round as Round
from metanas.loop.hyperband import Hyperband as Hyperband
from metanas.loop.minibatches import Minibatches as Minibatches
from metanas.loop.minibatches import drawn as drawn
from metanas.loop.refinement import Refinement as Refinement
from metanas.loop.schedule import Schedule as Schedule
from metanas.loop.steps import Evaluation as Evaluation
from metanas.loop.steps import Report as Report
from metanas.loop.steps import Step as Step
from metanas.loop.tuning import Draws as Draws
from metanas.loop.tuning import TuneSchedule as TuneSchedule
from metanas.loop.tuning import TuneStep as TuneStep
from metanas.loop.tuning import Tuning as Tuning
from metanas.loop.tuning import named as named
