"""A training whose steps are recorded is the training whose steps are not."""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from metanas.bilevel import CudaGraphs
from metanas.bilevel.capture import WARM
from metanas.data import Crop, Split, load_data
from metanas.evaluation import ScratchTraining, Training, briefly_trained
from metanas.evaluation.training import Carried
from metanas.network import WithAuxiliary, derived
from metanas.space import Architecture, from_genotype

MIXED = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
NUMBERS = Training(epochs=3, batch_size=8, lr=0.1)  # of 26 images: 9 steps
STEPS = 9


@pytest.fixture
def network(problems: Any) -> Any:
    space = problems.nasbench201(4, 1)
    return lambda seed=0: derived(space, space.parse(MIXED), (2, 8, 8), 3, seed=seed)


def images(spoiled: bool = False, device: str = "cpu") -> Split:
    targets = torch.arange(26) % 3
    inputs = torch.randn(26, 2, 8, 8, generator=torch.Generator().manual_seed(0)) + targets[:, None, None, None]
    if spoiled:
        inputs[4] = torch.nan
    return Split(inputs.to(device), targets.to(device))


def trained(network: nn.Module, graphs: Any, split: Split | None = None, **more: Any) -> tuple[ScratchTraining, Any]:
    settings = more.pop("settings", NUMBERS)
    training = ScratchTraining(network, split or images(), settings, seed=0, augment=(Crop(1),), graphs=graphs, **more)
    return training, list(training.epochs())


def assert_alike(found: Any, plain: Any, rtol: float = 1e-5) -> None:
    for (name, x), y in zip(found.network.state_dict().items(), plain.network.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=rtol, msg=name)
    assert int(found.step.report.skipped) == int(plain.step.report.skipped)


@pytest.mark.parametrize("spoiled", [False, True], ids=["finite", "an image that is not"])
def test_recorded_or_not_it_is_the_same_training(network: Any, replays: Any, spoiled: bool) -> None:
    graphs = replays()
    found, epochs = trained(network(), graphs, images(spoiled))
    plain, twins = trained(network(), None, images(spoiled))
    assert_alike(found, plain)
    assert [(e.loss, e.score) for e in epochs] == [pytest.approx((e.loss, e.score), rel=1e-5) for e in twins]
    assert (graphs.recordings, graphs.plays) == (1, STEPS - WARM)
    assert (int(found.step.report.skipped) > 0) is spoiled


def test_an_auxiliary_head_is_recorded_with_its_network(problems: Any, replays: Any) -> None:
    space = problems.darts(2, 3)
    architecture = Architecture(from_genotype(problems.shipped("darts").DARTS_V2))

    def with_head() -> nn.Module:
        assert space.auxiliary is not None
        return WithAuxiliary(derived(space, architecture, (2, 8, 8), 3, seed=0), space.auxiliary, 3, seed=0)

    graphs, settings = replays(), replace(NUMBERS, auxiliary=0.4)
    found, plain = (trained(with_head(), g, settings=settings)[0] for g in (graphs, None))
    assert_alike(found, plain, rtol=1e-4)
    assert graphs.recordings == 1


def test_what_was_carried_over_has_its_own_rate(network: Any, replays: Any) -> None:
    graphs, names = replays(), frozenset(name for name, _ in network().named_parameters() if "head" in name)
    found, _ = trained(network(), graphs, carried=Carried(names, 0.1))
    plain, _ = trained(network(), None, carried=Carried(names, 0.1))
    assert names and graphs.recordings == 1
    assert_alike(found, plain)


def test_what_is_fixed_stays_fixed(network: Any, replays: Any) -> None:
    before = network().state_dict()
    names = frozenset(name for name, _ in network().named_parameters() if "head" not in name)
    found, _ = trained(network(), replays(), carried=Carried(names, 0.0))
    assert all(torch.equal(found.network.state_dict()[name], before[name]) for name in names)


def test_it_goes_on_from_its_state(network: Any, replays: Any) -> None:
    whole, epochs = trained(network(), replays())
    cut = ScratchTraining(network(), images(), NUMBERS, seed=0, augment=(Crop(1),), graphs=replays())
    next(cut.epochs())
    state = copy.deepcopy(cut.state())
    graphs = replays()
    again = ScratchTraining(network(1), images(), NUMBERS, seed=0, augment=(Crop(1),), graphs=graphs)
    running = again.epochs()
    next(running), next(running)  # has recorded, with its memory elsewhere
    again.restore(state)
    assert [e.loss for e in running] == pytest.approx([e.loss for e in epochs[1:]], rel=1e-6)
    assert_alike(again, whole, rtol=1e-6)
    assert graphs.recordings == 2


@pytest.mark.parametrize(
    "settings", [NUMBERS, Training(epochs=3, batch_size=8, drop_path=0.3)], ids=["own", "drop path"]
)
def test_what_may_draw_random_numbers_is_not_recorded(network: Any, replays: Any, settings: Training) -> None:
    graphs = replays()
    own = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, 3))
    training, _ = trained(own if settings is NUMBERS else network(), graphs, settings=settings)
    assert training.epoch == 3 and graphs.recordings == 0


def test_what_cannot_be_recorded_is_trained_as_it_is(network: Any, replays: Any) -> None:
    graphs = replays(able=False)
    found, _ = trained(network(), graphs)
    assert_alike(found, trained(network(), None)[0])
    assert len(graphs.whys) == 1


def test_every_short_training_has_a_recorder_of_its_own(problems: Any, replays: Any) -> None:
    space, data, made = problems.nasbench201(4, 1), load_data("digits", inner=64, outer=64), []

    def graphs() -> Any:
        made.append(replays())
        return made[-1]

    def build(architecture: Any) -> nn.Module:
        return derived(space, architecture, data.shape, 10, seed=0)

    settings = Training(batch_size=8)
    ways = [briefly_trained(build, data, settings, seed=0, graphs=g) for g in (graphs, lambda: None)]
    found, plain = ([way(space.parse(MIXED), epochs)[1].loss for epochs in (1, 2)] for way in ways)
    assert found == pytest.approx(plain, rel=1e-4) and [g.recordings for g in made] == [1, 1]


def test_nothing_of_a_training_is_left_when_it_is_over(network: Any, replays: Any) -> None:
    """Without the collector: on a GPU dozens of short trainings would wait for it, each with the memory of a step."""
    gc.disable()
    try:
        training, _ = trained(network(), replays())
        gone = weakref.ref(training)
        del training
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("spoiled", [False, True], ids=["finite", "an image that is not"])
def test_on_a_gpu_it_is_the_same_training(network: Any, spoiled: bool) -> None:
    torch.set_default_dtype(torch.float32)
    graphs = CudaGraphs(torch.device("cuda"), pytest.fail)
    found, epochs = trained(network().cuda(), graphs, images(spoiled, "cuda"))
    plain, twins = trained(network().cuda(), None, images(spoiled, "cuda"))
    assert_alike(found, plain, rtol=1e-2)
    assert [(e.loss, e.score) for e in epochs] == [pytest.approx((e.loss, e.score), rel=1e-2) for e in twins]
