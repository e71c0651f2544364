"""Samplers of Optuna as controllers: one is asked for the choices that matter, one after another.

    study      a new one in memory, with a trial for every value told
    sampler    a new one, its seed drawn from the step's own generator
    propose    taken = {}; while choices matter that are not taken: ask the sampler for them
               what breaks a joint limit or a bound of the space is, in that study, as bad as the worst that was
               told, and the sampler is asked again: a failed trial, which samplers skip, would teach it nothing

    tpe        Bergstra, Bardenet, Bengio, Kegl: Algorithms for hyper-parameter optimization, NeurIPS 2011
    gp         a Gaussian process, of the choices that matter in every trial; the others it draws by chance
    random     Optuna's own

Nothing lives from one proposal to the next but the memory, so a search that goes on is the one that was never stopped.
Samplers that keep notes of their own in a study (NSGA-II its generations, CMA-ES its covariance, a grid or a sequence
its place) would find none and draw by chance, so they are refused.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from metanas.controllers import ValueController
from metanas.controllers.memory import NOTHING, best_of, remembered
from metanas.errors import SpaceError, nearest
from metanas.samplers.parameters import mattering, parameters, read, written
from metanas.space import Architecture, Space

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "gp", "random")
TRIES = 20
"""How often a sampler is asked for what keeps limits and bounds, before chance takes over."""
DEEP = 3
"""How far inside of a sampler other samplers and their generators are looked for."""


@dataclass(frozen=True, kw_only=True)
class OptunaSearch(ValueController):
    """Proposals of a sampler of Optuna.

    Memory: that of random search, and "rows": [architecture, value or None where it failed], in the order told.

    Args:
        sampler: `"tpe"`, `"gp"`, `"random"`, or a `TPESampler`, `GPSampler` or `RandomSampler` of Optuna with settings
            of your own, which is copied and given a new seed for every proposal.

    Raises:
        SpaceError: another name; a sampler of another class, or one with a function of constraints.
    """

    sampler: str | optuna.samplers.BaseSampler = field(default="tpe", metadata={"words": SAMPLERS})

    def __post_init__(self) -> None:
        if isinstance(self.sampler, str) and self.sampler not in SAMPLERS:
            raise SpaceError(f"sampler: unknown name {self.sampler!r}{nearest(self.sampler, SAMPLERS)}")
        if not isinstance(self.sampler, str):
            _check_goes_on(self.sampler)

    def __repr__(self) -> str:
        """Equal for equal samplers as far as that can be told, since a run that goes on compares it."""
        word = repr(self.sampler) if isinstance(self.sampler, str) else type(self.sampler).__name__
        return f"OptunaSearch(sampler={word})"

    def start(self, space: Space) -> dict[str, Any]:
        return {**NOTHING, "rows": []}

    def propose(self, space: Space, memory: Mapping[str, Any], *, rng: np.random.Generator) -> Architecture:
        worst = min((value for _, value in memory["rows"] if value is not None), default=None)
        with _silence():
            study = _study(space, memory["rows"], self._sampler(rng))
            for _ in range(TRIES):
                found = _asked(space, study, worst)
                if found is not None:
                    return found
        return space.sample(rng)

    def _sampler(self, rng: np.random.Generator) -> optuna.samplers.BaseSampler:
        import optuna

        seed = int(rng.integers(2**31))
        if not isinstance(self.sampler, str):
            return _reseeded(self.sampler, seed)
        makers: Mapping[str, Callable[..., optuna.samplers.BaseSampler]] = {
            "tpe": optuna.samplers.TPESampler,
            "gp": optuna.samplers.GPSampler,
            "random": optuna.samplers.RandomSampler,
        }
        return makers[self.sampler](seed=seed)

    def tell(self, memory: Mapping[str, Any], architecture: Architecture, value: float) -> dict[str, Any]:
        row = [architecture.to_json(), value if math.isfinite(value) else None]
        return {**remembered(memory, architecture, value), "rows": [*memory["rows"], row]}

    def best(self, space: Space, memory: Mapping[str, Any]) -> Architecture:
        return best_of(space, memory)


def _check_goes_on(sampler: object) -> None:
    """Refuses a sampler that needs more of a study than parameters and values."""
    from optuna import samplers

    if not isinstance(sampler, samplers.TPESampler | samplers.GPSampler | samplers.RandomSampler):
        raise SpaceError(
            f"sampler: {type(sampler).__name__} may need more of a study than parameters and values, all that is "
            "kept; take TPESampler, GPSampler or RandomSampler, or another controller, such as evolution"
        )
    if getattr(sampler, "_constraints_func", None) is not None:  # Optuna says it nowhere else
        raise SpaceError("sampler: its constraints_func would never be asked; leave it out, and bound the space")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Optuna says at every proposal that there is a study, what is experimental, and what is drawn by chance."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _study(space: Space, rows: list[Any], sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """A study with what was told. What failed is a failed trial: Optuna would take an infinite value for a good one."""
    import optuna

    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials([_trial(space, Architecture(taken), value) for taken, value in rows])
    return study


def _trial(space: Space, architecture: Architecture, value: float | None) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState, create_trial

    params: dict[str, Any] = {}
    distributions: dict[str, Any] = {}
    for choice in space.choices:
        if choice.name in architecture:
            params |= written(choice, architecture[choice.name])
            distributions |= parameters(choice)
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    return create_trial(state=state, value=value, params=params, distributions=distributions)


def _asked(space: Space, study: optuna.Study, worst: float | None) -> Architecture | None:
    """What the sampler proposes; None where that breaks a limit or a bound, which the study is told."""
    from optuna.trial import TrialState

    trial, taken = study.ask(), dict[str, tuple[str, ...]]()
    while missing := mattering(space, taken):
        for choice in missing:
            taken[choice.name] = read(choice, {n: _suggested(trial, n, d) for n, d in parameters(choice).items()})
    if all(limit.holds(taken) for limit in space.limits):
        architecture = space.architecture(taken)
        if space.keeps(architecture):
            return architecture
    if worst is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, worst)
    return None


def _suggested(trial: optuna.Trial, name: str, distribution: optuna.distributions.BaseDistribution) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high)
    assert isinstance(distribution, FloatDistribution)  # there are three kinds
    return trial.suggest_float(name, distribution.low, distribution.high)


def _reseeded(sampler: optuna.samplers.BaseSampler, seed: int) -> optuna.samplers.BaseSampler:
    """A copy whose generators begin at seeds that follow from one; Optuna's own `reseed_rng` takes none."""
    fresh = copy.deepcopy(sampler)
    for k, generator in enumerate(_generators(fresh)):
        generator.seed((seed + k) % 2**32)
    return fresh


def _generators(thing: Any, depth: int = DEEP) -> Iterator[np.random.RandomState]:
    """The generators of numpy that an object of Optuna holds, in the order of its attributes."""
    if isinstance(thing, np.random.RandomState):
        yield thing
    elif isinstance(getattr(thing, "rng", None), np.random.RandomState):  # Optuna makes them when they are first used
        yield thing.rng
    elif depth and hasattr(thing, "__dict__"):
        for part in vars(thing).values():
            yield from _generators(part, depth - 1)
