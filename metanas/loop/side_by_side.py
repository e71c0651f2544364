"""Independent evaluations, some of them at the same time, their results in order.

    results = in_order(train, candidates, workers=2)      train(candidate) in two threads; results as of map

torch lets go of Python's lock while it computes, so threads keep as many cores busy; what is evaluated needs no copy
and no pickle. Networks as small as those of a refinement gain little from several threads inside an operation.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Job(threading.Thread, Generic[Item, Result]):
    """A call in a thread that does not keep the process from ending."""

    def __init__(self, function: Callable[[Item], Result], item: Item) -> None:
        super().__init__(daemon=True)
        self.function, self.item = function, item
        self.found: list[Result] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.found.append(self.function(self.item))
        except BaseException as error:  # belongs to who asks for the result
            self.error = error

    def result(self) -> Result:
        self.join()
        if self.error is not None:
            raise self.error
        return self.found[0]


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """function(item) for each, in their order, `workers` of them under way at once; the next begins as one is taken.

    What a call raises is raised in its place. Where the iterator is closed, or a result raises, the calls under way are
    waited for; after KeyboardInterrupt they are left behind. With one worker everything is done in the caller's thread.

    >>> list(in_order(lambda x: x * x, range(4), workers=2))
    [0, 1, 4, 9]
    """
    if workers == 1:
        yield from map(function, items)
        return
    rest = iter(items)
    jobs = deque(_Job(function, item) for item in islice(rest, workers))
    try:
        while jobs:
            found = jobs[0].result()
            jobs.popleft()
            jobs.extend(_Job(function, item) for item in islice(rest, 1))
            yield found
    except (GeneratorExit, Exception):
        for job in jobs:
            job.join()
        raise
