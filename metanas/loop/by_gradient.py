"""The search that learns omega from hypergradients.

    for each epoch:
        for each (inner batch, outer batch):                        by `bilevel.solve`, in the order of the schedule
            weights <- SGD on the inner loss at mixing weights drawn for it (and perturbed, where the schedule says)
            mix drawn; hypergradient; omega <- controller's optimiser   (not in the warm-up, nor where omega is fixed)
            yield Step
        the last Step of the epoch carries a Report; a guard may end the search there, or hand it over to a controller
        that cannot collapse (see `guard`), or the weakest candidates go (see `shrinking`)

An update that is not finite is left out, on the device; the search gives up when too many steps in a row had one.

Nothing is printed or written here. Every random number is a function of (seed, purpose, step), so a search restored
from `state()` goes on bit for bit as if it had not stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from metanas.bilevel import (
    SGD,
    Bilevel,
    CapturedEstimator,
    Estimator,
    Graphs,
    Hypergradient,
    Tree,
    largest_eigenvalue,
    memory_of,
    solve,
    train,
)
from metanas.bilevel.trees import finite
from metanas.controllers import GradientController, strongest
from metanas.data import Data, Task, batches, steps
from metanas.data.batches import Batch
from metanas.data.seeds import seeded
from metanas.errors import DivergedError
from metanas.loop.checks import check_instead, check_perturbed, check_scored, check_share
from metanas.loop.clock import Clock
from metanas.loop.guard import Guard, Health, Probe, Verdict, Watch, entropy, skip_share
from metanas.loop.perturbation import perturbed
from metanas.loop.pricing import Price
from metanas.loop.relaxed import Relaxed
from metanas.loop.schedule import Schedule
from metanas.loop.shrinking import Rows, left, masks_of, named, stage_after
from metanas.loop.state import check_fits, copy_into, optimizer_state, restore_optimizer
from metanas.loop.steps import Report, Step
from metanas.loop.trained import PLAIN, Trained, trained_on
from metanas.network import Network, one_path
from metanas.network.diagnosis import first_not_finite
from metanas.space import Architecture, Space

MONITOR_BATCH = 256


class GradientSearch:
    """A search in progress: the supernet's weights, omega, and where it stands.

    Args:
        space: what is searched.
        network: its supernet (phase "search"), on the data's device.
        problem: the bilevel problem over the network's parameters and {"mix": weights} (`modes.meta_network`). Where
            its rule is an `SGD`, the schedule's numbers take the place of its own: estimators look ahead as far as the
            optimiser steps in that epoch, with its momentum, but not along Nesterov's (as NAS-Bench-201's DARTS).
        estimator: of the hypergradient.
        controller: relaxation, optimiser and derivation of omega.
        data: inner and outer split.
        schedule: how the weights are trained.
        seed: of everything that is drawn.
        task: whose loss and metric `score` gives; None: the data's.
        price: what the mixing weights are charged for their cost, beside the losses; None: nothing.
        trained: what the weights are trained on, beside the problem's inner loss or in its place.
        share: (rank, ranks) of this process: its part of every batch. The problem's losses are then those over all
            ranks (`bilevel.over_ranks`), and every rank holds the same weights and the same omega at every step.
        guards: what may end the search before its last epoch.
        instead: controller of fixed omega that takes over where a guard speaks, for the epochs that are left, where
            there are some, and the derivation; None: the search ends there.
        graphs: records the steps of weights and the estimates, and plays them (`bilevel.capture`); not where a step
            reads the host (`single_path`). None: they are launched operation by operation.

    Raises:
        SpaceError: the controller cannot search the space (`GradientController.start`); its weights are one-hot, and
            the schedule perturbs them; what `trained` or a controller that is `scored` cannot be with (`Trained.check`,
            `checks.check_scored`); `instead` cannot go on after it (`checks.check_instead`).
        BilevelError: the problem has no inner loss.
        ValueError: the network has no parameters (torch's own); a batch that the ranks cannot share evenly.
    """

    def __init__(
        self,
        space: Space,
        network: Network,
        problem: Bilevel,
        estimator: Estimator,
        controller: GradientController,
        data: Data,
        schedule: Schedule,
        *,
        seed: int,
        task: Task | None = None,
        price: Price | None = None,
        trained: Trained = PLAIN,
        share: tuple[int, int] = (0, 1),
        guards: Sequence[Guard] = (),
        instead: GradientController | None = None,
        graphs: Graphs | None = None,
    ) -> None:
        self.space, self.network, self.problem, self.estimator = space, network, problem, estimator
        self.controller, self.data, self.schedule, self.seed = controller, data, schedule, seed
        self.task, self.share, self.trained = task or data.task, share, trained
        self.instead = instead
        self.clock, self.watch = Clock(data.device), Watch(guards)
        self.step = 0
        self.per_epoch = min(steps(split, schedule.batch_size) for split in (data.inner, data.outer))
        check_share(data, schedule.batch_size, share[1])
        check_perturbed(controller, schedule.perturb)
        trained.check(controller)
        check_scored(controller, estimator, price)
        check_instead(controller, instead, space, price, shrinks=schedule.shrink_to is not None)
        self.shrunk: list[tuple[int, Rows]] = []  # after how many epochs, and what was left
        self.batch: Any = None  # what the weights are trained on in this step
        omega = controller.start(space, generator=seeded(seed, "omega"))
        self.relaxed = Relaxed(controller, omega, data.device, clip=schedule.outer_clip, price=price)
        self.rate: float | Tensor = schedule.lr  # of this epoch; a recording reads it from a tensor
        if graphs is not None:
            self.rate = torch.tensor(schedule.lr, dtype=torch.float32, device=data.device)  # as fused kernels want it
        self.theta: dict[str, Tensor] = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.SGD(
            self.theta.values(),
            self.rate,
            schedule.momentum,
            weight_decay=schedule.weight_decay,
            nesterov=schedule.nesterov and schedule.momentum > 0,
            fused=True,
        )
        seen, alone = trained_on(problem, trained, lambda: self.relaxed.progress), trained is PLAIN
        # Another loss of the training may read how far the search is, which a recording would not see.
        recorded = graphs if alone else None
        self.advance = train(seen, self.theta, self._constant, self.optimizer, clip=schedule.clip, graphs=recorded)
        self.generator = torch.Generator()
        self.looking: Bilevel | None = None  # the problem as an estimator sees it, at this rate
        self.estimate: Estimator | CapturedEstimator = estimator
        if graphs is not None:
            self.estimate = CapturedEstimator(estimator, graphs, self.generator)
        self.sums = torch.zeros(4, device=data.device)  # inner loss, finite ones; outer loss, finite ones
        self.skipped_before = torch.zeros((), dtype=torch.long, device=data.device)  # the state was restored
        self.skipped, self.lost = self.skipped_before.clone(), self.skipped_before.clone()  # lost: of late, in a row
        self.outer_loss = torch.full((), math.nan, device=data.device)
        self.carry: Tree = ()  # the estimator's own, from step to step

    @property
    def total(self) -> int:
        """Steps of the whole search."""
        return self.per_epoch * self.schedule.epochs

    @property
    def ended(self) -> bool:
        """Whether a guard has ended the search."""
        return self.watch.verdict is not None and self.instead is None

    @property
    def taken_over(self) -> str | None:
        """The name of the controller that has taken over, where one has."""
        return type(self.controller).__name__ if self.controller is self.instead else None

    def steps(self) -> Iterator[Step]:
        """The steps that are left, in order; between two of them the search may be asked for its `state()`.

        Raises:
            DivergedError: `schedule.patience` steps in a row (or all there are) had an update that was not finite. It
                names the step, the losses and the first layer whose output is not finite.
        """
        self._give_up_if_lost()
        while self.step < self.total and not self.ended:
            epoch, start = divmod(self.step, self.per_epoch)
            self._set_rate(self.schedule.rate(epoch))
            for k, h in enumerate(self._iterations(epoch, start), start + 1):
                self.clock.turn("other")
                self.step += 1
                last = k == self.per_epoch
                yield self._reported(epoch, h, last=last)
                if last or self.step % self.schedule.patience == 0:  # the host looks rarely: a GPU need not wait for it
                    self._give_up_if_lost()

    def _set_rate(self, rate: float) -> None:
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
        else:
            self.rate, self.looking = rate, None
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate  # a restored optimiser has a copy of the tensor

    def _iterations(self, epoch: int, start: int) -> Iterator[Hypergradient | None]:
        triples = self._triples(epoch, start)
        if not self._learns(epoch):
            for train_batches, _, _ in triples:
                self._train(None, train_batches)
                yield None
            return
        for h in solve(
            self._problem(),
            self.estimate,
            self.theta,
            self.relaxed.draw,
            triples,
            outer_step=self.relaxed.pull_back,
            advance=self._train,
            order=self.schedule.order,
            memory=self._memory,
            carry=self.carry,
            generator=self.generator,
        ):
            self.carry = h.carry
            yield h

    def _learns(self, epoch: int) -> bool:
        """Whether omega is learned in an epoch."""
        return epoch >= self.schedule.warmup and not self.controller.fixed

    def _train(self, h: Hypergradient | None, train_batches: Any) -> None:
        self.clock.turn("inner")
        (self.batch,) = train_batches
        self.advance(h, train_batches)
        self.clock.turn("outer")

    def _constant(self) -> dict[str, Any]:
        """The outer variables for the training of the weights: a draw, and where the schedule says so a worse one."""
        relaxed, competing = self.relaxed, self.controller.competing
        inner_loss = self.problem.inner_loss
        assert inner_loss is not None  # `train` has refused it

        def loss(mix: Any) -> Tensor:
            return inner_loss(self.theta, {"mix": mix}, self.batch)

        mix = perturbed(loss, relaxed.constant()["mix"], self.schedule, relaxed, competing=competing)
        others = [relaxed.constant()["mix"] for _ in range(self.trained.draws - 1)]
        return {"mix": mix, "others": others} if others else {"mix": mix}

    def _problem(self) -> Bilevel:
        """The problem as an estimator sees it: its rule steps as far as the optimiser does in this epoch."""
        if self.looking is not None:
            return self.looking
        outer_loss, rule, schedule = self.problem.outer_loss, self.problem.rule, self.schedule

        def strict(theta: Any, outer: Any, batch: Any) -> Tensor:
            loss = outer_loss(theta, outer, batch)
            return loss * (1 + 0 * loss.detach())  # not finite: nan, and so is the gradient, and the step is left out

        if isinstance(rule, SGD):
            rule = SGD(self.rate, schedule.momentum, schedule.weight_decay)
        self.looking = replace(self.problem, outer_loss=strict, rule=rule)
        return self.looking

    def _memory(self) -> Any:
        return memory_of(self.optimizer, self.theta) if self.estimator.descends else None

    def _triples(self, epoch: int, start: int) -> Iterator[tuple[Any, Any, Any]]:
        """(training batches, inner batch, outer batch) of an epoch from its step `start` on."""
        streams, augment = [], self.data.augment
        for name, split in (("inner", self.data.inner), ("outer", self.data.outer)):
            size = self.schedule.batch_size
            rows = batches(split, size, seed=self.seed, epoch=epoch, stream=name, augment=augment, start=start)
            streams.append(map(self._own, islice(rows, self.per_epoch - start)))
        self.clock.turn("data")
        for k, (inner, outer) in enumerate(zip(*streams, strict=True), epoch * self.per_epoch + start):
            self.clock.turn("outer")
            self.relaxed.begin(k / self.total, seeded(self.seed, "relax", k).initial_seed())
            self.generator.manual_seed(seeded(self.seed, "estimator", k).initial_seed())
            yield [inner], inner, outer
            self.clock.turn("data")

    def _own(self, batch: Batch) -> Batch:
        """The part of a batch that is this rank's."""
        rank, ranks = self.share
        inputs, targets = (x.chunk(ranks)[rank] for x in batch) if ranks > 1 else batch
        return inputs, targets

    def _reported(self, epoch: int, h: Hypergradient | None, *, last: bool) -> Step:
        inner, outer = self.advance.report, self.relaxed.step.report
        self.outer_loss = torch.full_like(inner.loss, math.nan) if h is None else h.outer_loss
        losses = torch.stack([inner.loss, self.outer_loss]).float()
        good = torch.isfinite(losses)
        self.sums += torch.stack([losses.where(good, 0.0), good.float()], 1).flatten()
        skipped = self.skipped_before + inner.skipped + outer.skipped
        self.lost = torch.where(skipped > self.skipped, self.lost + 1, 0)
        self.skipped = skipped
        report = self._report(epoch) if last else None
        reached = torch.full_like(outer.gradient_norm, math.nan) if h is None else outer.gradient_norm
        return Step(self.step, epoch, inner.loss, self.outer_loss, inner.gradient_norm, reached, skipped, report)

    def _report(self, epoch: int) -> Report:
        inner, n_inner, outer, n_outer = self.sums.tolist()
        self.sums.zero_()
        weights = self.relaxed.expected()
        found = self.controller.preview(self.space, self.relaxed.live())
        architecture = None if found is None else self._within(found)
        price = self.relaxed.price
        mixed_loss, mixed = self.score(weights)
        spread, share = entropy(weights), skip_share(self.space.skips, architecture)
        eigenvalue = verdict = None
        if self._learns(epoch):
            eigenvalue = None if self.watch.probe is None else self._eigenvalue(self.watch.probe)
            verdict = self.watch.look(Health(epoch + 1, spread, share, eigenvalue), self.relaxed.omega)
        before = self.shrunk
        self._shrink(epoch + 1, weights, verdict)
        self._hand_over()
        loss, derived = (None, None) if architecture is None else self.score(one_path(self.space.choices, architecture))
        return Report(
            epoch=epoch + 1,
            epochs=self.schedule.epochs,
            inner_loss=inner / n_inner if n_inner else None,
            outer_loss=outer / n_outer if n_outer else None,
            outer_score=mixed,
            derived_score=derived,
            gap=None if loss is None else loss - mixed_loss,
            entropy=spread,
            lr=self.schedule.rate(epoch),
            weights={name: tuple(w.tolist()) for name, w in weights.items()},
            architecture=architecture,
            skip_share=share,
            eigenvalue=eigenvalue,
            verdict=verdict,
            instead=self.taken_over if verdict else None,
            kept=named(self.space, self.shrunk[-1][1]) if len(self.shrunk) > len(before) else None,
            cost=None if price is None else float(price.expected(weights)),
        )

    def _hand_over(self) -> None:
        """Where a guard has spoken, the controller that goes on begins: with its omega, which stays."""
        if self.watch.verdict is None or self.instead is None or self.controller is self.instead:
            return
        if self.watch.past[-1].epoch == self.schedule.epochs:  # nothing would be trained at its weights
            return
        self.controller = self.relaxed.controller = self.instead
        begun = self.instead.start(self.space, generator=seeded(self.seed, "omega"))
        with torch.no_grad():
            for name, x in self.relaxed.omega.items():
                x.copy_(begun[name])

    def _shrink(self, epochs: int, weights: Mapping[str, Tensor], verdict: Verdict | None) -> None:
        """After an epoch: lets go of what is weakest where a stage is over; with omega, what is left goes back."""
        stage = stage_after(self.schedule, epochs)
        if verdict is not None:
            self.shrunk = [row for row in self.shrunk if row[0] < verdict.epoch]
        elif stage > len(self.shrunk) and not self.controller.fixed:
            before = self.shrunk[-1][1] if self.shrunk else {}
            self.shrunk = [*self.shrunk, (epochs, left(self.space, weights, before, self.schedule, stage))]
        else:
            return
        self._keep()

    def _keep(self) -> None:
        """What is left runs, and nothing else."""
        kept = self.shrunk[-1][1] if self.shrunk else {}
        self.relaxed.masks = masks_of(kept, self.relaxed.omega)
        self.network.keep(kept)
        self.trained.keep(kept)
        self._forget()

    def _forget(self) -> None:
        """What was recorded is of another network, or of another memory of its optimiser."""
        self.advance.forget()
        if isinstance(self.estimate, CapturedEstimator):
            self.estimate.captured.forget()

    def _eigenvalue(self, probe: Probe) -> float:
        """The largest eigenvalue of the Hessian of the loss in omega, at the mean of the mixing weights."""
        inputs, targets = self.data.outer.inputs[: probe.examples], self.data.outer.targets[: probe.examples]

        def loss(omega: Any) -> Tensor:
            mix = self.controller.mean(self.relaxed.live(omega))
            found: Tensor = self.task.loss(self.network(inputs, mix=mix), targets)
            return found

        generator = seeded(self.seed, "eigenvalue", self.step)
        return largest_eigenvalue(loss, self.relaxed.omega, steps=probe.steps, generator=generator)

    def derive(self, told: Callable[[int], None] = lambda done: None) -> Architecture:
        """The architecture that the search ends with, within the space's bounds. It leaves the search as it is: to
        derive again gives the same.

        Args:
            told: how many evaluations of the supernet are done, after each of them (`GradientController.evaluates`);
                what it raises ends the derivation.
        """
        done = 0

        def evaluate(weights: Mapping[str, Any]) -> float:
            nonlocal done
            loss, _ = self.score(weights)
            done += 1
            told(done)
            return loss

        generator = seeded(self.seed, "derive", self.step)
        found = self.controller.derive(self.space, self.relaxed.live(), evaluate=evaluate, generator=generator)
        return self._within(found)

    def _within(self, derived: Architecture) -> Architecture:
        """What was derived; where the controller's rule did not look at the bounds, the strongest that keeps them."""
        if self.space.keeps(derived):
            return derived
        return strongest(self.space, self.relaxed.expected())

    def remarks(self) -> tuple[str, ...]:
        """What the controller has to say of what `derive` gives."""
        return self.controller.remarks(self.space, self.relaxed.live())

    @torch.no_grad()
    def score(self, mix: Mapping[str, Any]) -> tuple[float, float]:
        """(mean loss, metric) of the supernet at a mix, on the first `schedule.monitor` examples of the outer split."""
        outer = self.data.outer
        count = min(self.schedule.monitor, len(outer))
        parts = -(-count // MONITOR_BATCH)  # of nearly equal size: a norm takes its statistics from each
        outputs = [self.network(inputs, mix=mix) for inputs in outer.inputs[:count].tensor_split(parts)]
        targets = outer.targets[:count].tensor_split(parts)
        losses = [self.task.loss(x, y) * len(y) for x, y in zip(outputs, targets, strict=True)]
        return float(torch.stack(losses).sum()) / count, float(self.task.metric(torch.cat(outputs), torch.cat(targets)))

    def _give_up_if_lost(self) -> None:
        lost = int(self.lost)
        if lost < min(self.schedule.patience, self.total):
            return
        inner_loss, inner_norm = float(self.advance.report.loss), float(self.advance.report.gradient_norm)
        epoch, place = divmod(self.step - 1, self.per_epoch)
        _, inner, outer = next(self._triples(epoch, place))
        network = self.network.plain
        inputs, _ = outer if math.isfinite(inner_loss) and math.isfinite(inner_norm) else inner
        raise DivergedError(
            f"step {self.step}: the last {lost} steps had updates that were not finite (inner loss {inner_loss}, "
            f"outer loss {float(self.outer_loss)}); {first_not_finite(network, inputs, mix=self.relaxed.mix)}; "
            f"lower lr ({self.schedule.lr}) or check the data"
        )

    def state(self) -> dict[str, Any]:
        """Everything that a search needs to go on, as a tree of tensors and plain values.

        The tensors are the live ones: write or copy the tree before the next step.
        """
        return {
            "step": self.step,
            "theta": {name: p.detach() for name, p in self.theta.items()},
            "optimizer": optimizer_state(self.optimizer),
            "omega": {name: x.detach() for name, x in self.relaxed.omega.items()},
            "omega_optimizer": optimizer_state(self.relaxed.step.optimizer),
            "sums": self.sums,
            "skipped": self.skipped,
            "lost": self.lost,
            "carry": self.carry if bool(finite(self.carry)) else (),
            "watch": self.watch.state(),
            "shrunk": [[epochs, {name: list(rows) for name, rows in kept.items()}] for epochs, kept in self.shrunk],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave. Raises CheckpointError where it does not fit."""
        check_fits(self.theta, state["theta"], "the weights")
        check_fits(self.relaxed.omega, state["omega"], "the structure parameters")
        copy_into(self.theta, state["theta"])
        copy_into(self.relaxed.omega, state["omega"])
        restore_optimizer(self.optimizer, state["optimizer"])
        restore_optimizer(self.relaxed.step.optimizer, state["omega_optimizer"])
        self.sums.copy_(state["sums"])
        self.skipped = state["skipped"].to(self.sums.device)
        self.skipped_before = self.skipped - self.advance.report.skipped - self.relaxed.step.report.skipped
        self.lost = state["lost"].to(self.sums.device)
        self.watch.restore(state.get("watch"))
        kept = state.get("shrunk", [])
        self.shrunk = [(epochs, {name: tuple(rows) for name, rows in each.items()}) for epochs, each in kept]
        self._keep()
        self._hand_over()
        self.step = state["step"]
        self.carry = tree_map(lambda x: x.to(self.sums.device), state.get("carry", ()))  # the first version kept none
