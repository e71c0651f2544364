"""A recipe: everything a run needs, as one frozen value.

    [space]       name, options
    [data]        source, sizes of the splits, augmentation
    [search]      controller and its options, estimator, how the supernet is trained
    [evaluation]  how the derived network and random ones beside it are trained from scratch
    seed, device, threads, workers, precision, checkpoint_seconds, logs

It is read from TOML (`reading`), overridden by dotted paths (`search.epochs`), printed as TOML, and kept as JSON in
the run. What is left out has the value that stands here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from metanas.recipe.section import Options, Part, Rate, Section, Size, SpaceRecipe, Whole, to_toml


class DataRecipe(Section):
    """`source`: a name or a path; None where data was handed over. Sizes are fractions (below 1) or counts.

    `augment`: words such as "crop 1", "flip", "cutout 8"; None: what suits the source. `size`: side of the images
    from a folder or a zip; None: their own where all have the same and it is small, else 32. `target`: the column of a
    table that is predicted; `drop`: columns that are left out; `task`: None: as the target of the table says, else
    classification. `inputs`: what arrays hold where they are neither images nor rows (`metanas.data.inputs`).
    """

    source: str | None = "digits"
    inner: Size | None = None
    outer: Size | None = None
    test: Size | None = None
    augment: tuple[str, ...] | None = None
    size: Whole | None = None
    target: str | None = None
    drop: tuple[str, ...] = ()
    task: Literal["classification", "regression"] | None = None
    inputs: Literal["tokens", "graphs"] | None = None


class RoundRecipe(Section):
    """How many candidates of a refinement are trained, and for how many epochs."""

    candidates: Whole
    epochs: Whole


class GuardRecipe(Section):
    """What may end a search by gradient early (`loop.guard`); what is None is not looked at, which is the default.

    `skip_share`: ends it when that share of the derived choices skips. `entropy`: when the weights' mean entropy is as
    low. `eigenvalue`: when the largest eigenvalue of the Hessian of the outer loss in omega grows by that factor, as a
    mean over `window` epochs against that `earlier` epochs before (RobustDARTS: 1.3); measured on `examples` of the
    outer split. `roll_back`: omega goes back to before that; the supernet's weights, where a refinement starts, do not.
    `then`: "end", or "darts_pt": whichever guard speaks, omega goes back to its beginning and stays there, the weights
    are trained to the last epoch, and the operations that the supernet misses most are derived.
    """

    skip_share: Annotated[float, Field(gt=0, le=1)] | None = None
    entropy: Annotated[float, Field(ge=0, lt=1)] | None = None
    eigenvalue: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    window: Whole = 5
    earlier: Whole = 4
    examples: Whole = 64
    roll_back: bool = True
    then: Literal["end", "darts_pt"] = "end"


class LimitsRecipe(Section):
    """The most that an architecture may cost, of the network that is trained from scratch: trainable parameters,
    multiply-adds of one example (half its FLOPs), milliseconds of one example by the sum of its operations."""

    parameters: Rate | None = None
    multiply_adds: Rate | None = None
    latency_ms: Rate | None = None


class ScreenRecipe(Section):
    """A zero-cost score that picks one of so many proposals for each evaluation of a search by values; None: none."""

    score: str | None = None
    candidates: Whole = 10


class SearchRecipe(Section):
    """The search; what is not said here is of `loop.Schedule`, where it is explained.

    By gradients:
        estimator: of hypergradients; a controller that learns from the value of the loss (`reinforce`) has its own.
        warmup: epochs in which only the weights are trained; None: a sixth of all.
        executor: of the supernet; "fused" computes together what reads the same value, after a comparison with "plain".
        checkpoint: forget what is inside the cells in the forward pass and compute it twice, for less memory.
        capture: on a GPU, launch steps as CUDA graphs (`bilevel.capture`), where nothing in them reads the host; those
            of short trainings too, where no others run beside them.
        guard: what may end the search early.
        perturb, perturb_steps: of SDARTS; goes with every controller whose weights are not one-hot.
        align: how strongly the weights are trained so that all cells want the same (Lambda-DARTS: 0.125), at the end of
            the search, from 0; with every such controller, on spaces whose cells share choices.
        align_epsilon: step of the paper's finite difference; 0: a second backward pass, which is exact.
        sandwich: architectures that are drawn for each step of the weights (BigNAS: 2) and learn from the outputs of
            the largest, as does the smallest; with every controller that runs one path (`modes.sandwich`). 0: none.
        shrink_to, shrink_stages: candidates that are left of each choice in the end, and in how many stages the others
            go (DrNAS: 3 of 5 in one).
        cost: what is charged beside the outer loss, in expectation under the mixing weights: "parameters",
            "multiply_adds" or "latency_ms".
        cost_weight: of the charge, for a cost as large as the mean of the space.
        cost_target: then only the share beyond it is charged.

    By values:
        budget: evaluations, each a training of `value_epochs` epochs unless `objective` is a zero-cost score; one that
            was trained before is told its value again, without a training.
        objective: "training", or a score (`evaluation.zero_cost`).
        objectives: what a training is judged by, names of `evaluation.MEASURES`, those that are to be small with a
            minus before them; none: minus the loss.
        eta: Hyperband (`loop.Hyperband`): trainings of up to `value_epochs` epochs, of which one in `eta` goes on to a
            longer one, for as many epochs in all as `budget` evaluations take.
        screen: a score that picks the proposals.

    Both:
        limits: what is proposed, derived, refined and drawn at random keeps them.
        latency_table: a file of `evaluation.OperationTable`; None: latencies are measured on the device, once for each
            operation and shape, and kept in the run.
        refine: rounds of a local search from the derived architecture, by short trainings on the inner split that are
            judged on the outer one (`loop.Refinement`); none by default.
        refine_from: where those trainings start; without a supernet, always from scratch. The supernet's weights are
            those of its last epoch, also where a guard put omega back.
        refine_lr: learning rate at their start; None: `evaluation.lr`, half of it from the supernet's weights.
    """

    controller: str = "drnas"
    options: Options = Field(default_factory=dict)
    estimator: str = "first_order"
    epochs: Whole = 30
    warmup: Annotated[int, Field(ge=0)] | None = None
    batch_size: Whole = 64
    lr: Rate = 0.1
    lr_end: Part = 0.001
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Part = 5e-4
    clip: Rate = 5.0
    outer_clip: Rate = 5.0
    order: Literal["advance", "outer"] = "advance"
    monitor: Whole = 512
    budget: Whole = 20
    value_epochs: Whole = 5
    objectives: tuple[str, ...] = ()
    eta: Annotated[int, Field(ge=2)] | None = None
    refine: tuple[RoundRecipe, ...] = ()
    refine_from: Literal["supernet", "scratch"] = "supernet"
    refine_lr: Rate | None = None
    executor: Literal["fused", "plain"] = "fused"
    checkpoint: bool = False
    capture: bool = True
    guard: GuardRecipe = GuardRecipe()
    perturb: Part = 0.0
    perturb_steps: Annotated[int, Field(ge=0)] = 0
    align: Part = 0.0
    align_epsilon: Part = 0.0
    sandwich: Annotated[int, Field(ge=0)] = 0
    shrink_to: Whole | None = None
    shrink_stages: Whole = 1
    cost: str | None = None
    cost_weight: Part = 1.0
    cost_target: Rate | None = None
    limits: LimitsRecipe = LimitsRecipe()
    latency_table: str | None = None
    objective: str = "training"
    screen: ScreenRecipe = ScreenRecipe()

    @property
    def warmup_epochs(self) -> int:
        """Epochs in which only the weights are trained.

        >>> [SearchRecipe(epochs=epochs).warmup_epochs for epochs in (3, 30, 50)], SearchRecipe(warmup=2).warmup_epochs
        ([0, 5, 8], 2)
        """
        return self.epochs // 6 if self.warmup is None else self.warmup


class EvaluationRecipe(Section):
    """Training from scratch, as in `evaluation.Training`.

    `random`: how many random architectures stand beside; `space`: options of the space that differ from the search's,
    as more channels; `drop_path`, `auxiliary`: of the paper's evaluation of DARTS, 0.2 and 0.4 there; `capture`: on a
    GPU, launch steps as CUDA graphs, where nothing is dropped at random and the network is made of operations.
    """

    epochs: Whole = 25
    batch_size: Whole = 64
    lr: Rate = 0.1
    warmup: Annotated[int, Field(ge=0)] = 0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Part = 5e-4
    clip: Rate = 5.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    auxiliary: Part = 0.0
    capture: bool = True
    random: Annotated[int, Field(ge=0)] = 3
    space: Options = Field(default_factory=dict)


class Recipe(Section):
    """Everything a run needs. `threads`: of the CPU; None: as torch finds it. `workers`: short trainings of a
    refinement at the same time, which share the threads. `checkpoint_seconds`: time between two.
    `logs`: tools in whose own formats the run is logged as well, beside events.jsonl.

    `precision`: of the forward passes that are trained, in the search and from scratch (`metanas.network.computed_in`);
    parameters, losses, tests and exports are float32.

    >>> Recipe().search.controller
    'drnas'
    """

    space: SpaceRecipe = SpaceRecipe()
    data: DataRecipe = DataRecipe()
    search: SearchRecipe = SearchRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Whole | None = None
    workers: Whole = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_seconds: Part = 15.0
    logs: tuple[Literal["tensorboard", "optuna"], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, `read`'s argument."""
        return self.model_dump(mode="json")

    def to_toml(self) -> str:
        """ASCII TOML text that reads back to the same recipe. What is None is left out, as TOML has no word for it."""
        return to_toml(self.to_json())
