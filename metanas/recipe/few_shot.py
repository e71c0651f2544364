"""The recipe of a few-shot run: learning to learn new classes, as one frozen value.

    [network]     name of a space, its options, and the architecture where it has a choice
    [data]        source, which classes go where, rotations as new classes; descriptions of the classes
    [learner]     prototypical, maml, anil, ..., with options
    [structure]   whether the structure is learned as well: not, one for all tasks, or one that adapts inside each
    [episodes]    of the training: ways, shots, queries, tasks
    [outer]       optimiser, steps, clipping
    [evaluation]  episodes of the validation and of the test
    seed, device, threads, checkpoint_seconds

Read, overridden and printed as the recipe of a search (`recipe.Recipe`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from metanas.recipe.section import Options, Part, Rate, Section, Size, Whole, to_toml
from metanas.recipe.tuning import NetworkRecipe, Optimizer

Share = Annotated[float, Field(ge=0, le=1)]
Ways = Annotated[int, Field(ge=2)]
Wanted = Size | Literal[0] | tuple[str, ...]


class BackboneRecipe(NetworkRecipe):
    """As of a tuning. `embedding`: width of the output of a learner that compares."""

    name: str | None = "conv4"
    embedding: Whole = 64


class ClassDataRecipe(Section):
    """`source`: a name or a path; None where data was handed over. `train`, `validation`, `test`: a share or a number
    of the classes, or their names. `rotations`: each class becomes four. `size`, `target`, `drop`: as of a search.
    `descriptions`: a .json or .csv file that describes the classes, for a learner that reads it."""

    source: str | None = "digits"
    train: Wanted | None = None
    validation: Wanted | None = None
    test: Wanted | None = None
    rotations: bool = False
    size: Whole | None = None
    target: str | None = None
    drop: tuple[str, ...] = ()
    descriptions: str | None = None


class LearnerRecipe(Section):
    """`name`: of the table of learners; `options`: its arguments. `interpolate`: after the training of zero_shot,
    prototypes are put between the mean embeddings of the training classes, unless validation classes are told apart
    better by the describer as it was trained; other learners have nothing to interpolate."""

    name: str = "prototypical"
    options: Options = Field(default_factory=dict)
    interpolate: bool = True


class StructureRecipe(Section):
    """Whether a structure is learned beside the start of the tasks.

    `mode`: "fixed"; "shared", one for all tasks, derived after `steps` outer steps, and then the derived network is
    trained; "adapts", its start is learned and it moves inside each task. `gain`: mixing weights are
    softmax(gain * omega), which makes omega that much faster than the weights.
    """

    mode: Literal["fixed", "shared", "adapts"] = "fixed"
    steps: Whole = 200
    gain: Rate = 10.0


class EpisodesRecipe(Section):
    """Tasks of the training. `tasks`: of an outer step. `within`: the share of the steps whose tasks have all their
    classes from one group, as one alphabet. `affine`: how far images are rotated, scaled, sheared and shifted,
    `elastic`: bent, `stroke`: how much bolder or thinner their strokes become; 0: not (`data.Episodes`).
    """

    ways: Ways = 5
    shots: Whole = 1
    queries: Whole = 5
    tasks: Whole = 4
    within: Share = 0.0
    affine: Part = 0.0
    elastic: Part = 0.0
    stroke: Part = 0.0


class MetaRecipe(Section):
    """How the outer variables are learned. `clip`: the greatest norm of a hypergradient."""

    optimizer: Optimizer = "adam"
    lr: Rate = 3e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    steps: Whole = 300
    clip: Rate = 10.0


class FewShotEvaluationRecipe(Section):
    """`ways`, `shots`, `queries`: of a validation and of the test; `every`: outer steps between two validations, on
    `validation` episodes; `episodes`: of the test. `pooled`: batches that the statistics of the training classes are
    taken over, where a learner rests on them. `views`: how many times an image is looked at, from the second time on
    slightly distorted: an example counts as so many, and the scores of a query are the mean."""

    ways: Ways = 5
    shots: Whole = 1
    queries: Whole = 15
    every: Whole = 50
    validation: Whole = 100
    episodes: Whole = 600
    pooled: Whole = 10
    views: Whole = 1


class FewShotRecipe(Section):
    """Everything a few-shot run needs.

    >>> FewShotRecipe().learner.name
    'prototypical'
    """

    network: BackboneRecipe = BackboneRecipe()
    data: ClassDataRecipe = ClassDataRecipe()
    learner: LearnerRecipe = LearnerRecipe()
    structure: StructureRecipe = StructureRecipe()
    episodes: EpisodesRecipe = EpisodesRecipe()
    outer: MetaRecipe = MetaRecipe()
    evaluation: FewShotEvaluationRecipe = FewShotEvaluationRecipe()
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Whole | None = None
    checkpoint_seconds: Part = 15.0
    logs: tuple[Literal["tensorboard"], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, `read_few_shot`'s argument."""
        return self.model_dump(mode="json")

    def to_toml(self) -> str:
        """ASCII TOML text that reads back to the same recipe. What is None is left out, as TOML has no word for it."""
        return to_toml(self.to_json())


def few_shot_contradictions(recipe: FewShotRecipe) -> Iterator[str]:
    """Values that are allowed one by one, and not together."""
    compares = recipe.learner.name in COMPARES
    episodes, evaluation = recipe.episodes, recipe.evaluation
    if recipe.learner.name in ADAPTS and episodes.ways != evaluation.ways:
        yield (
            f"episodes.ways: {recipe.learner.name} has one output for each class, so it is tested with the ways that "
            f"it is trained with; make it evaluation.ways, which is {evaluation.ways}, got {episodes.ways}"
        )
    if compares and recipe.structure.mode == "adapts":
        yield f"structure.mode: nothing adapts inside a task of {recipe.learner.name}; take shared, or maml"
    if recipe.learner.name == "reptile" and recipe.structure.mode == "shared":
        yield "structure.mode: reptile sees only where a task starts; take adapts, or another learner"
    if recipe.learner.name == "zero_shot" and recipe.structure.mode != "fixed":
        yield "structure.mode: zero_shot learns no structure; take fixed"
    if recipe.structure.mode != "fixed" and recipe.network.architecture:
        yield "network.architecture: is what the structure is learned for; leave it out, or take structure.mode fixed"


ADAPTS = ("anil", "fomaml", "imaml", "maml", "meta_sgd", "reptile")
"""Learners that adapt weights, and so have an output for each class."""
COMPARES = ("prototypical", "zero_shot")
"""Learners that compare embeddings, and so tell any number of classes apart."""
