"""The loops: generators of frozen steps; no printing, no files, no view."""

from metanas.loop.by_gradient import GradientSearch as GradientSearch
from metanas.loop.by_value import Objective as Objective
from metanas.loop.by_value import ValueSearch as ValueSearch
from metanas.loop.minibatches import Minibatches as Minibatches
from metanas.loop.minibatches import drawn as drawn
from metanas.loop.pricing import Price as Price
from metanas.loop.refinement import Brief as Brief
from metanas.loop.refinement import Refinement as Refinement
from metanas.loop.refinement import Round as Round
from metanas.loop.schedule import Schedule as Schedule
from metanas.loop.steps import Evaluation as Evaluation
from metanas.loop.steps import Report as Report
from metanas.loop.steps import Step as Step
from metanas.loop.tuning import Draws as Draws
from metanas.loop.tuning import TuneSchedule as TuneSchedule
from metanas.loop.tuning import TuneStep as TuneStep
from metanas.loop.tuning import Tuning as Tuning
from metanas.loop.tuning import named as named
