"""Training a derived network from scratch on the inner and outer split together, and testing it once.

    for each step:  lr along a half cosine to 0;  SGD with Nesterov momentum on a shuffled, augmented batch
    test once, with the tracked statistics

A step whose loss or gradient is not finite is left out on the device, and so is what it did to tracked statistics. On a
GPU a step may be recorded, and played from then on (`bilevel.capture`): the networks of these spaces are many small
kernels, which the host launches more slowly than the device runs them.

The settings are those of NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv:2001.00326) but for the number of epochs. As
in a search, every random number is a function of (seed, purpose, epoch), so that a training goes on bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from metanas.bilevel import Captured, Graphs, Report, Tree, torch_step
from metanas.data import CLASSIFICATION, Augmentation, Data, Split, Task, batches, steps
from metanas.data.seeds import seeded
from metanas.errors import CheckpointError, DivergedError
from metanas.network import Held, Network, Precision, WithAuxiliary, computed_in, drop_path, steady
from metanas.network.diagnosis import first_not_finite
from metanas.space import Architecture

TEST_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Training:
    """Numbers of a training from scratch.

    Args:
        epochs: passes over the training split.
        batch_size: examples a step.
        lr: learning rate at the start; it ends at 0.
        warmup: epochs over which the rate first grows, linearly.
        momentum, weight_decay: of SGD (Nesterov).
        clip: greatest gradient norm.
        precision: of the forward pass and its gradients; tests are float32.
        drop_path: rate of drop path towards the end; it grows from 0, linearly with the epochs.
        auxiliary: weight of the loss of the auxiliary head.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 0.1
    warmup: int = 0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0
    precision: Precision = "float32"
    drop_path: float = 0.0
    auxiliary: float = 0.0

    def rate(self, step: int, per_epoch: int) -> float:
        """The learning rate of a step, counted from 0.

        >>> [round(Training(epochs=2, lr=1.0).rate(k, 2), 3) for k in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        """
        warm = self.warmup * per_epoch
        if step < warm:
            return self.lr * (step + 1) / warm
        done = (step - warm) / max(self.epochs * per_epoch - warm, 1)
        return self.lr * (1 + math.cos(math.pi * done)) / 2

    def drop_rate(self, epoch: int) -> float:
        """The rate of drop path in an epoch, counted from 0.

        >>> [Training(epochs=4, drop_path=0.2).drop_rate(epoch) for epoch in range(4)]
        [0.0, 0.05, 0.1, 0.15000000000000002]
        """
        return self.drop_path * epoch / self.epochs


@dataclass(frozen=True)
class Carried:
    """Parameters that were learned elsewhere, on which a training goes on with care.

    names: of the network's parameters; the others begin at random
    rate:  their learning rate as a share of the others'; 0: they stay as they are, and so does all that holds no other
           parameter: tracked statistics do not move, and nothing is dropped
    """

    names: frozenset[str]
    rate: float


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training, counted from 1: the means, over the augmented training batches, of the loss and of the
    task's metric; batches that were left out, and those on which the metric is not finite, aside. `score` is None where
    there is none.
    """

    epoch: int
    epochs: int
    loss: float
    score: float | None


@dataclass(frozen=True)
class Score:
    """The mean loss on a split, and the task's metric of the whole of it (accuracy: 0 to 1)."""

    loss: float
    score: float


