"""A derivation by evaluations of the supernet: told as it goes, and stopped in the middle without a loss."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import metanas
from metanas.errors import InterruptedSearchError
from metanas.run import EventWriter, latest
from metanas.run.checkpoints import load
from metanas.space import NEEDED, Space, chain, one_of, op

Quick = Callable[..., Any]
OPTIONS = {
    "spos": {"search.options.evaluations": 6, "search.options.population": 3},
    "rsps": {"search.options.evaluations": 6},
    "darts_pt": {},
}


def ladder() -> Space:
    """Three choices of two."""
    body = {"conv": op("conv", width=3, kernel=3, norm="batch", activation="relu"), "skip": op("skip")}
    rungs = [(f"e{k}", one_of(f"e{k}", body)) for k in range(3)]
    return Space(chain(("stem", op("conv", width=3, kernel=3)), *rungs, ("head", op("classifier", width=NEEDED))))


def derivations(run: Any) -> list[tuple[int, int]]:
    return [(e["done"], e["total"]) for e in run.events() if e["kind"] == "derivation"]


@pytest.mark.parametrize("controller", OPTIONS)
def test_interrupted_in_the_middle_it_is_derived_again(
    quick: Quick, images: Any, monkeypatch: pytest.MonkeyPatch, controller: str
) -> None:
    settings = OPTIONS[controller]
    whole = quick(space=ladder(), controller=controller, settings=settings, run="whole")
    done, total = zip(*derivations(metanas.load_run("whole")), strict=True)
    assert done == tuple(range(len(done))) and set(total) == {6} and 2 < done[-1] <= 6
    write = EventWriter.write

    def interrupting(log: EventWriter, kind: str, **fields: Any) -> Any:
        if (kind, fields.get("done")) == ("derivation", 2):
            os.kill(os.getpid(), signal.SIGINT)
        return write(log, kind, **fields)

    with monkeypatch.context() as patch, pytest.raises(InterruptedSearchError, match="go on with: metanas resume cut"):
        patch.setattr(EventWriter, "write", interrupting)
        quick(space=ladder(), controller=controller, settings=settings, run="cut")
    run = metanas.load_run("cut")
    assert [n for n, _ in derivations(run)] == [0, 1, 2] and run.events()[-1]["kind"] == "end"
    checkpoint = load(run.folder.checkpoints)
    assert checkpoint is not None and checkpoint.step == 4 and checkpoint.tree["state"]["phase"] == "search"
    result = run.resume(data=images)
    again = [e["done"] for e in latest(run.events()) if e["kind"] == "derivation"]
    assert tuple(again) == done and result.found == whole.found
    for name in ("network.safetensors", "architecture.json"):
        assert (run.path / name).read_bytes() == (whole.run / name).read_bytes()


def test_what_omega_alone_derives_is_not_told(quick: Quick) -> None:
    quick(controller="darts", run="first")
    assert derivations(metanas.load_run("first")) == []
