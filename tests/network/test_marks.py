"""Marks: what they do by themselves, under a mix, under the transforms of torch.func, and what they refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from metanas.errors import ShapeError, SpaceError
from metanas.network import Taken, choose, own_supernet, space_of
from metanas.network.marks import current, mixed

DOUBLE = torch.float64


class Times(nn.Module):
    """Its input times a number; it counts its calls."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.calls = factor, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.factor


def rows() -> Tensor:
    return torch.arange(6, dtype=DOUBLE).view(2, 3)


def weights(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=DOUBLE)


MARKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Any], list[float]]] = {
    "modules": (lambda: choose("y", {"two": Times(2), "five": Times(5)}), lambda x: x, [2, 5]),
    "modules in a list": (lambda: choose("y", [Times(2), Times(5)]), lambda x: x, [2, 5]),
    "a module dict": (lambda: choose("y", nn.ModuleDict({"a": Times(2), "b": Times(5)})), lambda x: x, [2, 5]),
    "optional": (lambda: choose.optional("y", Times(3)), lambda x: x, [3, 1]),
    "depth": (lambda: choose.repeat("y", (0, 1, 3), lambda k: Times(k + 2)), lambda x: x, [1, 2, 24]),
    "a row of blocks": (lambda: choose.repeat("y", (1, 2), [Times(2), Times(3)]), lambda x: x, [2, 6]),
    "inputs": (lambda: choose.inputs("y", 2), lambda x: [x, 7 * x], [1, 7]),
    "two inputs": (lambda: choose.inputs("y", "abc", take=2), lambda x: [x, 10 * x, 100 * x], [11, 101, 110]),
    "their mean": (
        lambda: choose.inputs("y", 3, take=2, join="mean"), lambda x: [x, 3 * x, 5 * x], [2, 3, 4]
    ),
}  # fmt: skip
"""A mark, what it is called with, and the factor of each candidate."""


@pytest.fixture(params=MARKS)
def mark(request: Any) -> tuple[nn.Module, Callable[[Tensor], Any], list[float]]:
    make, given, factors = MARKS[request.param]
    return make(), given, factors


def test_candidates_alone_and_mixed(mark: Any) -> None:
    module, given, factors = mark
    x = rows()
    assert len(module.choice.candidates) == len(factors)
    for k, factor in enumerate(factors):
        with mixed({"y": k}):
            assert torch.equal(module(given(x)), factor * x)
    row = torch.rand(len(factors), dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    with mixed({"y": row}):
        expected = sum(w * f for w, f in zip(row, factors, strict=True)) * x
        torch.testing.assert_close(module(given(x)), expected, rtol=0, atol=1e-12)


def test_what_runs_where_nothing_is_decided(mark: Any) -> None:
    module, given, factors = mark
    default = factors[-1] if module.choice.ordered else factors[0]
    assert torch.equal(module(given(rows())), default * rows())
    with mixed({"another": 1}):
        assert torch.equal(module(given(rows())), default * rows())


def test_a_single_path_carries_a_gradient_to_every_weight(mark: Any) -> None:
    """h = w[k] x[k] + the other weights, by the formula of `Taken`."""
    module, given, factors = mark
    row = torch.eye(len(factors), dtype=DOUBLE)[-1].requires_grad_()
    with mixed({"y": Taken(len(factors) - 1, row)}):
        y = module(given(rows()))
    assert torch.equal(y, factors[-1] * rows())
    (slope,) = torch.autograd.grad(y.sum(), row)
    assert slope.tolist() == [6.0] * (len(factors) - 1) + [float(factors[-1] * rows().sum())]


def test_of_a_single_path_nothing_else_runs() -> None:
    module = choose("y", {"a": Times(1), "b": Times(2)})
    deep = choose.repeat("d", (1, 3), lambda k: Times(2))
    for taken in (0, Taken(0, weights(1.0, 0.0))):
        with mixed({"y": taken, "d": taken}):
            deep(module(rows()))
    assert [module.a.calls, module.b.calls] == [2, 0]
    assert [deep.get_submodule(str(k)).calls for k in range(3)] == [2, 0, 0]


def test_never_derived_is_never_the_default() -> None:
    module = choose("y", {"zero": Times(0), "one": Times(1)}, never=["zero"])
    assert module.choice.options == ("one",)
    assert torch.equal(module(rows()), rows())


def test_a_mix_ends_with_its_block_also_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="inside"), mixed({"y": 1}):
        assert current() == {"y": 1}
        with mixed({"y": 0}):
            assert current() == {"y": 0}
        assert current() == {"y": 1}
        raise RuntimeError("inside")
    assert current() == {}


