"""Training from scratch: against a loop by hand, resume, masked steps, evaluation; digits are learned."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metanas.data import CLASSIFICATION, Crop, Split, batches, load_data
from metanas.errors import CheckpointError, DivergedError
from metanas.evaluation import ScratchTraining, Training, briefly_trained, score, short_training
from metanas.network import WithAuxiliary, derived
from metanas.run.checkpoints import load, save
from metanas.space import Architecture, from_genotype

MIXED = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def losing(loss):
    """The task of classification with another loss."""
    return replace(CLASSIFICATION, loss=loss)


@pytest.fixture(scope="module")
def space(problems):
    return problems.nasbench201(4, 1)


@pytest.fixture
def network(space):
    return lambda key=MIXED, seed=0: derived(space, space.parse(key), (2, 8, 8), 3, seed=seed)


def images(n: int = 26, seed: int = 0) -> Split:
    targets = torch.arange(n) % 3
    noise = torch.randn(n, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Split(noise + targets[:, None, None, None], targets)


def train(network, split=None, *, until=None, **settings):
    training = ScratchTraining(
        network, split or images(), Training(**{"epochs": 3, "batch_size": 8, "lr": 0.1} | settings), seed=0
    )
    for epoch in training.epochs():
        if epoch.epoch == until:
            break
    return training


def same(a, b):
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_digits_are_learned(problems):
    """A few epochs on the bundled digits; one thread."""
    data, space = load_data("digits"), problems.nasbench201(4, 1)
    network = derived(space, space.parse(MIXED), data.shape, 10)
    epochs = list(ScratchTraining(network, data.train, Training(epochs=4), seed=0).epochs())
    assert score(network, data.test).score > 0.95
    assert epochs[-1].score > 0.95 and epochs[-1].loss < 0.3 * epochs[0].loss
    assert [e.epoch for e in epochs] == [1, 2, 3, 4] and {e.epochs for e in epochs} == {4}


def test_rates():
    """Half a cosine to 0, over steps; before it, a line from 0."""
    settings = Training(epochs=4, lr=0.5)
    cosine = [0.25 * (1 + math.cos(math.pi * k / 12)) for k in range(12)]
    assert [settings.rate(k, 3) for k in range(12)] == pytest.approx(cosine)
    settings = Training(epochs=4, lr=0.5, warmup=1)
    cosine = [0.25 * (1 + math.cos(math.pi * k / 9)) for k in range(9)]
    assert [settings.rate(k, 3) for k in range(12)] == pytest.approx([0.5 / 3, 1 / 3, 0.5, *cosine])


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_equals_a_loop_by_hand(network, momentum):
    """torch.optim, not fused; six steps over two epochs: weights and statistics, in float64."""
    settings = Training(epochs=2, batch_size=8, lr=0.2, momentum=momentum, clip=0.5, weight_decay=1e-2)
    split, crop = images(), (Crop(1),)
    split = Split(split.inputs.double(), split.targets)
    ours, theirs = network().double(), network().double()
    list(ScratchTraining(ours, split, settings, seed=4, augment=crop).epochs())
    optimizer = torch.optim.SGD(theirs.parameters(), 0.2, momentum, weight_decay=1e-2, nesterov=momentum > 0)
    theirs.train()
    for epoch in range(2):
        for k, (x, y) in enumerate(batches(split, 8, seed=4, epoch=epoch, stream="train", augment=crop)):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * (3 * epoch + k) / 6))
            optimizer.zero_grad()
            F.cross_entropy(theirs(x), y).backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            optimizer.step()
    for name, x in ours.state_dict().items():
        torch.testing.assert_close(x, theirs.state_dict()[name], rtol=1e-9, atol=1e-12, msg=name)


def test_epochs_report_means_over_the_batches(network):
    net, split = network(), images(10)
    seen = []

    def loss(outputs, targets):
        value = F.cross_entropy(outputs, targets)
        seen.append((float(value.detach()), float((outputs.argmax(1) == targets).double().mean())))
        return value

    training = ScratchTraining(
        net, split, Training(epochs=1, batch_size=5), seed=0, task=replace(CLASSIFICATION, loss=loss)
    )
    (epoch,) = training.epochs()
    assert epoch.loss == pytest.approx(np.mean([x for x, _ in seen])) and len(seen) == 2
    assert epoch.score == pytest.approx(np.mean([x for _, x in seen]))


def test_resume_at_every_epoch_is_bit_exact(network, tmp_path):
    net = network()
    training = ScratchTraining(net, images(), Training(epochs=4, batch_size=8), seed=0, augment=(Crop(1),))
    curve = []
    for epoch in training.epochs():
        curve.append(epoch)
        save(tmp_path / str(epoch.epoch), epoch.epoch, training.state(), 0)
    end = copy.deepcopy(training.state())
    for k in range(1, 5):
        again = ScratchTraining(network(seed=k), images(), Training(epochs=4, batch_size=8), seed=0, augment=(Crop(1),))
        again.restore(load(tmp_path / str(k)).tree)
        assert list(again.epochs()) == curve[k:]
        assert same(again.state(), end)


@pytest.mark.parametrize("epochs", [0, 1])
def test_restore_forgets_what_was_trained_before(network, epochs):
    first = ScratchTraining(network(), images(), Training(epochs=3, batch_size=8), seed=0)
    running = first.epochs()
    for _ in range(epochs):
        next(running)
    state = copy.deepcopy(first.state())
    list(running)
    used = train(network(seed=1))
    used.restore(state)
    list(used.epochs())
    assert same(used.state(), first.state())


def test_another_network_is_refused_in_one_line(network):
    state = train(network(), until=1).state()
    other = ScratchTraining(network(NOTHING), images(), Training(), seed=0)
    with pytest.raises(CheckpointError) as caught:
        other.restore(state)
    message = str(caught.value)
    assert "\n" not in message and "another network" in message and "3/from_2/nor_conv_3x3" in message


def test_every_misfit_of_a_checkpoint_is_listed_and_nothing_is_changed():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    training = ScratchTraining(network, Split(torch.ones(4, 1, 2, 2), torch.arange(4) % 2), Training(), seed=0)
    before = copy.deepcopy(network.state_dict())
    saved = {name: x + 1 for name, x in before.items() if name != "1.bias"}
    saved |= {"1.weight": torch.ones(3, 9), "new": torch.ones(1)}
    state = {"epoch": 1, "network": saved, "momentum": {"2.bias": torch.ones(5), "gone": torch.ones(1)}}
    with pytest.raises(CheckpointError) as caught:
        training.restore(state)
    assert str(caught.value) == (
        "the checkpoint is of another network: missing 1.bias; unexpected new; 1.weight is (3, 9), needed (3, 4); "
        "unexpected momentum of gone; momentum of 2.bias is (5,), needed (2,); was the space changed?"
    )
    assert all(torch.equal(before[name], x) for name, x in network.state_dict().items()) and training.epoch == 0


def test_global_generators_are_left_alone_and_do_not_matter(network):
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        ends.append(copy.deepcopy(train(network()).state()))
        after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
        assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]
    assert same(*ends)


class Fails:
    """Cross-entropy that is not finite at some steps, counted from 0."""

    def __init__(self, steps, value=torch.nan):
        self.steps, self.value, self.calls = steps, value, -1

    def __call__(self, outputs, targets):
        self.calls += 1
        loss = F.cross_entropy(outputs, targets)
        return loss + self.value if self.calls in self.steps else loss


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_step_that_is_not_finite_is_left_out(network, value):
    """Weights, momentum and statistics: three steps of which one fails leave what the other two leave."""
    settings = Training(epochs=1, batch_size=8, lr=0.1)
    training = ScratchTraining(
        network(), images(), settings, seed=0, task=replace(CLASSIFICATION, loss=Fails({1}, value))
    )
    (epoch,) = training.epochs()
    assert math.isfinite(epoch.loss) and int(training.step.report.skipped) == 1
    twin = ScratchTraining(network(), images(), settings, seed=0)
    twin.network.train()
    for k, (x, y) in enumerate(batches(images(), 8, seed=0, epoch=0, stream="train")):
        if k != 1:
            twin.optimizer.param_groups[0]["lr"] = settings.rate(k, 3)
            loss = F.cross_entropy(twin.network(x), y)
            twin.step.apply(torch.autograd.grad(loss, list(twin.parameters.values()), allow_unused=True), loss.detach())
    ours, theirs = training.state(), twin.state()
    counts = [name for name in ours["network"] if name.endswith("num_batches_tracked")]
    assert counts
    for name in counts:  # a count that nothing reads
        del ours["network"][name], theirs["network"][name]
    assert same(ours["network"], theirs["network"]) and same(ours["momentum"], theirs["momentum"])


def test_an_image_that_is_not_finite_spoils_nothing(network, tmp_path):
    split = images()
    split.inputs[4] = torch.nan
    training = train(network(), split)
    save(tmp_path / "c", 3, training.state(), 0)  # refuses a number that is not finite
    assert math.isfinite(score(training.network, images()).loss) and int(training.step.report.skipped) > 0


def test_a_training_without_a_finite_step_ends(network):
    training = ScratchTraining(
        network(),
        images(),
        Training(epochs=2, batch_size=8),
        seed=0,
        task=replace(CLASSIFICATION, loss=Fails(range(99))),
    )
    with pytest.raises(DivergedError) as caught:
        list(training.epochs())
    message = str(caught.value)
    assert "epoch 1" in message and "3 updates up to step 3" in message and "loss nan" in message
    assert "all layers are finite, the loss or a gradient is not; lower lr (0.1)" in message


def test_the_layer_that_is_not_finite_is_named(network):
    net = network()
    with torch.no_grad():
        net.head[-1].bias[0] = torch.nan
    with pytest.raises(DivergedError, match=r"the first layer that is not finite is head\.\d \(Linear\)"):
        train(net)


def test_a_network_without_a_path_trains(network):
    """Only its head learns: it can but guess."""
    net = network(NOTHING)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    training = train(net)
    assert training.epoch == 3 and 0.2 < score(net, images()).score < 0.5
    moved = {name.split(".")[0] for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert "head" in moved and not any(name.startswith("stage") for name in moved)


def test_score_by_hand_and_modes(network, monkeypatch):
    monkeypatch.setattr("metanas.evaluation.training.TEST_BATCH", 8)
    net, split = train(network(), until=1).network, images(26)
    net.train()
    next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)).eval()  # a norm that its user froze
    modes = {name: m.training for name, m in net.named_modules()}
    before = {name: x.clone() for name, x in net.state_dict().items()}
    got = score(net, split)
    assert {name: m.training for name, m in net.named_modules()} == modes and len(set(modes.values())) == 2
    assert same(dict(net.state_dict()), before)
    net.eval()
    with torch.no_grad():
        outputs = net(split.inputs)
    assert got.loss == pytest.approx(float(F.cross_entropy(outputs, split.targets)), rel=1e-5)
    assert got.score == pytest.approx(float((outputs.argmax(1) == split.targets).float().mean()))
    own = replace(
        CLASSIFICATION, loss=lambda o, t: F.cross_entropy(o, t) * 2, metric=lambda o, t: len(o) + float(t.sum())
    )
    assert score(net, split, task=own).score == 26 + float(split.targets.sum()), "of the whole split at once"
    assert score(net, split, task=own).loss == pytest.approx(2 * got.loss, rel=1e-5)


def test_modes_are_back_after_an_error(network):
    net = network().train()
    with pytest.raises(RuntimeError):
        score(net, Split(torch.zeros(2, 5, 8, 8), torch.zeros(2, dtype=torch.long)))
    assert all(m.training for m in net.modules())


def test_a_short_training_is_an_objective(space, problems):
    data = load_data("digits")
    build = lambda a: derived(space, a, data.shape, 10)  # noqa: E731
    objective = short_training(briefly_trained(build, data, Training(batch_size=32, warmup=1), seed=0))
    good, bad = objective(space.parse(MIXED), 2), objective(space.parse(NOTHING), 2)
    assert bad < good < 0 and objective(space.parse(NOTHING), 2) == bad
    net = build(space.parse(MIXED))
    settings = Training(batch_size=32, epochs=2)
    list(ScratchTraining(net, data.inner, settings, seed=0, augment=data.augment).epochs())
    assert good == -score(net, data.outer).loss

    def broken(architecture):
        net = build(architecture)
        with torch.no_grad():
            net.head[-1].bias[0] = torch.nan
        return net

    with pytest.raises(DivergedError):
        short_training(briefly_trained(broken, data, Training(), seed=0))(space.parse(NOTHING), 1)


def test_a_metric_is_averaged_over_the_batches_that_have_one(network):
    """Three batches of 8; nan where it is not defined; a plain number will do."""
    values = iter([0.25, math.nan, 0.75])
    task = replace(CLASSIFICATION, metric=lambda outputs, targets: next(values))
    training = ScratchTraining(network(), images(), Training(epochs=1, batch_size=8), seed=0, task=task)
    assert next(training.epochs()).score == 0.5
    never = replace(CLASSIFICATION, metric=lambda outputs, targets: torch.tensor(torch.nan))
    training = ScratchTraining(network(), images(), Training(epochs=1, batch_size=8), seed=0, task=never)
    assert next(training.epochs()).score is None


def darts_network(problems, seed=0):
    space = problems.darts(2, 3)
    architecture = Architecture(from_genotype(problems.shipped("darts").DARTS_V2))
    return derived(space, architecture, (2, 8, 8), 3, seed=seed), space


def with_head(problems, seed=0):
    network, space = darts_network(problems, seed)
    return WithAuxiliary(network, space.auxiliary, 3, seed=seed)


EXTRAS = Training(epochs=3, batch_size=8, lr=0.05, drop_path=0.3, auxiliary=0.4)


def test_the_auxiliary_loss_by_hand(problems):
    """One step of plain descent on main + 0.4 * auxiliary loss, in float64."""
    settings = Training(epochs=1, batch_size=26, lr=0.1, momentum=0.0, weight_decay=0.0, clip=1e9, auxiliary=0.4)
    split = images()
    split = Split(split.inputs.double(), split.targets)
    trained, by_hand = with_head(problems).double(), with_head(problems).double()
    training = ScratchTraining(trained, split, settings, seed=0)
    (epoch,) = training.epochs()
    ((inputs, targets),) = batches(split, 26, seed=0, epoch=0, stream="train")
    main, beside = by_hand(inputs)
    loss = F.cross_entropy(main, targets) + 0.4 * F.cross_entropy(beside, targets)
    loss.backward()
    assert epoch.loss == pytest.approx(float(loss.detach()), rel=1e-6)
    assert epoch.score == pytest.approx(float((main.argmax(1) == targets).double().mean())), "of the network alone"
    for (name, new), old in zip(trained.named_parameters(), by_hand.parameters(), strict=True):
        expected = old.detach() - 0.1 * (0 if old.grad is None else old.grad)
        torch.testing.assert_close(new.detach(), expected, rtol=1e-9, atol=1e-11, msg=name)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in by_hand.head.parameters())


def test_drop_path_and_auxiliary_head_go_on_bit_for_bit(problems, tmp_path):
    whole = with_head(problems)
    losses = [epoch.loss for epoch in ScratchTraining(whole, images(), EXTRAS, seed=0).epochs()]
    first = ScratchTraining(with_head(problems), images(), EXTRAS, seed=0)
    epochs = first.epochs()
    next(epochs), next(epochs)
    save(tmp_path, 1, first.state(), 0)
    again = ScratchTraining(with_head(problems, seed=9), images(), EXTRAS, seed=0)
    again.restore(load(tmp_path).tree)
    assert [epoch.loss for epoch in again.epochs()] == losses[2:]
    assert same(dict(again.network.state_dict()), dict(whole.state_dict()))


def test_drop_path_changes_a_training_after_its_first_epoch(problems):
    def curve(**changes):
        training = ScratchTraining(darts_network(problems)[0], images(), replace(EXTRAS, **changes), seed=0)
        return [epoch.loss for epoch in training.epochs()]

    plain, dropped = curve(drop_path=0.0), curve(drop_path=0.5)
    assert plain[0] == dropped[0], "the rate begins at 0"
    assert plain[1] != dropped[1] and curve(drop_path=0.5) == dropped


def test_drop_path_needs_a_network():
    with pytest.raises(ValueError, match="drop path needs a Network, which says what is summed; got Linear"):
        ScratchTraining(nn.Linear(2, 2), images(), EXTRAS, seed=0)
