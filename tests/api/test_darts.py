"""A whole search in the space of DARTS, with the extras of its evaluation: drop path and the auxiliary head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import metanas
from metanas.errors import RecipeError, ShapeError
from metanas.recipe.spaces import load_space
from metanas.run.checkpoints import load

Quick = Callable[..., Any]
EXTRAS = {
    "search.epochs": 1,
    "evaluation.epochs": 3,
    "evaluation.batch_size": 16,
    "evaluation.random": 0,
    "evaluation.drop_path": 0.3,
    "evaluation.auxiliary": 0.4,
    "checkpoint_seconds": 0,
}


@pytest.fixture(scope="module")
def photos() -> tuple[Tensor, Tensor]:
    labels = torch.arange(80) % 2
    noise = torch.randn(80, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return noise + labels[:, None, None, None], labels


@pytest.mark.long
def test_stopped_in_the_training_it_goes_on_bit_for_bit(quick: Quick, photos: Any) -> None:
    space = load_space("darts", channels=2, layers=3)
    whole = quick(space, photos, settings=EXTRAS, run="whole")

    class StopError(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:
        real = metanas.api.recorder.Recorder.train

        def stop(self: Any, name: str, architecture: Any, epoch: Any) -> None:
            real(self, name, architecture, epoch)
            if epoch.epoch == 3:
                raise StopError

        patch.setattr(metanas.api.recorder.Recorder, "train", stop)
        with pytest.raises(StopError):
            quick(space, photos, settings=EXTRAS, run="cut")
    held = load(Path("runs/cut/checkpoints")).tree["state"]["training"]
    assert held["epoch"] == 2 and any(name.startswith("head.") for name in held["network"])
    again = metanas.resume("cut", data=photos)
    assert again.found == whole.found
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], weight)


@pytest.mark.long
def test_the_head_is_not_counted_nor_exported(quick: Quick, photos: Any, tmp_path: Path) -> None:
    space = load_space("darts", channels=2, layers=3)
    result = quick(space, photos, settings={**EXTRAS, "evaluation.epochs": 1})
    assert result.found.parameters == sum(p.numel() for p in result.network.parameters()) < 20_000
    paths = metanas.export(result, tmp_path / "out", formats=["python", "safetensors", "json"])
    assert "768" not in paths[0].read_text()
    plain = quick(space, photos, settings={**EXTRAS, "evaluation.epochs": 1, "evaluation.auxiliary": 0.0})
    assert plain.found.parameters == result.found.parameters and plain.found.test_loss != result.found.test_loss


def test_where_there_is_no_place_for_a_head(quick: Quick, images: Any, photos: Any) -> None:
    with pytest.raises(RecipeError, match=r"evaluation\.auxiliary: tiny names no node for an auxiliary head; take 0"):
        quick(settings={"evaluation.auxiliary": 0.4})
    small = (photos[0][:, :, :4, :4], photos[1])
    with pytest.raises(ShapeError, match="the auxiliary head reads images of 2x2 pixels and more, got") as error:
        quick(load_space("darts", channels=2, layers=3), small, settings=EXTRAS)
    assert "\n" not in str(error.value) and not Path("runs").exists()
