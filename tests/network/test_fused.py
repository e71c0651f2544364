"""The fused executor computes what the plain one does, for every space, relaxation and estimator, in float64."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from metanas import load_space
from metanas.bilevel import (
    SGD,
    T1T2,
    ConjugateGradient,
    Estimator,
    EvolutionStrategies,
    FiniteDifference,
    FirstOrder,
    ForwardMode,
    Neumann,
    Nystrom,
    Unrolled,
)
from metanas.controllers import Darts, DrNas
from metanas.modes import meta_network
from metanas.network import OPS, EpisodeNorm, FusedNetwork, Network, Taken, episodic, fused, supernet
from metanas.network.fused import difference
from metanas.network.grouped import Scales, Sum
from metanas.network.kernels import Box, WeightedSum
from metanas.space import NEEDED, Choice, Content, Edge, Graph, Node, Space, chain, one_of, op

DOUBLE = torch.float64
SPACES: Mapping[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "nasbench201": ("nasbench201", {"channels": 4, "cells": 2}, (3, 8, 8)),
    "nasbench201, odd sides": ("nasbench201", {"channels": 3, "cells": 1}, (1, 9, 7)),
    "darts": ("darts", {"channels": 4, "layers": 4}, (3, 8, 8)),
    "darts, odd sides": ("darts", {"channels": 2, "layers": 3}, (3, 9, 7)),
    "conv4": ("conv4", {"width": 4, "depth": 3, "search": True}, (3, 8, 8)),
    "mlp": ("mlp", {"width": 8, "blocks": 2}, (5,)),
    "mobile": ("mobile", {"channels": 4, "stages": 1, "depth": 2, "head": 6}, (3, 8, 8)),
    "vit": ("vit", {"width": 8, "depth": 2, "heads": 2, "head": 3}, (3, 8, 8)),
    "sequence": ("sequence", {"width": 4, "nodes": 3}, (5, 3)),
}


LONG = [pytest.param(kind, marks=pytest.mark.long) for kind in ("dirichlet", "one-hot")]


def made(name: str) -> tuple[Space, Network, Tensor]:
    space_name, options, shape = SPACES[name]
    space = load_space(space_name, **options)
    images = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    return space, supernet(space, shape, 4).double(), images


def drawn(space: Space, kind: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    singles = [choice for choice in space.choices if choice.take == 1]
    if kind == "one-hot":
        return {c.name: F.one_hot(torch.tensor(k % len(c.candidates)), len(c.candidates)).to(DOUBLE)
                for k, c in enumerate(singles)}  # fmt: skip
    if kind == "half of the choices":
        singles = singles[::2]
    controller = DrNas() if kind == "dirichlet" else Darts(scale=1.0)
    omega = {c.name: torch.randn(len(c.candidates), generator=generator, dtype=DOUBLE) for c in singles}
    return controller.relax(omega, progress=0.0, generator=generator)


@pytest.mark.parametrize("kind", ["softmax", "half of the choices", *LONG])
@pytest.mark.parametrize("name", SPACES)
def test_outputs_and_gradients_are_those_of_the_plain_executor(name: str, kind: str) -> None:
    space, network, images = made(name)
    assert max(difference(fused(network), images, mix=drawn(space, kind))) < 1e-12


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_with_and_without_blocks_of_pixels(device: str) -> None:
    """The plan for an accelerator leaves dilated convolutions as they are; it is run here on the CPU."""
    space, network, images = made("darts")
    twin, mix = fused(network), drawn(space, "softmax")
    plan = twin._plan(frozenset(mix), device)
    blocked = [step for step, _ in plan[0] if any(out.endswith("|1|2") for out in step.outs)]
    assert bool(blocked) == (device == "cpu")
    twin._plans[frozenset(mix), "cpu"] = plan
    torch.testing.assert_close(twin(images, mix=mix), network(images, mix=mix), rtol=1e-12, atol=1e-12)


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are planned as for a GPU, and run on the CPU."""
    planned = FusedNetwork._plan
    monkeypatch.setattr(FusedNetwork, "_plan", lambda self, mixed, device: planned(self, mixed, "cuda"))


@pytest.mark.parametrize("name", SPACES)
def test_the_plan_for_a_gpu_computes_the_same(accelerator: None, name: str) -> None:
    space, network, images = made(name)
    assert max(difference(fused(network), images, mix=drawn(space, "half of the choices"))) < 1e-12


