"""A run that learns from descriptions: classes never seen, what is read back, and which describer is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import metanas
from metanas.errors import DataError
from metanas.modes import Interpolated, interpolated
from metanas.run import read_events

ROWS, COLUMNS, INKS = ("top", "middle", "bottom"), ("left", "centre", "right"), ("thin", "thick")
UNSEEN = {"test": ["top left thick", "middle centre thin", "bottom right thick"]}
QUICK = {
    "network.options": {"width": 6, "depth": 2},
    "network.embedding": 16,
    "episodes.ways": 6,
    "episodes.queries": 4,
    "episodes.tasks": 1,
    "outer.steps": 60,
    "evaluation.ways": 3,
    "evaluation.queries": 4,
    "evaluation.validation": 20,
    "evaluation.episodes": 20,
    "evaluation.every": 30,
    "evaluation.pooled": 4,
    "threads": 1,
    "device": "cpu",
}


def names() -> dict[str, dict[str, str]]:
    """The 18 classes: where on an image of 12x12 something stands, and how thick it is."""
    return {f"{r} {c} {i}": {"row": r, "column": c, "ink": i} for r in ROWS for c in COLUMNS for i in INKS}


def images(each: int = 16) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    rows, labels = [], []
    for name, of in names().items():
        x = draw.integers(0, 60, (each, 12, 12))
        at, beside, size = 4 * ROWS.index(of["row"]), 4 * COLUMNS.index(of["column"]), 2 + INKS.index(of["ink"])
        x[:, at : at + size, beside : beside + size] += 160
        rows.append(x.astype(np.uint8))
        labels += [name] * each
    return np.concatenate(rows), np.array(labels)


def split(validation: int = 3) -> metanas.data.ClassData:
    x, labels = images()
    numbers = np.array([list(names()).index(name) for name in labels])
    return metanas.data.load_classes((x, numbers), validation=validation, classes=list(names()), **UNSEEN)


def learned(run: Path, **settings: Any) -> Any:
    return metanas.fewshot(data=split(), learner="zero_shot", descriptions=names(), run=run, settings=QUICK | settings)


def said(run: Path) -> str:
    return " ".join(str(event) for event in read_events(run / "events.jsonl").events)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return learned(tmp_path_factory.mktemp("told") / "first")


def test_classes_never_seen_are_told_apart(made):
    assert made.accuracy > 0.7, "chance is one third"
    x, labels = images()
    told = made.learner.describe({name: names()[name] for name in UNSEEN["test"]})
    right = [told.predict(x[labels == name]).count(name) for name in UNSEEN["test"]]
    assert sum(right) > 0.7 * 48
    assert told.classes == tuple(UNSEEN["test"])


def test_prototypes_lie_between_those_of_the_training_classes(made):
    """The describer is the regression of the classes' mean embeddings, worked out here from the images."""
    learner, known = made.learner, made.learner.outer["describer"]
    assert set(known) == {"known", "weights", "mean", "rate"} and known["known"].shape == (12, 8)
    x, labels = images()
    names_of = learner.known.names
    with torch.no_grad():
        rows = learner.pixels.inputs(x, torch.device("cpu"))
        means = [
            learner.few_shot.embed(learner.outer, rows[torch.from_numpy(labels == name)], learner.statistics).mean(0)
            for name in names_of
        ]
    assert torch.allclose(torch.stack(means).mean(0), known["mean"], atol=1e-5), "classes weigh the same"
    module = Interpolated.blank(12, 8, 16)
    module.load_state_dict(known)
    near = torch.cosine_similarity(module(learner.known.vectors).detach(), torch.stack(means), dim=1)
    assert float(near.min()) > 0.9


def test_what_was_learned_is_read_back_bit_for_bit(made):
    x, _ = images()
    asked = {name: names()[name] for name in UNSEEN["test"]}
    scores = made.learner.describe(asked).scores(x[:20])
    assert torch.equal(metanas.load_learner(made.run).describe(asked).scores(x[:20]), scores)
    with pytest.raises(DataError, match="unknown key 'rwo'; did you mean \"row\""):
        made.learner.describe({"a": {"rwo": "top", "column": "left", "ink": "thin"}, "b": asked["top left thick"]})


def test_the_describer_that_tells_validation_classes_apart_better_is_kept(made, tmp_path, monkeypatch):
    assert "12 training classes" in said(made.run) and "as trained" in said(made.run)
    from metanas.api import few_shot_session

    plain = learned(tmp_path / "plain", **{"learner.interpolate": False})
    assert "0.weight" in plain.learner.outer["describer"] and "training classes:" not in said(plain.run)

    def worse(self: Any, few_shot: Any, network: Any, outer: Any) -> Any:
        return few_shot, {**outer, "weights": {k: torch.zeros_like(v) for k, v in outer["weights"].items()}}

    monkeypatch.setattr(few_shot_session.FewShotParts, "interpolated", worse)
    kept = learned(tmp_path / "kept")
    assert "the describer stays as it was trained" in said(kept.run)
    for name, x in plain.learner.outer["describer"].items():
        assert torch.equal(kept.learner.outer["describer"][name], x)
    assert kept.accuracy == plain.accuracy
    results = [json.loads((one.run / "result.json").read_text()) for one in (made, kept, plain)]
    assert [result["interpolated"] for result in results] == [True, False, None]


def test_a_learner_whose_embeddings_are_not_finite_keeps_its_describer(tmp_path, monkeypatch):
    from metanas.api import describing

    def broken(rows: Any, means: Any, mean: Any = None) -> Any:
        return interpolated(rows, means * torch.nan)

    monkeypatch.setattr(describing, "interpolated", broken)
    kept = learned(tmp_path / "kept", **{"outer.steps": 5})
    assert "0.weight" in kept.learner.outer["describer"]
    assert "no prototypes between those of the training classes: descriptions or emb" in said(kept.run)
    assert json.loads((kept.run / "result.json").read_text())["interpolated"] is False


def test_several_wordings_are_anchors_each(tmp_path, monkeypatch):
    """As many as are few; of more, a class has one."""
    from metanas.api import describing

    told = {name: [f"{name} ink", f"a {of['ink']} mark, {of['row']} {of['column']}"] for name, of in names().items()}
    settings = QUICK | {"outer.steps": 5}
    given: dict[str, Any] = {"data": split(0), "learner": "zero_shot", "descriptions": told, "settings": settings}
    made = metanas.fewshot(**given, run=tmp_path / "each").learner
    assert len(made.outer["describer"]["known"]) == 30
    assert torch.equal(made.outer["describer"]["known"][:2], made.known.rows[0])
    monkeypatch.setattr(describing, "ANCHORS", 29)
    made = metanas.fewshot(**given, run=tmp_path / "one").learner
    assert torch.equal(made.outer["describer"]["known"], made.known.vectors)


def test_a_network_of_ones_own_by_distance_is_read_back(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 16))
    settings = {name: value for name, value in QUICK.items() if name != "network.options"}
    settings |= {"learner.options": {"likeness": "distance"}, "outer.steps": 40}
    given: dict[str, Any] = {"data": split(), "learner": "zero_shot", "descriptions": names(), "settings": settings}
    made = metanas.fewshot(**given, network=own, run=tmp_path / "own")
    assert made.accuracy > 0.6 and "known" in made.learner.outer["describer"]
    x, asked = images()[0][:20], {name: names()[name] for name in UNSEEN["test"]}
    scores = made.learner.describe(asked).scores(x)
    assert torch.equal(metanas.load_learner(made.run, network=own).describe(asked).scores(x), scores)
