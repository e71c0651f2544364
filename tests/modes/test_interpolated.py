"""Interpolated prototypes: against scikit-learn and the density itself, compositions never seen, the faults."""

from __future__ import annotations

import math
import sys
from itertools import product

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.func import functional_call, vmap

from metanas.errors import BilevelError
from metanas.modes import Interpolated, interpolated
from metanas.modes.interpolated import NOISES, RATES


@pytest.fixture
def smooth() -> tuple[torch.Tensor, torch.Tensor]:
    """Descriptions (20, 3) and embeddings (20, 4) that are a smooth function of them with some noise, float64."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=draw, dtype=torch.float64)
    y = torch.sin(x @ torch.randn(3, 4, generator=draw, dtype=torch.float64))
    return x, y + 0.1 * torch.randn(20, 4, generator=draw, dtype=torch.float64)


def kernel(a: torch.Tensor, b: torch.Tensor, rate: float) -> torch.Tensor:
    return torch.exp(-rate * torch.cdist(a, b) ** 2)


def noise_of(told: Interpolated, x: torch.Tensor, y: torch.Tensor) -> float:
    """That of the grid with which the weights solve the equations."""
    k, a = kernel(x, x, float(told.rate.detach())), told.weights.detach()
    off = [float((k @ a + noise * a - (y - y.mean(0))).abs().max()) for noise in NOISES]
    assert min(off) < 1e-9
    return NOISES[int(np.argmin(off))]


def test_it_is_the_regression_of_scikit_learn(smooth):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    x, y = smooth
    told, asked = interpolated(x, y), torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    scale = 1 / math.sqrt(2 * float(told.rate.detach()))
    model = GaussianProcessRegressor(RBF(scale, "fixed"), alpha=noise_of(told, x, y), optimizer=None)
    wanted = model.fit(x.numpy(), (y - y.mean(0)).numpy()).predict(asked.numpy())
    assert torch.allclose(told(asked), y.mean(0) + torch.from_numpy(wanted), atol=1e-8)


def test_rate_and_noise_are_the_likeliest_of_the_grid(smooth):
    x, y = smooth
    told, centred = interpolated(x, y), y - y.mean(0)
    usual = float((torch.cdist(x, x) ** 2).sum() / (20 * 19))

    def likelihood(rate: float, noise: float) -> float:
        """log p of the embeddings, at the variance that makes them the likeliest."""
        covariance = kernel(x, x, rate) + noise * torch.eye(20, dtype=x.dtype)
        variance = (centred * torch.linalg.solve(covariance, centred)).mean()
        return float(
            MultivariateNormal(torch.zeros(20, dtype=x.dtype), variance * covariance).log_prob(centred.T).sum()
        )

    table = {(share, noise): likelihood(share / usual, noise) for share, noise in product(RATES, NOISES)}
    share, noise = max(table, key=lambda at: table[at])
    assert float(told.rate.detach()) == pytest.approx(share / usual) and noise_of(told, x, y) == noise
    assert RATES[0] < share < RATES[-1] and NOISES[0] < noise < NOISES[-1], "the optimum is inside, so it was sought"


def test_new_combinations_of_known_values_lie_where_both_say():
    """Embeddings that are a sum over keys: six of thirty combinations are held out."""
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randn(6, 8, generator=draw), torch.randn(5, 8, generator=draw)
    pairs = list(product(range(6), range(5)))
    x = torch.stack([torch.cat([torch.eye(6)[i], torch.eye(5)[j]]) for i, j in pairs])
    y = torch.stack([first[i] + second[j] for i, j in pairs])
    held = torch.tensor([pairs.index(at) for at in ((0, 1), (1, 3), (2, 0), (3, 4), (4, 2), (5, 1))])
    rest = torch.tensor([k for k in range(30) if k not in held])
    told = interpolated(x[rest], y[rest])
    off = (told(x[held]) - y[held]).square().mean() / y.var()
    assert float(off.detach()) < 0.02
    assert float((told(x[rest]) - y[rest]).square().mean().detach()) < 0.01


def test_numbers_go_through_a_blank_one_and_vmap(smooth):
    x, y = (t.float() for t in smooth)
    told = interpolated(x, y)
    blank = Interpolated.blank(20, 3, 4)
    blank.load_state_dict(told.state_dict())
    assert torch.equal(blank(x), told(x))
    assert torch.allclose(told(x), interpolated(*smooth)(smooth[0]).float(), atol=1e-3), "float32 is as good"
    numbers = {name: p.detach() for name, p in told.named_parameters()}
    tasks = torch.stack([x[:5], x[5:10]])
    found = vmap(lambda rows: functional_call(told, numbers, rows))(tasks)
    assert torch.allclose(found, torch.stack([told(rows) for rows in tasks]), atol=1e-5)


def test_numbers_far_from_zero_are_no_worse_in_float32(smooth):
    x, y = smooth
    near, far = interpolated(x, y), interpolated((x + 1000).float(), y.float())
    assert torch.allclose(far((x + 1000).float()).double(), near(x), atol=2e-3)


def test_the_mean_may_be_that_of_classes_which_weigh_the_same():
    x = torch.tensor([[0.0], [0.1], [0.2], [5.0]])
    y = torch.tensor([[1.0], [1.0], [1.0], [3.0]])
    told, far = interpolated(x, y, torch.tensor([2.0])), torch.tensor([[1e6]])
    assert told(far).item() == 2.0 and interpolated(x, y)(far).item() == 1.5


def test_of_many_rows_some_choose_rate_and_noise(smooth, monkeypatch):
    x, y = smooth
    whole = interpolated(x, y)
    monkeypatch.setattr(sys.modules["metanas.modes.interpolated"], "CHOSEN_ON", 10)
    some, tenth = interpolated(x, y), interpolated(x[::2], y[::2])
    assert len(some.known) == 20 and len(tenth.known) == 10
    assert (some(x) - y).square().mean() < 0.5 * y.var(), "all rows are gone between"
    assert some.rate != whole.rate, "it was chosen on fewer"


def test_classes_that_all_lie_in_one_place_are_no_fault():
    told = interpolated(torch.eye(3), torch.ones(3, 2))
    assert torch.allclose(told(torch.rand(4, 3)), torch.ones(4, 2))


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.eye(3), torch.zeros(2, 4), r"got \(3, 3\) and \(2, 4\)"),
        (torch.ones(3), torch.zeros(3, 4), r"got \(3,\) and \(3, 4\)"),
        (torch.eye(3), torch.full((3, 2), torch.nan), "not finite; mend these classes"),
        (torch.ones(3, 2), torch.rand(3, 2), "two different descriptions or more, got 3 rows"),
        (torch.ones(1, 2), torch.rand(1, 2), "two different descriptions or more, got 1 rows"),
    ],
)
def test_faults_are_one_line(x, y, said):
    with pytest.raises(BilevelError, match=said) as caught:
        interpolated(x, y)
    assert "\n" not in str(caught.value)
