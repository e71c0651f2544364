"""One run from its beginning, or from its last checkpoint, to its result.

    search      steps -> events; the derived architecture
    refine      where the recipe wants it: a local search from the derived architecture, by short trainings
    training    the derived network and random ones of the same space, from scratch, on inner + outer; each tested once.
                A transfer brings weights, and perhaps the architecture: the derived network begins with them, and the
                same is trained from scratch beside it
    result      result.json; the network as JSON, safetensors and a Python module

A checkpoint names its phase and holds what the phase needs; everything else is made anew from the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
import torch

from metanas import __version__
from metanas.api.host import threads
from metanas.api.identity import SCHEMA
from metanas.api.memory import free_bytes, named, need_of
from metanas.api.parts import Parts
from metanas.api.recorder import Recorder
from metanas.errors import CheckpointError, DivergedError
from metanas.evaluation import ScratchTraining, cost, score
from metanas.loop import GradientSearch, Hyperband, Refinement, ValueSearch
from metanas.network import Network
from metanas.run import finite
from metanas.space import Architecture
from metanas.space.canonical import reads_input

HELD = {
    "search": {"search"},
    "refine": {"steps", "start", "supernet", "refinement"},
    "training": {"architecture", "search_seconds", "steps", "place", "done", "weights", "training"},
}
"""What a checkpoint holds beside its phase."""


def _check_held(tree: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    phase = tree.get("phase")
    missing = sorted(HELD[phase] - tree.keys()) if phase in HELD else ["a phase that is known here"]
    if missing:
        raise CheckpointError(
            f"the checkpoint does not hold {', '.join(missing)}: metanas {document.get('metanas')} wrote the run, this "
            f"is {__version__}; resume it with that version, or start a new run"
        )


class Session:
    """A run at work; owns where it stands, for the checkpoints."""

    def __init__(self, parts: Parts, recorder: Recorder) -> None:
        self.parts, self.recorder = parts, recorder
        self.architecture: Architecture | None = None
        self.search_seconds, self.steps = 0.0, 0
        self.done: list[dict[str, Any]] = []
        self.weights: dict[str, Any] | None = None
        self.supernet: dict[str, Any] | None = None  # its weights, for a refinement
        self.guarded: dict[str, Any] | None = None  # after which epoch a guard ended the search, and why
        self.place = 0
        self.front: list[dict[str, Any]] = []  # of several objectives

    def run(self, tree: dict[str, Any] | None) -> tuple[dict[str, Any], Network]:
        """Works to the end; gives the result's data and the trained network.

        Args:
            tree: what a checkpoint held; None: from the beginning.

        Raises:
            InterruptedSearchError: it was asked to stop; the checkpoint is written.
            CheckpointError: the tree is one of another version.
            MetanasError: what went wrong.
        """
        if tree is not None:
            _check_held(tree, self.recorder.run.read_recipe())
        origin = self.parts.origin
        if tree is None and origin is not None and not self.parts.searches:
            self._lead()
            return self._refined(self.parts.space.architecture(origin.architecture), None)
        if tree is None or tree["phase"] == "search":
            found = self._search(None if tree is None else tree["search"])
            return self._refined(found, None)
        self._lead()
        self.guarded = tree.get("guarded")  # the first version knew no guards
        self.front = tree.get("front", [])
        if tree["phase"] == "refine":
            self.steps, self.supernet = tree["steps"], tree["supernet"]
            return self._refined(self.parts.space.architecture(tree["start"]), tree["refinement"])
        self.architecture = self.parts.space.architecture(tree["architecture"])
        self.search_seconds, self.steps, self.place = tree["search_seconds"], tree["steps"], tree["place"]
        self.done, self.weights = list(tree["done"]), tree["weights"]
        return self._train(tree["training"])

    def _search(self, state: dict[str, Any] | None) -> Architecture:
        search = self.parts.search(lambda message: self.recorder.say(message, "warning"))
        if state is not None:
            search.restore(state)
        if isinstance(search, GradientSearch):
            self._within_memory(search)
            self._lead()
            self.supernet = {name: p.detach() for name, p in search.theta.items()}
            for remark in search.remarks():
                self.recorder.say(remark)
            if search.watch.verdict is not None:
                back, reason = search.watch.verdict.epoch, search.watch.verdict.reason
                then = {"instead": search.taken_over} if search.taken_over else {"back_to": back}
                self.guarded = {"epoch": search.watch.past[-1].epoch, **then, "reason": reason}
            found = self._derived(search)
        else:
            self._by_value(search)
            found = search.derive()
        if isinstance(search, ValueSearch):
            self.front = [{"key": a.key, "architecture": a.to_json(), "values": row} for a, row in search.front()]
        self.steps = search.step
        return self.parts.space.architecture(found)

    def _derived(self, search: GradientSearch) -> Architecture:
        """What a search ends with; stopped before, it leaves its last state, from which the same is derived anew."""
        total = search.controller.evaluates(search.space)

        def told(done: int) -> None:
            self.recorder.derivation(done, total)
            self.recorder.pause_point(search.step, lambda: {"phase": "search", "search": search.state()})

        if total:
            told(0)
        return search.derive(told)

    def _within_memory(self, search: GradientSearch) -> None:
        """The steps of a search; what they need is said before, and that there is not enough in one line."""
        device, batch_size = self.parts.device, self.parts.recipe.search.batch_size // self.parts.ranks.count
        with named(None, batch_size, device):
            alone = search.controller.single_path
            need = need_of(search.network, *self.parts.probe(search.controller), single_path=alone)
        free = free_bytes(device)
        self.recorder.need(batch_size, need.at(batch_size), free)
        if free is not None and need.at(batch_size) > free:
            self.recorder.say(need.short(batch_size, free), "warning")
        with named(need, batch_size, device):
            self._by_gradient(search)

    def _lead(self) -> None:
        """What comes now, the first rank does alone; the others are at their end."""
        self.parts.ranks.part()
        self.recorder.alone()

    def _refined(self, start: Architecture, state: dict[str, Any] | None) -> tuple[dict[str, Any], Network]:
        """From the derived architecture on: the local search, if any, then the trainings."""
        self.architecture = start
        refinement = self.parts.refinement(start, self.supernet)
        if refinement is not None:
            if state is not None:
                refinement.restore(state)
            self._by_rounds(refinement)
            self.architecture = refinement.derive()
        self.supernet = None
        self.search_seconds = self.recorder.log.elapsed
        self.place = self.steps + 1 + (0 if refinement is None else refinement.step)
        if not reads_input(self.parts.space.derive(self.architecture, outputs=1)):
            self.recorder.say(
                f"the derived network {self.architecture} has no path from its input to its output: it can only guess",
                "warning",
            )
        self.recorder.checkpoint(self.place, self._tree(None))
        return self._train(None)

    def _by_rounds(self, refinement: Refinement) -> None:
        def tree() -> dict[str, Any]:
            return {
                "phase": "refine",
                "steps": self.steps,
                "start": refinement.start.to_json(),
                "supernet": self.supernet,
                "refinement": refinement.state(),
                "guarded": self.guarded,
            }

        self.recorder.say(
            f"refining {refinement.start}: {refinement.budget} short trainings of it and its neighbours{self._begun()}"
        )
        with threads(max(torch.get_num_threads() // refinement.workers, 1)), closing(refinement.steps()) as steps:
            for evaluation in steps:
                self.recorder.value(evaluation)
                self.recorder.pause_point(self.steps + evaluation.step, tree)

    def _begun(self) -> str:
        """Where a refinement's trainings begin, if those weights are of another epoch than the architecture."""
        guard = self.guarded
        if guard is None or "instead" in guard or self.parts.recipe.search.refine_from != "supernet":
            return ""
        if guard["epoch"] == guard["back_to"]:
            return ""
        return (
            f"; they begin with the supernet's weights of epoch {guard['epoch']}, the architecture is that of epoch "
            f"{guard['back_to']}"
        )

    def _by_gradient(self, search: GradientSearch) -> None:
        for step in search.steps():
            self.recorder.step(step)
            if step.report is not None:
                self.recorder.pace(step.step, search.clock.read())
            self.recorder.pause_point(step.step, lambda: {"phase": "search", "search": search.state()})
        self.recorder.read_steps()

    def _by_value(self, search: ValueSearch | Hyperband) -> None:
        for evaluation in search.steps():
            self.recorder.value(evaluation)
            self.recorder.pause_point(evaluation.step, lambda: {"phase": "search", "search": search.state()})

    def _tree(self, training: ScratchTraining | None) -> dict[str, Any]:
        assert self.architecture is not None  # the search is over
        return {
            "phase": "training",
            "architecture": self.architecture.to_json(),
            "front": self.front,
            "search_seconds": self.search_seconds,
            "steps": self.steps,
            "place": self.place,
            "done": self.done,
            "weights": self.weights,
            "guarded": self.guarded,
            "training": None if training is None else training.state(),
        }

    def _contenders(self) -> list[tuple[str, Architecture]]:
        """What is trained: the derived network; after a transfer, the same from scratch; random ones of the space."""
        assert self.architecture is not None  # the search is over
        seed = self.parts.recipe.seed
        draws = [
            self.parts.within.sample(np.random.default_rng([seed, 1, k]))
            for k in range(self.parts.recipe.evaluation.random)
        ]
        scratch = [] if self.parts.origin is None else [("scratch", self.architecture)]
        return [("derived", self.architecture), *scratch, *((f"random {k}", a) for k, a in enumerate(draws, 1))]

    def _train(self, state: dict[str, Any] | None) -> tuple[dict[str, Any], Network]:
        contenders = self._contenders()
        for name, architecture in contenders[len(self.done) :]:
            network = self._train_one(name, architecture, state)
            state = None
            if name == "derived":
                self.weights = {k: v.detach().cpu() for k, v in network.state_dict().items()}
            self.recorder.checkpoint(self.place, self._tree(None))
        best = self.parts.network(contenders[0][1], name="derived")
        assert self.weights is not None  # the derived network comes first
        best.load_state_dict(self.weights)
        return self._result(), best.eval()

    def _train_one(self, name: str, architecture: Architecture, state: dict[str, Any] | None) -> Network:
        parts, started = self.parts, self.recorder.log.elapsed
        network = parts.network(architecture, name=name)
        training = parts.training(network, name=name, warn=lambda message: self.recorder.say(message, "warning"))
        if state is not None:
            training.restore(state)
        try:
            for epoch in training.epochs():
                self.place += 1
                self.recorder.train(name, architecture, epoch)
                self.recorder.pause_point(self.place, lambda: self._tree(training))
        except DivergedError as error:
            if name == "derived":
                raise
            # A baseline that cannot be trained is no reason to lose the result: it is tested with the weights it has.
            self.recorder.say(f"{name}: {error}", "warning")
        tested, price = score(network, parts.data.test, task=parts.task), cost(network, parts.data.shape)
        facts = {
            "network": name,
            "key": architecture.key,
            "architecture": architecture.to_json(),
            "test_score": tested.score,
            "test_loss": tested.loss,
            "parameters": price.parameters,
            "multiply_adds": price.multiply_adds,
            "seconds": self.recorder.log.elapsed - started,
        }
        row = finite(facts)  # its loss may be none: checkpoints and JSON hold finite numbers only
        self.recorder.network(row)
        self.done.append(row)
        self.place += 1
        return network

    def _result(self) -> dict[str, Any]:
        rows = {row["network"]: {k: v for k, v in row.items() if k != "network"} for row in self.done}
        derived, scratch = rows.pop("derived"), rows.pop("scratch", None)
        origin = self.parts.origin
        by_epochs = self.parts.searches and self.parts.by_gradient
        ended = None if "instead" in (self.guarded or {}) else self.guarded
        return {
            "schema": SCHEMA,
            "metanas": __version__,
            "metric": self.parts.task.metric_name,
            **derived,
            "random": list(rows.values()),
            **({"front": self.front} if self.front else {}),
            **({} if origin is None else {"how": origin.how, "scratch": scratch}),
            "search_seconds": self.search_seconds,
            "train_seconds": sum(row["seconds"] for row in self.done),
            "steps": self.steps,
            **({"epochs": self.parts.recipe.search.epochs if ended is None else ended["epoch"]} if by_epochs else {}),
            **({} if self.guarded is None else {"guard": self.guarded}),
        }
