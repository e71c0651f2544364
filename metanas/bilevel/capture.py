"""What a step launches, launched at once: a function of tensors, recorded on its first calls and played from then on.

    call 1 .. warm     the function, as it is
    call warm + 1      recorded: its work is noted down on inputs of its own, not done; then played
    later              inputs copied to those of the recording; played

A supernet is thousands of small operations: on a GPU the host takes longer to launch them than the device to do them.
A CUDA graph is launched as one. What it may not do is part of the contract of every estimator already: no host read, no
shape that depends on values. So the calls of an outer iteration are recorded as they are, whatever the estimator.

A recording holds addresses. What is written in place between two calls (weights, momentum, a learning rate in a tensor)
is handed over as `live` and read where it is; all else is `fed`, and copied. A call with other shapes, other constants
or live tensors elsewhere begins anew; `forget` says that the function itself has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

from metanas.bilevel.estimator import Estimator, Hypergradient
from metanas.bilevel.problem import Bilevel
from metanas.bilevel.trees import Tree, detach

Call: TypeAlias = Callable[[], Tree]

WARM = 3
"""Calls before a recording: libraries make handles, workspaces and plans in the first ones."""


class Graphs(Protocol):
    """What records: `CudaGraphs`, or another one in tests."""

    def warm(self, call: Call) -> Tree:
        """The call's result, as if it had been called; where it is to be recorded later."""
        ...

    def record(self, call: Call) -> Call:
        """What plays the recording, and returns the tensors that every play writes its result into.

        Raises:
            RuntimeError: the call does what cannot be recorded.
        """
        ...

    def refused(self, why: str) -> None:
        """Is told why a function goes on without a recording."""
        ...


class CudaGraphs:
    """Records on a GPU. All recordings of one share their memory: they are never played at the same time.

    Args:
        warn: is told, in one line, why a function cannot be recorded.
    """

    def __init__(self, device: torch.device, warn: Callable[[str], None]) -> None:
        self.stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own
        self.warn = warn
        self.pool = torch.cuda.graph_pool_handle()

    def warm(self, call: Call) -> Tree:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            found = call()
        torch.cuda.current_stream().wait_stream(self.stream)
        return found

    def record(self, call: Call) -> Call:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            found = call()

        def play() -> Tree:
            graph.replay()
            return found

        return play

    def refused(self, why: str) -> None:
        self.warn(f"steps are launched one operation at a time, not as a CUDA graph: {why}")


class Captured:
    """A function of (live, fed), two trees, as one recording. Its results are constants.

    A 0-d tensor of a result is the caller's own; a larger one is overwritten by the next call.

    Args:
        function: reads no other tensors than those it is given and what never moves; returns a tree of tensors.
        graphs: what records.
        watched: generators that a recording could not draw from. Where a warm call draws from one of them, or from the
            CPU's default one, nothing is recorded.
    """

    def __init__(
        self, function: Callable[[Tree, Tree], Tree], graphs: Graphs, *, watched: Sequence[torch.Generator] = ()
    ) -> None:
        self.function, self.graphs = function, graphs
        self.watched = (torch.default_generator, *watched)
        self.able = True
        self.forget()

    def forget(self) -> None:
        """The next calls are the first ones again."""
        self.key: tuple[Any, ...] = ()
        self.calls = 0
        self.inputs: list[Any] = []
        self.play: Call | None = None

    def __call__(self, live: Tree, fed: Tree) -> Tree:
        fed = detach(fed)
        if not self.able:
            return self.function(live, fed)
        leaves, spec = tree_flatten(fed)
        if self.key != (key := _key(live, leaves, spec)):
            self.forget()
            self.key = key
        if self.calls < WARM:
            return self._warmed(live, fed)
        if self.play is None and not self._recorded(live, leaves, spec):
            return self.function(live, fed)
        assert self.play is not None  # it was recorded
        _feed(self.inputs, leaves)
        return tree_map(lambda x: x.clone() if isinstance(x, Tensor) and not x.dim() else x, self.play())

    def _warmed(self, live: Tree, fed: Tree) -> Tree:
        before = [generator.get_state() for generator in self.watched]
        found = self.graphs.warm(lambda: self.function(live, fed))
        self.calls += 1
        if not all(torch.equal(x, generator.get_state()) for x, generator in zip(before, self.watched, strict=True)):
            self._refuse("random numbers are drawn by the host")
        return found

    def _recorded(self, live: Tree, leaves: list[Any], spec: TreeSpec) -> bool:
        self.inputs = [x.clone() if isinstance(x, Tensor) else x for x in leaves]
        fed = tree_unflatten(self.inputs, spec)
        try:
            self.play = self.graphs.record(lambda: self.function(live, fed))
        except RuntimeError as error:
            self._refuse((str(error).splitlines() or ["no reason given"])[0])
        return self.able

    def _refuse(self, why: str) -> None:
        self.forget()
        self.able = False
        self.graphs.refused(why)


class CapturedEstimator:
    """An estimator for `solve` whose calls are recorded; theta is live, and so is what the problem's losses close over.

    The results are those of the estimator; all but their 0-d tensors are overwritten by the next call. Called with
    another problem it begins anew.
    """

    def __init__(self, estimator: Estimator, graphs: Graphs, generator: torch.Generator) -> None:
        self.estimator, self.generator = estimator, generator
        self.problem: Bilevel | None = None
        self.captured = Captured(self._estimate, graphs, watched=[generator])

    def _estimate(self, theta: Tree, fed: tuple[Any, ...]) -> Hypergradient:
        outer, inner_batch, outer_batch, memory, carry = fed
        assert self.problem is not None  # __call__ has set it
        return self.estimator(
            self.problem,
            theta,
            outer,
            inner_batch,
            outer_batch,
            memory=memory,
            carry=carry,
            generator=self.generator,
        )

    def __call__(
        self,
        problem: Bilevel,
        theta: Tree,
        outer: Tree,
        inner_batch: Any,
        outer_batch: Any,
        *,
        memory: Tree | None = None,
        carry: Tree = (),
        generator: torch.Generator | None = None,
        strict: bool = False,
    ) -> Hypergradient:
        """As `Estimator.__call__`; `generator` and `strict` are those of the beginning, and False."""
        if problem is not self.problem:
            self.captured.forget()
            self.problem = problem
        found: Hypergradient = self.captured(theta, (outer, inner_batch, outer_batch, memory, carry))
        return found


def _key(live: Tree, leaves: list[Any], spec: TreeSpec) -> tuple[Any, ...]:
    """What a recording depends on, but for the values of what is fed."""
    places = tuple(x.data_ptr() if isinstance(x, Tensor) else x for x in tree_flatten(live)[0])
    kinds = tuple((x.shape, x.dtype, x.stride(), x.device) if isinstance(x, Tensor) else x for x in leaves)
    return places, kinds, spec


@torch.no_grad()
def _feed(inputs: list[Any], leaves: list[Any]) -> None:
    pairs = [(x, y) for x, y in zip(inputs, leaves, strict=True) if isinstance(x, Tensor)]
    if pairs:
        torch._foreach_copy_([x for x, _ in pairs], [y for _, y in pairs])