class ScratchTraining:
    """A training in progress; it owns the network's weights and the optimiser until it is done.

    Args:
        network: built with phase "scratch", on the data's device; or that with its auxiliary head (`WithAuxiliary`).
        train: the split to train on (`data.train`, or `data.inner` for an objective that is judged on `data.outer`).
        augment: what training batches go through.
        seed: of the order of the examples and of the augmentation.
        task: whose loss is minimised, and whose metric is reported.
        carried: parameters that were learned elsewhere; None: all begin at random.
        graphs: records the step, and plays it; not where a step draws random numbers (drop path), nor of a module of
            the user's, which may do anything in Python. None: its operations are launched one by one.

    Raises:
        ValueError: the network has no parameters (torch's own); drop path for something else than a `Network`.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Split,
        settings: Training,
        *,
        seed: int,
        augment: Sequence[Augmentation] = (),
        task: Task = CLASSIFICATION,
        carried: Carried | None = None,
        graphs: Graphs | None = None,
    ) -> None:
        self.network, self.split, self.settings, self.seed = network, train, settings, seed
        self.augment, self.task = tuple(augment), task
        self.plain = network.network if isinstance(network, WithAuxiliary) else network
        if settings.drop_path and not isinstance(self.plain, Network):
            raise ValueError(f"drop path needs a Network, which says what is summed; got {type(self.plain).__name__}")
        self.noise = torch.Generator(train.targets.device)
        self.epoch = 0
        self.per_epoch = steps(train, settings.batch_size)
        slow = carried or Carried(frozenset(), 1.0)
        self.parameters = {
            name: p
            for name, p in network.named_parameters()
            if p.requires_grad and (slow.rate or name not in slow.names)
        }
        moving = {id(p) for p in self.parameters.values()}
        self.fixed = [] if slow.rate else [m for m in network.modules() if not _owns(m, moving)]
        self.statistics = [x for x in network.buffers() if x.is_floating_point()]
        if settings.drop_path or not isinstance(self.plain, Network) or isinstance(self.plain, Held):
            graphs = None
        self.optimizer = torch.optim.SGD(
            _groups(self.parameters, slow, None if graphs is None else train.targets.device),
            settings.lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
            fused=True,
        )
        self.step = torch_step(self.optimizer, self.parameters, clip=settings.clip)
        self.graphs = graphs
        self.captured: Captured | None = None  # while epochs run

    def epochs(self) -> Iterator[Epoch]:
        """The epochs that are left, in order; between two of them the training may be asked for its `state()`.

        Raises:
            DivergedError: a whole epoch brought no finite update; it names the step, the loss and the first layer whose
                output is not finite.
        """
        self.captured = None if self.graphs is None else Captured(self._once, self.graphs)
        try:
            while self.epoch < self.settings.epochs:
                loss, seen, score, scored = self._run().tolist()
                if not seen:
                    self._give_up()
                self.epoch += 1
                yield Epoch(self.epoch, self.settings.epochs, loss / seen, score / scored if scored else None)
        finally:
            self._forget()
            self.captured = None  # it knows this training: without the cycle all goes at once

    def _forget(self) -> None:
        """A recording has memory of its own, as much as a step takes."""
        if self.captured is not None:
            self.captured.forget()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.settings.batch_size
        return batches(self.split, size, seed=self.seed, epoch=self.epoch, stream="train", augment=self.augment)

    def _run(self) -> Tensor:
        """One epoch; sums over the examples of its finite steps: (loss, examples, metric, examples that have one)."""
        self.network.train()
        for module in self.fixed:
            module.training = False
        rate = self.settings.drop_rate(self.epoch)
        with drop_path(self.plain, rate, self.noise) if isinstance(self.plain, Network) else nullcontext():
            return self._steps()

    def _steps(self) -> Tensor:
        sums = torch.zeros(4, device=self.split.targets.device)
        live, once = (list(self.parameters.values()), self.statistics), self.captured or self._once
        for k, batch in enumerate(self._batches(), self.epoch * self.per_epoch):
            self._set_rate(self.settings.rate(k, self.per_epoch))
            self.noise.manual_seed(seeded(self.seed, "drop path", k).initial_seed())
            with steady(self.plain, seeded(self.seed, "own draws", k).initial_seed()):
                outputs, good, self.step.report = once(live, batch)
            loss, targets = self.step.report.loss, batch[1]
            with torch.no_grad():
                metric = torch.as_tensor(self.task.metric(outputs, targets), device=sums.device).float()
                row, there = (
                    torch.stack([loss, torch.ones_like(loss), metric, torch.ones_like(metric)]),
                    metric.isfinite(),
                )
                sums += torch.where(torch.stack([good, good, good & there, good & there]), row, 0.0) * len(targets)
        return sums

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # where a recording reads it
                group["lr"].fill_(rate * group["share"])
            else:
                group["lr"] = rate * group["share"]

    def _once(self, live: Tree, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Report]:
        """One step: the outputs, whether its update was finite, and what the optimiser saw."""
        inputs, targets = batch
        statistics = [x.clone() for x in self.statistics]
        with torch.enable_grad():
            outputs = computed_in(self.settings.precision, self.network, inputs)
            if isinstance(self.network, WithAuxiliary):
                outputs, beside = outputs
                loss = self.task.loss(outputs, targets) + self.settings.auxiliary * self.task.loss(beside, targets)
            else:
                loss = self.task.loss(outputs, targets)
            gradients = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
        skipped = self.step.skipped.clone()
        report = self.step.apply(gradients, loss.detach())
        good = report.skipped == skipped
        with torch.no_grad():
            for now, before in zip(self.statistics, statistics, strict=True):
                now.copy_(torch.where(good, now, before))
        return outputs.detach(), good, report

    def _give_up(self) -> None:
        inputs, _ = next(self._batches())
        raise DivergedError(
            f"training from scratch, epoch {self.epoch + 1}: none of its {self.per_epoch} updates up to step "
            f"{(self.epoch + 1) * self.per_epoch} was finite (loss {float(self.step.report.loss)}); "
            f"{first_not_finite(self.network, inputs)}; lower lr ({self.settings.lr}) or check the data"
        )

    def state(self) -> dict[str, Any]:
        """Everything that a training needs to go on, as a tree of tensors and plain values.

        The tensors are the live ones: write or copy the tree before the next epoch.
        """
        buffers = [self.optimizer.state[p].get("momentum_buffer") for p in self.parameters.values()]
        return {
            "epoch": self.epoch,
            "network": {name: x.detach() for name, x in self.network.state_dict().items()},
            "momentum": {n: b for n, b in zip(self.parameters, buffers, strict=True) if b is not None},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave. Raises CheckpointError that lists all that does not fit; then as before."""
        wrong = _misfits(self.network.state_dict(), state["network"], "")
        moving = {name: p for name, p in self.parameters.items() if name in state["momentum"]}  # none before a step
        wrong += _misfits(moving, state["momentum"], "momentum of ")
        if wrong:
            raise CheckpointError(f"the checkpoint is of another network: {'; '.join(wrong)}; was the space changed?")
        self.network.load_state_dict(state["network"])
        self.optimizer.state.clear()
        for name, buffer in state["momentum"].items():
            p = self.parameters[name]
            self.optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(buffer)  # p's layout
        self.epoch = state["epoch"]
        self._forget()  # the optimiser's memory is elsewhere now


