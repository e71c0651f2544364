"""From the recipe of a few-shot run, and what was handed over beside it, to the objects of the run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from metanas.api.describing import Told, class_facts
from metanas.api.identity import FREE, describe, space_identity
from metanas.api.learner import Learner, Pixels
from metanas.bilevel import Bilevel, Estimator, Tasks, Tree
from metanas.controllers.derivation import strongest
from metanas.data import ClassData, Episode, Episodes
from metanas.data.seeds import seeded
from metanas.data.warps import views
from metanas.errors import DataError, RecipeError, ShapeError
from metanas.evaluation import EpisodicScore, episodic_score
from metanas.loop import TuneSchedule, Tuning
from metanas.modes import Described, FewShot, Queries, Structure, Support, answer, one_hot, softmax_structure
from metanas.network import Statistics, derived, inherit, pooled, supernet
from metanas.recipe import FewShotRecipe
from metanas.recipe.few_shot import COMPARES
from metanas.recipe.few_shot_tables import make_learner
from metanas.recipe.spaces import load_space
from metanas.recipe.tables import make_device
from metanas.recipe.tuning_tables import OPTIMIZERS
from metanas.space import Architecture, Space

TEST_TASKS = 8
"""Tasks that an evaluation answers at once."""
FEW_IMAGES, SOME_IMAGES, AT_A_TIME = 15, 40, 4


@dataclass(frozen=True)
class FewShotHanded:
    """Objects that a user gave in place of names; a resumed run needs them again.

    network:      a module in place of a space's network, from images to scores or to an embedding
    descriptions: of the classes, in place of the file that the recipe names
    encoder:      of sentences, n strings -> (n, d), in place of the one that needs no download
    """

    network: nn.Module | None = None
    descriptions: Any = None
    encoder: Any = None

    def described(self) -> dict[str, str]:
        """Name -> a word on each that was given, equal for equal objects as far as that can be told from outside."""
        given = {name: getattr(self, name) for name in ("network", "descriptions", "encoder")}
        return {name: describe(value) for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class EpisodeDraws:
    """Tasks of each outer step, as a learner's problem reads them (`loop.Draws`).

    episodes: of the training; `grouped`: those whose classes are of one group, taken for a share of the steps
    told:     descriptions, where they take the place of the support set
    """

    episodes: Episodes
    grouped: Episodes | None = None
    share: float = 0.0
    told: Told | None = None

    @property
    def device(self) -> torch.device:
        return self.episodes.data.device

    def batches(self, step: int) -> tuple[Any, Any]:
        """`Support`, or `Described`, and `Queries` with the tasks as their first axis."""
        chance = float(torch.rand((), generator=seeded(self.episodes.seed, "grouped", step)))
        grouped = self.grouped is not None and chance < self.share
        episode = (self.grouped if grouped and self.grouped else self.episodes).at(step)
        support, queries = batches_of(episode)
        if self.told is None:
            return support, queries
        rows = self.told.drawn(step, self.episodes.seed)
        return Described(rows[episode.classes.to(rows.device)]), queries

    def fitted(self, problem: Bilevel) -> Bilevel:
        return problem


def batches_of(episode: Episode) -> tuple[Support, Queries]:
    """The inner and the outer batch of an episode's tasks."""
    ways = episode.classes.shape[1]
    (images, labels), (asked, right) = episode.support, episode.query
    return Support(images, one_hot(labels, ways)), Queries(asked, one_hot(right, ways), images)