def test_a_mix_is_of_one_thread() -> None:
    seen: list[Any] = []
    with mixed({"y": 1}):
        thread = threading.Thread(target=lambda: seen.append(dict(current())))
        thread.start()
        thread.join()
    assert seen == [{}]


def test_joined_inputs_side_by_side() -> None:
    module = choose.inputs("y", ("a", "b", "c"), take=2, join="concat")
    a, b, c = (k * torch.ones(1, 2) for k in (1, 2, 3))
    assert module([a, b, c]).tolist() == [[1, 1, 2, 2]]
    with mixed({"y": 2}):
        assert module([a, b, c]).tolist() == [[2, 2, 3, 3]]
    assert module.plain("a+c")([a, b, c]).tolist() == [[1, 1, 3, 3]]


class Small(nn.Module):
    """Marks with weights inside, smooth."""

    def __init__(self) -> None:
        super().__init__()
        width = choose.size("width", (2, 4))
        self.first = nn.Linear(3, width)
        self.act = choose("act", {"tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()})
        self.rest = choose.repeat("depth", (1, 2), lambda k: nn.Sequential(nn.Linear(width, width), nn.Tanh()))
        self.last = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rest(self.act(self.first(x))))


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor], Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Small()
    network = own_supernet(space_of(module), module, (3,)).double()
    theta = {name: p.detach() for name, p in network.named_parameters()}
    mix = {"width": weights(0.3, 0.7), "act": weights(0.6, 0.4), "depth": weights(0.2, 0.8)}
    return network, theta, mix, torch.randn(4, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))


def loss_of(network: nn.Module, theta: Any, mix: Any, x: Tensor) -> Tensor:
    found: Tensor = functional_call(network, theta, (x,), {"mix": mix})
    return found.square().mean()


def test_gradients_of_gradients_in_weights_and_mix(small: Any) -> None:
    """Against central differences of the gradient, in float64."""
    network, theta, mix, x = small

    def slope(row: Tensor) -> Tensor:
        inner = grad(lambda t: loss_of(network, t, {**mix, "act": row}, x))(theta)
        return sum(g.square().sum() for g in inner.values())  # type: ignore[return-value]

    found, step = grad(slope)(mix["act"]), 1e-5
    for k in range(2):
        e = step * torch.eye(2, dtype=DOUBLE)[k]
        difference = (slope(mix["act"] + e) - slope(mix["act"] - e)) / (2 * step)
        assert abs(float(found[k] - difference)) < 1e-8 * max(1, abs(float(difference)))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own, once
