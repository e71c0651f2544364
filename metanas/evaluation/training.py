"""Training a derived network from scratch on the inner and outer split together, and testing it once.

    for each epoch:  lr along a half cosine to 0;  SGD with Nesterov momentum on shuffled, augmented batches
    test once, with the tracked statistics

The settings are those of NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv:2001.00326) but for the number of epochs. As
in a search, every random number is a function of (seed, purpose, epoch), so that a training goes on bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.bilevel import torch_step
from metanas.data import Data, Split, batches, in_order, steps
from metanas.errors import CheckpointError, DivergedError

TEST_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Training:
    """Numbers of a training from scratch.

    Args:
        epochs: passes over the training split.
        batch_size: examples a step.
        lr: learning rate at the start; it ends at 0.
        warmup: epochs over which the rate first grows.
        momentum, weight_decay: of SGD (Nesterov).
        clip: greatest gradient norm.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 0.1
    warmup: int = 0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0

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


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training: the mean loss and the accuracy (0 to 1) on the augmented training batches."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Score:
    """Mean loss and accuracy (0 to 1) on a split."""

    loss: float
    accuracy: float


class ScratchTraining:
    """A training in progress; it owns the network's weights and the optimiser until it is done.

    Args:
        network: built with phase "scratch", on the data's device.
        train: the split to train on (`data.train`, or `data.inner` for an objective that is judged on `data.outer`).
        augment: what training batches go through.
        seed: of the order of the examples and of the augmentation.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Split,
        settings: Training,
        *,
        seed: int,
        augment: Any = (),
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    ) -> None:
        self.network, self.split, self.settings, self.seed = network, train, settings, seed
        self.augment, self.loss = tuple(augment), loss
        self.epoch = 0
        self.parameters = dict(network.named_parameters())
        self.optimizer = torch.optim.SGD(
            self.parameters.values(),
            settings.lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
            fused=True,
        )
        self.step = torch_step(self.optimizer, self.parameters, clip=settings.clip)

    def epochs(self) -> Iterator[Epoch]:
        """The epochs that are left, in order. Raises DivergedError where a whole epoch brought no finite update."""
        while self.epoch < self.settings.epochs:
            before = int(self.step.report.skipped)
            loss, accuracy, count = self._run()
            if int(self.step.report.skipped) - before == count:
                raise DivergedError(
                    f"training from scratch, epoch {self.epoch + 1}: none of {count} updates was finite (loss {loss}); "
                    f"lower lr ({self.settings.lr})"
                )
            self.epoch += 1
            yield Epoch(self.epoch, self.settings.epochs, loss, accuracy)

    def _run(self) -> tuple[float, float, int]:
        settings, split = self.settings, self.split
        per_epoch = steps(split, settings.batch_size)
        rows = batches(
            split, settings.batch_size, seed=self.seed, epoch=self.epoch, stream="train", augment=self.augment
        )
        self.network.train()
        device = split.targets.device
        total, correct, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0
        for k, (inputs, targets) in enumerate(rows, self.epoch * per_epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = settings.rate(k, per_epoch)
            outputs = self.network(inputs)
            loss = self.loss(outputs, targets)
            gradients = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
            self.step.apply(gradients, loss.detach())
            total = total + loss.detach() * len(targets)
            correct = correct + (outputs.detach().argmax(-1) == targets).sum()
            seen += len(targets)
        return float(total) / seen, float(correct) / seen, per_epoch

    def state(self) -> dict[str, Any]:
        """Everything that a training needs to go on, as a tree of tensors and plain values."""
        buffers = [self.optimizer.state[p].get("momentum_buffer") for p in self.parameters.values()]
        return {
            "epoch": self.epoch,
            "network": {name: x.detach() for name, x in self.network.state_dict().items()},
            "momentum": {n: b for n, b in zip(self.parameters, buffers, strict=True) if b is not None},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave. Raises CheckpointError where it does not fit."""
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise CheckpointError(f"the checkpoint is of another network: {' '.join(str(error).split())}") from None
        for name, buffer in state["momentum"].items():
            p = self.parameters[name]
            self.optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(buffer)  # p's layout
        self.epoch = state["epoch"]


@torch.no_grad()
def score(network: nn.Module, split: Split, *, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> Score:
    """Mean loss and accuracy of a network on a split, in evaluation mode; the network's mode is left as it was."""
    was_training = network.training
    network.eval()
    total = correct = 0.0
    for inputs, targets in in_order(split, TEST_BATCH):
        outputs = network(inputs)
        total += float(loss(outputs, targets)) * len(targets)
        correct += float((outputs.argmax(-1) == targets).sum())
    network.train(was_training)
    return Score(total / len(split), correct / len(split))


def short_training(
    build: Callable[[Any], nn.Module], data: Data, settings: Training, *, seed: int
) -> Callable[[Any], float]:
    """An objective: the accuracy on the outer split of a network trained from scratch on the inner split.

    Args:
        build: architecture -> network on the data's device.
    """

    def objective(architecture: Any) -> float:
        network = build(architecture)
        training = ScratchTraining(network, data.inner, settings, seed=seed, augment=data.augment)
        for _ in training.epochs():
            pass
        return score(network, data.outer).accuracy

    return objective
