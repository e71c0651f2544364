"""A few-shot run as its folder would tell of it, and a look at whether markup is well-formed."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as xml
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BEGAN = 1_760_000_000.0
FEW_SHOT: dict[str, Any] = {
    "schema": 1,
    "kind": "fewshot",
    "metric": "accuracy",
    "created": "2025-10-09T08:53:20+00:00",
    "data": {"name": "omniglot", "sizes": {"train": 964}},
    "recipe": {
        "network": {"name": "conv4", "options": {"width": 64}},
        "learner": {"name": "meta_sgd", "options": {}},
        "structure": {"mode": "shared", "steps": 20},
        "episodes": {"ways": 5, "shots": 1, "queries": 5, "tasks": 8},
        "outer": {"steps": 40},
        "evaluation": {"ways": 5, "shots": 1, "every": 10, "episodes": 600},
    },
}
FOUND = {"block1.main": "conv_3x3", "pool1": "max_pool"}
RESULT = {
    "schema": 1, "kind": "fewshot", "test_score": 0.901, "interval": 0.008, "ways": 5, "shots": 1, "episodes": 600,
    "transductive": {"accuracy": 0.924, "interval": 0.007}, "start": {"accuracy": 0.402, "interval": 0.009},
}  # fmt: skip


def few_shot_events() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"kind": "begin", "host": "bench", "pid": 4242, "resumed": False, "step": 0}]
    for n in range(1, 61):
        learned = {"surest choice": 0.3 + 0.02 * n} if n <= 20 else {}
        found.append(
            {"kind": "step", "step": n, "steps": 60, "outer_loss": 2 / n + 0.25, "outer_gradient_norm": 1 / n,
             "stationarity": 0.5 / n, "converged": True, "learned": learned}
        )  # fmt: skip
        if n in (30, 40, 50, 60):
            found.append(
                {"kind": "validation", "step": n, "accuracy": 0.9 - 0.01 * (50 - n) ** 2 / 10, "interval": 0.02}
            )
    for name, score in (("learned", 0.901), ("start", 0.402)):
        found.append({"kind": "network", "network": name, "architecture": FOUND, "test_score": score})
    found.append({"kind": "end", "status": "finished"})
    return [{**event, "at": BEGAN + k, "elapsed": float(k)} for k, event in enumerate(found)]


@pytest.fixture
def make_few_shot(tmp_path: Path) -> Callable[[], Path]:
    """Writes the few-shot run into a folder called `third`."""

    def make() -> Path:
        folder = tmp_path / "third"
        folder.mkdir()
        (folder / "recipe.json").write_text(json.dumps(FEW_SHOT))
        (folder / "result.json").write_text(json.dumps(RESULT))
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in few_shot_events()))
        return folder

    return make


class Reader(HTMLParser):
    """Fails where an element is not closed in its turn; keeps the tags with their attributes, and the visible text."""

    VOID = ("meta", "link", "input", "br")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in self.VOID, f"<{tag}> is not closed in itself"
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice: {attrs}"
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & {*self.open}:
            self.words.append(data)


@pytest.fixture(scope="session")
def well_formed() -> Callable[[str], Reader]:
    """Reads a page; every element is closed, every picture is XML, each number in one is finite, nothing is fetched."""

    def check(text: str) -> Reader:
        assert text.startswith("<!DOCTYPE html>\n<html")
        reader = Reader()
        reader.feed(text)
        reader.close()
        assert reader.open == []
        pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
        assert text.count("<svg") == len(pictures)
        for picture in pictures:
            for element in xml.fromstring(picture).iter():
                places = [
                    value for name, value in element.attrib.items() if name not in ("class", "role", "aria-label")
                ]
                assert not re.search(r"nan|inf|None", " ".join(places)), element.attrib
        for tag, attributes in reader.tags:
            assert not {"src", "onclick", "onload", "style"} & {*attributes}, (tag, attributes)
            assert attributes.get("href", "data:,") == "data:,"
        assert not re.search(r"https?:|url\(|@import", text)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text)
        return reader

    return check
