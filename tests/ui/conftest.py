"""A run that never happened: a NAS-Bench-201 search of 50 epochs as its folder would tell of it, with known numbers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ("1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2")
WINNERS = (3, 2, 3, 1, 3, 3)  # the operation that each edge comes to
STEPS = 17  # a finished epoch has this many
BEGAN = 1_760_000_000.0

RECIPE = {
    "schema": 1,
    "metanas": "0.1.0",
    "versions": {"python": "3.12.3", "torch": "2.13.0", "metanas": "0.1.0"},
    "created": "2025-10-09T08:53:20+00:00",
    "recipe": {
        "space": {"name": "nasbench201", "options": {"channels": 8, "cells": 1}},
        "data": {"source": "digits"},
        "search": {"controller": "drnas", "epochs": 50, "batch_size": 42},
        "evaluation": {"epochs": 40, "random": 3},
        "seed": 0,
        "device": "cpu",
        "threads": 2,
    },
    "data": {
        "name": "digits",
        "fingerprint": "5f1d",
        "classes": [str(digit) for digit in range(10)],
        "shape": [1, 8, 8],
        "sizes": {"inner": 718, "outer": 719, "test": 360},
    },
}
SPACE = {
    "schema": 1,
    "name": "nasbench201",
    "settings": {"channels": 8, "cells": 1},
    "graph": {},
    "choices": [{"name": edge, "candidates": list(OPERATIONS), "take": 1, "never": []} for edge in EDGES],
}


def benchmark_string(labels: dict[str, str]) -> str:
    nodes = ("|{1<-0}~0|", "|{2<-0}~0|{2<-1}~1|", "|{3<-0}~0|{3<-1}~1|{3<-2}~2|")
    text = "+".join(nodes)
    for edge, label in labels.items():
        text = text.replace("{" + edge + "}", label)
    return text


def mixture(epoch: int, edge: int) -> list[float]:
    """Weights that start uniform and come to prefer the winner; for a while, another operation leads."""
    heat = [0.6 * math.sin(1.3 * place + 2.1 * edge) * math.exp(-epoch / 15) for place in range(5)]
    heat[WINNERS[edge]] += 3.2 * (1 - math.exp(-epoch / 25)) * (0.6 + 0.12 * edge)
    total = sum(math.exp(value) for value in heat)
    return [round(math.exp(value) / total, 4) for value in heat]


def epoch_event(epoch: int, epochs: int, noise: random.Random) -> dict[str, Any]:
    weights = {edge: mixture(epoch, index) for index, edge in enumerate(EDGES)}
    labels = {edge: OPERATIONS[row.index(max(row))] for edge, row in weights.items()}
    entropies = [-sum(w * math.log(w) for w in row if w) / math.log(5) for row in weights.values()]
    fall = math.exp(-epoch / 12)
    return {
        "kind": "epoch",
        "epoch": epoch,
        "epochs": epochs,
        "step": epoch * STEPS,
        "inner_loss": round(0.08 + 2.2 * fall + noise.uniform(0, 0.03), 4),
        "outer_loss": round(0.21 + 2.1 * fall + noise.uniform(0, 0.06), 4),
        "inner_score": round(0.99 - 0.85 * fall - noise.uniform(0, 0.02), 4),
        "outer_score": round(0.96 - 0.84 * fall - noise.uniform(0, 0.03), 4),
        "weights": weights,
        "architecture": labels,
        "key": benchmark_string(labels),
        "entropy": round(sum(entropies) / len(entropies), 4),
        "gap": round(0.4 * fall + 0.02, 4),
        "lr": 0.025,
    }


def search_events(epochs: int, noise: random.Random) -> Iterator[dict[str, Any]]:
    for epoch in range(1, epochs + 1):
        fall = math.exp(-epoch / 12)
        for step in range((epoch - 1) * STEPS + 1, epoch * STEPS + 1):
            yield {
                "kind": "step",
                "step": step,
                "epoch": epoch,
                "inner_loss": round(0.08 + 2.2 * fall + noise.uniform(0, 0.2), 4),
                "outer_loss": round(0.21 + 2.1 * fall + noise.uniform(0, 0.3), 4),
                "gradient_norm": round(0.5 + fall, 4),
                "skipped": 2 if epoch > 7 else 0,
            }
        yield epoch_event(epoch, epochs, noise)
        if epoch == 8:
            yield {
                "kind": "log",
                "level": "warning",
                "message": "2 updates at step 121 were not finite and were skipped",
            }


def training_events(networks: int, epochs: int, noise: random.Random) -> Iterator[dict[str, Any]]:
    for index in range(networks):
        name = f"random {index}" if index else "derived"
        for epoch in range(1, epochs + 1):
            loss = 0.03 + 2.2 * math.exp(-epoch / 6)
            accuracy = 0.995 - 0.85 * math.exp(-epoch / 5)
            yield {
                "kind": "train",
                "network": name,
                "epoch": epoch,
                "epochs": epochs,
                "loss": round(loss, 4),
                "score": round(accuracy, 4),
            }
        labels = {
            edge: OPERATIONS[(winner + index * place) % 5]
            for place, (edge, winner) in enumerate(zip(EDGES, WINNERS, strict=True))
        }
        yield {
            "kind": "network",
            "network": name,
            "key": benchmark_string(labels),
            "architecture": labels,
            "test_score": round(0.9861 - 0.0139 * index - noise.uniform(0, 0.005), 4),
            "test_loss": round(0.06 + 0.04 * index, 4),
            "parameters": 73_412 - 9_000 * index,
            "multiply_adds": 2_310_000 - 310_000 * index,
            "seconds": 9.5,
        }


def fake_events(epochs: int = 50, networks: int = 4) -> list[dict[str, Any]]:
    """All events of the run, half a second of work after the other."""
    noise = random.Random(0)
    begin = {"kind": "begin", "host": "bench", "pid": 4242, "resumed": False, "step": 0, "versions": RECIPE["versions"]}
    events = [begin, {"kind": "log", "level": "info", "message": "NAS-Bench-201 on digits: 15625 architectures"}]
    events += search_events(epochs, noise)
    events += training_events(networks, 40, noise)
    events.append({"kind": "end", "status": "finished", "message": None})
    stamps = (index * 0.05 for index in range(len(events)))
    return [
        {"kind": event["kind"], "at": BEGAN + t, "elapsed": round(t, 3), **event}
        for event, t in zip(events, stamps, strict=True)
    ]


def write_run(folder: Path, events: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    (folder / "space.json").write_text(json.dumps(SPACE))
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


@pytest.fixture(scope="session")
def events() -> list[dict[str, Any]]:
    return fake_events()


@pytest.fixture(scope="session")
def documents() -> tuple[dict[str, Any], dict[str, Any]]:
    """recipe.json and space.json."""
    return RECIPE, SPACE


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the fake run, or other events, into a folder called `first`."""

    def make(events: list[dict[str, Any]] | None = None, name: str = "first") -> Path:
        return write_run(tmp_path / name, fake_events() if events is None else events)

    return make
