"""The space of multilayer perceptrons: its size, its networks by hand, widths by mask, and a search on rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metanas.bilevel import FirstOrder, Unrolled
from metanas.errors import ShapeError, SpaceError
from metanas.evaluation import cost
from metanas.modes import meta_network
from metanas.network import Network, derived, one_path, supernet
from metanas.space import Architecture, draw_space

DEEP = {
    "depth": "2",
    "norm1": "batch", "hidden1": "4", "activation1": "gelu", "residual1": "plain",
    "norm2": "none", "hidden2": "16", "activation2": "tanh", "residual2": "residual",
}  # fmt: skip


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_size_counts_only_the_blocks_that_there_are(problems):
    for blocks, size in ((1, 48), (2, 48 + 48**2), (3, 112_944), (5, 48 + 48**2 + 48**3 + 48**4 + 48**5)):
        assert problems.mlp(8, blocks).size == size == problems.mlp_size(blocks)


def test_what_is_beyond_the_depth_does_not_matter(problems):
    space = problems.mlp()
    flat = space.architecture({**DEEP, "depth": "1"})
    assert set(flat) == {"depth", "norm1", "hidden1", "activation1", "residual1"}
    with pytest.raises(SpaceError, match="choice 'norm2' is missing"):
        space.architecture({**flat, "depth": "2"})
    shares = [len(space.sample(np.random.default_rng(seed))) == 5 for seed in range(2000)]
    assert sum(shares) / 2000 == pytest.approx(48 / 2352, abs=0.012), "uniform over architectures, not over depths"


def test_a_network_by_hand(problems, rows):
    space = problems.mlp()
    network = derived(space, Architecture(DEEP), (5,), 3, seed=4).double().eval()
    w = dict(network.named_parameters())
    x = rows @ w["stem.0.weight"].T + w["stem.0.bias"]
    y = (x - 0) / (1 + 1e-5) ** 0.5 * w["block1/norm/batch.weight"] + w["block1/norm/batch.bias"]  # fresh statistics
    y = torch.nn.functional.gelu(y @ w["block1/up.weight"].T + w["block1/up.bias"])
    x = y @ w["block1/down.weight"].T + w["block1/down.bias"]
    y = torch.tanh(x @ w["block2/up.weight"].T + w["block2/up.bias"])
    x = x + y @ w["block2/down.weight"].T + w["block2/down.bias"]
    x = torch.relu(x / (1 + 1e-5) ** 0.5 * w["trunk.0.weight"] + w["trunk.0.bias"])
    torch.testing.assert_close(network(rows), x @ w["head.0.weight"].T + w["head.0.bias"], rtol=1e-12, atol=1e-12)
    stem, first, second, trunk, head = 5 * 8 + 8, 16 + (8 * 4 + 4) + (4 * 8 + 8), (8 * 16 + 16) + (16 * 8 + 8), 16, 27
    assert cost(network.float(), (5,)).parameters == stem + first + second + trunk + head


def test_one_output_for_a_regression(problems, rows):
    assert derived(problems.mlp(), Architecture(DEEP), (5,), 1)(rows.float()).shape == (20, 1)


def test_one_hot_mixtures_are_the_derived_network(problems, rows):
    """Widths as masks, activations and depth as mixtures: at a corner nothing of the others is left."""
    space = problems.mlp()
    whole = supernet(space, (5,), 3, seed=1).double()
    weights = whole.state_dict()
    for seed in range(6):
        architecture = space.sample(np.random.default_rng(seed))
        mix = {
            c.name: torch.tensor([float(x in architecture.get(c.name, c.options[:1])) for x in c.candidates]).double()
            for c in space.choices
        }
        part = derived(space, architecture, (5,), 3, phase="search").double()
        part.load_state_dict({k: weights[k][tuple(slice(0, n) for n in v.shape)] for k, v in part.state_dict().items()})
        torch.testing.assert_close(whole(rows, mix=mix), part(rows), rtol=0, atol=1e-12)
        torch.testing.assert_close(
            whole(rows, mix=one_path(space.choices, architecture)), part(rows), rtol=0, atol=1e-12
        )


def mixing(network: Network, space: object) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        c.name: torch.rand(len(c.candidates), generator=generator, dtype=torch.float64).softmax(0).requires_grad_()
        for c in space.choices  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("estimator", [FirstOrder(0), Unrolled(1)], ids=["first-order", "unrolled"])
def test_the_hypergradient_of_every_choice_is_the_finite_difference(problems, rows, estimator):
    """Batch norms and all, through the whole estimator; activations smooth but for the ReLU of the trunk."""
    space = problems.mlp()
    network = supernet(space, (5,), 1, seed=1).double()
    targets = rows[:, 0] * 2 - rows[:, 1]

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs[:, 0] - y).square().mean()

    problem = meta_network(network, loss=loss)
    theta = {name: p.detach() for name, p in network.named_parameters()}
    mix = mixing(network, space)
    batches = ((rows[:10], targets[:10]), (rows[10:], targets[10:]))
    found = estimator(problem, theta, {"mix": mix}, *batches).gradient["mix"]
    for name in ("hidden1", "activation2", "norm1", "residual2", "depth"):
        for k in range(len(mix[name])):
            ends = []
            for step in (1e-6, -1e-6):
                moved = {**mix, name: (mix[name].detach() + step * torch.eye(len(mix[name]))[k]).requires_grad_()}
                ends.append(float(estimator(problem, theta, {"mix": moved}, *batches).outer_loss))
            assert float(found[name][k]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-8), name


def test_every_width_trains(problems, rows):
    """A derived network with one of each hidden width learns a plane."""
    space, y = problems.mlp(8, 3), (rows[:, 0] - 0.5 * rows[:, 2]).float()
    widths = {"hidden1": "4", "hidden2": "8", "hidden3": "16"}
    ways = {f"{name}{k}": label for k in (1, 2, 3) for name, label in
            (("norm", "batch"), ("activation", "silu"), ("residual", "residual"))}  # fmt: skip
    network = derived(space, Architecture({"depth": "3", **widths, **ways}), (5,), 1, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(network(rows.float())[:, 0], y)
        loss.backward()
        optimizer.step()
    assert loss < 0.02 * y.var()


def test_the_drawing(problems):
    text = draw_space(problems.mlp(8, 3))
    assert text.startswith("mlp: 112,944 architectures, 13 choices") and "trunk = block1 + block2 + block3" in text


@pytest.mark.parametrize(("width", "blocks"), [(7, 1), (0, 1), (8, 0), (-2, 1)])
def test_settings_that_cannot_be(problems, width, blocks):
    with pytest.raises(ValueError, match="width must be even and >= 2, blocks >= 1, got"):
        problems.mlp(width, blocks)


def test_images_are_refused(problems):
    with pytest.raises(ShapeError, match=r"block1.up: elastic_linear does not take .* \(1, 8, 8\) \(it takes rows"):
        supernet(problems.mlp(), (1, 8, 8), 10)
