"""Zero-cost scores against closed forms on networks small enough to work out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metanas.errors import DataError, SpaceError
from metanas.evaluation.proxies import CORRELATION_FLOOR, SCORES, zero_cost
from metanas.network import derived


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False).double()
    layer.weight.data = torch.tensor(rows, dtype=torch.float64)
    return layer


def score(name: str, network: nn.Module, inputs, targets=None, loss=F.mse_loss) -> float:
    inputs = torch.as_tensor(inputs, dtype=torch.float64)
    targets = torch.zeros(len(inputs), 1).double() if targets is None else torch.as_tensor(targets).double()
    return zero_cost(network, inputs, targets, loss, scores=[name])[name]


TWO = [[1.0, -2.0, 0.5], [-3.0, 0.25, 4.0]]
ONE = [[-1.5, 2.0]]


def test_synflow_of_two_linear_maps_is_twice_the_product_of_their_absolute_values():
    paths = torch.tensor(ONE).abs() @ torch.tensor(TWO).abs() @ torch.ones(3)
    network = nn.Sequential(linear(*TWO), linear(*ONE))
    assert score("synflow", network, torch.eye(3)) == pytest.approx(2 * float(paths), rel=1e-12)
    normed = nn.Sequential(network[0], nn.BatchNorm1d(2).double(), nn.ReLU(), network[1])
    assert score("synflow", normed, torch.eye(3)) == pytest.approx(2 * float(paths), rel=1e-12)


def test_snip_and_the_norm_of_the_gradient():
    """loss = mean (w2 w1 x)^2 over 2 examples, differentiated by hand."""
    first, second = torch.tensor(TWO).double(), torch.tensor(ONE).double()
    x = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]]).double()
    error = x @ first.T @ second.T  # d loss / d output, as 2 / 2 = 1
    by_first, by_second = second.T @ error.T @ x, error.T @ (x @ first.T)
    network = nn.Sequential(linear(*TWO), linear(*ONE))
    snip = (first * by_first).abs().sum() + (second * by_second).abs().sum()
    assert score("snip", network, x) == pytest.approx(float(snip), rel=1e-12)
    norms = by_first.norm() + by_second.norm()
    assert score("grad_norm", network, x) == pytest.approx(float(norms), rel=1e-12)


def test_grasp_of_a_quadratic():
    """loss = mean (x w)^2: g = H w, so the score is -w'H H w."""
    x, w = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).double(), torch.tensor([0.5, -2.0]).double()
    hessian = x.T @ x
    assert score("grasp", linear([0.5, -2.0]), x) == pytest.approx(float(-w @ hessian @ hessian @ w), rel=1e-12)


def test_fisher_of_an_image_and_of_a_row():
    """One channel of 2 pixels, a the outputs: loss = mean over batch and pixels of a^2, so da = a / 2."""
    conv = nn.Conv2d(1, 1, 1, bias=False).double()
    conv.weight.data.fill_(2.0)
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).double()
    a = 2 * x
    by_hand = ((a * a / 2).sum(1) ** 2).mean() / 2
    network = nn.Sequential(conv, nn.Flatten())
    assert score("fisher", network, x.view(2, 1, 1, 2), torch.zeros(2, 2)) == pytest.approx(float(by_hand), rel=1e-12)
    row = x @ torch.tensor([[1.0], [-1.0]]).double()
    by_hand = ((row * row) ** 2).mean() / 2
    assert score("fisher", linear([1.0, -1.0]), x) == pytest.approx(float(by_hand), rel=1e-12)


def test_fisher_of_tokens_is_of_the_last_axis():
    """2 examples of 3 tokens, 2 channels: loss = mean of a^2 over all 12 numbers, so da = a / 6."""
    x = torch.arange(12).view(2, 3, 2).double() - 4
    weight = torch.tensor([[1.0, -2.0], [0.5, 3.0]]).double()
    a = x @ weight.T
    by_hand = ((a * a / 6).sum(1) ** 2).mean(0).sum() / 2
    found = score("fisher", linear(*weight.tolist()), x, torch.zeros(2, 3, 2))
    assert found == pytest.approx(float(by_hand), rel=1e-12)


@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU(inplace=True), torch.relu], ids=["module", "in place", "function"])
def test_naswot_counts_what_the_relus_set_alike(relu):
    """Codes 110 and 011 agree in 1 of 3: |3 1; 1 3| = 8."""

    class Relued(nn.Module):
        def forward(self, x):
            return relu(x * 1.0).sum(1, keepdim=True)

    found = score("naswot", Relued(), [[1.0, 2.0, -1.0], [-1.0, 0.5, 3.0]])
    assert found == pytest.approx(math.log(8), rel=1e-12)
    assert score("naswot", Relued(), [[1.0, 2.0, -1.0], [3.0, 0.5, -3.0]]) == -math.inf
    assert score("naswot", linear([1.0]), [[1.0], [2.0]]) == -math.inf


LIKE_RELU = [nn.ReLU6(), nn.ReLU6(inplace=True), F.relu6, nn.LeakyReLU(0.1), nn.LeakyReLU(0.1, inplace=True), nn.GELU(),
             nn.SiLU(), nn.SiLU(inplace=True), nn.Hardswish()]  # fmt: skip


