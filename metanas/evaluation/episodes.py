"""How well new classes are learned: the mean accuracy over episodes, with its interval.

interval = 1.96 * standard deviation over episodes / sqrt(episodes)       half the width of 95 %
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.data import Episode, Episodes


@dataclass(frozen=True)
class EpisodicScore:
    """accuracy: mean over episodes, 0 to 1; interval: half the width of its 95 % interval over episodes; loss: the mean
    cross entropy of the queries; episodes: how many."""

    accuracy: float
    interval: float
    loss: float
    episodes: int

    def __str__(self) -> str:
        return f"{self.accuracy:.2%} +- {self.interval:.2%}"


@torch.no_grad()
def episodic_score(answer: Callable[[Episode], Tensor], episodes: Episodes, count: int) -> EpisodicScore:
    """The score over the first `count` episodes.

    Args:
        answer: the scores of all queries, (tasks, ways * queries, ways).

    >>> from metanas.data import load_classes
    >>> episodes = Episodes(load_classes("digits"), "train", ways=2, shots=1, queries=3, tasks=4)
    >>> right = lambda episode: torch.eye(2)[episode.query[1]]
    >>> episodic_score(right, episodes, 6).accuracy
    1.0
    """
    accuracies, losses = [], []
    for step in range(math.ceil(count / episodes.tasks)):
        episode = episodes.at(step)
        scores, labels = answer(episode), episode.query[1]
        accuracies.append((scores.argmax(-1) == labels).float().mean(-1))
        losses.append(F.cross_entropy(scores.transpose(1, 2), labels, reduction="none").mean(-1))
    accuracy, loss = torch.cat(accuracies)[:count].double(), torch.cat(losses)[:count].double()
    spread = float(accuracy.std()) if count > 1 else 0.0
    return EpisodicScore(float(accuracy.mean()), 1.96 * spread / math.sqrt(count), float(loss.mean()), count)
