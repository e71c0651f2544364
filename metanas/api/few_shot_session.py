"""A few-shot run from its beginning, or from its last checkpoint, to its result.

    structure   where one is learned: outer steps over the supernet -> an architecture (shared), or the learner (adapts)
    learn       outer steps -> what every task starts from; validated now and then, the best is kept
    interpolate where descriptions are read: prototypes between the mean embeddings of the training classes
    test        episodes of classes never seen: as learned, and as it started
    result      learned.safetensors and learned.json; result.json

A checkpoint names its phase and holds what the phase needs; everything else is made anew from the recipe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten

from metanas import __version__
from metanas.api.few_shot_parts import FewShotParts
from metanas.api.identity import SCHEMA
from metanas.api.learner import Learner
from metanas.api.recorder import Recorder
from metanas.api.tuning_session import record_step
from metanas.bilevel import Tree
from metanas.errors import BilevelError, CheckpointError
from metanas.evaluation import EpisodicScore
from metanas.loop import Tuning, named
from metanas.modes import FewShot
from metanas.run import RunFolder
from metanas.space import Architecture

HELD = {"structure": {"tuning"}, "learn": {"tuning", "architecture", "start", "best", "seconds"}}


class FewShotSession:
    """A few-shot run at work; owns where it stands, for the checkpoints."""

    def __init__(self, parts: FewShotParts, folder: RunFolder, recorder: Recorder) -> None:
        self.parts, self.folder, self.recorder = parts, folder, recorder
        self.architecture: Architecture | None = None
        self.start: dict[str, Tensor] | None = None  # weights that a supernet learned, for the derived network
        self.best: dict[str, Any] | None = None  # {"step", "accuracy", "outer": {name: tensor}}
        self.seconds = {"structure": 0.0, "learn": 0.0}
        self.interpolated: bool | None = None  # None: there is nothing to interpolate, or it is not wanted
        self.learner: Learner | None = None

    def run(self, tree: dict[str, Any] | None) -> dict[str, Any]:
        """Works to the end; gives the result's data."""
        recipe = self.parts.recipe
        phase = ("structure" if recipe.structure.mode == "shared" else "learn") if tree is None else tree.get("phase")
        if phase not in HELD or (tree is not None and not HELD[phase] <= set(tree)):
            raise CheckpointError(f"the checkpoint is one of another version than {__version__}; start a new run")
        if phase == "structure":
            self._structure(None if tree is None else tree["tuning"])
            tree = None
        elif tree is not None:
            self.seconds, self.best, self.start = tree["seconds"], tree["best"], tree["start"]
            if tree["architecture"] is not None:
                self.architecture = Architecture.from_json(tree["architecture"])
        return self._learn(None if tree is None else tree["tuning"])

    def _structure(self, state: dict[str, Any] | None) -> None:
        parts = self.parts
        learner = parts.learner(parts.network())
        tuning = parts.tuning(learner, learner.outer)
        if state is not None:
            tuning.restore(state)
        self.recorder.say(f"learning the structure beside the start: {tuning.schedule.steps} steps")
        for step in tuning.steps():
            record_step(self.recorder, step, after=parts.recipe.outer.steps)
            self.recorder.pause_point(step.step, lambda: {"phase": "structure", "tuning": tuning.state()})
        self.architecture = parts.derived_from(tuning.outer)
        self.start = {name: p.detach().clone() for name, p in tuning.outer["weights"].items()}
        self.seconds["structure"] = self.recorder.log.elapsed
        self.recorder.say(f"derived: {', '.join(f'{k} {v}' for k, v in self.architecture.to_json().items())}")

    def _learn(self, state: dict[str, Any] | None) -> dict[str, Any]:
        parts = self.parts if self.architecture is None else self.parts.with_architecture(self.architecture)
        network = parts.network()
        if self.start is not None:
            parts.started(network, {"weights": self.start})
        few_shot = parts.learner(network)
        tuning = parts.tuning(few_shot, few_shot.outer)
        first = tree_map(lambda x: x.detach().clone(), tuning.outer)
        if state is not None:
            tuning.restore(state)
        before = parts.recipe.structure.steps if parts.recipe.structure.mode == "shared" else 0
        for step in tuning.steps():
            record_step(self.recorder, step, before=before)
            if step.step % parts.recipe.evaluation.every == 0 or step.step == step.steps:
                self._validate(parts, few_shot, tuning, before)
            self.recorder.pause_point(before + step.step, lambda: self._tree(tuning))
        self.seconds["learn"] = self.recorder.log.elapsed - self.seconds["structure"]
        outer = self._best_of(tuning)
        learned = (few_shot, outer)
        if few_shot.embed is not None and parts.recipe.learner.interpolate:
            learned = self._interpolated(parts, few_shot, network, outer)
        self.learner = parts.made(learned[0], network, learned[1], parts.statistics(*learned))
        return self._test(parts, learned, (few_shot, first), before + tuning.step)

    def _validate(self, parts: FewShotParts, few_shot: FewShot, tuning: Tuning, before: int) -> None:
        """On validation classes, where there are some; keeps the best, and of equals the last."""
        if not len(parts.data.validation):
            return
        score = parts.score(few_shot, tuning.outer, "validation", parts.recipe.evaluation.validation)
        self.recorder.log.write(
            "validation",
            step=before + tuning.step,
            accuracy=score.accuracy,
            interval=score.interval,
            loss=score.loss,
            episodes=score.episodes,
        )
        if self.best is None or score.accuracy >= self.best["accuracy"]:
            kept = {name: x.detach().clone() for name, x in named(tuning.outer).items()}
            self.best = {"step": before + tuning.step, "accuracy": score.accuracy, "outer": kept}

    def _interpolated(
        self, parts: FewShotParts, few_shot: FewShot, network: torch.nn.Module, outer: Tree
    ) -> tuple[FewShot, Tree]:
        """The learner that tells validation classes apart better, the interpolated one or the one that was trained."""
        trained, self.interpolated = (few_shot, outer), False
        try:
            made = parts.interpolated(few_shot, network, outer)
        except BilevelError as error:
            self.recorder.say(f"no prototypes between those of the training classes: {error}")
            return trained
        said = f"prototypes are put between those of {len(parts.data.train)} training classes"
        if len(parts.data.validation) and self.best is not None:
            new, before = parts.score(*made, "validation", parts.recipe.evaluation.validation).accuracy, self.best
            said += f": {100 * new:.2f} % on validation classes, {100 * before['accuracy']:.2f} % as trained"
            if new < before["accuracy"]:
                self.recorder.say(f"{said}; the describer stays as it was trained")
                return trained
            self.best = {**before, "accuracy": new}
        self.recorder.say(said)
        self.interpolated = True
        return made

    def _best_of(self, tuning: Tuning) -> Tree:
        outer = tree_map(lambda x: x.detach(), tuning.outer)
        if self.best is None:
            return outer
        kept = self.best["outer"]
        # In the layout of the outer variables: a sum in another order has another last bit, and a resumed run with it.
        leaves = [torch.empty_like(x).copy_(kept[name]) for name, x in named(outer).items()]
        return tree_unflatten(leaves, tree_structure(outer))

    def _tree(self, tuning: Tuning) -> dict[str, Any]:
        return {
            "phase": "learn",
            "tuning": tuning.state(),
            "architecture": None if self.architecture is None else self.architecture.to_json(),
            "start": self.start,
            "best": self.best,
            "seconds": {**self.seconds, "learn": self.recorder.log.elapsed - self.seconds["structure"]},
        }

    def _test(
        self, parts: FewShotParts, made: tuple[FewShot, Tree], first: tuple[FewShot, Tree], steps: int
    ) -> dict[str, Any]:
        count = parts.recipe.evaluation.episodes
        learned = parts.score(*made, "test", count)
        beside = parts.score(*made, "test", count, transductive=True)
        before = parts.score(*first, "test", count)
        assert self.learner is not None
        size = sum(p.numel() for p in tree_leaves(self.learner.outer["weights"]))
        rows = {"learned": learned, "start": before}
        for name, score in rows.items():
            self.recorder.log.write("network", **_row(name, score, size, self.learner.architecture))
        recipe = parts.recipe
        return {
            "schema": SCHEMA,
            "metanas": __version__,
            "kind": "fewshot",
            "metric": "accuracy",
            **{k: v for k, v in _row("learned", learned, size, self.learner.architecture).items() if k != "network"},
            "interval": learned.interval,
            "transductive": {"accuracy": beside.accuracy, "interval": beside.interval},
            "start": {"accuracy": before.accuracy, "interval": before.interval},
            "validation": None if self.best is None else {k: self.best[k] for k in ("step", "accuracy")},
            "interpolated": self.interpolated,
            "ways": recipe.evaluation.ways,
            "shots": recipe.evaluation.shots,
            "episodes": count,
            "structure_seconds": self.seconds["structure"],
            "learn_seconds": self.seconds["learn"],
            "steps": steps,
        }


def _row(name: str, score: EpisodicScore, size: int, architecture: Architecture | None) -> dict[str, Any]:
    return {
        "network": name,
        "key": None if architecture is None else architecture.key,
        "architecture": {} if architecture is None else architecture.to_json(),
        "test_score": score.accuracy,
        "test_loss": score.loss,
        "parameters": size,
        "multiply_adds": None,
        "seconds": None,
    }
