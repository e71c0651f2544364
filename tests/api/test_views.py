"""Several looks at each image: the run's test, the learner that it leaves and the classifier are the same by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import metanas
from metanas.data import Episodes, load_classes
from metanas.data.warps import views
from metanas.errors import DataError

TINY = {
    "network.options": {"width": 4, "depth": 2},
    "network.embedding": 6,
    "episodes.ways": 2,
    "episodes.queries": 3,
    "episodes.tasks": 2,
    "outer.steps": 2,
    "evaluation.validation": 2,
    "evaluation.episodes": 3,
    "evaluation.ways": 2,
    "evaluation.queries": 4,
    "evaluation.pooled": 2,
    "evaluation.views": 3,
    "threads": 1,
    "device": "cpu",
}


def test_a_learner_looks_at_an_image_as_often_as_its_run_did(tmp_path: Path) -> None:
    result = metanas.fewshot(settings=TINY, run=tmp_path / "run")
    data = load_classes("digits")
    learner = metanas.load_learner(tmp_path / "run")
    assert learner.views == 3
    right = []
    for step in range(3):
        # Pixels as the source has them, of the episodes of the run's test.
        episodes = Episodes(data, "test", 2, 1, 4, tasks=3)
        (images, labels), (asked, wanted), _ = episodes.at(0)
        pixels = [x[step] * torch.tensor(data.std).view(-1, 1, 1) + torch.tensor(data.mean).view(-1, 1, 1)
                  for x in (images, asked)]  # fmt: skip
        classifier = learner.adapt(pixels[0], labels[step].tolist())
        found = classifier.scores(pixels[1])
        right += [(found.argmax(-1) == wanted[step]).float().mean()]
        looks = [classifier.network(look) for look in views(asked[step], 3, data.normalised(torch.zeros(data.shape)))]
        torch.testing.assert_close(found, torch.stack(looks).mean(0), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(found, looks[0], rtol=1e-2)
        once = metanas.api.Learner(**{**vars(learner), "views": 1}).adapt(pixels[0], labels[step].tolist())
        assert not torch.allclose(once.scores(pixels[1]), looks[0], rtol=1e-2)  # examples are looked at as often
    assert result.accuracy == pytest.approx(float(torch.stack(right).mean()))
    assert classifier._limits() and not once._limits()


def test_views_of_rows_are_refused(tmp_path: Path) -> None:
    rows = torch.rand(60, 5).numpy(), (torch.arange(60) % 10).numpy()
    settings = {**TINY, "network.name": "mlp", "network.options": {}}
    with pytest.raises(DataError, match=r"^evaluation.views is for images, the data are rows \(5,\): make it 1$"):
        metanas.fewshot(data=rows, settings=settings, run=tmp_path / "run")
