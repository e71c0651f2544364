"""What a user gave in place of names, and words on it: for recipe.json, and to tell whether the same came again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from metanas.api.identity import describe
from metanas.api.own_module import build_of
from metanas.bilevel import Estimator
from metanas.controllers import Controller
from metanas.loop import Objective
from metanas.network import Maker

Loss = Callable[[Tensor, Tensor], Tensor]
Metric = Callable[[Tensor, Tensor], Tensor | float]


@dataclass(frozen=True)
class Handed:
    """Objects that a user gave in place of names; a resumed run needs them again. `module`: one in which choices are
    marked, whose space it is.
    """

    controller: Controller | None = None
    estimator: Estimator | None = None
    ops: Mapping[str, Maker] | None = None
    loss: Loss | None = None
    metric: Metric | None = None
    module: nn.Module | None = None
    objective: Objective | None = None

    def described(self) -> dict[str, str]:
        """Name -> a word on each that was given, equal for equal objects as far as that can be told from outside.

        >>> Handed(loss=nn.functional.mse_loss).described()
        {'loss': 'mse_loss'}
        """
        given = {name: getattr(self, name) for name in ("controller", "estimator", "loss", "metric", "objective")}
        words = {name: describe(value) for name, value in given.items() if value is not None}
        if self.module is not None:
            words["module"] = build_of(self.module)
        return words if self.ops is None else {**words, "ops": ", ".join(map(self._operation, sorted(self.ops)))}

    def _operation(self, name: str) -> str:
        """Its name, and for a frozen module what tells its weights."""
        return " ".join([name, *filter(None, [getattr((self.ops or {})[name], "fingerprint", None)])])


def name_of(metric: Metric) -> str:
    """What a metric of the user's is called: its `__name__`, or its class's.

    >>> name_of(nn.functional.mse_loss), name_of(nn.MSELoss())
    ('mse_loss', 'MSELoss')
    """
    return str(getattr(metric, "__name__", type(metric).__name__))
