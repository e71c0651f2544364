"""Training from scratch with what was learned: against torch's own optimiser, resume, what diverges."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.bilevel import SGD, Adam
from metanas.data import CLASSIFICATION
from metanas.errors import CheckpointError, DivergedError
from metanas.evaluation import Retraining, Shaped
from metanas.modes import Stateless, assemble, decay, example_weights, meta_parameter, rate
from metanas.run.checkpoints import load, save

SIZE, CLASSES = 4, 3


def examples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    targets = torch.arange(n) % CLASSES
    noise = torch.randn(n, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise + targets[:, None], targets


INNER, OUTER = examples(12, 0), examples(6, 1)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(SIZE, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double()


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def drawing(split: tuple[Tensor, Tensor], size: int = 0) -> Callable[[int], Any]:
    def draw(step: int) -> Any:
        at = torch.arange(len(split[1]))
        if size:
            at = torch.randperm(len(split[1]), generator=torch.Generator().manual_seed(step))[:size]
        return split[0][at], split[1][at], at, torch.zeros(len(at), 8)

    return draw


def retraining(parts: Any = (), *, rule: Any = None, steps: int = 45, size: int = 0, net: Any = None) -> Retraining:
    """Of both splits; the outer one without the parts that weigh."""
    net, rule = net or network(), rule or SGD(0.1, 0.9)
    outer = {part.name: torch.utils._pytree.tree_map(lambda x: x.double(), part.start) for part in parts}

    def shaped(kept: Any, split: tuple[Tensor, Tensor]) -> Shaped:
        made = assemble(net, kept, rule=rule) if kept else meta_parameter(net, rule=rule)
        return Shaped(made, outer, drawing(split, size), len(split[1]) / 18)

    plain = [part for part in parts if part.weights is None]
    rows = (shaped(parts, INNER), shaped(plain, OUTER))
    return Retraining(rows, weights(net), steps, outputs=Stateless(net), task=CLASSIFICATION)


def by_torch(
    make: Callable[..., torch.optim.Optimizer],
    *,
    steps: int = 45,
    of_each: Callable[[], Tensor] | None = None,
    size: int = 0,
) -> dict[str, Tensor]:
    """The same training by hand: the mean over all examples of both splits, each weighed."""
    net = network()
    optimizer = make(net.parameters())
    for step in range(steps):
        optimizer.zero_grad()
        (x, y, at, _), (v, u, _, _) = drawing(INNER, size)(step), drawing(OUTER, size)(step)
        each = F.cross_entropy(net(x), y, reduction="none")
        if of_each is not None:
            each = of_each()[at] * each
        loss = 12 / 18 * each.mean() + 6 / 18 * F.cross_entropy(net(v), u)
        loss.backward()
        optimizer.step()
    return weights(net)


def trained(training: Retraining) -> dict[str, Tensor]:
    list(training.epochs())
    return training.theta


def close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        torch.testing.assert_close(x, theirs[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        (SGD(0.1, 0.9), lambda ps: torch.optim.SGD(ps, 0.1, 0.9)),
        (
            SGD(0.1, 0.9, 0.01, nesterov=True),
            lambda ps: torch.optim.SGD(ps, 0.1, 0.9, weight_decay=0.01, nesterov=True),
        ),
        (Adam(0.02), lambda ps: torch.optim.Adam(ps, 0.02)),
    ],
    ids=["momentum", "nesterov and decay", "Adam"],
)
def test_a_plain_training_is_torchs(rule: Any, make: Any) -> None:
    """With nothing learned: the mean over both splits together."""
    ours = trained(retraining(rule=rule))
    close(ours, by_torch(make))
    x, y = torch.cat([INNER[0], OUTER[0]]), torch.cat([INNER[1], OUTER[1]])
    net = network()
    optimizer = make(net.parameters())
    for _ in range(45):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    close(ours, weights(net))


def test_weights_of_one_change_nothing() -> None:
    close(trained(retraining((example_weights(12, start=50.0),))), trained(retraining()))


def test_a_learned_decay_is_weight_decay() -> None:
    ours = trained(retraining((decay(weights(network()), per="all", start=0.02),)))
    close(ours, by_torch(lambda ps: torch.optim.SGD(ps, 0.1, 0.9, weight_decay=0.02)))


def test_minibatches() -> None:
    close(trained(retraining(size=4)), by_torch(lambda ps: torch.optim.SGD(ps, 0.1, 0.9), size=4))


def test_a_weighted_loss_and_an_outer_split_without_weights() -> None:
    """Each inner example counts by its weight, the outer ones in full."""
    part = example_weights(12)
    part.start["logit"].copy_(torch.linspace(-4, 4, 12))
    theirs = by_torch(
        lambda ps: torch.optim.SGD(ps, 0.1, 0.9), of_each=lambda: torch.linspace(-4, 4, 12).double().sigmoid()
    )
    close(trained(retraining((part,))), theirs)


def test_a_rate_for_each_tensor_takes_the_place_of_the_rules() -> None:
    part = rate(weights(network()), per="layer", start=0.1)
    part.start["log"]["0.weight"].fill_(math.log(0.02))
    net = network()
    groups = [{"params": [p], "lr": 0.02 if name == "0.weight" else 0.1} for name, p in net.named_parameters()]
    optimizer = torch.optim.SGD(groups, 0.1, 0.9)
    for _ in range(45):
        optimizer.zero_grad()
        (
            12 / 18 * F.cross_entropy(net(INNER[0]), INNER[1]) + 6 / 18 * F.cross_entropy(net(OUTER[0]), OUTER[1])
        ).backward()
        optimizer.step()
    close(trained(retraining((part,), rule=SGD(7.0, 0.9))), weights(net))


# What is reported, and resume


def test_reports() -> None:
    training = retraining()
    epochs = list(training.epochs())
    assert [e.epoch for e in epochs] == list(range(1, 16)) and {e.epochs for e in epochs} == {15}, "45 steps in threes"
    assert training.step == 45 and epochs[-1].loss < 0.5 * epochs[0].loss and epochs[-1].score > 0.8
    (only,) = retraining(steps=1).epochs()
    assert (only.epoch, only.epochs) == (1, 1)
    uneven = [(e.epoch, e.epochs) for e in retraining(steps=41).epochs()]
    assert uneven == [(k, 14) for k in range(1, 15)]


def test_resume_after_every_part_is_bit_exact(tmp_path: Any) -> None:
    make = lambda: retraining((example_weights(12), decay(weights(network()))), size=4, rule=SGD(0.1, 0.9))  # noqa: E731
    training, curve = make(), []
    for epoch in training.epochs():
        curve.append(epoch)
        save(tmp_path / str(epoch.epoch), epoch.epoch, training.state(), 0)
    for k in range(1, 16):
        again = make()
        again.restore(load(tmp_path / str(k)).tree)
        assert list(again.epochs()) == curve[k:]
        assert all(torch.equal(x, training.theta[name]) for name, x in again.theta.items())
        assert all(map(torch.equal, again.state()["memory"], training.state()["memory"]))


def test_the_weights_that_are_handed_over_stay() -> None:
    net = network()
    training = retraining(net=net)
    before = weights(net)
    kept = copy.deepcopy(training.theta)
    list(training.epochs())
    assert all(torch.equal(x, before[name]) for name, x in weights(net).items())
    assert not torch.equal(training.theta["0.weight"], kept["0.weight"])


def test_another_network_is_refused() -> None:
    state = retraining().state()
    other = nn.Sequential(nn.Linear(SIZE, 7), nn.Tanh(), nn.Linear(7, CLASSES)).double()
    with pytest.raises(CheckpointError, match="theta of the checkpoint has other shapes; was the network changed"):
        retraining(net=other).restore(state)


def test_a_loss_that_is_not_finite_is_said() -> None:
    with pytest.raises(DivergedError) as caught:
        trained(retraining((decay(weights(network()), start=1.0),), rule=SGD(1e200)))
    said = str(caught.value)
    assert said.startswith("training from scratch: the loss is nan at step 3; lower inner.lr") and "\n" not in said


def test_weights_that_are_not_finite_are_said_before_a_checkpoint_refuses_them() -> None:
    """The loss of the last step was that of finite weights: only the step made them infinite."""
    with pytest.raises(DivergedError, match="training from scratch: a weight is not finite at step 1; lower"):
        trained(retraining((decay(weights(network()), start=1e300),), rule=SGD(1e300), steps=1))
