"""The recipe's `threads` and `device` in a whole run: where they hold, what is put back, what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import metanas
from metanas.errors import InterruptedSearchError, RecipeError
from metanas.run import ask, read_events

Quick = Callable[..., Any]


@pytest.fixture
def threads() -> Iterator[int]:
    """How many threads torch has; two more than a run asks for, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def counting() -> tuple[set[int], Callable[[Tensor, Tensor], Tensor]]:
    seen: set[int] = set()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.add(torch.get_num_threads())
        return F.cross_entropy(outputs, targets)

    return seen, loss


def stop_at_once(folder: Path) -> Any:
    ask(folder, "stop")
    return nullcontext()


@pytest.mark.parametrize(("wanted", "used"), [(1, {1}), (2, {2})])
def test_threads_hold_in_search_and_resume_and_are_put_back(
    quick: Quick, images: Any, threads: int, wanted: int, used: set[int]
) -> None:
    seen, loss = counting()
    with pytest.raises(InterruptedSearchError):
        quick(loss=loss, run="cut", settings={"threads": wanted}, view=stop_at_once)
    assert (seen, torch.get_num_threads()) == (used, threads)
    seen.clear()
    metanas.resume("cut", data=images, loss=loss)
    assert (seen, torch.get_num_threads()) == (used, threads)


def test_workers_share_the_threads_and_change_no_number(quick: Quick, threads: int) -> None:
    found = []
    for workers in (1, 2):
        rounds = [{"candidates": 2, "epochs": 1}, {"candidates": 1, "epochs": 2}]
        seen, loss = counting()
        result = quick(
            loss=loss, run=f"{workers}", settings={"threads": 2, "workers": workers, "search.refine": rounds}
        )
        assert seen == ({2} if workers == 1 else {1, 2})
        values = [row for row in read_events(result.run / "events.jsonl").events if row["kind"] == "value"]
        found.append([(row["step"], row["architecture"], row["value"]) for row in values])
    assert len(found[0]) == 3 and found[0] == found[1]


def test_threads_are_put_back_after_an_error(quick: Quick, threads: int) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        raise RuntimeError(f"on {torch.get_num_threads()}")

    with pytest.raises(RuntimeError, match="on 1"):
        quick(loss=loss, settings={"threads": 1})
    assert torch.get_num_threads() == threads


def test_a_run_from_a_machine_with_a_gpu(
    quick: Quick, images: Any, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """It asks for a device that is not here: refused with what is; with that one it goes on."""
    with pytest.raises(InterruptedSearchError):
        quick(run="cut", view=stop_at_once)
    recipe = Path("runs/cut/recipe.json")
    recipe.write_text(
        recipe.read_text().replace('"device":"cpu"', '"device":"cuda"').replace('"device": "cpu"', '"device": "cuda"')
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RecipeError, match="device: cuda is not available here; take one of: auto, cpu"):
        metanas.resume("cut", data=images)
    assert torch.get_num_threads() == threads
    assert metanas.resume("cut", data=images, device="cpu").run.name == "cut"
    said = Path("runs/cut/events.jsonl").read_text()
    assert "device was cuda, is cpu: the result need not be bit-exact" in said


def test_auto_takes_the_gpu_that_is_there(quick: Quick, monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    """The data go there first, and this torch need have no CUDA to put them on."""
    asked: list[str] = []

    def to(self: Any, device: Any) -> Any:
        asked.append(str(device))
        if str(device) != "cpu":  # reading takes place there
            raise InterruptedError
        return self

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(metanas.data.Data, "to", to)
    with pytest.raises(InterruptedError):
        quick(settings={"device": "auto"})
    assert asked[-1] == "cuda"
    assert not runs.exists()
