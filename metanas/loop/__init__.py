"""The loops: generators of frozen steps; no printing, no files, no view."""

from typing import TYPE_CHECKING

from metanas.lazy import lazily

if TYPE_CHECKING:
    from metanas.loop.alignment import Alignment as Alignment
    from metanas.loop.by_gradient import GradientSearch as GradientSearch
    from metanas.loop.by_value import VALUE as VALUE
    from metanas.loop.by_value import Objective as Objective
    from metanas.loop.by_value import ValueSearch as ValueSearch
    from metanas.loop.failures import measured as measured
    from metanas.loop.guard import Decided as Decided
    from metanas.loop.guard import EigenvalueGrowth as EigenvalueGrowth
    from metanas.loop.guard import Guard as Guard
    from metanas.loop.guard import Health as Health
    from metanas.loop.guard import Probe as Probe
    from metanas.loop.guard import SkipShare as SkipShare
    from metanas.loop.guard import Verdict as Verdict
    from metanas.loop.halving import Brief as Brief
    from metanas.loop.halving import Halving as Halving
    from metanas.loop.halving import Round as Round
    from metanas.loop.hyperband import Hyperband as Hyperband
    from metanas.loop.minibatches import Minibatches as Minibatches
    from metanas.loop.minibatches import drawn as drawn
    from metanas.loop.pricing import Price as Price
    from metanas.loop.refinement import Refinement as Refinement
    from metanas.loop.schedule import Schedule as Schedule
    from metanas.loop.steps import Evaluation as Evaluation
    from metanas.loop.steps import Report as Report
    from metanas.loop.steps import Step as Step
    from metanas.loop.trained import PLAIN as PLAIN
    from metanas.loop.trained import Sandwich as Sandwich
    from metanas.loop.trained import Trained as Trained
    from metanas.loop.tuning import Draws as Draws
    from metanas.loop.tuning import TuneSchedule as TuneSchedule
    from metanas.loop.tuning import TuneStep as TuneStep
    from metanas.loop.tuning import Tuning as Tuning
    from metanas.loop.tuning import named as named

_HOMES = {
    "Alignment": "metanas.loop.alignment",
    "Brief": "metanas.loop.halving",
    "Decided": "metanas.loop.guard",
    "Draws": "metanas.loop.tuning",
    "EigenvalueGrowth": "metanas.loop.guard",
    "Evaluation": "metanas.loop.steps",
    "GradientSearch": "metanas.loop.by_gradient",
    "Guard": "metanas.loop.guard",
    "Halving": "metanas.loop.halving",
    "Health": "metanas.loop.guard",
    "Hyperband": "metanas.loop.hyperband",
    "Minibatches": "metanas.loop.minibatches",
    "Objective": "metanas.loop.by_value",
    "PLAIN": "metanas.loop.trained",
    "Price": "metanas.loop.pricing",
    "Probe": "metanas.loop.guard",
    "Refinement": "metanas.loop.refinement",
    "Report": "metanas.loop.steps",
    "Round": "metanas.loop.halving",
    "Sandwich": "metanas.loop.trained",
    "Schedule": "metanas.loop.schedule",
    "SkipShare": "metanas.loop.guard",
    "Step": "metanas.loop.steps",
    "Trained": "metanas.loop.trained",
    "TuneSchedule": "metanas.loop.tuning",
    "TuneStep": "metanas.loop.tuning",
    "Tuning": "metanas.loop.tuning",
    "VALUE": "metanas.loop.by_value",
    "ValueSearch": "metanas.loop.by_value",
    "Verdict": "metanas.loop.guard",
    "drawn": "metanas.loop.minibatches",
    "measured": "metanas.loop.failures",
    "named": "metanas.loop.tuning",
}

__all__ = [*_HOMES]

if not TYPE_CHECKING:  # else mypy would take any name
    __getattr__, __dir__ = lazily(__name__, _HOMES)
