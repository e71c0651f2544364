"""The recipe of a tuning run: what shapes a training, learned by hypergradients, as one frozen value.

    [network]     name of a space, its options, and the architecture where it has a choice
    [data]        as of a search
    [learn]       what is learned: example_weights, decay, rate, label_smoothing, augmentation, loss; at least one
    [inner]       the training that is shaped: rule, steps, batches, whether it restarts
    [outer]       estimator and its options, optimiser, steps, clipping
    [choose]      values for Optuna: what is discrete or has no derivative, by dotted path
    [evaluation]  the training from scratch with what was learned, and with what it started from
    seed, device, threads, precision, checkpoint_seconds

Read, overridden and printed as the recipe of a search (`recipe.Recipe`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from metanas.recipe.recipe import DataRecipe
from metanas.recipe.section import Finite, Options, Part, Rate, Section, Value, Whole, to_toml

Share = Annotated[float, Field(ge=0, lt=1)]
Optimizer = Literal["adam", "sgd", "rmsprop"]
Name = Literal["shift", "rotation", "scale", "shear", "brightness", "contrast"]


class NetworkRecipe(Section):
    """`name`: of a space file, or its path; None where a module was handed over. `options`: its arguments.
    `architecture`: choice -> label or labels, where the space has choices."""

    name: str | None = "plain"
    options: Options = Field(default_factory=dict)
    architecture: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)


class TuneDataRecipe(DataRecipe):
    """As of a search. `wrong_labels`: the share of the inner split whose labels are replaced by wrong ones, to try out
    how well they are found. Augmentation by words goes with searches: here it is learned (`learn.augmentation`)."""

    wrong_labels: Share = 0.0


class WeightsRecipe(Section):
    """A weight for each example of the inner split. `start`: every logit at first."""

    start: Finite = 0.0


class DecayRecipe(Section):
    """A weight decay: one, or one for each tensor, number, or input feature. `start`: at first."""

    per: Literal["all", "layer", "parameter", "feature"] = "layer"
    start: Rate = 1e-4


class RateRecipe(Section):
    """A learning rate: one, or one for each tensor, step, or both; each starts at `inner.lr`."""

    per: Literal["all", "layer", "step", "layer and step"] = "layer"


class SmoothingRecipe(Section):
    """The share of a label that goes to the other classes. `start`: at first."""

    start: Annotated[float, Field(gt=0, lt=1)] = 0.05


class AugmentationRecipe(Section):
    """Magnitudes of the augmentations that are named. `start`: all of them at first."""

    names: tuple[Name, ...] = ("shift", "rotation", "scale")
    start: Rate = 0.05


class LossRecipe(Section):
    """A loss, from the cross entropy on. `terms`: of its series, as in `modes.learned_loss`."""

    terms: Whole = 2


class LearnRecipe(Section):
    """What is learned; None: not."""

    example_weights: WeightsRecipe | None = None
    decay: DecayRecipe | None = None
    rate: RateRecipe | None = None
    label_smoothing: SmoothingRecipe | None = None
    augmentation: AugmentationRecipe | None = None
    loss: LossRecipe | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What is learned, in the order of the fields."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)


class InnerRecipe(Section):
    """The training that is shaped.

    `steps`: of the rule before each estimate. `batch_size`: 0 for the whole split. `restart`: whether each outer step
    begins the training anew from fresh weights; else it goes on from where it was. `momentum` is that of SGD.
    """

    rule: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Rate = 0.1
    momentum: Share = 0.9
    nesterov: bool = False
    weight_decay: Part = 0.0
    steps: Annotated[int, Field(ge=0)] = 20
    batch_size: Annotated[int, Field(ge=0)] = 0
    restart: bool = False


class OuterRecipe(Section):
    """How the outer variables are learned. `batch_size`: 0 for the whole split. `clip`: the greatest norm of a
    hypergradient. `schedule`: of the learning rate."""

    estimator: str = "unrolled"
    options: Options = Field(default_factory=dict)
    optimizer: Optimizer = "adam"
    lr: Rate = 0.1
    schedule: Literal["constant", "cosine"] = "cosine"
    steps: Whole = 100
    batch_size: Annotated[int, Field(ge=0)] = 0
    clip: Rate = 10.0


class RangeRecipe(Section):
    """Numbers between `low` and `high`, both included. `log`: even in the logarithm; `whole`: whole numbers only."""

    low: Finite
    high: Finite
    log: bool = False
    whole: bool = False


class ChooseRecipe(Section):
    """What Optuna chooses, before the tuning itself, each trial a tuning of its own.

    `values`: path of the recipe -> a list of values, or a range. `steps`: outer steps of a trial; None: `outer.steps`.
    `storage`: where the trials are kept; None: a journal in the run folder; else a URL that Optuna knows. Runs that
    name the same storage and the same `study` (None: the run's name) share its trials.
    """

    values: dict[str, tuple[Value, ...] | RangeRecipe] = Field(default_factory=dict)
    trials: Whole = 20
    steps: Whole | None = None
    sampler: Literal["tpe", "random", "gp", "cmaes"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] = "median"
    storage: str | None = None
    study: str | None = None

    @field_validator("values", mode="before")
    @classmethod
    def _by_path(cls, data: Any) -> Any:
        """`{"inner": {"rule": [...]}}` is `{"inner.rule": [...]}`: what a setting by dotted path makes."""
        return dict(flattened(data)) if isinstance(data, dict) else data


def flattened(data: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings by dotted path; a mapping with `low` or `high` is a range.

    >>> dict(flattened({"inner": {"lr": {"low": 0.1, "high": 1.0}, "rule": ["sgd", "adam"]}}))
    {'inner.lr': {'low': 0.1, 'high': 1.0}, 'inner.rule': ['sgd', 'adam']}
    """
    for key, value in data.items():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and not {"low", "high"} & value.keys():
            yield from flattened(value, where)
        else:
            yield where, value


class RetrainRecipe(Section):
    """The training from scratch, by the inner rule. `steps`: of it; `batch_size`: 0 for everything at once; `outer`:
    whether it has the outer split as well as the inner one."""

    steps: Whole = 300
    batch_size: Annotated[int, Field(ge=0)] = 0
    outer: bool = True


class TuneRecipe(Section):
    """Everything a tuning run needs; the fields that a search has too mean the same.

    >>> TuneRecipe().learn.names
    ('example_weights', 'decay')
    """

    network: NetworkRecipe = NetworkRecipe()
    data: TuneDataRecipe = TuneDataRecipe()
    learn: LearnRecipe = LearnRecipe(example_weights=WeightsRecipe(), decay=DecayRecipe())
    inner: InnerRecipe = InnerRecipe()
    outer: OuterRecipe = OuterRecipe()
    choose: ChooseRecipe = ChooseRecipe()
    evaluation: RetrainRecipe = RetrainRecipe()
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Whole | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_seconds: Part = 15.0
    logs: tuple[Literal["tensorboard"], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, `read_tuning`'s argument."""
        return self.model_dump(mode="json")

    def to_toml(self) -> str:
        """ASCII TOML text that reads back to the same recipe. What is None is left out, as TOML has no word for it."""
        return to_toml(self.to_json())