def _groups(parameters: Mapping[str, nn.Parameter], slow: Carried, device: torch.device | None) -> list[dict[str, Any]]:
    """Groups of an optimiser, none of them empty, each with its share of the learning rate.

    Args:
        device: where each has a tensor for its rate, as a recording needs it; None: the rates are numbers.
    """
    new = [p for name, p in parameters.items() if name not in slow.names]
    old = [p for name, p in parameters.items() if name in slow.names]
    groups: list[dict[str, Any]] = [
        {"params": group, "share": share} for group, share in ((new, 1.0), (old, slow.rate)) if group
    ]
    if device is not None:
        for group in groups:
            group["lr"] = torch.zeros((), dtype=torch.float32, device=device)
    return groups


def _owns(module: nn.Module, moving: Collection[int]) -> bool:
    """Whether the module itself, and not only what is in it, holds one of the parameters (by `id`)."""
    return any(id(p) in moving for p in module.parameters(recurse=False))


def _misfits(live: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str) -> list[str]:
    wrong = [f"missing {what}{name}" for name in live if name not in saved]
    wrong += [f"unexpected {what}{name}" for name in saved if name not in live]
    shapes = ((name, tuple(saved[name].shape), tuple(live[name].shape)) for name in live if name in saved)
    return wrong + [f"{what}{name} is {found}, needed {needed}" for name, found, needed in shapes if found != needed]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every module's own mode is put back, also after an error.

    >>> network = nn.Dropout()
    >>> with evaluating(network):
    ...     network.training
    False
    >>> network.training
    True
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def score(network: nn.Module, split: Split, *, task: Task = CLASSIFICATION) -> Score:
    """Mean loss and metric of a network on a split, in evaluation mode; its modes are left as they were.

    Args:
        task: its loss is a mean over batches; its metric is taken once, of all outputs.

    >>> score(nn.Identity(), Split(torch.tensor([[0.0, 9.0], [0.0, 9.0]]), torch.tensor([1, 0]))).score
    0.5
    """
    total, rows = torch.zeros((), device=split.targets.device), []
    with evaluating(network):
        parts = -(-len(split) // TEST_BATCH)  # of nearly equal size: one row alone has no batch statistics
        for inputs, targets in zip(split.inputs.tensor_split(parts), split.targets.tensor_split(parts), strict=True):
            rows.append(network(inputs))
            total += task.loss(rows[-1], targets) * len(targets)
    return Score(float(total) / len(split), float(task.metric(torch.cat(rows), split.targets)))


Briefly = Callable[[Architecture, int], tuple[nn.Module, Score]]
"""(architecture, epochs) -> its network after a short training, and what that has on the outer split."""


def briefly_trained(
    build: Callable[[Architecture], nn.Module],
    data: Data,
    settings: Training,
    *,
    seed: int,
    task: Task | None = None,
    graphs: Callable[[], Graphs | None] = lambda: None,
) -> Briefly:
    """Short trainings from scratch on the inner split, all with the same seeds, judged on the outer one.

    They raise DivergedError where the training diverged, which a search counts as a failed evaluation.

    Args:
        build: architecture -> network on the data's device.
        settings: of the training, but for the number of epochs.
        task: whose loss and metric it is; None: the data's.
        graphs: makes what records a training's steps, as for `ScratchTraining`; called for each.
    """
    task = task or data.task

    def train(architecture: Architecture, epochs: int) -> tuple[nn.Module, Score]:
        network = build(architecture)
        once = replace(settings, epochs=epochs, warmup=0)
        more: dict[str, Any] = {"seed": seed, "augment": data.augment, "task": task, "graphs": graphs()}
        for _ in ScratchTraining(network, data.inner, once, **more).epochs():
            pass
        return network, score(network, data.outer, task=task)

    return train


def short_training(briefly: Briefly) -> Callable[[Architecture, int], float]:
    """An objective: minus the mean loss on the outer split after a short training.

    The loss tells apart what the accuracy of a few hundred examples does not.
    """
    return lambda architecture, epochs: -briefly(architecture, epochs)[1].loss
