"""Data that cannot be searched on is refused in one line that has the counts, and no image stands in two splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metanas.data import load_data
from metanas.errors import DataError


def refused(source, **options) -> str:
    with pytest.raises(DataError) as raised:
        load_data(source, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_empty(labels):
    assert refused((np.zeros((0, 4, 4)), np.zeros(0, dtype=int))) == (
        "train is empty (0 images): at least one of each class is needed"
    )
    assert "train images have no pixels, got (60, 0, 4): each side must be >= 1" in refused(
        (np.zeros((60, 0, 4)), labels)
    )


def test_one_class(pixels):
    assert refused((pixels, np.full(60, 3))) == "all 60 labels are 3: at least 2 classes are needed"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({5: -1, 6: -2}, "2 of 60 train labels are out of range: allowed 0 to 59, got -2 to 3"),
        ({5: 60}, "1 of 60 train labels are out of range: allowed 0 to 59, got 0 to 60"),
        ({5: 10**12}, "1 of 60 train labels are out of range: allowed 0 to 59, got 0 to 1000000000000"),
    ],
)
def test_labels_out_of_range(pixels, labels, changed, expected):
    for position, label in changed.items():
        labels[position] = label
    assert refused((pixels, labels)) == f"{expected}: number the classes from 0"


def test_labels_beyond_the_named_classes(pixels, labels):
    assert refused((pixels, labels), classes=["cat", "dog", "emu"]) == (
        "15 of 60 train labels are out of range: allowed 0 to 2, got 0 to 3: number the classes from 0"
    )


@pytest.mark.parametrize(("kind", "name"), [(np.float64, "float32"), (np.float16, "float32"), (bool, "bool")])
def test_labels_that_are_not_integers(pixels, labels, kind, name):
    mend = "" if kind is bool else ', or ask for task="regression"'
    assert refused((pixels, labels.astype(kind))) == (
        f"train labels must be integers, got 60 of type {name}: convert them to int64{mend}"
    )


def test_labels_of_wrong_rank(pixels):
    one_hot = np.eye(4, dtype=int)[np.arange(60) % 4]
    assert refused((pixels, one_hot)) == (
        "train labels must be (N,), got (60, 4): turn one-hot rows into labels by argmax(1)"
    )


def test_pixels_that_are_not_finite(labels):
    x = np.random.default_rng(0).random((60, 3, 6, 8))
    x[3, 0, 0, :2] = np.nan
    x[7, 1, 2, 3] = np.inf
    assert refused((x, labels)) == (
        "train has 2 NaN and 1 infinite pixels in 2 of 60 images: remove these images or replace the values"
    )
    x = np.random.default_rng(0).random((60, 3, 6, 8))
    x[0, 0, 0, 0] = 1e300  # beyond float32
    assert "0 NaN and 1 infinite pixels in 1 of 60 images" in refused((x, labels))


@pytest.mark.parametrize("shape", [(60,), (60, 1, 2, 3, 4), ()])
def test_images_of_wrong_rank(shape, labels):
    assert refused((np.zeros(shape), labels)).startswith(
        f"train images must be (N, H, W), (N, C, H, W) or (N, H, W, C), rows (N, F), got {shape}: reshape them"
    )


def test_lengths_that_differ(pixels, labels):
    assert refused((pixels, labels[:58])) == ("train has 60 images but 58 labels: give one label for each image")


def test_all_faults_are_said_at_once(labels):
    x = np.random.default_rng(0).random((60, 4, 4))
    x[0] = np.nan
    labels[1] = -4
    message = refused({"inner": (x, labels), "outer": (x[:, :3], labels), "test": (x[:5], labels[:4])})
    for part in (
        "inner has 16 NaN and 0 infinite pixels in 1 of 60 images",
        "1 of 60 inner labels are out of range",
        "test has 5 images but 4 labels",
        "one shape, got inner (4, 4), outer (3, 4), test (4, 4)",
    ):
        assert part in message


def test_pixel_types_of_the_splits_that_differ(pixels, labels):
    source = {"train": (pixels[:40], labels[:40]), "test": (pixels[40:] / 255, labels[40:])}
    assert refused(source) == (
        "pixels of all splits must have one type and scale, got train uint8, test float: convert them alike"
    )


def test_a_class_that_is_missing_in_a_split(pixels, labels):
    rare = np.where(np.arange(60) < 2, 4, labels)
    assert refused((pixels, rare)).startswith(
        "every class must have images in every split: class '4' has 0 inner, 1 outer, 1 test; add images of them"
    )
    gap = np.where(labels == 3, 9, labels)
    message = refused((pixels, gap))
    assert "class '3' has 0 inner, 0 outer, 0 test" in message and "(and 3 more classes)" in message
    ordered = {
        part: (pixels[rows], np.sort(labels)[rows])
        for part, rows in (("inner", slice(0, 20)), ("outer", slice(20, 40)), ("test", slice(40, 60)))
    }
    assert "class '0' has 15 inner, 0 outer, 0 test; class '1' has 5 inner, 10 outer, 0 test" in refused(ordered)


def test_a_class_name_cannot_break_the_line(pixels, labels):
    names = ["a", "b", "c", "d", "e\n\x1b[31m"]
    assert "class 'e\\n\\x1b[31m' has 0 inner" in refused((pixels, labels), classes=names)


def test_splits_that_share_images_are_refused_with_counts(pixels, labels):
    source = {
        "inner": (pixels[:30], labels[:30]),
        "outer": (pixels[26:50], labels[26:50]),
        "test": (np.concatenate([pixels[50:], pixels[:2]]), np.concatenate([labels[50:], labels[:2]])),
    }
    assert refused(source) == (
        "leakage between splits: 4 of 24 outer images are also in inner, 2 of 12 test images are also in inner; "
        'each may stand in one split only: remove the copies, give one (x, y) to be split, or pass overlap="allow"'
    )
    assert load_data(source, overlap="allow").sizes == {"inner": 30, "outer": 24, "test": 12}


def test_a_test_split_that_shares_images_with_the_training_part_is_refused(pixels, labels):
    source = {"x_train": pixels, "y_train": labels, "x_test": pixels[:8], "y_test": labels[:8]}
    assert "8 of 8 test images are also in train" in refused(source)
    assert load_data(source, overlap="allow").sizes["test"] == 8


def test_one_pixel_makes_an_image_another_one(pixels, labels):
    near = pixels[:8].copy()
    near[:, 0, 0, 0] ^= 1
    load_data({"x_train": pixels, "y_train": labels, "x_test": near, "y_test": labels[:8]})


def test_copies_inside_one_source_stay_in_one_split(pixels, labels):
    twice, both = np.concatenate([pixels, pixels]), np.concatenate([labels, labels])
    data = load_data((twice, both))
    seen = [{x.numpy().tobytes() for x in split.inputs} for split in (data.inner, data.outer, data.test)]
    assert sum(data.sizes.values()) == 120 and len(set.union(*seen)) == 60
    assert sum(len(part) for part in seen) == 60
    allowed = load_data((twice, both), overlap="allow")
    assert allowed.sizes == {"inner": 48, "outer": 48, "test": 24}
    inner, outer = ({x.numpy().tobytes() for x in split.inputs} for split in (allowed.inner, allowed.outer))
    assert inner & outer


def test_a_tensor_that_needs_a_gradient_is_taken_without_it(labels):
    x = torch.rand(60, 4, 4, requires_grad=True)
    assert not load_data((x, labels)).inner.inputs.requires_grad
