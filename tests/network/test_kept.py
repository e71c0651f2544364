"""A mixture of which some candidates run no more computes what it would with their weights at 0, without them."""

from __future__ import annotations

import pytest
import torch

from metanas.network import fused, supernet
from metanas.network.fused import difference
from metanas.space import Choice, Edge, Graph, Node, Space, chain, one_of, op

SPACES = ("nasbench201", "darts", "hierarchical", "elastic", "recurrent")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shrunk(space, seed: int = 0):
    """Every other candidate of each choice of one, its own start each; and weights that are 0 where one is gone."""
    kept, mix = {}, {}
    for k, choice in enumerate(c for c in space.choices if c.take == 1):
        rows = tuple(range(k % 2, len(choice.candidates), 2)) or (0,)
        weights = torch.zeros(len(choice.candidates), dtype=torch.float64)
        weights[list(rows)] = torch.rand(len(rows), generator=seeded(seed + k), dtype=torch.float64)
        kept[choice.name], mix[choice.name] = rows, weights
    return kept, mix


def build(known):
    space = known.build()
    network = supernet(space, known.shape, known.outputs).double()
    return space, network, torch.randn(5, *known.shape, generator=seeded(), dtype=torch.float64)


@pytest.fixture(params=SPACES)
def case(request, problems):
    return build(next(k for k in problems.KNOWN if k.name == request.param))


@pytest.mark.parametrize("name", [name for name in SPACES if name != "darts"])
def test_it_is_the_mixture_with_zeros(problems, name):
    space, network, x = build(next(k for k in problems.KNOWN if k.name == name))
    kept, mix = shrunk(space)
    whole = network(x, mix=mix)
    network.keep(kept)
    torch.testing.assert_close(network(x, mix=mix), whole, rtol=1e-12, atol=1e-12)
    network.keep({})
    assert torch.equal(network(x, mix=mix), whole)


def test_the_fused_executor_is_the_plain_one(case):
    space, network, x = case
    kept, mix = shrunk(space)
    twin = fused(network)
    before = twin(x, mix=mix)
    twin.keep(kept)
    assert twin.plain.kept == kept and max(difference(twin, x, mix=mix)) < 1e-10
    torch.testing.assert_close(twin(x, mix=mix), before, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["nasbench201", "hierarchical"])
def test_what_is_gone_does_not_run(problems, name):
    """In the plain executor its modules are not called; in either no weight of it is read."""
    space, network, x = build(next(k for k in problems.KNOWN if k.name == name))
    kept, mix = shrunk(space)
    gone = {
        (choice.name, label)
        for choice in space.choices
        if choice.name in kept
        for k, label in enumerate(choice.candidates)
        if k not in kept[choice.name]
    }
    called = []
    for path, module in network.named_children():
        module.register_forward_hook(lambda *_, path=path: called.append(path))
    for net in (network, fused(network)):
        net.keep(kept)
        called.clear()
        parameters = dict(network.named_parameters())
        out = net(x, mix=mix).sum()
        read = torch.autograd.grad(out, list(parameters.values()), allow_unused=True)
        for parameter, slope in zip(parameters, read, strict=True):
            assert (slope is None) == (removed(space, parameter, gone)), parameter
        if net is network:
            assert called and not any(removed(space, path, gone) for path in called)


def removed(space, path, gone):
    """Whether a module or parameter is of a candidate that is gone: choices by the end of their paths."""
    maker = {step.out.replace(".", "/"): step.choice for step in space.program.steps if getattr(step, "choice", None)}
    return any(f"{place}/{label}" in path and maker[place] == name for name, label in gone for place in maker)


def test_a_candidate_that_is_kept_elsewhere_still_runs_there():
    """One value is a candidate of one choice and an input of another node."""
    nodes = (
        Node("a", (Edge("image", op("conv", width=2)),)),
        Node("b", (Edge("a"), Edge("image", op("conv", width=2))), choice=Choice("b", ("a", "new"))),
        Node("c", (Edge("a"), Edge("b"))),
    )
    network = supernet(Space(Graph(("image",), nodes, "c")), (2, 3, 3), 2).double()
    x, mix = torch.randn(2, 2, 3, 3, dtype=torch.float64, generator=seeded()), {"b": torch.tensor([0.0, 1.0]).double()}
    whole = network(x, mix=mix)
    for net in (network, fused(network)):
        net.keep({"b": (1,)})
        torch.testing.assert_close(net(x, mix=mix), whole)


def test_one_that_is_kept_alone_is_that_one():
    space = Space(chain(("y", one_of("y", {"a": op("conv", width=2), "b": op("skip")}))))
    network = supernet(space, (2, 3, 3), 2).double()
    network.keep({"y": (0,)})
    mix = {"y": torch.tensor([1.0, 0.0], dtype=torch.float64)}
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, generator=seeded())
    torch.testing.assert_close(network(x, mix=mix), network(x, mix={"y": 0}))
