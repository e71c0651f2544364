"""A tuning from its beginning, or from its last checkpoint, to its result.

    choose      where the recipe has values for Optuna: trials, each a tuning; then the best values
    tune        outer steps -> events; what was learned
    training    from scratch, on inner + outer: with what was learned, and with the start values; each tested once
    result      learned.safetensors and learned.json; the network; result.json

A checkpoint names its phase and holds what the phase needs; everything else is made anew from the recipe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_structure, tree_unflatten

from metanas import __version__
from metanas.api.choosing import choose
from metanas.api.identity import SCHEMA
from metanas.api.recorder import Recorder
from metanas.api.tuning_parts import TuneParts, on_cpu, shown
from metanas.bilevel import Tree
from metanas.errors import CheckpointError, DivergedError
from metanas.evaluation import score
from metanas.loop import TuneStep, Tuning, named
from metanas.recipe import override, read_tuning
from metanas.run import RunFolder, finite
from metanas.space import space_to_json

HELD = {
    "choose": set[str](),
    "tune": {"chosen", "tuning"},
    "training": {"chosen", "learned", "tune_seconds", "place", "done", "weights", "training"},
}
CONTENDERS = ("learned", "start")


class TuneSession:
    """A tuning at work; owns where it stands, for the checkpoints."""

    def __init__(self, parts: TuneParts, folder: RunFolder, recorder: Recorder) -> None:
        self.asked, self.folder, self.recorder = parts, folder, recorder
        self.parts = parts  # with what was chosen
        self.chosen: dict[str, Any] = {}
        self.learned: Tree = None
        self.tune_seconds, self.place, self.begun = 0.0, 0, 0.0
        self.done: list[dict[str, Any]] = []
        self.weights: dict[str, Tensor] | None = None
        self.spent = 0.0  # seconds of the training at hand, before the run was resumed

    def run(self, tree: dict[str, Any] | None) -> dict[str, Any]:
        """Works to the end; gives the result's data. Arguments and errors as of `Session.run`."""
        phase = "choose" if tree is None else tree.get("phase")
        if phase not in HELD or not HELD[phase] <= set(tree or {}) | (HELD[phase] if tree is None else set()):
            raise CheckpointError(f"the checkpoint is one of another version than {__version__}; start a new run")
        if tree is None or phase == "choose":
            self._choose()
            self._tune(None)
            return self._train(None)
        self._settle(tree["chosen"])
        if phase == "tune":
            self._tune(tree["tuning"])
            return self._train(None)
        self.learned = self._rebuilt(tree["learned"])
        self.tune_seconds, self.place = tree["tune_seconds"], tree["place"]
        self.done, self.weights = list(tree["done"]), tree["weights"]
        self.spent = tree.get("training_seconds", 0.0)
        return self._train(tree["training"])

    def _choose(self) -> None:
        recipe = self.asked.recipe
        if not recipe.choose.values:
            return
        self.recorder.say(f"choosing {', '.join(recipe.choose.values)}: {recipe.choose.trials} trials")
        found = choose(
            recipe,
            self.folder.path,
            self.recorder,
            lambda other: self.asked.with_recipe(other).tuning(),
            number=self.asked.number,
            more=self.asked.own,
        )
        self._settle(found)
        self.recorder.say("chosen: " + ", ".join(f"{path} = {value}" for path, value in found.items()))

    def _settle(self, chosen: dict[str, Any]) -> None:
        self.chosen = dict(chosen)
        if chosen:
            recipe = read_tuning(override(self.asked.recipe.to_json(), chosen), more=self.asked.own)
            self.parts = self.asked.with_recipe(recipe)
            if self.parts.space is not None:  # that of the network which is trained and kept
                self.folder.write_space(space_to_json(self.parts.space))

    def _tune(self, state: dict[str, Any] | None) -> None:
        tuning = self.parts.tuning()
        if state is not None:
            tuning.restore(state)
        for step in tuning.steps():
            record_step(self.recorder, step)
            self.recorder.pause_point(step.step, lambda: self._tuning_tree(tuning))
        self.learned = on_cpu(tuning.outer)
        self.tune_seconds, self.place = self.recorder.log.elapsed, tuning.step + 1
        doubts = tuning.doubts()
        if doubts:
            self.recorder.say(f"the last hypergradient: {doubts}", "warning")
        self.recorder.checkpoint(self.place, self._tree(None))

    def _tuning_tree(self, tuning: Tuning) -> dict[str, Any]:
        return {"phase": "tune", "chosen": self.chosen, "tuning": tuning.state()}

    def _tree(self, training: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "phase": "training",
            "chosen": self.chosen,
            "learned": named(self.learned),
            "tune_seconds": self.tune_seconds,
            "place": self.place,
            "done": self.done,
            "weights": self.weights,
            "training": training,
            "training_seconds": 0.0 if training is None else self.recorder.log.elapsed - self.begun + self.spent,
        }

    def _rebuilt(self, saved: dict[str, Tensor]) -> Tree:
        """The outer variables as a tree, from their flat names."""
        start = self._start()
        if list(named(start)) != list(saved):
            raise CheckpointError("the checkpoint holds other outer variables than the recipe names; start a new run")
        return tree_unflatten([saved[name] for name in named(start)], tree_structure(start))

    def _start(self) -> Tree:
        return on_cpu({part.name: part.start for part in self.parts.parts()})

    def _train(self, state: dict[str, Any] | None) -> dict[str, Any]:
        for name in CONTENDERS[len(self.done) :]:
            self._train_one(name, state)
            state, self.spent = None, 0.0
            self.recorder.checkpoint(self.place, self._tree(None))
        return self._result()

    def _train_one(self, name: str, state: dict[str, Any] | None) -> None:
        parts, self.begun = self.parts, self.recorder.log.elapsed
        outer = self.learned if name == "learned" else self._start()
        outer = tree_unflatten([x.to(parts.device) for x in tree_leaves(outer)], tree_structure(outer))
        training = parts.retraining(outer)
        if state is not None:
            training.restore(state)
        try:
            for epoch in training.epochs():
                self.place += 1
                self.recorder.log.write(
                    "train",
                    network=name,
                    key=None,
                    epoch=epoch.epoch,
                    epochs=epoch.epochs,
                    loss=epoch.loss,
                    score=epoch.score,
                )
                self.recorder.pause_point(self.place, lambda: self._tree(training.state()))
        except DivergedError as error:
            if name == "learned":
                raise
            self.recorder.say(f"{name}: {error}", "warning")  # a baseline that fails does not cost the result
        network = parts.filled(training.theta)
        tested = score(network, parts.data.test, task=parts.task)
        if name == "learned":
            self.weights = {key: x.detach().cpu() for key, x in training.theta.items()}
        row = finite(
            {
                "network": name,
                "key": None,
                "architecture": dict(parts.architecture.to_json()) if parts.architecture is not None else {},
                "test_score": tested.score,
                "test_loss": tested.loss,
                "parameters": sum(p.numel() for p in network.parameters()),
                "multiply_adds": None,
                "seconds": self.recorder.log.elapsed - self.begun + self.spent,
            }
        )
        self.recorder.log.write("network", **row)
        self.done.append(row)
        self.place += 1

    def _result(self) -> dict[str, Any]:
        learned, start = self.done
        found = wrong_labels(self.parts, self.learned)
        if found is not None:
            self.recorder.say(f"of {found['wrong']} wrong labels {found['found']} were found, F1 {found['f1']:.3f}")
        parts = self.parts.parts()
        return {
            "schema": SCHEMA,
            "metanas": __version__,
            "kind": "tune",
            "metric": self.parts.task.metric_name,
            **{k: v for k, v in learned.items() if k != "network"},
            "start": {k: v for k, v in start.items() if k != "network"},
            "shown": shown(parts, self.learned),
            "shown_at_start": shown(parts, self._start()),
            "chosen": self.chosen,
            "wrong_labels": found,
            "tune_seconds": self.tune_seconds,
            "train_seconds": sum(row["seconds"] for row in self.done),
            "steps": self.parts.recipe.outer.steps,
        }


