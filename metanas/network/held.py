"""A module of the user's own in the place of a network.

    own_supernet(space, module, shape)                every candidate; forward(x, mix=...) sets the choices
    own_derived(space, module, architecture, shape)   the module as it would be written by hand, in `.module`

In a search norms use the statistics of the batch at hand, since what tracks them raises under `torch.func`; nothing
works in place, since candidates share what comes in; and nothing is dropped at random. A derived module is left as the
user wrote it. Both begin at the weights that the user's module has; a narrower layer at the first of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from metanas.errors import ShapeError
from metanas.network.blocks import Phase
from metanas.network.frozen import shadow
from metanas.network.marks import current, mixed
from metanas.network.mixing import Mix
from metanas.network.network import Network
from metanas.network.ops import Shape
from metanas.network.sizes import READS, ChosenSize, Reading, is_depthwise
from metanas.network.sketch import INPUT
from metanas.network.unmarked import Labels, names_in, unmarked
from metanas.space import Apply, Op, Program, Space

MODULE = "module"
EXAMPLES = 2  # one alone may have no batch statistics


class Held(Network):
    """A network that is one module; the names of its weights are the module's, after "module."."""

    def __init__(self, module: nn.Module, program: Program, shape: Shape, outputs: Shape, phase: Phase) -> None:
        nn.Module.__init__(self)  # nothing is made from the program
        self.module, self.program, self.phase = module, program, phase
        self.shapes = {program.inputs[0]: tuple(shape), program.output: tuple(outputs)}
        self.zeros, self.last_read = frozenset(), []

    def forward(
        self, *inputs: Tensor, mix: Mix | None = None, see: str = "", seen: dict[str, Tensor] | None = None
    ) -> Tensor:
        if not self.program.choices:
            return self.module(*inputs)  # type: ignore[no-any-return]  # the user's module, of any kind
        self.check(mix or {})
        with mixed(mix or {}):
            return self.module(*inputs)  # type: ignore[no-any-return]  # the user's module, of any kind


def own_supernet(space: Space, module: nn.Module, shape: Shape) -> Held:
    """The network that holds every candidate of a module with marks, for a search.

    Args:
        space: of the module (`space_of`).
        shape: of one input, without the batch.

    Raises:
        ShapeError: the module, as it is by default, does not take the shape, or gives something else than one tensor.

    >>> from metanas.network.marks import choose
    >>> from metanas.network.sketch import space_of
    >>> module = nn.Sequential(choose("act", {"relu": nn.ReLU(), "neg": nn.Softmin(1)}), nn.Linear(3, 2))
    >>> network = own_supernet(space_of(module), module, (3,))
    >>> network(torch.ones(1, 3), mix={"act": torch.tensor([0.5, 0.5])}).shape
    torch.Size([1, 2])
    """
    found = untracked(copy.deepcopy(module))
    for inner in found.modules():
        if getattr(inner, "inplace", False):
            inner.inplace = False  # type: ignore[assignment]  # of those that have it
        if type(inner) in READS:
            attribute, axis = READS[type(inner)]
            size = getattr(inner, attribute)
            if isinstance(size, ChosenSize) and not is_depthwise(inner):
                inner.register_forward_pre_hook(Reading(size, axis, current))
    network = Held(found, space.program, shape, given_shape(found, shape), "search")
    return network.eval()  # nothing is dropped: a loss of a search is a function of weights, mix and batch


def own_derived(
    space: Space, module: nn.Module, architecture: Labels, shape: Shape, *, phase: Phase = "scratch"
) -> Held:
    """The network of one architecture of a module with marks; `.module` is plain torch. Arguments as of `own_supernet`.

    Raises:
        ShapeError: what is derived does not take the shape.
        SpaceError: an architecture that is none of the space's.
    """
    found = unmarked(module, space.architecture(architecture))
    return whole(found if phase == "scratch" else untracked(found), shape, phase=phase)


def whole(module: nn.Module, shape: Shape, *, phase: Phase = "scratch") -> Held:
    """A module without marks as a network of one operation, for what takes networks.

    >>> whole(nn.Linear(3, 2), (3,)).shapes
    {'inputs': (3,), 'module': (2,)}
    """
    program = Program((INPUT,), (Apply(MODULE, INPUT, Op(type(module).__name__)),), MODULE)
    return Held(module, program, shape, given_shape(module, shape), phase)


def shared_weights(module: nn.Module, architecture: Labels, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A supernet's weights under the names of the derived network, for `inherit`."""
    names = names_in(module, architecture, f"{MODULE}.")
    return {new: weights[old] for new, old in names.items() if old in weights}


@contextmanager
def steady(network: nn.Module, seed: int) -> Iterator[None]:
    """Where a network is a module of the user's, which may draw from torch's own generators (dropout), they begin at
    `seed` inside the block, and are as they were afterwards.
    """
    if not isinstance(network, Held):
        yield
        return
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


def untracked(module: nn.Module) -> nn.Module:
    """The module, whose norms from now on use the batch at hand and keep nothing.

    >>> norm = untracked(nn.BatchNorm1d(1))
    >>> norm(torch.tensor([[0.0], [2.0]])).flatten(), list(norm.state_dict())
    (tensor([-1.0000,  1.0000], grad_fn=<ViewBackward0>), ['weight', 'bias'])
    """
    for inner in module.modules():
        if getattr(inner, "track_running_stats", False):
            inner.track_running_stats = False  # type: ignore[assignment]  # a batch norm's
            inner.running_mean = inner.running_var = inner.num_batches_tracked = None  # type: ignore[assignment]  # as torch makes it
    return module


def given_shape(
    module: nn.Module,
    shape: Shape,
    *,
    make: Callable[[nn.Module], nn.Module] = lambda copy: copy,
    dtype: torch.dtype | None = None,
) -> Shape:
    """The shape of what a module gives, without the batch; found on a copy without memory.

    Args:
        make: what is made of the copy before it is run; default: nothing.
        dtype: of the inputs; default: the module's.

    Raises:
        ShapeError: it does not take the shape, or gives something else than one tensor with a row for each example.
    """
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    kind = first.dtype if dtype is None else dtype
    try:
        given = _run(make(shadow(module)), torch.empty(EXAMPLES, *shape, device="meta", dtype=kind))
    except Exception:  # somebody's own code may raise anything, as where it looks at numbers: it gets some
        try:
            given = _run(make(copy.deepcopy(module)), torch.zeros(EXAMPLES, *shape, device=first.device, dtype=kind))
        except Exception as error:
            if isinstance(error, ShapeError):
                raise
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise ShapeError(f"{type(module).__name__} does not take inputs {tuple(shape)} ({why})") from error
    if not isinstance(given, Tensor) or given.dim() < 1 or given.shape[0] != EXAMPLES:
        what = tuple(given.shape) if isinstance(given, Tensor) else f"a {type(given).__name__}"
        raise ShapeError(
            f"{type(module).__name__} gives {what} for a batch of {EXAMPLES}; it must give one tensor with a row for "
            "each example"
        )
    return tuple(given.shape[1:])


@torch.no_grad()
def _run(module: nn.Module, inputs: Tensor) -> object:
    with torch.random.fork_rng(devices=[]):  # dropout would draw from the global generator
        return module(inputs)
