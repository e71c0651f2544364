"""PC-DARTS: the mixture on a part of the channels, the weights of a node's inputs, and what is derived from both."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from metanas.controllers import PcDarts
from metanas.errors import ShapeError, SpaceError
from metanas.network import fused, supernet
from metanas.network.fused import difference
from metanas.space import Choice, Edge, Graph, Node, Space, chain, one_of, op


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def softmax_of(omega):
    return PcDarts().relax(omega, progress=0.5, generator=seeded())


@pytest.mark.parametrize("stride", [1, 2])
def test_a_mixed_edge_is_the_papers(stride):
    """Written by hand from the paper: a quarter through the operations, the rest past them, then dealt out."""
    made = {"kernel": 3, "stride": stride, "activation": "relu", "norm": "batch_cell"}
    contents = {
        "none": op("none", width=8, stride=stride),
        "pool": op("max_pool", kernel=3, stride=stride),
        "conv": op("preact_conv", width=8, **made),
    }
    space = Space(chain(("y", one_of("y", contents))))
    network = supernet(PcDarts().supernet_space(space), (8, 5, 5), 8).double()
    x = torch.randn(3, 8, 5, 5, dtype=torch.float64, generator=seeded())
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)

    (kernel,) = network.parameters()
    seen, past = x[:, :2], x[:, 2:]
    convolved = F.batch_norm(F.conv2d(seen.relu(), kernel, stride=stride, padding=1), None, None, training=True)
    mixed = weights[1] * F.max_pool2d(seen, 3, stride, 1) + weights[2] * convolved
    past = past if stride == 1 else F.max_pool2d(past, 2, ceil_mode=True)
    whole = torch.cat([mixed, past], 1)
    order = [channel + 2 * group for channel in range(2) for group in range(4)]
    torch.testing.assert_close(network(x, mix={"y": weights}), whole[:, order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_the_fused_executor_is_the_plain_one(problems, name):
    space = getattr(problems, name)(8)
    controller = PcDarts(scale=1.0)
    network = supernet(controller.supernet_space(space), (1, 8, 8), 10).double()
    omega = {name: row.double() for name, row in controller.start(space, generator=seeded()).items()}
    images = torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=seeded())
    assert max(difference(fused(network), images, mix=softmax_of(omega))) < 1e-10


def test_inputs_of_a_node_are_weighed(problems):
    """Edge normalisation: what goes into a node is the sum of its inputs, each times its weight, which sum to 1."""
    pick = lambda j: one_of(f"b<-{j}", {"conv": op("conv", width=4), "skip": op("skip")})  # noqa: E731
    darts = problems.darts()
    start = PcDarts().start(darts, generator=seeded())
    assert {c.name for c in darts.choices if c.take == 2} <= set(start) and len(start) == len(darts.choices)
    weights = softmax_of(start)
    assert all(abs(float(w.sum()) - 1) < 1e-6 for w in weights.values())

    node = Node("b", (Edge("a", pick("a")), Edge("image", pick("image"))), choice=Choice("b", ("a", "image"), take=2))
    space = Space(Graph(("image",), (Node("a", (Edge("image", op("skip")),)), node), "b"))
    network = supernet(space, (4, 3, 3), 4).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=seeded())
    skip = torch.tensor([0.0, 1.0], dtype=torch.float64)
    mix = {"b<-a": skip, "b<-image": 3 * skip, "b": torch.tensor([0.25, 0.75], dtype=torch.float64)}
    torch.testing.assert_close(network(x, mix=mix), 0.25 * x + 0.75 * 3 * x)


def test_what_is_derived_has_the_largest_products(problems):
    """The inputs of normal.3 by operation alone: 0 and 1; times their weights: 0 and 2."""
    space = problems.darts()
    omega = {name: torch.zeros(len(row)) for name, row in PcDarts().start(space, generator=seeded()).items()}
    skip = space.program.choice("normal.3<-0").index("skip_connect")
    for source, (operation, edge) in enumerate([(0.5, 0.4), (0.4, 0.1), (0.3, 0.5)]):
        omega[f"normal.3<-{source}"][skip] = math.log(7 * operation / (1 - operation))
        omega["normal.3"][source] = math.log(edge)
    found = PcDarts().derive(space, omega, evaluate=lambda mix: math.nan, generator=seeded())
    assert found["normal.3"] == ("0", "2")
    even = omega | {"normal.3": torch.zeros(3)}
    assert PcDarts().preview(space, even)["normal.3"] == ("0", "1")
    assert {found[f"normal.3<-{k}"] for k in (0, 2)} == {("skip_connect",)}


def test_channels_that_do_not_come_out_as_they_went_in_are_named():
    contents = {"conv": op("preact_conv", width=8), "pool": op("conv", width=8)}
    space = PcDarts().supernet_space(Space(chain(("y", one_of("y", contents)))))
    with pytest.raises(ShapeError, match=r"y\.rest: .*the rest of 4 channels cannot be 6"):
        supernet(space, (4, 3, 3), 8)


@pytest.mark.parametrize("parts", [1, 0, 2.5])
def test_parts_that_cannot_be(parts):
    with pytest.raises(SpaceError, match="parts must be a whole number >= 2"):
        PcDarts(parts=parts)