def wrong_labels(parts: TuneParts, learned: Tree) -> dict[str, Any] | None:
    """How well the wrong labels were found, where some were put in and examples have weights; else None.

    Those that weigh less than one half are suspected: {"wrong", "found", "suspected": numbers, "precision", "recall",
    "f1": shares}.
    """
    if parts.right is None or "example_weights" not in learned:
        return None
    wrong = (parts.right != parts.data.inner.targets).cpu()
    suspected = learned["example_weights"]["logit"] < 0
    hits = int((wrong & suspected).sum())
    total, said = int(wrong.sum()), int(suspected.sum())
    precision, recall = hits / max(said, 1), hits / max(total, 1)
    f1 = 2 * hits / max(total + said, 1)
    return {"wrong": total, "found": hits, "suspected": said, "precision": precision, "recall": recall, "f1": f1}


def record_step(recorder: Recorder, step: TuneStep, *, before: int = 0, after: int = 0) -> None:
    """One outer step as an event, where steps of other phases were before it and come after it."""
    recorder.log.write(
        "step",
        step=before + step.step,
        steps=before + step.steps + after,
        inner_loss=None,
        outer_loss=float(step.outer_loss),
        gradient_norm=None,
        outer_gradient_norm=float(step.gradient_norm),
        stationarity=_measured(step.stationarity),
        residual=_measured(step.residual),
        curvature=_measured(step.curvature),
        converged=bool(step.converged),
        skipped=int(step.skipped),
        learned=dict(step.learned),
    )


def _measured(x: Tensor) -> float | None:
    """A number that was measured, or None: nan says that it was not."""
    return None if bool(torch.isnan(x)) else float(x)
