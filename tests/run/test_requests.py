"""Requests are files: asked by one process, seen and withdrawn by another."""

import pytest

from metanas.errors import RunError
from metanas.run import ask, pending, withdraw


def test_asked_seen_withdrawn(tmp_path):
    assert pending(tmp_path) == frozenset()
    ask(tmp_path, "stop")
    ask(tmp_path, "pause")
    ask(tmp_path, "pause")
    assert pending(tmp_path) == {"stop", "pause"}
    withdraw(tmp_path, "pause")
    withdraw(tmp_path, "pause")
    assert pending(tmp_path) == {"stop"}


@pytest.mark.parametrize("call", [ask, withdraw])
def test_unknown_requests_are_refused(tmp_path, call):
    with pytest.raises(RunError, match='did you mean "pause"'):
        call(tmp_path, "pauze")
    with pytest.raises(RunError, match="unknown request"):
        call(tmp_path, "../../x")


def test_a_run_that_is_gone_has_no_requests_and_takes_none(tmp_path):
    assert pending(tmp_path / "gone") == frozenset()
    with pytest.raises(RunError, match="removed or moved"):
        ask(tmp_path / "gone", "stop")