@pytest.mark.parametrize("activation", LIKE_RELU, ids=lambda a: getattr(a, "__name__", str(a)))
def test_naswot_codes_what_is_like_a_relu_by_the_sign_of_its_input(activation):
    """Hardswish gives 0 at -4 and less at -1, and GELU a little less than 0 at both: the code is that of a ReLU."""

    class Active(nn.Module):
        def forward(self, x):
            return activation(x * 1.0).sum(1, keepdim=True)

    found = score("naswot", Active(), [[1.0, 2.0, -1.0], [-4.0, 0.5, 3.0]])
    assert found == pytest.approx(math.log(8), rel=1e-12)


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Hardtanh()], ids=str)
def test_naswot_of_activations_that_are_not_like_a_relu(activation):
    assert score("naswot", nn.Sequential(activation, nn.Linear(2, 1).double()), [[1.0, -2.0], [-1.0, 2.0]]) == -math.inf


def test_jacob_cov_of_gradients_that_are_all_the_same():
    """Eigenvalues 2 and 0."""
    k = CORRELATION_FLOOR
    by_hand = -sum(math.log(v + k) + 1 / (v + k) for v in (2.0, 0.0))
    assert score("jacob_cov", linear([1.0, -2.0]), torch.eye(2)) == pytest.approx(by_hand, rel=1e-6)
    assert math.isnan(score("jacob_cov", linear([0.0, 0.0]), torch.eye(2)))


def test_zico_of_one_weight():
    """Gradients 2 w x^2 of the two halves: 4 and 36, mean 20, deviation 16. The last of an odd batch is left out."""
    by_hand = pytest.approx(math.log(20 / 16), rel=1e-12)
    assert score("zico", linear([2.0]), [[1.0], [1.0], [3.0], [3.0]]) == by_hand
    assert score("zico", linear([2.0]), [[1.0], [1.0], [3.0], [3.0], [9.0]]) == by_hand
    assert score("zico", linear([2.0]), [[1.0]] * 4) == 0.0


@pytest.mark.parametrize("examples", [2, 3])
def test_zico_needs_two_examples_in_each_half(examples):
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()
    with pytest.raises(
        DataError, match=f"^zico compares two halves of a batch: give at least 4 examples, got {examples}$"
    ):
        score("zico", network, torch.eye(3)[:examples])
    assert math.isfinite(score("zico", network, torch.randn(5, 3, generator=torch.Generator().manual_seed(0))))


@pytest.fixture
def words():
    """A network of tokens, and a batch of them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
    return network, torch.randint(7, (6, 3)), torch.arange(6) % 2


def test_scores_of_tokens(words):
    names = [name for name in SCORES if name not in ("synflow", "jacob_cov")]
    found = zero_cost(*words, scores=names)
    assert found["parameters"] == 7 * 4 + 13 * 5 + 6 * 2 and found["flops"] == 2 * (13 * 5 + 6 * 2)
    assert found["snip"] > 0 and found["fisher"] > 0 and math.isfinite(found["grasp"] + found["zico"])


@pytest.mark.parametrize("name", ["synflow", "jacob_cov"])
def test_scores_that_tokens_do_not_have(words, name):
    line = rf"^{name} needs inputs that have a gradient, got whole numbers \(int64\); take another score$"
    with pytest.raises(DataError, match=line):
        zero_cost(*words, scores=[name])


@pytest.fixture
def cell(problems):
    space = problems.nasbench201(channels=2)
    key = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
    return derived(space, space.parse(key), (3, 8, 8), 4, seed=1)


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 4


def test_scores_that_share_their_passes_are_those_that_do_not(cell):
    together = zero_cost(cell, *batch())
    assert list(together) == list(SCORES)
    for name in SCORES:
        assert zero_cost(cell, *batch(), scores=[name])[name] == pytest.approx(together[name], rel=1e-4), name


def test_the_network_and_the_generator_are_left_alone(cell):
    cell.eval()
    before = {name: value.clone() for name, value in cell.state_dict().items()}
    random_state = torch.get_rng_state()
    zero_cost(cell, *batch())
    assert all(torch.equal(before[name], value) for name, value in cell.state_dict().items())
    assert not any(module.training for module in cell.modules())
    assert all(p.grad is None for p in cell.parameters()) and torch.equal(random_state, torch.get_rng_state())


def test_a_network_that_does_not_see_its_input(problems):
    space = problems.nasbench201(channels=2)
    blind = derived(space, space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"), (3, 8, 8), 4)
    found = zero_cost(blind, *batch())
    assert math.isnan(found["jacob_cov"]) and found["snip"] >= 0 and found["parameters"] > 0


def test_rows_with_other_activations(problems):
    space = problems.mlp()
    rows = derived(space, space.parse("1: batch 8 gelu residual | - - - -"), (5,), 3)
    inputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    found = zero_cost(rows, inputs, torch.arange(6) % 3)
    assert all(map(math.isfinite, found.values())), found


def test_what_cannot_be(cell):
    with pytest.raises(SpaceError, match="unknown score 'synflw'; did you mean \"synflow\""):
        zero_cost(cell, *batch(), scores=["synflw"])
    with pytest.raises(DataError, match="at least 2, got 1"):
        zero_cost(cell, torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.long))
