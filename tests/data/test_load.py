"""Every source of the same images gives the same Data; its splits are sound, normalised and fingerprinted."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from metanas.data import Crop, Data, Flip, load_data, read
from metanas.errors import DataError, MissingDependencyError

NAMES = ("cat", "dog", "emu", "fox")


class Pictures(Dataset):
    def __init__(self, items, classes=None):
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


def same(one: Data, other: Data) -> bool:
    tensors = all(
        torch.equal(getattr(one, part).inputs, getattr(other, part).inputs)
        and torch.equal(getattr(one, part).targets, getattr(other, part).targets)
        for part in ("inner", "outer", "test")
    )
    fields = ("classes", "augment", "fingerprint", "mean", "std", "pixels")
    return tensors and all(getattr(one, field) == getattr(other, field) for field in fields)


@pytest.fixture
def expected(pixels, labels) -> Data:
    return load_data((pixels, labels))


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


def test_digits_are_what_they_are_known_to_be(digits):
    assert sum(digits.sizes.values()) == 1797
    assert digits.shape == (1, 8, 8) and digits.classes == tuple("0123456789") and digits.name == "digits"
    assert digits.augment == (Crop(1),)
    assert digits.pixels == (0.0, 16.0)
    targets = torch.cat([digits.inner.targets, digits.outer.targets, digits.test.targets])
    assert torch.bincount(targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_have_the_fingerprint_of_this_version(digits):
    # A change of these digits means that no run made before can be resumed: it must be on purpose.
    assert digits.fingerprint == "f6f9063a826eda99e03bbd406b9c0ca1e5523cfb39956d6b0ba802cfdc5f5156"


def test_digits_are_those_of_scikit_learn_with_and_without_loading_it(monkeypatch):
    images, labels = read._pixels_and_labels()
    monkeypatch.setattr(read, "find_spec", lambda name: None)  # as where its file has another place
    theirs = read._pixels_and_labels()
    assert np.array_equal(images, theirs[0]) and np.array_equal(labels, theirs[1])
    assert (images.dtype, labels.dtype) == (theirs[0].dtype, theirs[1].dtype)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scikit-learn>=1.5,<2"$'):
        load_data("digits")


def test_splits_are_normalised_by_the_inner_split_only(expected, pixels):
    inner = expected.inner.inputs
    assert inner.dtype == torch.float32 and expected.inner.targets.dtype == torch.long
    assert torch.allclose(inner.mean((0, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(inner.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-6)
    assert expected.outer.inputs.mean().abs() > 1e-4
    # Normalisation undone gives the pixels back, each image once.
    mean, std = (torch.tensor(value)[:, None, None] for value in (expected.mean, expected.std))
    whole = torch.cat([expected.inner.inputs, expected.outer.inputs, expected.test.inputs]) * std + mean
    found = {image.round().to(torch.uint8).numpy().tobytes() for image in whole}
    assert found == {image.tobytes() for image in pixels}


def test_a_constant_channel_stays_finite(labels):
    x = np.random.default_rng(0).random((60, 3, 4, 4))
    x[:, 1] = 7.0
    data = load_data((x, labels))
    assert data.std[1] == 1.0 and torch.equal(data.inner.inputs[:, 1], torch.zeros(24, 4, 4))


def test_the_splits_are_stratified_and_labels_stay_with_their_images(expected, pixels, labels):
    assert expected.sizes == {"inner": 24, "outer": 24, "test": 12}
    assert [torch.bincount(part.targets).tolist() for part in (expected.inner, expected.test)] == [[6] * 4, [3] * 4]
    label_of = {image.tobytes(): label for image, label in zip(pixels, labels, strict=True)}
    mean, std = (torch.tensor(value)[:, None, None] for value in (expected.mean, expected.std))
    for image, label in zip(expected.test.inputs * std + mean, expected.test.targets, strict=True):
        assert label_of[image.round().to(torch.uint8).numpy().tobytes()] == label


def test_the_seed_decides(pixels, labels, expected):
    assert same(load_data((pixels, labels), seed=0), expected)
    assert load_data((pixels, labels), seed=1).fingerprint != expected.fingerprint


def test_tensors_arrays_npz_mapping_and_data_set_are_equal(pixels, labels, expected, tmp_path):
    np.savez(tmp_path / "some.npz", x=pixels, y=labels, unrelated=np.zeros(3))
    np.savez_compressed(tmp_path / "train.npz", x_train=pixels.transpose(0, 2, 3, 1), y_train=labels.astype(np.uint8))
    frozen = pixels.copy()
    frozen.flags.writeable = False
    items = [(image, int(label)) for image, label in zip(pixels, labels, strict=True)]
    sources = [
        (torch.tensor(pixels), torch.tensor(labels)),
        (frozen[::-1][::-1], labels.tolist()),
        tmp_path / "some.npz",
        str(tmp_path / "train.npz"),
        {"x": pixels, "y": labels.astype(np.uint16)},
        {"train": (pixels, labels)},
        Pictures(items),
        Pictures([(torch.tensor(image), torch.tensor(label)) for image, label in items]),
        Pictures([[image.transpose(1, 2, 0), np.int32(label)] for image, label in items]),
    ]
    assert all(same(load_data(source), expected) for source in sources)
    assert load_data(tmp_path / "some.npz").name == "some" and load_data(Pictures(items)).name == "Pictures"


def test_pillow_images_and_palettes(pixels, labels, expected):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pictures = [image.fromarray(picture.transpose(1, 2, 0)) for picture in pixels]
    assert same(load_data(Pictures(list(zip(pictures, labels, strict=True)))), expected)
    palette = [picture.convert("P") for picture in pictures]
    assert load_data(Pictures(list(zip(palette, labels, strict=True)))).shape == (3, 6, 8)


def test_splits_that_the_source_brings_are_kept(pixels, labels, tmp_path):
    parts = {"inner": slice(0, 20), "outer": slice(20, 40), "test": slice(40, 60)}
    mapping = {part: (pixels[rows], labels[rows]) for part, rows in parts.items()}
    data = load_data(mapping)
    assert data.sizes == {"inner": 20, "outer": 20, "test": 20}
    assert torch.equal(data.outer.targets, torch.tensor(labels[20:40]))
    arrays = {f"x_{part}": x for part, (x, _) in mapping.items()} | {f"y_{p}": y for p, (_, y) in mapping.items()}
    np.savez(tmp_path / "parts.npz", **arrays, classes=np.array(NAMES))
    again = load_data(tmp_path / "parts.npz")
    assert again.classes == NAMES
    assert same(replace(again, classes=data.classes, fingerprint=data.fingerprint), data)
    assert again.fingerprint != data.fingerprint  # the names of the classes are part of the data


def test_a_test_split_that_the_source_brings_is_kept(pixels, labels):
    source = {"x_train": pixels[:40], "y_train": labels[:40], "x_test": pixels[40:], "y_test": labels[40:]}
    data = load_data(source)
    assert data.sizes == {"inner": 20, "outer": 20, "test": 20}
    assert torch.equal(data.test.targets, torch.tensor(labels[40:]))
    assert load_data(source, inner=0.6, outer=8).sizes == {"inner": 24, "outer": 8, "test": 20}


def test_sizes_as_numbers_leave_the_rest_unused(pixels, labels):
    data = load_data((pixels, labels), inner=20, outer=12, test=8)
    assert data.sizes == {"inner": 20, "outer": 12, "test": 8}
    assert len(data.train) == 32 and data.train.inputs.shape == (32, 3, 6, 8)
    assert torch.equal(data.train.targets, torch.cat([data.inner.targets, data.outer.targets]))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((60, 6, 8), (1, 6, 8)),
        ((60, 1, 6, 8), (1, 6, 8)),
        ((60, 6, 8, 1), (1, 6, 8)),
        ((60, 6, 8, 3), (3, 6, 8)),
        ((60, 4, 6, 8), (4, 6, 8)),
        ((60, 4, 4, 3), (3, 4, 4)),
        ((60, 3, 4, 4), (3, 4, 4)),
        ((60, 3, 5, 4), (3, 5, 4)),
        ((60, 12, 9, 9), (12, 9, 9)),
        ((60, 9, 9, 12), (12, 9, 9)),
    ],
)
def test_layouts(shape, expected, labels):
    x = np.random.default_rng(0).random(shape)
    data = load_data((x, labels), augment=())
    assert data.shape == expected and data.augment == ()


def test_a_layout_that_cannot_be_told(labels):
    with pytest.raises(DataError, match=r"\(5, 6, 7\) have no axis of 1, 3 or 4 channels and are not square: permute"):
        load_data((np.zeros((60, 5, 6, 7)), labels))


def test_augment_name_classes_and_pixels_as_asked(pixels, labels):
    data = load_data((pixels, labels), augment=[Flip()], name="mine", classes=NAMES)
    assert (data.augment, data.name, data.classes, data.pixels) == ((Flip(),), "mine", NAMES, (0.0, 255.0))
    assert load_data((np.zeros((60, 16, 16)) + np.arange(60)[:, None, None], labels)).augment == (Crop(2),)


def test_a_data_set_knows_its_class_names(pixels, labels):
    items = list(zip(pixels, labels, strict=True))
    assert load_data(Pictures(items, classes=list(NAMES))).classes == NAMES


def test_the_source_is_not_shared_with_the_data(pixels, labels):
    x, y = torch.tensor(pixels).float(), torch.tensor(labels)
    parts = {"inner": (x[:20], y[:20]), "outer": (x[20:40], y[20:40]), "test": (x[40:], y[40:])}
    data = load_data(parts)
    inputs, targets = data.inner.inputs.clone(), data.inner.targets.clone()
    x.zero_(), y.zero_()
    assert torch.equal(data.inner.inputs, inputs) and torch.equal(data.inner.targets, targets)


def test_one_pixel_or_one_label_changes_the_fingerprint(pixels, labels, expected):
    changed = pixels.copy()
    changed[17, 2, 3, 4] ^= 1
    assert load_data((changed, labels)).fingerprint != expected.fingerprint
    swapped = labels.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert load_data((pixels, swapped)).fingerprint != expected.fingerprint
    assert len(expected.fingerprint) == 64 and same(load_data((pixels, labels), augment=None), expected)


def test_sizes_change_the_fingerprint_and_augmentation_does_not(pixels, labels, expected):
    assert load_data((pixels, labels), inner=0.5, outer=0.3).fingerprint != expected.fingerprint
    assert load_data((pixels, labels), augment=()).fingerprint == expected.fingerprint


def test_a_data_is_returned_as_it_is(expected):
    assert load_data(expected) is expected
    with pytest.raises(DataError, match="a Data is taken as it is, got outer, name as well"):
        load_data(expected, outer=0.5, name="x")


def test_a_data_is_frozen_and_moves(expected):
    with pytest.raises(FrozenInstanceError):
        expected.name = "other"
    moved = expected.to("meta")
    assert moved.device.type == "meta" and moved.test.inputs.is_meta and moved.fingerprint == expected.fingerprint
    assert load_data((torch.rand(30, 4, 4), torch.arange(30) % 2), device="meta").device.type == "meta"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digit", "unknown data 'digit'; did you mean \"digits\"\\?"),
        ("cifar", "unknown data 'cifar'; allowed: digits, or the path of an .npz, a .csv, a folder or a .zip"),
        (
            {"inner": 1, "test": 2},
            "splits must hold train, or train and test, or inner, outer and test; got inner, test",
        ),
        ({"inner": 1, "outer": 2, "test": 3}, r"inner must be a pair \(x, y\) of images and labels, got int"),
        ({}, "inner, outer and test; got nothing"),
        ({"x": 1}, "arrays must hold one y for each x: .*; got x"),
        ({"x": 1, "y": 1, "x_train": 1, "y_train": 1}, "one y for each x: .*; got x, x_train, y, y_train"),
        ({"x_test": 1, "y_test": 1}, "must hold train, or train and test"),
        (3, 'data must be "digits", .* got int'),
        ([1, 2], "got list"),
        ((1, 2, 3), "got tuple"),
        (torch.zeros(3), r"images without labels came: give a tuple \(x, y\)"),
        (np.zeros(3), "images without labels came"),
        (Endless(), "an IterableDataset came: it has no length"),
        (Pictures([1]), r"item 0 of the data set must be \(image, label\), got int"),
        (Pictures([(torch.zeros(2, 2), 0.5)]), "label 0 of the data set must be an integer, got 0.5"),
        (Pictures([(np.zeros((2, 2)), 0), (np.zeros((2, 3)), 1)]), "one shape and type, got 2, e.g. .*: resize"),
        (Pictures([]), r"train is empty \(0 images\)"),
        ((["a"], [0]), "train images must be numbers, got str32: convert them"),
        (([[1], [1, 2]], [0]), "train images must be one array, got rows of different lengths"),
        ((torch.zeros(2, 2, 2, dtype=torch.complex64), [0, 1]), "train images must be dense numbers, got a tensor of"),
        ((np.zeros((2, 2, 2)), ["cat", "dog"]), "train labels must be numbers, got str96"),
    ],
)
def test_refused_sources(source, message):
    with pytest.raises(DataError, match=message) as raised:
        load_data(source)
    assert "\n" not in str(raised.value)


def test_refused_paths(tmp_path, pixels, labels):
    np.savez(tmp_path / "photos.npz", x=pixels, y=labels)
    np.save(tmp_path / "one.npy", pixels)
    np.savez(tmp_path / "pickled.npz", x=np.array([{}, 1], dtype=object), y=labels)
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "photos.npz").read_bytes()[:500])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "other.npz", images=pixels)
    expected = {
        "photo.npz": r'there is no data file .*did you mean ".*photos.npz"',
        "": r"has no images \(known by",
        "one.npy": "holds one array without a name",
        "pickled.npz": r"is not an .npz of plain arrays \(Object arrays cannot be loaded.*\): save it with numpy.savez",
        "text.npz": "is not an .npz of plain arrays",
        "cut.npz": "is not an .npz of plain arrays",
        "empty.npz": "is not an .npz of plain arrays",
        "other.npz": "other must hold one y for each x: .*; got neither x nor y",
    }
    for name, message in expected.items():
        with pytest.raises(DataError, match=message) as raised:
            load_data(tmp_path / name)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": 0.5}, "seed must be an integer >= 0, got 0.5"),
        ({"overlap": "alow"}, "overlap must be one of two words, got 'alow'; did you mean \"allow\""),
        ({"inner": 50, "outer": 20}, "inner=50, outer=20, test=0.2 are more than the 60 images that came"),
        ({"classes": "cat"}, r"classes must be at least 2 different names \(strings\), got 'cat'"),
        ({"classes": ["a", "b", "a", "c"]}, "at least 2 different names"),
        ({"classes": ["a", "b", "c", 4]}, "at least 2 different names"),
        ({"classes": []}, "at least 2 different names"),
    ],
)
def test_refused_options(options, message, pixels, labels):
    with pytest.raises(DataError, match=message):
        load_data((pixels, labels), **options)


def test_sizes_of_splits_that_the_source_brings_are_refused(pixels, labels):
    source = {"train": (pixels[:40], labels[:40]), "test": (pixels[40:], labels[40:])}
    with pytest.raises(DataError, match=r"splits brings its own test split, got test=0\.2: leave it out"):
        load_data(source, test=0.2)