def test_a_gpu_has_one_convolution_and_one_norm_for_all_that_reads_a_value(accelerator: None) -> None:
    space, network, images = made("nasbench201")
    twin, mix, cells, reductions = fused(network), drawn(space, "softmax"), 6, 2
    twin(images, mix=mix)  # which makes what is made once
    calls = counted(twin, images, mix)
    assert calls["avg_pool2d"] == reductions, "those with a stride"
    assert calls["convolution"] == 1 + 2 * 3 * cells + 3 * reductions, (
        "stem; pool and convolutions of 3 values; residual"
    )


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_the_plan_for_a_gpu_in_half_precision(accelerator: None, name: str) -> None:
    """Under autocast, where dtypes meet in a sum, gradients are as close as half precision is."""
    space, network, images = made(name)
    network, images = network.float(), images.float()
    mix = {choice: weights.float().requires_grad_() for choice, weights in drawn(space, "softmax").items()}
    found = []
    for one in (network, fused(network)):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = one(images, mix=mix)
        loss = F.cross_entropy(outputs.float(), torch.arange(len(images)) % 4)
        found.append(
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(loss, list(mix.values()), allow_unused=True) if g is not None]
            )
        )
    assert torch.nn.functional.cosine_similarity(found[0], found[1], dim=0) > 0.9


def test_a_sum_of_several_dtypes_is_the_plain_sum() -> None:
    values = {"a": torch.randn(2, 3, 4, 4), "b": torch.randn(2, 3, 4, 4).bfloat16()}
    mix = {"c": torch.tensor([0.3, 0.7], requires_grad=True)}
    for terms in ((("a", ("c", 0)), ("b", ("c", 1))), (("b", ("c", 0)), ("a", ("c", 1)))):
        one, two = dict(values), dict(values)
        Sum("out", terms, whole=True).run(one, Scales(mix))
        Sum("out", terms).run(two, Scales(mix))
        assert one["out"].dtype == torch.float32 and torch.equal(one["out"], two["out"])
        one["out"].sum().backward()


def test_sums_and_boxes_have_the_derivatives_that_autograd_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, total = (torch.randn(1, 2, 3, 4, generator=generator, dtype=DOUBLE, requires_grad=True) for _ in range(3))
    w, v = (torch.randn((), generator=generator, dtype=DOUBLE, requires_grad=True) for _ in range(2))
    ones = torch.ones(2, 1, 3, 3, dtype=DOUBLE)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(WeightedSum.apply, (total, x, w, y, v)) and check(WeightedSum.apply, (None, x, w, y, v))
        assert check(lambda x: Box.apply(x, ones), (x,))


ESTIMATORS: tuple[Estimator, ...] = (
    FirstOrder(),
    FiniteDifference(),
    Unrolled(2),
    T1T2(lr=0.1),
    Neumann(terms=3, lr=0.1),
    ConjugateGradient(steps=3),
    Nystrom(rank=2),
    ForwardMode(1),
    EvolutionStrategies(1, samples=4),
)


@pytest.mark.parametrize("estimator", ESTIMATORS[:3], ids=lambda e: type(e).__name__)
def test_hypergradients_by_the_plan_for_a_gpu(accelerator: None, estimator: Estimator) -> None:
    test_hypergradients(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_hypergradients(estimator: Estimator) -> None:
    space = load_space("nasbench201", channels=2, cells=1)
    network = supernet(space, (1, 4, 4), 3).double()
    generator = torch.Generator().manual_seed(0)
    theta = {name: p.detach() for name, p in network.named_parameters()}
    outer = {"mix": drawn(space, "softmax")}
    batches = [(torch.randn(6, 1, 4, 4, generator=generator, dtype=DOUBLE), torch.arange(6) % 3) for _ in range(2)]
    found = []
    for one in (network, fused(network)):
        problem = meta_network(one, rule=SGD(lr=0.05, momentum=0.9))
        h = estimator(problem, theta, outer, *batches, generator=torch.Generator().manual_seed(3))
        found.append(torch.cat([h.gradient["mix"][name] for name in outer["mix"]]))
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10 * float(found[0].abs().max()))


