"""Runs that never happened, as their folders would tell of them, with known numbers: a NAS-Bench-201 search of 50
epochs, and a tuning of 200 outer steps."""

from __future__ import annotations

import json
import math
import os
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


TUNING = {
    "schema": 1,
    "metanas": "0.1.0",
    "kind": "tune",
    "metric": "accuracy",
    "created": "2025-10-09T08:53:20+00:00",
    "data": {"name": "digits", "sizes": {"inner": 718, "outer": 719, "test": 360}},
    "recipe": {
        "network": {"name": "mlp", "options": {"width": 64}},
        "data": {"source": "digits", "wrong_labels": 0.3},
        "learn": {"example_weights": {"start": 0.0}, "decay": {"per": "parameter", "start": 1e-4}, "rate": None},
        "inner": {"rule": "sgd", "lr": 0.1, "steps": 20, "restart": True, "batch_size": 64},
        "outer": {"estimator": "conjugate_gradient", "options": {"tolerance": 1e-4}, "steps": 200, "clip": 0.5},
        "choose": {"values": {"inner.rule": ["sgd", "adam"], "network.options.width": [32, 64]}, "trials": 20},
        "evaluation": {"steps": 1000, "batch_size": 64},
        "seed": 0,
        "device": "auto",
    },
}


def trial_events(trials: int) -> Iterator[dict[str, Any]]:
    best = math.inf
    for trial in range(1, trials + 1):
        value = round(0.29 + 0.013 * ((7 * trial) % trials), 4)
        state = "failed" if trial == 9 else "pruned" if trial % 5 == 0 else "complete"
        best = min(best, value) if state == "complete" else best
        yield {
            "kind": "trial",
            "trial": trial,
            "trials": trials,
            "values": {"inner.rule": ("sgd", "adam")[trial % 2], "network.options.width": (32, 64)[trial % 3 > 0]},
            "value": None if state == "failed" else value,
            "best": None if math.isinf(best) else best,
            "state": state,
            "reason": "outer step 4: the last 10 hypergradients were not finite" if state == "failed" else None,
        }


def outer_events(steps: int, noise: random.Random) -> Iterator[dict[str, Any]]:
    """Steps of a conjugate gradient that fails at 57 and 58, where the curvature is negative."""
    for step in range(1, steps + 1):
        fall, lost = math.exp(-8 * step / steps), step in (57, 58)
        yield {
            "kind": "step",
            "step": step,
            "steps": steps,
            "inner_loss": None,
            "outer_loss": round(0.2 + 2 * fall + noise.uniform(0, 0.05), 4),
            "gradient_norm": None,
            "outer_gradient_norm": round(0.01 + fall, 4),
            "skipped": 1 if step > 58 else 0,
            "stationarity": round(1e-4 + 8e-4 * fall, 6),
            "residual": 3e-3 if lost else 1e-6 + 1e-5 * fall,
            "curvature": -0.02 if lost else round(0.1 + noise.uniform(0, 0.02), 4),
            "converged": not lost,
            "learned": {
                "decay, mean": round(1e-4 + 0.0012 * (1 - fall), 6),
                "decay, largest": round(1e-4 + 0.0215 * (1 - fall), 6),
                "weights below 1/2": round(0.31 * (1 - math.exp(-3 * step / steps)), 4),
                "weight of a wrong label": round(0.5 * math.exp(-2 * step / steps), 4),
            },
        }


def retraining_events() -> Iterator[dict[str, Any]]:
    for name, score in (("learned", 0.9722), ("start", 0.9602)):
        for part in range(1, 21):
            loss, share = 0.05 + 2 * math.exp(-part / 4), score - 0.8 * math.exp(-part / 4)
            yield {
                "kind": "train",
                "network": name,
                "key": None,
                "epoch": part,
                "epochs": 20,
                "loss": round(loss, 4),
                "score": round(share, 4),
            }
        yield {
            "kind": "network",
            "network": name,
            "key": None,
            "architecture": {},
            "test_score": score,
            "test_loss": round(1.1 - score, 4),
            "parameters": 9_610,
            "multiply_adds": None,
            "seconds": 3.2,
        }


def fake_tuning(trials: int = 20, steps: int = 200) -> list[dict[str, Any]]:
    """All events of a tuning run, a tenth of a second of work after the other."""
    begin = {"kind": "begin", "host": "bench", "pid": 4242, "resumed": False, "step": 0, "versions": {}}
    events = [begin, {"kind": "log", "level": "info", "message": "digits: 30.0% of the inner labels replaced"}]
    events += trial_events(trials)
    events += outer_events(steps, random.Random(0))
    events += retraining_events()
    events.append({"kind": "end", "status": "finished", "message": None})
    stamps = [round(index * 0.1, 3) for index in range(len(events))]
    return [
        {"kind": event["kind"], "at": BEGAN + t, "elapsed": t, **event} for event, t in zip(events, stamps, strict=True)
    ]


@pytest.fixture(scope="session")
def tuning_events() -> list[dict[str, Any]]:
    return fake_tuning()


@pytest.fixture(scope="session")
def tuning_recipe() -> dict[str, Any]:
    """recipe.json; there is no space.json."""
    return TUNING


@pytest.fixture
def make_tuning(tmp_path: Path) -> Callable[..., Path]:
    """Writes the fake tuning run, or other events, into a folder called `second`."""

    def make(events: list[dict[str, Any]] | None = None) -> Path:
        folder = tmp_path / "second"
        folder.mkdir()
        (folder / "recipe.json").write_text(json.dumps(TUNING))
        lines = (json.dumps(event) + "\n" for event in (fake_tuning() if events is None else events))
        (folder / "events.jsonl").write_text("".join(lines))
        return folder

    return make


EXPECTED = Path(__file__).parent / "expected"
REWRITE = os.environ.get("METANAS_REWRITE") == "1"


@pytest.fixture(scope="session")
def expected() -> Callable[[str, str], None]:
    """`expected(name, text)`: the text is exactly that of tests/ui/expected/<name>.txt; no text, no file.

    METANAS_REWRITE=1 writes the files anew instead: read what changed (`git diff tests/ui/expected`) before it is kept.
    """

    def check(name: str, text: str) -> None:
        path = EXPECTED / f"{name}.txt"
        if REWRITE and text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif REWRITE:
            path.unlink(missing_ok=True)
        assert text == (path.read_text(encoding="utf-8") if path.exists() else "")

    return check
