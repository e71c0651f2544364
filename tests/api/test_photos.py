"""A search on a folder of images is the search on their arrays, bit for bit, up to the module that is exported."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metanas
from metanas.errors import InterruptedSearchError, RunError
from metanas.run import ask, latest, read_events

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")
Quick = Callable[..., Any]
UNEQUAL = ("begin", "log", "end", "pace", "need")
MEASURED = ("at", "elapsed", "seconds", "memory", "host_memory")


@contextmanager
def stopping(folder: Path) -> Iterator[None]:
    """A view that asks the run to stop as soon as it has begun."""
    ask(folder, "stop")
    yield


def write(root: Path, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> Path:
    """Images (N, H, W, C), sorted by label, as PNG files by class."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = root / names[label] / f"{i:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return root


def curve(run: Path) -> list[dict[str, Any]]:
    events = [e for e in latest(read_events(run / "events.jsonl").events) if e["kind"] not in UNEQUAL]
    return [{k: v for k, v in event.items() if k not in MEASURED} for event in events]


def same_search(quick: Quick, folder: Path, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> None:
    found, expected = quick(data=folder), quick(data={"x": images, "y": labels, "classes": np.array(names)})
    prints = [json.loads((one.run / "recipe.json").read_text())["data"]["fingerprint"] for one in (found, expected)]
    assert prints[0] == prints[1]
    steps = curve(found.run)
    assert len(steps) > 3 and steps == curve(expected.run)
    assert found.architecture == expected.architecture and found.test_accuracy == expected.test_accuracy
    weights = [one.network.state_dict() for one in (found, expected)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.fixture(scope="module")
def made() -> tuple[np.ndarray, np.ndarray]:
    """60 colour images 8x8 of two classes, the second brighter."""
    labels = np.repeat([0, 1], 30)
    images = np.random.default_rng(0).integers(0, 150, (60, 8, 8, 3)) + 100 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def test_a_folder_is_searched_as_its_arrays(quick: Quick, tmp_path: Path, made: Any) -> None:
    same_search(quick, write(tmp_path / "photos", *made, ("dark", "light")), *made, ("dark", "light"))


def test_cifar_as_files_is_searched_as_its_arrays(quick: Quick, tmp_path: Path) -> None:
    if "METANAS_DATA" not in os.environ:
        pytest.skip("needs METANAS_DATA, a folder with cifar10_train.npz")
    script = Path(metanas.__file__).parents[1] / "benchmarks" / "cifar.py"
    spec = importlib.util.spec_from_file_location("benchmarks_cifar", script)
    assert spec is not None and spec.loader is not None
    cifar = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cifar)
    arrays = cifar.cifar16(Path(os.environ["METANAS_DATA"]), train=200, seed=1)
    order = np.argsort(arrays["y_train"], kind="stable")
    images, labels = (arrays[key][order] for key in ("x_train", "y_train"))
    images = images.transpose(0, 2, 3, 1)
    kept = np.concatenate([np.flatnonzero(labels == label)[:6] for label in range(10)])  # 60 images
    names = tuple(str(name) for name in arrays["classes"])
    assert names == tuple(sorted(names))  # so that the labels are the same in the folder
    same_search(quick, write(tmp_path / "photos", images[kept], labels[kept], names), images[kept], labels[kept], names)


def test_a_folder_that_changed_is_refused(quick: Quick, tmp_path: Path, made: Any) -> None:
    folder = write(tmp_path / "photos", *made, ("dark", "light"))
    with pytest.raises(InterruptedSearchError):
        quick(data=folder, run="first", view=stopping)
    run = metanas.load_run("first")
    Image.fromarray(255 - made[0][3]).save(folder / "dark" / "003.png")
    with pytest.raises(RunError, match=r"the data are not those of .*: fingerprint was .*, is .*; give the same data"):
        run.resume()
    (folder / "dark" / "003.png").unlink()
    with pytest.raises(RunError, match=r"the data are not those of .*sizes.*inner was 24, is"):
        run.resume()


@pytest.mark.long
def test_the_exported_module_reads_the_files_as_the_search_did(quick: Quick, tmp_path: Path, made: Any) -> None:
    images, labels = made
    large = np.kron(images, np.ones((1, 5, 6, 1), dtype=np.uint8))  # 40 x 48, and the input of the network is 8 x 8
    folder = write(tmp_path / "photos", large, labels, ("dark", "light"))
    clear = np.concatenate([large[7], np.full((40, 48, 1), 99, dtype=np.uint8)], axis=2)
    Image.fromarray(clear).save(folder / "light" / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(large[0]).save(folder / "dark" / "turned.png", exif=exif)
    Image.fromarray(large[1, :, :, 0].astype(np.uint16) * 256).save(folder / "dark" / "deep.png")
    result = quick(data=folder, settings={"data.size": 8})
    metanas.export(result, tmp_path / "out")
    spec = importlib.util.spec_from_file_location("exported_photos", tmp_path / "out" / "network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = metanas.load_data(folder, size=8)
    seen = torch.cat([data.inner.inputs, data.outer.inputs, data.test.inputs])
    files = sorted(folder.rglob("*.png"))
    assert len(files) == len(seen) == 63
    for file in files:
        inputs = module.read_image(str(file))
        assert min((inputs - one).abs().max() for one in seen) < 1e-5, file
    command = [sys.executable, "-I", "-W", "error", tmp_path / "out" / "network.py", files[0]]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        chances = result.network.eval()(module.read_image(str(files[0])))[0].softmax(0)
    best = int(chances.argmax())
    assert f"{chances[best]:6.1%}  {('dark', 'light')[best]}" in done.stdout.splitlines()[1]