def test_under_functional_transforms() -> None:
    space, network, images = made("darts, odd sides")
    twin, mix = fused(network), drawn(space, "softmax")
    theta = {name: p.detach() for name, p in network.named_parameters()}
    tasks = torch.stack([images, images.flip(0) * 2])

    def loss(net: Network, mix: Any, images: Tensor) -> Tensor:
        return functional_call(net, theta, (images,), {"mix": mix}).square().mean()

    def of(net: Network) -> tuple[Any, Any]:
        each = vmap(grad(lambda m, x: loss(net, m, x)), in_dims=(None, 0))(mix, tasks)
        _, along = jvp(lambda m: loss(net, m, images), (mix,), (drawn(space, "one-hot"),))
        return each, along

    (one, along_one), (two, along_two) = of(network), of(twin)
    for name in mix:
        torch.testing.assert_close(two[name], one[name], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(along_two, along_one, rtol=1e-9, atol=1e-11)


class Count(TorchDispatchMode):
    """Counts what reaches the kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def counted(network: Network, images: Tensor, mix: Any) -> Counter[str]:
    with Count() as count:
        network(images, mix=mix)
    return count.calls


def test_a_cell_of_nasbench201_is_one_activation_pool_and_convolution_a_source() -> None:
    space, network, images = made("nasbench201")
    mix = drawn(space, "softmax")
    plain, fast = counted(network, images, mix), counted(fused(network), images, mix)
    cells = 6
    others = 2 * 2 + 1  # the activations of the reductions and the head
    assert plain["relu"] == cells * 12 + others and fast["relu"] == cells * 3 + others
    assert plain["avg_pool2d"] == cells * 6 + 2 and fast["avg_pool2d"] == cells * 3 + 2
    assert plain["convolution"] - fast["convolution"] == cells * (12 - 6)
    assert (
        fast["mul"] == 0 and fast["new_zeros"] == 0
    )  # no mixing weight costs a pass over a convolution; `none` nothing


def test_what_a_darts_cell_shares() -> None:
    space, network, images = made("darts")
    mix = drawn(space, "softmax")
    plain, fast = counted(network, images, mix), counted(fused(network), images, mix)
    assert fast["max_pool2d_with_indices"] == 4 * 5 < plain["max_pool2d_with_indices"] == 4 * 14
    assert fast["relu"] < plain["relu"] / 2 and fast["convolution"] == plain["convolution"] - 1


def test_an_operation_of_the_users_own_is_never_fused() -> None:
    class Tripled(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return 3 * self.conv(x)

    ops = {**OPS, "preact_conv": lambda op, shape, phase: Tripled(shape[0])}
    space, _, images = made("nasbench201")
    network = supernet(space, (3, 8, 8), 4, ops=ops).double()
    twin, mix = fused(network, ops=ops), drawn(space, "softmax")
    assert max(difference(twin, images, mix=mix)) < 1e-12
    assert counted(twin, images, mix)["convolution"] == counted(network, images, mix)["convolution"]


def pick(name: str, **candidates: Content) -> Content:
    return one_of(name, candidates)


CONV = op("preact_conv", width=2, kernel=3, norm="batch_cell", activation="relu")
WIDE = op("preact_conv", width=2, kernel=1, norm="batch_cell", activation="relu")


def nodes(*rows: tuple[str, list[tuple[str, Content]]], choice: Choice | None = None) -> Space:
    made = [
        Node(name, tuple(Edge(source, content) for source, content in edges), choice=choice if name == "z" else None)
        for name, edges in rows
    ]
    head = Node("head", (Edge(made[-1].name, op("classifier", width=NEEDED)),))
    return Space(Graph(("x",), (*made, head), "head"))


CASES: Mapping[str, Space] = {
    "a mixture that two nodes read": nodes(
        ("y", [("x", pick("y", conv=CONV, skip=op("skip")))]), ("z", [("y", None), ("y", CONV), ("x", None)])
    ),
    "a convolution outside any mixture": nodes(("y", [("x", CONV), ("x", CONV), ("x", WIDE)]), ("z", [("y", CONV)])),
    "two kinds whose sums differ in order": nodes(
        ("a", [("x", pick("a", three=CONV, one=WIDE))]),
        ("b", [("x", pick("b", one=WIDE, three=CONV))]),
        ("z", [("a", None), ("b", pick("z", one=WIDE, none=op("none")))]),
    ),
    "a kind that one node lacks": nodes(
        ("a", [("x", pick("a", three=CONV, one=WIDE))]),
        ("b", [("x", pick("b", three=CONV, pool=op("avg_pool", kernel=3)))]),
        ("z", [("a", None), ("b", None), ("x", pick("z", pool=op("avg_pool", kernel=3), skip=op("skip")))]),
    ),
    "nothing but zeros": nodes(
        ("y", [("x", pick("y", none=op("none"), zero=op("none")))]), ("z", [("y", CONV), ("x", None)])
    ),
    "a choice of inputs that is mixed, too": nodes(
        ("a", [("x", pick("a", three=CONV, one=WIDE))]),
        ("z", [("a", None), ("x", pick("b", three=CONV, skip=op("skip")))]),
        choice=Choice("inputs", ("a", "x"), take=1),
    ),
    "norms with a scale, strides, no norm": nodes(
        ("a", [("x", pick("a", affine=op("preact_conv", width=2, stride=2, norm="batch", activation="relu"),
                          bare=op("preact_conv", width=2, stride=2, activation="relu"),
                          fine=op("preact_conv", width=2, stride=2, norm="batch_cell", activation="tanh")))]),
        ("z", [("a", pick("z", conv=CONV, skip=op("skip")))]),
    ),
    "separable convolutions of every kind": nodes(
        ("a", [("x", pick("a", **{f"k{k}d{d}r{r}": op("separable", width=2, kernel=k, dilation=d, repeat=r,
                                                     norm="batch_cell", activation="relu")
                                  for k in (3, 5) for d in (1, 2, 3) for r in (1, 2)}))]),
        ("z", [("a", pick("z", **{f"k{k}d{d}": op("separable", width=2, kernel=k, dilation=d, stride=2, repeat=1,
                                                  norm="batch_cell", activation="relu")
                                  for k in (3, 5) for d in (1, 2)}, half=op("skip", width=2, stride=2,
                                                                             norm="batch_cell", activation="relu")))]),
    ),
    "one choice at two places": nodes(
        ("a", [("x", pick("same", three=CONV, one=WIDE))]),
        ("z", [("a", pick("same", three=CONV, one=WIDE)), ("x", None)]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_graphs_that_a_plan_could_get_wrong(name: str) -> None:
    space = CASES[name]
    network = supernet(space, (2, 6, 6), 3).double()
    images = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    generator = torch.Generator().manual_seed(1)
    mix = {c.name: torch.rand(len(c.candidates), generator=generator, dtype=DOUBLE) for c in space.choices}
    for left_out in (None, *mix):
        given = {name: w for name, w in mix.items() if name != left_out}
        assert max(difference(fused(network), images, mix=given)) < 1e-12, left_out


def test_what_is_no_mixture_runs_as_it_does_plainly() -> None:
    space, network, images = made("nasbench201")
    twin = fused(network)
    weights = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0], dtype=DOUBLE)
    names = [choice.name for choice in space.choices]
    for weight in (3, Taken(3, weights.roll(2)), (1, 3)):
        mix = dict.fromkeys(names, weight)
        assert torch.equal(twin(images, mix=mix), network(images, mix=mix))
    seen: dict[str, Tensor] = {}
    twin(images, mix=dict.fromkeys(names, weights), see="stem", seen=seen)
    assert torch.equal(seen["stem"], network.stem(images))


def test_a_twin_shares_its_parameters_and_a_copy_of_it_is_plain() -> None:
    space, network, images = made("nasbench201")
    twin, mix = fused(network), drawn(space, "softmax")
    assert [n for n, _ in twin.named_parameters()] == [n for n, _ in network.named_parameters()]
    before = twin(images, mix=mix)
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(1.5).add_(0.1)
    after = twin(images, mix=mix)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, network(images, mix=mix), rtol=1e-12, atol=1e-12)
    assert twin.plain is network and network.plain is network and fused(twin).plain is network
    copied = episodic(twin)  # other norms in a copy: nothing may be fused by what stood there before
    assert not isinstance(copied, FusedNetwork) and any(isinstance(m, EpisodeNorm) for m in copied.modules())
    assert not isinstance(copy.deepcopy(twin), FusedNetwork)


def test_values_are_let_go_of_when_nothing_reads_them_any_more() -> None:
    space, network, _ = made("nasbench201")
    steps = [step for step, _ in fused(network)._plan(frozenset(c.name for c in space.choices), "cpu")[0]]
    gone = [v for _, row in fused(network)._plan(frozenset(c.name for c in space.choices), "cpu")[0] for v in row]
    made_ = {out for step in steps for out in step.outs} | {source for step in steps for source in step.sources}
    assert len(gone) == len(set(gone)) and set(gone) == made_ - {network.program.output}


@pytest.mark.parametrize("last", ["skip", "twice"])
def test_an_output_that_is_another_value(last: str) -> None:
    """A skip at the end is what it skips; a mixture of skips of the input alone is a sum of it."""
    ends: Mapping[str, Content] = {"skip": op("skip"), "twice": pick("y", a=op("skip"), b=op("skip"))}
    space = Space(chain(("stem", op("avg_pool", kernel=3)), ("y", ends[last])))
    network = supernet(space, (2, 4, 4), 1).double()
    images = torch.randn(3, 2, 4, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    mix = {c.name: torch.tensor([0.25, 0.5], dtype=DOUBLE) for c in space.choices}
    for checkpoint in (False, True):
        twin = fused(network, checkpoint=checkpoint)
        torch.testing.assert_close(twin(images, mix=mix), network(images, mix=mix))
    only = supernet(Space(chain(("y", op("skip")))), (2, 4, 4), 1)
    assert fused(only)(images) is images


def test_a_box_keeps_the_precision_of_its_images_under_autocast() -> None:
    x = torch.randn(2, 3, 5, 4, requires_grad=True)
    ones = torch.ones(3, 1, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = Box.apply(x, ones)
    torch.testing.assert_close(found, F.conv2d(x, ones, padding=1, groups=3))
    found.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32
