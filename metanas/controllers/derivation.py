"""From mixing weights to an architecture: the strongest option of every choice, and the strongest inputs of every node.

    one of n     the option with the largest weight; candidates that are never derived do not compete
    k of n       the k sources with the largest strength

The strength of a source is the largest weight among the options of the choice that made it, 0 where no choice did (Liu
et al., DARTS, ICLR 2019, arXiv:1806.09055, section 2.4), times its own weight where the sources have weights (Xu et
al., PC-DARTS, ICLR 2020, arXiv:1907.05737).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from metanas.space import Architecture, Choice, Combine, Space, every_step


def strongest(space: Space, weights: Mapping[str, Tensor]) -> Architecture:
    """The architecture of the largest weights; ties go to the first.

    >>> import torch
    >>> from metanas.space import chain, one_of, op
    >>> space = Space(chain(("y", one_of("y", {"conv": op("conv"), "skip": op("skip")}))))
    >>> strongest(space, {"y": torch.tensor([0.4, 0.6])}).to_json()
    {'y': 'skip'}
    """
    taken: dict[str, tuple[str, ...]] = {}
    best: dict[str, float] = {}
    for choice in space.choices:
        if choice.name in weights and choice.take == 1:
            label, best[choice.name] = _best_option(choice, weights[choice.name].tolist())
            taken[choice.name] = (label,)
    maker = {s.out: s.choice for s in every_step(space.program) if isinstance(s, Combine) and s.choice}
    for step in every_step(space.program):
        if isinstance(step, Combine) and step.choice and step.choice not in best:
            choice = space.program.choice(step.choice)
            strength = [best.get(maker.get(source, ""), 0.0) for source in step.sources]
            if step.choice in weights:
                own = weights[step.choice].tolist()
                strength = [a * b for a, b in zip(strength, own, strict=True)]
            order = sorted(map(choice.index, choice.options), key=lambda k: -strength[k])[: choice.take]
            taken[choice.name] = tuple(choice.candidates[k] for k in sorted(order))
    return space.architecture(taken)


def _best_option(choice: Choice, weights: list[float]) -> tuple[str, float]:
    options = [(weights[choice.index(label)], label) for label in choice.options]
    weight, label = max(options, key=lambda row: row[0])
    return label, weight
