"""The examples in docs/ give what they say."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_examples(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("METANAS_RUNS", raising=False)
    failed, _ = doctest.testfile(str(path), module_relative=False, encoding="utf-8")
    assert not failed


def test_there_are_examples() -> None:
    found = {path.name for path in DOCS if ">>> " in path.read_text(encoding="utf-8")}
    assert {"backbone.md", "bilevel.md", "own-modules.md"} <= found
