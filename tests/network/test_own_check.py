"""What is wrong with a module is found before a search, in one line that names the option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metanas.errors import ShapeError, SpaceError
from metanas.network import check_mixture, check_options, choose, space_of
from metanas.network.own_check import default_architecture


class Net(nn.Module):
    """What a function makes of a few parts."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def rows(count: int = 4) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(0))


def checked(module: nn.Module) -> None:
    space = space_of(module)
    check_options(space, module, (6,), 3)
    check_mixture(space, module, rows())


def acts() -> nn.Module:
    return choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})


def width() -> Any:
    return choose.size("width", (4, 8))


def test_what_is_right_passes_and_draws_nothing(problems: Any) -> None:
    module, other = problems.marked(), nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), acts(), nn.Linear(5, 3))
    space = space_of(module)
    before = torch.get_rng_state()
    check_options(space, module, (3, 8, 8), 10)
    check_mixture(space, module, torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    checked(other)
    assert torch.equal(torch.get_rng_state(), before)
    assert default_architecture(space)["width"] == ("5",)


WRONG: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "other inputs": (
        lambda: nn.Sequential(acts(), nn.Linear(5, 3)),
        r"^Sequential does not take inputs \(6,\) \(mat1 and mat2 shapes cannot be multiplied \(2x6 and 5x3\)\)",
    ),
    "other classes": (
        lambda: nn.Sequential(acts(), nn.Linear(6, 7)),
        r"^Sequential gives \(7,\) for inputs \(6,\), the data need \(3,\); end it with nn.Linear\(..., 3\)",
    ),
    "an option that does not fit": (
        lambda: nn.Sequential(choose("first", {"wide": nn.Linear(6, 5), "narrow": nn.Linear(6, 4)}), nn.Linear(5, 3)),
        r"^choice 'first' at 'narrow': Sequential does not take inputs \(6,\) \(mat1 and mat2 .*2x4 and 5x3",
    ),
    "a depth that changes the shape": (
        lambda: nn.Sequential(choose.repeat("d", (1, 2), [nn.Linear(6, 3), nn.Linear(3, 6)]), nn.Linear(6, 3)),
        r"^choice 'd' at '1': Sequential does not take inputs",
    ),
    "a size that is fixed elsewhere": (
        lambda: nn.Sequential(nn.Linear(6, width()), acts(), nn.Linear(8, 3)),
        r"^choice 'width' at '4': Sequential does not take inputs \(6,\) \(mat1 and mat2 .*2x4 and 8x3",
    ),
    "a parameter of a chosen size": (
        lambda: Net(lambda net, x: net.last(net.first(x) * net.scale), first=nn.Linear(6, n := width()),
                    scale=nn.Parameter(torch.ones(n)), last=nn.Linear(n, 3)),
        r"^choice 'width' at '4': Net does not take inputs",
    ),
    "a mean over features of a chosen number": (
        lambda: Net(lambda net, x: net.last(net.first(x).mean(1, keepdim=True)), first=nn.Linear(6, width()),
                    last=nn.Linear(1, 3)),
        r"^Net at width=4: the search would compute something else than what is derived",
    ),
    "joined before others": (
        lambda: Net(lambda net, x: net.last(torch.cat([net.first(x), x], 1)), first=nn.Linear(6, n := width()),
                    last=nn.Linear(n + 6, 3)),
        r"^Net at width=4: the search would compute something else .*joined before others, take a fixed size",
    ),
    "a buffer that is written": (
        lambda: Net(_counts, act=acts(), last=nn.Linear(6, 3), seen=nn.Buffer(torch.zeros(6))),
        r"^Net cannot be differentiated as a function of its weights \(.*take a controller by values, or leave",
    ),
}  # fmt: skip


def _counts(net: Any, x: Tensor) -> Tensor:
    y = net.last.weight.sum(0)
    net.seen.add_(y)
    return net.last(net.act(x))


@pytest.mark.parametrize("name", WRONG)
def test_it_is_found_in_one_line(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(SpaceError, match=message) as caught:
        checked(make())
    assert "\n" not in str(caught.value)


def test_candidates_of_other_shapes_are_for_values_alone() -> None:
    """Each runs by itself; together they cannot be mixed."""
    pick = choose("y", {"six": nn.Identity(), "two": nn.AvgPool1d(3)})
    module = Net(lambda net, x: net.last(net.y(x.unsqueeze(1)).flatten(1)[:, :2]), y=pick, last=nn.Linear(2, 3))
    space = space_of(module)
    check_options(space, module, (6,), 3)
    with pytest.raises(
        ShapeError, match=r"choice 'y': 'six' gives \(4, 1, 6\) and 'two' gives \(4, 1, 2\); to be mixed"
    ):
        check_mixture(space, module, rows())


def test_work_in_place_that_is_seen_elsewhere_is_found() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.first(x)
        return net.last(net.act(y) + y)

    act = choose("act", {"tanh": nn.Tanh(), "relu": nn.ReLU(inplace=True)})
    module = Net(forward, first=nn.Linear(6, 6), act=act, last=nn.Linear(6, 3))
    with pytest.raises(SpaceError, match=r"^Net at act=relu: the search .*changes what comes in \(inplace=True\)"):
        checked(module)
    module.act.relu.inplace = False
    checked(module)


def test_random_numbers_of_its_own_are_no_difference() -> None:
    module = Net(lambda net, x: net.last(net.act(x + torch.rand(()))), act=acts(), last=nn.Linear(6, 3))
    checked(module)
