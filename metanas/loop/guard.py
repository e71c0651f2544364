"""Guards against collapse: each looks at what the epochs so far say and may end the search, with a reason.

    after every epoch in which omega was learned:
        health  <- skip share of the derived architecture, entropy of the weights, and where a guard asks for it the
                   largest eigenvalue of the Hessian of the outer loss in omega
        verdict <- guard(health of all those epochs)     None: go on
        the first verdict ends the search; omega goes back to that of the epoch that it names
        or hands it over (`GradientSearch(instead=)`) to a controller of fixed omega, for the epochs that are left

    SkipShare          too many derived choices skip                 back to the last epoch in which that was not so
    Decided            the weights have no entropy left to lose      nothing more would happen
    EigenvalueGrowth   the minimum that omega is in gets sharper     back to before that (RobustDARTS)

The supernet's weights stay as they are when omega goes back: those of every epoch would be several supernets, in memory
and in every checkpoint. What goes on from them, a refinement's short trainings, begins with weights that were trained
beside the later omega; it judges by trainings, and can begin from scratch. Nothing else inherits them.

A differentiable search may end in operations without parameters while its outer loss still falls. Zela et al.,
Understanding and robustifying differentiable architecture search, ICLR 2020, arXiv:1909.09656, find that the derived
networks become worse when the largest eigenvalue begins to grow fast; their rule is `EigenvalueGrowth`. A bound on
skips is that of DARTS+ (Liang et al., arXiv:1909.06035).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metanas.errors import SpaceError


@dataclass(frozen=True)
class Health:
    """What a guard knows of one epoch (counted from 1): `skip_share` of the derived choices that could skip, `entropy`
    as in `Report`, and the largest eigenvalue of the Hessian of the outer loss in omega. None: not known.
    """

    epoch: int
    entropy: float
    skip_share: float | None
    eigenvalue: float | None


@dataclass(frozen=True)
class Verdict:
    """The search ends; `epoch`: whose omega it ends with; `reason`: in one line, with the numbers."""

    epoch: int
    reason: str


@dataclass(frozen=True)
class Probe:
    """How the eigenvalue is measured: on the first `examples` of the outer split, by so many steps of Lanczos."""

    examples: int
    steps: int


class Guard(ABC):
    """A pure function of what the epochs say."""

    @property
    def probe(self) -> Probe | None:
        """How the eigenvalue is measured for it; None: it does not look at that."""
        return None

    @abstractmethod
    def __call__(self, past: Sequence[Health]) -> Verdict | None:
        """Whether the search ends with the last epoch of `past`, which has every epoch in which omega was learned."""


@dataclass(frozen=True, kw_only=True)
class SkipShare(Guard):
    """Ends a search when at least `most` of the derived choices that could skip do.

    Args:
        most: the share, above 0 and at most 1.
        roll_back: to the last epoch in which fewer did, where there is one; False: omega stays.
    """

    most: float = 0.5
    roll_back: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.most <= 1:
            raise SpaceError(f"most must be above 0 and at most 1, got {self.most}")

    def __call__(self, past: Sequence[Health]) -> Verdict | None:
        now = past[-1]
        if now.skip_share is None or now.skip_share < self.most:
            return None
        before = [h.epoch for h in past if h.skip_share is not None and h.skip_share < self.most]
        reason = f"skip share {now.skip_share:.2f} reached {self.most:g}"
        if not self.roll_back:
            return Verdict(now.epoch, reason)
        if not before:  # plain DARTS on NAS-Bench-201 begins like this
            reason += ", and no epoch had less to go back to"
        return Verdict(before[-1] if before else now.epoch, reason)


@dataclass(frozen=True, kw_only=True)
class Decided(Guard):
    """Ends a search when the mean entropy of the mixing weights is at most `least`: it has decided."""

    least: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.least < 1:
            raise SpaceError(f"least must be at least 0 and below 1, got {self.least}")

    def __call__(self, past: Sequence[Health]) -> Verdict | None:
        now = past[-1]
        if now.entropy > self.least:
            return None
        return Verdict(now.epoch, f"entropy {now.entropy:.4f} fell to {self.least:g}: all is decided")


@dataclass(frozen=True, kw_only=True)
class EigenvalueGrowth(Guard):
    """Ends a search when the eigenvalue's mean over `window` epochs is more than `growth` times what it was `earlier`
    epochs before. The defaults are those of RobustDARTS's public code but for the last two.

    Args:
        roll_back: to the epoch with which the earlier mean ends; False: omega stays.
        examples, steps: of `Probe`.
    """

    growth: float = 1.3
    window: int = 5
    earlier: int = 4
    roll_back: bool = True
    examples: int = 64
    steps: int = 10

    def __post_init__(self) -> None:
        if not self.growth > 1:
            raise SpaceError(f"growth must be > 1, got {self.growth}")
        if min(self.window, self.earlier, self.examples, self.steps) < 1:
            raise SpaceError("window, earlier, examples and steps must be >= 1")

    @property
    def probe(self) -> Probe | None:
        return Probe(self.examples, self.steps)

    def __call__(self, past: Sequence[Health]) -> Verdict | None:
        known = [(h.epoch, h.eigenvalue) for h in past if h.eigenvalue is not None]
        if len(known) < self.window + self.earlier:
            return None
        before, now = (_mean(known[: len(known) - back][-self.window :]) for back in (self.earlier, 0))
        if not 0 < self.growth * before < now:
            return None
        epoch = known[-1 - self.earlier][0] if self.roll_back else known[-1][0]
        return Verdict(
            epoch,
            f"the largest eigenvalue grew by {now / before:.2f} in {self.earlier} epochs, allowed is {self.growth:g} "
            f"(mean over {self.window}: {before:.3g} to {now:.3g})",
        )


def _mean(rows: Sequence[tuple[int, float]]) -> float:
    return sum(value for _, value in rows) / len(rows)


def skip_share(skips: Mapping[str, Sequence[str]], architecture: Mapping[str, Sequence[str]] | None) -> float | None:
    """Of the choices of an architecture that could skip, those that do; None where none could.

    Args:
        skips: `Space.skips`.

    >>> skips = {"a": ("skip",), "b": ("skip",)}
    >>> skip_share(skips, {"a": ("skip",), "b": ("conv",), "c": ("conv",)}), skip_share(skips, {"c": ("conv",)})
    (0.5, None)
    """
    could = [name for name in skips if name in (architecture or {})]
    do = [name for name in could if not set(skips[name]).isdisjoint((architecture or {})[name])]
    return len(do) / len(could) if could else None


def entropy(weights: Mapping[str, Tensor]) -> float:
    """The mean entropy of mixing weights, each over the logarithm of its number of candidates: 0 (decided) to 1.
    Weights that do not sum to 1 are taken over their sum.

    >>> round(entropy({"a": torch.tensor([0.5, 0.5]), "b": torch.tensor([1.0, 0.0])}), 3)
    0.5
    """
    shares = [w / w.sum().clamp(min=torch.finfo(w.dtype).tiny) for w in weights.values() if len(w) > 1]
    rows = [float(torch.special.entr(w).sum()) / math.log(len(w)) for w in shares]
    return sum(rows) / len(rows) if rows else 0.0


class Watch:
    """Owns what the guards have seen, omega of every epoch that they may go back to, and their verdict."""

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.guards = tuple(guards)
        self.past: list[Health] = []
        self.kept: list[Tensor] = []  # omega of the epochs of `past`, each as one vector on the CPU
        self.verdict: Verdict | None = None

    @property
    def probe(self) -> Probe | None:
        """How the eigenvalue is measured, as the first guard that asks for it wants it."""
        return next((guard.probe for guard in self.guards if guard.probe is not None), None)

    @torch.no_grad()
    def look(self, health: Health, omega: Mapping[str, Tensor]) -> Verdict | None:
        """The verdict after an epoch, the first of the guards' in their order; omega is put back as it says."""
        if not self.guards:
            return None
        eigenvalue = health.eigenvalue
        if eigenvalue is not None and not math.isfinite(eigenvalue):  # the step before was not finite either
            health = Health(health.epoch, health.entropy, health.skip_share, None)
        self.past.append(health)
        self.kept.append(torch.cat([x.flatten() for x in omega.values()]).cpu())
        self.verdict = next(filter(None, (guard(self.past) for guard in self.guards)), None)
        if self.verdict is not None:
            place = [h.epoch for h in self.past].index(self.verdict.epoch)
            rows = torch.split_with_sizes(self.kept[place], [x.numel() for x in omega.values()])
            for x, row in zip(omega.values(), rows, strict=True):
                x.copy_(row.view_as(x))
        return self.verdict

    def state(self) -> dict[str, Any]:
        """Plain data and tensors for a checkpoint."""
        return {
            "past": [[h.epoch, h.entropy, h.skip_share, h.eigenvalue] for h in self.past],
            "kept": torch.stack(self.kept) if self.kept else None,
            "verdict": None if self.verdict is None else [self.verdict.epoch, self.verdict.reason],
        }

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Goes on from what `state` gave; None: of a checkpoint that knows no guards."""
        state = state or {"past": [], "kept": None, "verdict": None}
        self.past = [Health(*row) for row in state["past"]]
        self.kept = [] if state["kept"] is None else list(state["kept"].clone().unbind())
        self.verdict = None if state["verdict"] is None else Verdict(*state["verdict"])