def test_forward_mode_and_batches_of_mixes(small: Any) -> None:
    network, theta, mix, x = small
    direction = {name: torch.ones_like(row) for name, row in mix.items()}
    _, slope = jvp(lambda m: loss_of(network, theta, m, x), (mix,), (direction,))
    gradients = grad(lambda m: loss_of(network, theta, m, x))(mix)
    assert abs(float(slope - sum(g.sum() for g in gradients.values()))) < 1e-12
    several = {name: torch.stack([row, row.flip(0)]) for name, row in mix.items()}
    batched = vmap(lambda m: grad(lambda t: loss_of(network, t, m, x))(theta))(several)
    for k in range(2):
        alone = grad(lambda t, k=k: loss_of(network, t, {n: r[k] for n, r in several.items()}, x))(theta)
        for name in theta:
            torch.testing.assert_close(batched[name][k], alone[name], rtol=0, atol=1e-12)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a dot": (lambda: choose("a.b", [nn.ReLU()]), "choice 'a.b': a name is text .* holds no '.'"),
    "no text": (lambda: choose.repeat("", (1,), [nn.ReLU()]), "choice '': a name is text"),
    "a label": (lambda: choose("y", {"a/b": nn.ReLU()}), "choice 'y': candidate 'a/b': a name is text"),
    "nothing": (lambda: choose("y", {}), "choice 'y' has no candidates"),
    "a number": (lambda: choose("y", {"a": 3}), "choice 'y': candidate 'a' must be a module, got 3; give an nn.Module"),
    "a class": (lambda: choose("y", {"a": nn.ReLU}), "candidate 'a' must be a module, got the class ReLU"),
    "one module": (lambda: choose("y", nn.ReLU()), "choice 'y': give label -> module, or modules, got a ReLU"),
    "never": (lambda: choose("y", {"a": nn.ReLU()}, never=["b"]), "never='b' is no candidate"),
    "shrinking": (lambda: choose.repeat("y", (2, 1), [nn.ReLU()] * 2), r"whole numbers >= 0 that grow, got \(2, 1\)"),
    "only zero": (lambda: choose.repeat("y", (0,), []), r"depths must be .* got \(0,\)"),
    "few blocks": (lambda: choose.repeat("y", (1, 3), [nn.ReLU()]), "1 blocks for depths up to 3; give 3"),
    "no block": (lambda: choose.repeat("y", (1,), [1]), "choice 'y': block 0 must be a module, got 1"),
    "take": (lambda: choose.inputs("y", 2, take=3), "takes 3 of 2 inputs; allowed: 1 to 2"),
    "twice": (lambda: choose.inputs("y", ("a", "a")), "names an input twice"),
    "join": (lambda: choose.inputs("y", 2, join="max"), "join='max'; allowed: sum, mean, concat"),  # type: ignore[arg-type]
    "too many": (lambda: choose.inputs("y", 20, take=10), "184756 ways to take 10 of 20 inputs, at most 64"),
    "size": (lambda: choose.size("y", (4, 2)), r"values must be positive and grow, got \(4, 2\)"),
    "half": (lambda: choose.size("y", (1.5, 2)), "values must be whole numbers"),  # type: ignore[arg-type]
    "one size": (lambda: choose.size("y", 8), r"values must be whole numbers that grow, as \(8, 16\), got 8"),  # type: ignore[arg-type]
    "one depth": (lambda: choose.repeat("y", 3, nn.ReLU), r"depths must be .* that grow, as \(1, 2\), got 3"),  # type: ignore[arg-type]
    "one block": (lambda: choose.repeat("y", (1, 2), nn.ReLU()), "blocks must be modules or k -> module, got one ReLU"),
    "yes": (lambda: choose.inputs("y", True), "among says how many inputs there are, or their names, got True"),
    "a word": (lambda: choose("y", {"a": nn.ReLU()}, never="none"), "never='none' is no candidate"),
    "its name": (lambda: choose.size("a.b", (1, 2)), "choice 'a.b': a name is text"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(SpaceError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_what_is_called_wrongly_is_refused_in_one_line() -> None:
    module = choose("y", {"wide": nn.Linear(3, 4), "narrow": nn.Linear(3, 2)})
    with mixed({"y": torch.ones(2)}), pytest.raises(ShapeError) as caught:
        module(torch.ones(1, 3))
    assert str(caught.value) == (
        "choice 'y': 'wide' gives (1, 4) and 'narrow' gives (1, 2); to be mixed they must have one shape"
    )
    with pytest.raises(ShapeError, match="choice 'y' is among 3 inputs, got 2; give a list of them all"):
        choose.inputs("y", 3)([torch.ones(1), torch.ones(1)])
    with mixed({"y": torch.ones(2)}), pytest.raises(ShapeError, match="a tuple for 'a'; only tensors can be mixed"):
        choose("y", {"a": nn.LSTM(3, 3), "b": nn.LSTM(3, 3)})(torch.ones(1, 3))
    with mixed({"y": (0, 1)}), pytest.raises(SpaceError, match=r"takes one index or weights, got \(0, 1\)"):
        module(torch.ones(1, 3))


def test_labels_that_a_module_has_already() -> None:
    module = choose("y", {"forward": Times(2), "choice": Times(3), "3x3": Times(4)})
    for k, factor in enumerate((2, 3, 4)):
        with mixed({"y": k}):
            assert torch.equal(module(rows()), factor * rows())
    assert torch.equal(module.plain("choice")(rows()), 3 * rows())
