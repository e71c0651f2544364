"""FairDARTS: the sigmoid, the zero-one loss, and what a threshold leaves out."""

from __future__ import annotations

import math

import pytest
import torch

from metanas.controllers import FairDarts
from metanas.errors import SpaceError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logit(share: float) -> float:
    return math.log(share / (1 - share))


@pytest.fixture
def nasbench201(problems):
    return problems.nasbench201()


@pytest.fixture
def darts(problems):
    return problems.darts()


def derived(space, weights, **options):
    """What sigmoids derive: {choice: {label: weight}}, 0.5 where nothing is said."""
    omega = {c.name: torch.zeros(len(c.candidates)) for c in space.choices if c.take == 1}
    for name, row in weights.items():
        for label, weight in row.items():
            omega[name][space.program.choice(name).index(label)] = logit(weight)
    controller = FairDarts(**options)
    architecture = controller.derive(space, omega, evaluate=lambda mix: math.nan, generator=seeded())
    assert architecture == controller.preview(space, omega)
    return architecture, controller.remarks(space, omega)


def test_weights_do_not_compete():
    """A step on one candidate leaves the weights of the others where they were."""
    row = torch.randn(5, dtype=torch.float64, generator=seeded(), requires_grad=True)
    weights = FairDarts().relax({"y": row}, progress=0.5, generator=seeded())["y"]
    torch.testing.assert_close(weights, 1 / (1 + (-row).exp()), rtol=1e-14, atol=0)
    slopes = torch.stack([torch.autograd.grad(w, row, retain_graph=True)[0] for w in weights])
    torch.testing.assert_close(slopes, torch.diag(weights * (1 - weights)).detach(), rtol=1e-12, atol=0)


def test_the_zero_one_loss_and_its_gradient():
    """-10 / n * sum (s - 1/2)^2 and a constant, so -20 / n * (s - 1/2) s (1 - s): away from 1/2, to both sides."""
    omega = {"a": torch.tensor([0.0, 2.0, -1.0], requires_grad=True), "b": torch.tensor([0.3, 9.0], requires_grad=True)}
    penalty = FairDarts().penalty(omega, progress=0.1)
    s = torch.sigmoid(torch.cat(list(omega.values()))).detach()
    torch.testing.assert_close(penalty, 2.5 - 10 / 5 * (s - 0.5).square().sum())
    slopes = torch.cat(torch.autograd.grad(penalty, list(omega.values())))
    torch.testing.assert_close(slopes, -20 / 5 * (s - 0.5) * s * (1 - s))
    far = {"a": torch.tensor([60.0, -60.0])}
    assert FairDarts().penalty(far, progress=1.0) == 0 == FairDarts(zero_one=0.0).penalty(omega, progress=1.0)


def test_what_is_below_the_threshold_is_left_out_where_the_space_can(nasbench201):
    wanted = {
        "1<-0": {"nor_conv_3x3": 0.9},
        "2<-1": {"skip_connect": 0.86, "none": 0.99},
        "3<-0": {"avg_pool_3x3": 0.84},
        "3<-1": {"nor_conv_1x1": 0.95, "avg_pool_3x3": 0.96},
    }
    architecture, remarks = derived(nasbench201, wanted)
    assert str(architecture) == "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|none~2|"
    assert remarks == ("3 of 6 choices have no operation with a weight above 0.85: 3 take none, 0 the strongest",)
    architecture, _ = derived(nasbench201, wanted, threshold=0.8)
    assert architecture["3<-0"] == ("avg_pool_3x3",)


def test_where_nothing_is_above_it_every_node_keeps_its_strongest_edge(nasbench201):
    architecture, remarks = derived(nasbench201, {"2<-1": {"nor_conv_1x1": 0.6}, "3<-2": {"skip_connect": 0.7}})
    assert str(architecture) == "|skip_connect~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|"
    assert "3 take none, 3 the strongest" in remarks[0]


def test_a_node_that_takes_two_takes_the_strongest_two(darts):
    """DARTS never derives `none`, and says how many inputs a node has: the threshold only counts."""
    architecture, remarks = derived(
        darts, {"normal.3<-0": {"sep_conv_3x3": 0.9, "none": 0.99}, "normal.3<-2": {"skip_connect": 0.6}}
    )
    assert architecture["normal.3"] == ("0", "2")
    assert (architecture["normal.3<-0"], architecture["normal.3<-2"]) == (("sep_conv_3x3",), ("skip_connect",))
    assert remarks == ("27 of 28 choices have no operation with a weight above 0.85: 0 take none, 27 the strongest",)


def test_there_is_nothing_to_say_where_all_are_above(nasbench201):
    every = {c.name: {"nor_conv_3x3": 0.9} for c in nasbench201.choices}
    assert derived(nasbench201, every)[1] == ()


@pytest.mark.parametrize("threshold", [1.0, -0.1])
def test_a_threshold_that_cannot_be(threshold):
    with pytest.raises(SpaceError, match="threshold must be at least 0 and below 1"):
        FairDarts(threshold=threshold)
