"""Images by class in a folder or a zip: the same data as the same arrays, and every fault in one line with counts."""

from __future__ import annotations

import io
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from metanas.data import load_data
from metanas.errors import DataError, MissingDependencyError

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")
NAMES = ("cat", "dog", "emu", "fox")


def write(root: Path, images: np.ndarray, labels: np.ndarray, suffix: str = "png") -> Path:
    """The images (N, C, H, W) as files root/class/number; in the order of the labels they stand as they came."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        k = int((labels[:i] == label).sum())  # counted by class, so that the classes must come first in the order
        file = root / NAMES[label] / f"{k:03}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(file)
    return root


def packed(folder: Path, file: Path, top: str = "") -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, top + str(path.relative_to(folder)))
    return file


def refused(source: object, **options) -> str:
    with pytest.raises(DataError) as raised:
        load_data(source, **options)
    assert "\n" not in str(raised.value) and "\x1b" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def by_class(labels) -> np.ndarray:
    return np.sort(labels)


@pytest.fixture
def photos(tmp_path, pixels, by_class) -> Path:
    return write(tmp_path / "photos", pixels, by_class)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_a_folder_is_its_arrays(tmp_path, pixels, by_class, channels, suffix):
    write(tmp_path / "photos", pixels[:, :channels], by_class, suffix)
    found = load_data(tmp_path / "photos")
    expected = load_data((pixels[:, :channels], by_class), classes=NAMES)
    assert (found.name, found.shape, found.classes) == ("photos", (channels, 6, 8), NAMES)
    assert found.fingerprint == expected.fingerprint and torch.equal(found.test.inputs, expected.test.inputs)
    assert load_data(f"{tmp_path / 'photos'}/").fingerprint == expected.fingerprint


@pytest.mark.parametrize("top", ["", "photos/"])
def test_a_zip_is_its_folder(photos, tmp_path, top):
    file = packed(photos, tmp_path / "some.zip", top)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("__MACOSX/photos/cat/._000.png", b"x")
        archive.writestr(".DS_Store", b"x")
    before = sorted(tmp_path.rglob("*"))
    found = load_data(file)
    assert found.name == "some" and found.fingerprint == load_data(photos).fingerprint
    assert sorted(tmp_path.rglob("*")) == before


def test_splits_in_folders_are_kept(tmp_path, pixels, labels):
    parts = {"inner": slice(0, 20), "outer": slice(20, 40), "test": slice(40, 60)}
    arrays = {part: (pixels[rows], np.sort(labels[rows])) for part, rows in parts.items()}
    for part, pair in arrays.items():
        write(tmp_path / "a" / part, *pair)
    assert load_data(tmp_path / "a").fingerprint == load_data(arrays, classes=NAMES).fingerprint
    pairs = {"train": (pixels[:40], np.sort(labels[:40])), "test": arrays["test"]}
    for part, pair in pairs.items():
        write(tmp_path / "b" / part, *pair)
    assert load_data(tmp_path / "b", inner=16).fingerprint == load_data(pairs, inner=16, classes=NAMES).fingerprint


def test_identical_images_in_two_splits_are_leakage(tmp_path, pixels, by_class):
    write(tmp_path / "train", pixels, by_class)
    write(tmp_path / "test", pixels[::5], by_class[::5])
    assert "12 of 12 test images are also in train" in refused(tmp_path)
    assert load_data(tmp_path, overlap="allow").sizes["test"] == 12


def test_splits_that_are_no_form_are_not_taken_for_classes(tmp_path, pixels, by_class):
    write(tmp_path / "train", pixels, by_class)
    write(tmp_path / "val", pixels, by_class)
    assert (
        "must hold the splits train and test, or inner, outer and test, or folders of classes; got 'train', 'val'"
        in (refused(tmp_path))
    )


def test_sizes(tmp_path, pixels, by_class):
    assert load_data(write(tmp_path / "a", pixels, by_class), size=4).shape == (3, 4, 4)
    large = np.kron(pixels, np.ones((1, 1, 12, 12), dtype=np.uint8))  # 72 x 96
    assert load_data(write(tmp_path / "b", large, by_class)).shape == (3, 32, 32)
    Image.new("RGB", (9, 5)).save(tmp_path / "a" / "cat" / "other.png")
    assert load_data(tmp_path / "a").shape == (3, 32, 32)
    for wrong in (0, -1, True, 2.5, 5000):
        assert refused(tmp_path / "a", size=wrong) == f"size must be an integer, 1 to 4096, got {wrong!r}"
    for source in ("digits", (pixels, by_class)):
        assert "size is for folders and zips of images" in refused(source, size=8)


def picture(tmp_path: Path, image: object, name: str = "a.png", size: int | None = None, **options) -> torch.Tensor:
    """The pixels (C, H, W) that a file becomes; the fillers beside it have its size and are grey."""
    root = tmp_path / name.replace(".", "-")
    for i in range(8):
        (root / NAMES[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", image.size, 20 + i).save(root / NAMES[i % 2] / f"z{i}.png")
    image.save(root / "cat" / name, **options)
    from metanas.data.folder import read_images

    return read_images(root, size)[1]["train"][0][0]


def test_kinds_of_pixels(tmp_path):
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    alpha = np.stack([grey] * 3 + [np.where(grey > 100, 255, 0).astype(np.uint8)], axis=2)
    palette = Image.fromarray(np.stack([grey, grey // 2, grey // 3], axis=2)).quantize(24)
    on_white = torch.from_numpy(np.where(grey > 100, grey, 255))
    assert torch.equal(picture(tmp_path, Image.fromarray(grey))[0], torch.from_numpy(grey))
    assert torch.equal(picture(tmp_path, Image.fromarray(alpha), "b.png"), on_white.expand(3, 4, 6))
    assert torch.equal(picture(tmp_path, Image.fromarray(alpha).convert("LA"), "c.png")[0], on_white)
    expected = torch.from_numpy(np.array(palette.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(picture(tmp_path, palette, "d.png"), expected)
    assert picture(tmp_path, Image.new("CMYK", (6, 4)), "e.jpg").shape == (3, 4, 6)
    for name in ("f.png", "g.tiff"):
        deep = Image.fromarray(grey.astype(np.uint16) * 257)
        assert torch.equal(picture(tmp_path, deep, name)[0], torch.from_numpy(grey))
    with pytest.raises(DataError, match=r"1 image \('cat/h.tiff'\) unreadable \(pixels of 32 bits\)"):
        picture(tmp_path, Image.fromarray(grey.astype(np.float32)), "h.tiff")


def test_the_orientation_is_applied(tmp_path):
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    from metanas.data.pictures import header, pixels

    file = io.BytesIO()
    Image.fromarray(grey).save(file, "png", exif=exif)
    assert header(file.getvalue()).size == (4, 6)
    assert torch.equal(pixels(file.getvalue(), True, (4, 6)), torch.from_numpy(np.rot90(grey, -1).copy()))


def test_scaled_until_it_covers_and_cut_around_the_centre():
    from metanas.data.pictures import pixels

    wide = np.zeros((8, 24), dtype=np.uint8)
    wide[:, 8:16] = 200  # the centre; what stands left and right of it is cut off
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "png")
    assert (pixels(file.getvalue(), True, (8, 8)) == 200).all()
    small = pixels(file.getvalue(), True, (4, 4))
    assert small.shape == (4, 4) and (small[:, 1:3] > 190).all()


def test_faults_are_said_at_once(photos):
    (photos / "cat" / "bad.png").write_bytes(b"no image")
    (photos / "dog" / "cut.png").write_bytes((photos / "dog" / "005.png").read_bytes()[:20])
    assert refused(photos).endswith(
        "has 2 images ('cat/bad.png', 'dog/cut.png') unreadable (damaged, cut short or no image): repair or remove them"
    )
    (photos / "empty").mkdir()
    (photos / "loose.png").write_bytes(b"")
    (photos / "cat" / "below").mkdir()
    (photos / "cat" / "below" / "deep.png").write_bytes(b"")
    message = refused(photos)
    for part in (
        "1 folder ('empty') without images",
        "1 image ('loose.png') outside a class folder",
        "1 image ('cat/below/deep.png') in folders below a class",
    ):
        assert part in message


def test_a_file_that_was_cut_short(photos):
    noise = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "dog" / "cut.png")
    whole = (photos / "dog" / "cut.png").read_bytes()
    (photos / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert "1 image ('dog/cut.png') unreadable (damaged, cut short or no image)" in refused(photos)


def test_nothing_and_one_class(tmp_path, pixels):
    (tmp_path / "none").mkdir()
    assert "has no images (known by .bmp, .gif" in refused(tmp_path / "none")
    write(tmp_path / "one", pixels, np.zeros(60, dtype=int))
    assert "has 1 class folders ('cat'), where at least 2 are needed" in refused(tmp_path / "one")


def test_other_files_are_counted_and_hidden_ones_passed_over(photos):
    expected = load_data(photos).fingerprint
    for name in (".DS_Store", "cat/.hidden.png", "cat/Thumbs.db"):
        (photos / name).write_bytes(b"x")
    assert load_data(photos).fingerprint == expected
    (photos / "notes\x1b[31m.txt").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"photos': 1 file \('notes\\x1b\[31m.txt'\) ignored") as said:
        assert load_data(photos).fingerprint == expected
    assert len(said) == 1 and "\x1b" not in str(said[0].message)


def test_links(photos, tmp_path):
    expected = load_data(photos).fingerprint
    (photos / "cat" / "round").symlink_to(photos)  # a circle
    outside = tmp_path / "outside.png"
    Image.new("RGB", (8, 6)).save(outside)
    (photos / "dog" / "out.png").symlink_to(outside)
    with pytest.warns(UserWarning, match=r"1 file \('dog/out.png'\) ignored: no image by name, or a link out of it"):
        assert load_data(photos).fingerprint == expected


def test_hostile_names_are_inert(photos):
    (photos / "cat" / "a\x1b]0;x\x07\u202egnp.png").write_bytes(b"x")
    (photos / "\x1b[2J\n").mkdir()
    message = refused(photos)
    assert r"'\x1b[2J\n'" in message
    (photos / "\x1b[2J\n").rmdir()
    message = refused(photos)
    assert r"a\x1b]0;x\x07\u202egnp.png" in message and "\u202e" not in message


def test_bombs(photos, tmp_path):
    Image.new("1", (12_000, 12_000)).save(photos / "cat" / "bomb.png")
    assert "1 image ('cat/bomb.png') unreadable (more than 100,000,000 pixels)" in refused(photos)
    Image.new("1", (20_000, 20_000)).save(photos / "cat" / "bomb.png")
    assert "1 image ('cat/bomb.png') unreadable (more than 100,000,000 pixels)" in refused(photos)
    (photos / "cat" / "bomb.png").unlink()
    file = packed(photos, tmp_path / "b.zip")
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("cat/b.png", "w") as member:
        for _ in range(257):
            member.write(bytes(2**20))
    assert "1 image ('cat/b.png') unreadable (more than 268,435,456 bytes)" in refused(file)


@pytest.mark.parametrize("name", ["../cat/x.png", "/cat/x.png", "cat/../../x.png"])
def test_names_that_lead_out_of_a_zip(photos, tmp_path, name):
    file = packed(photos, tmp_path / "a.zip")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, b"x")
    assert f"has 1 name ({name!r}) leading out of it: pack the folder again" in refused(file)


def test_damaged_zips(photos, tmp_path):
    file = packed(photos, tmp_path / "a.zip")
    whole = bytearray(file.read_bytes())
    (tmp_path / "cut.zip").write_bytes(whole[:500])
    assert "is not a zip of images" in refused(tmp_path / "cut.zip")
    at = whole.index(b"IDAT")
    whole[at : at + 4] = b"XXXX"
    file.write_bytes(whole)
    assert "unreadable (damaged in the zip)" in refused(file)


def test_without_pillow(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "Pillow>=11,<14"$'):
        load_data(photos)


def test_nothing_is_warned_of_sound_images(photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_data(photos)