@dataclass(frozen=True)
class FewShotParts:
    """What a few-shot run works with. `space` is None where a module was handed over; `architecture` is that of the
    network that is trained: None while the structure is learned."""

    recipe: FewShotRecipe
    space: Space | None
    data: ClassData
    handed: FewShotHanded = field(default_factory=FewShotHanded)
    architecture: Architecture | None = None
    told: Told | None = None

    @property
    def device(self) -> torch.device:
        return make_device(self.recipe.device)

    @property
    def compares(self) -> bool:
        """Whether the learner compares embeddings."""
        return self.recipe.learner.name in COMPARES

    @property
    def searches(self) -> bool:
        """Whether a structure is among the outer variables now."""
        return self.recipe.structure.mode != "fixed" and self.architecture is None

    @property
    def ways(self) -> int | None:
        return None if self.compares else self.recipe.evaluation.ways

    @property
    def outputs(self) -> int:
        """Width of the network's output."""
        return self.recipe.network.embedding if self.compares else self.recipe.evaluation.ways

    def with_architecture(self, architecture: Architecture) -> FewShotParts:
        """The same with a structure that is settled."""
        return replace(self, architecture=architecture)

    def network(self) -> nn.Module:
        """The network on the device, or the supernet while the structure is learned; one that was handed over has its
        own weights."""
        if self.handed.network is not None:
            return copy.deepcopy(self.handed.network).to(self.device)
        assert self.space is not None  # one of the two is there
        outputs, seed = self.outputs, seeded(self.recipe.seed, "weights").initial_seed()
        if self.searches:
            return supernet(self.space, self.data.shape, outputs, seed=seed).to(self.device)
        architecture = self.architecture or self.space.architecture(self.recipe.network.architecture)
        made = derived(self.space, architecture, self.data.shape, outputs, phase="search", seed=seed)
        return made.to(self.device)

    def structure(self) -> Structure | None:
        if not self.searches:
            return None
        assert self.space is not None
        choices = {choice.name: len(choice.candidates) for choice in self.space.choices}
        section = self.recipe.structure
        return softmax_structure(choices, adapts=section.mode == "adapts", gain=section.gain)

    def learner(self, network: nn.Module) -> FewShot:
        seed = seeded(self.recipe.seed, "describer").initial_seed()
        width = None if self.told is None else self.told.known.width
        return make_learner(
            self.recipe.learner, network, self.structure(), described=width, outputs=self.outputs, seed=seed
        )

    def interpolated(self, learner: FewShot, network: nn.Module, outer: Tree) -> tuple[FewShot, Tree]:
        """The same learner with prototypes between the mean embeddings of the training classes."""
        assert self.told is not None and learner.embed is not None  # it reads descriptions
        statistics, embed = self.statistics(learner, outer), learner.embed
        reads = self.told.interpolated(lambda images: embed(outer, images, statistics))
        made = make_learner(self.recipe.learner, network, reads=reads)
        return made, {**outer, "describer": made.outer["describer"]}

    def episodes(self, part: str, *, tasks: int, within: bool = False) -> Episodes:
        """Episodes of training for "train", of an evaluation for the other parts."""
        seed = self.recipe.seed
        if part != "train":
            section = self.recipe.evaluation
            return Episodes(self.data, part, section.ways, section.shots, section.queries, tasks, seed)
        own = self.recipe.episodes
        return Episodes(
            self.data,
            part,
            own.ways,
            own.shots,
            own.queries,
            tasks,
            seed,
            within=within,
            affine=own.affine,
            elastic=own.elastic,
            stroke=own.stroke,
        )

    def draws(self) -> EpisodeDraws:
        own = self.recipe.episodes
        grouped = self.episodes("train", tasks=own.tasks, within=True) if own.within else None
        return EpisodeDraws(self.episodes("train", tasks=own.tasks), grouped, own.within, self.told)

    def tuning(self, learner: FewShot, start: Tree) -> Tuning:
        """The learning at its beginning: the one loop, over tasks."""
        outer = self.recipe.outer
        first = self.searches and self.recipe.structure.mode == "shared"  # the steps before the structure is derived
        return Tuning(
            learner.problem,
            self.batched(learner.estimator),
            lambda step: {},
            start,
            self.draws(),
            TuneSchedule(
                steps=self.recipe.structure.steps if first else outer.steps,
                lr=outer.lr,
                cosine=outer.schedule == "cosine",
                clip=outer.clip,
            ),
            optimizer=OPTIMIZERS[outer.optimizer],
            shown=self.shown,
            restart=True,
            seed=self.recipe.seed,
        )

    def batched(self, estimator: Estimator) -> Tasks:
        """The mean over tasks, in the way that is the fastest here (benchmarks/maml_speed.py): one task needs no `vmap`
        around it, and on a CPU tasks of many images are better taken one by one, of fewer some at a time."""
        own = self.recipe.episodes
        if self.device.type != "cpu":
            return Tasks(estimator, loop=own.tasks == 1)
        images = own.ways * (own.shots + own.queries)
        alone = own.tasks == 1 or images > SOME_IMAGES
        return Tasks(estimator, loop=alone, chunk=None if images <= FEW_IMAGES else AT_A_TIME)

    def shown(self, outer: Tree) -> dict[str, float]:
        """A few numbers to look at: how undecided a structure is, and what rates were learned."""
        found: dict[str, float] = {}
        if "structure" in outer:
            weights = [(self.recipe.structure.gain * a).softmax(-1) for a in outer["structure"].values()]
            found["surest choice"] = max(float(w.max()) for w in weights)
            found["least sure choice"] = min(float(w.max()) for w in weights)
        if "rates" in outer:
            rates = torch.cat([rate.flatten() for rate in outer["rates"]["weights"].values()])
            found["rate mean"] = float(rates.mean())
        return found

    def derived_from(self, outer: Tree) -> Architecture:
        """The architecture of the largest mixing weights."""
        assert self.space is not None
        return strongest(self.space, outer["structure"])

    def started(self, network: nn.Module, outer: Tree) -> None:
        """Puts the weights that a supernet learned into the derived network, by name."""
        inherit(network, outer["weights"])

    @torch.no_grad()
    def statistics(self, learner: FewShot, outer: Tree) -> Statistics | None:
        """Of the norms on the training classes, where the learner rests on them."""
        if not learner.pooled:
            return None
        plain = replace(self.episodes("train", tasks=1), affine=0.0, elastic=0.0, stroke=0.0)
        rows = []
        for step in range(self.recipe.evaluation.pooled):
            episode = plain.at(step)
            images = torch.cat([episode.support[0][0], episode.query[0][0]])
            rows.append(learner.statistics({}, outer, images))
        return pooled(rows)

    def answers(
        self,
        learner: FewShot,
        outer: Tree,
        statistics: Statistics | None,
        *,
        vectors: Tensor | None = None,
        transductive: bool = False,
    ) -> Callable[[Episode], Tensor]:
        """Episode -> scores of its queries, (tasks, queries, ways).

        Args:
            vectors: (classes, d), the descriptions of the part that the episodes are of, where they are told.
        """

        def told(asked: Tensor, rows: Tensor) -> Tensor:
            return answer(learner, outer, Described(rows, statistics), asked, transductive=transductive)

        def shown(asked: Tensor, images: Tensor, targets: Tensor) -> Tensor:
            support = Support(images, targets, statistics)
            return answer(learner, outer, support, asked, transductive=transductive)

        def of(episode: Episode) -> Tensor:
            support, queries = batches_of(episode)
            count = self.recipe.evaluation.views
            if count > 1:
                support, queries = self._looked_at(support, queries, count)
            scores: Tensor
            if vectors is None:
                scores = vmap(shown)(queries.images, support.images, support.targets)
            else:
                scores = vmap(told)(queries.images, vectors[episode.classes.to(vectors.device)])
            looks = scores.view(scores.shape[0], count, -1, scores.shape[-1])
            return looks.mean(1)

        return of

    def _looked_at(self, support: Support, queries: Queries, count: int) -> tuple[Support, Queries]:
        """Every image so many times: examples (tasks, count * examples, ...), all of one view together."""
        outside = self.data.normalised(torch.zeros(self.data.shape, device=support.images.device))

        def seen(images: Tensor) -> Tensor:
            return views(images, count, outside).transpose(0, 1).flatten(1, 2)

        images = seen(support.images)
        targets = support.targets.repeat(1, count, 1)
        return Support(images, targets), Queries(seen(queries.images), queries.targets, images)

    def score(
        self, learner: FewShot, outer: Tree, part: str, count: int, *, transductive: bool = False
    ) -> EpisodicScore:
        """The score over `count` episodes of a part."""
        vectors = None if self.told is None else self.told.of(part)
        statistics = self.statistics(learner, outer)
        answers = self.answers(learner, outer, statistics, vectors=vectors, transductive=transductive)
        return episodic_score(answers, self.episodes(part, tasks=min(count, TEST_TASKS)), count)

    def made(self, learner: FewShot, network: nn.Module, outer: Tree, statistics: Statistics | None) -> Learner:
        """What a user gets."""
        data, architecture = self.data, self.architecture
        if architecture is None and self.space is not None and not self.searches:
            architecture = self.space.architecture(self.recipe.network.architecture)
        pixels = Pixels(data.shape, data.mean, data.std, data.pixels)
        known = None if self.told is None else self.told.known
        return Learner(
            learner,
            outer,
            statistics,
            network,
            pixels,
            self.ways,
            self.space,
            architecture,
            known,
            self.recipe.evaluation.views,
        )

    def check(self) -> None:
        """Finds what would otherwise be found after the run had begun.

        Raises:
            RecipeError: a learner or an option that cannot be; choices in the space that nothing settles.
            DataError: episodes that the data are too few for.
            ShapeError: a network that does not take the data.
        """
        recipe = self.recipe
        if recipe.structure.mode != "fixed" and (self.space is None or not self.space.choices):
            raise RecipeError(["structure.mode: the network has no choices; take a space that has some, or fixed"])
        if recipe.evaluation.views > 1 and len(self.data.shape) != 3:
            raise DataError(f"evaluation.views is for images, the data are rows {self.data.shape}: make it 1")
        draws = self.draws()
        for part in ("validation", "test"):
            if len(getattr(self.data, part)):
                self.episodes(part, tasks=1)
        network = self.network()
        wanted = recipe.evaluation.ways
        try:
            self.learner(network)
            with torch.no_grad():
                outputs = network(draws.batches(0)[1].images[0][:2])
        except (RuntimeError, ValueError) as error:
            if isinstance(error, RecipeError):
                raise
            line = str(error).partition("\n")[0]
            raise ShapeError(
                f"the network does not take inputs {self.data.shape}: {line}; give one that does"
            ) from None
        if not self.compares and outputs.shape[-1] != wanted:
            raise ShapeError(f"the network gives {tuple(outputs.shape[1:])}, and the task has {wanted} ways")

    def identity(self) -> dict[str, Any]:
        """Everything that decides the numbers of the run, as plain data for a checkpoint."""
        return {
            **{name: value for name, value in self.recipe.to_json().items() if name not in FREE},
            "space.json": None if self.space is None else space_identity(self.space),
            "data handed over": {k: class_facts(self.data)[k] for k in ("fingerprint", "shape", "sizes", "task")},
            "handed": self.handed.described(),
        }


def built(recipe: FewShotRecipe) -> Space:
    """The space of a recipe's network. RecipeError where it names none, SpaceError where it cannot be."""
    if recipe.network.name is None:
        raise RecipeError(["network.name: is missing, and no module was handed over; give one of the two"])
    return load_space(recipe.network.name, **recipe.network.options)
