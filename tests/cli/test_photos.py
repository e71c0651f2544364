"""`metanas search --data photos/`: from image files to a module that classifies them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")
QUICK = [
    "--threads=1", "--device=cpu", "--epochs=1", "--set=space.options.channels=2", "--plain", "--set=data.size=8",
    "--set=search.batch_size=16", "--set=search.warmup=0", "--set=evaluation.epochs=1", "--set=evaluation.random=0",
    "--set=search.monitor=16",
]  # fmt: skip


def test_a_folder_from_the_command_line(commands: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(40):
        file = tmp_path / "photos" / ("cats", "dogs")[k % 2] / f"{k}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10 + k % 5, 14, 3), dtype=np.uint8)).save(file)
    (tmp_path / "photos" / "no\x1b[31mtes.txt").write_text("x")
    job = commands.run(["search", "--data=photos/", *QUICK, "--run=first"], tmp_path)
    assert job.code == 0, job.errors
    assert job.output.startswith("first: search nasbench201 on photos with drnas, 1 epochs")
    assert job.errors.startswith("warning: 'photos': 1 file ") and "\x1b" not in job.errors
    assert len(job.errors.splitlines()) == 1
    job = commands.run(["export", "first", "--to=out"], tmp_path)
    assert job.code == 0 and (tmp_path / "out" / "network.py").exists()
    for file in (tmp_path / "photos" / "dogs").iterdir():
        file.unlink()
    job = commands.run(["search", "--data=photos", *QUICK], tmp_path)
    assert job.code == 1 and "1 folder ('dogs') without images; 1 class folders ('cats'), where at" in job.errors
