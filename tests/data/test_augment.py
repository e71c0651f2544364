"""Each batched augmentation equals a plain loop over the images that is given the same drawn numbers."""

from __future__ import annotations

import pytest
import torch

from metanas.data import Crop, Cutout, Flip, augmented
from metanas.data.augment import default_augment
from metanas.errors import DataError

ALL = [Crop(0), Crop(1), Crop(3), Flip(), Cutout(1), Cutout(2), Cutout(3), Cutout(50)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_crop(images, padding, generator):
    n, _, h, w = images.shape
    shift = torch.randint(2 * padding + 1, (2, n), generator=generator)
    out = torch.zeros_like(images)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                row, column = y + int(shift[0, i]) - padding, x + int(shift[1, i]) - padding
                if 0 <= row < h and 0 <= column < w:
                    out[i, :, y, x] = images[i, :, row, column]
    return out


def slow_flip(images, generator):
    mirrored = torch.randint(2, (len(images),), generator=generator)
    return torch.stack([image.flip(2) if chosen else image for image, chosen in zip(images, mirrored, strict=True)])


def slow_cutout(images, size, generator):
    n, _, h, w = images.shape
    rows = torch.randint(h, (n,), generator=generator).tolist()
    columns = torch.randint(w, (n,), generator=generator).tolist()
    out = images.clone()
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        top, left = row - size // 2, column - size // 2
        out[i, :, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
    return out


def slow(augmentation, images, generator):
    if isinstance(augmentation, Crop):
        return slow_crop(images, augmentation.padding, generator)
    if isinstance(augmentation, Cutout):
        return slow_cutout(images, augmentation.size, generator)
    return slow_flip(images, generator)


@pytest.mark.parametrize("shape", [(7, 3, 5, 6), (1, 1, 8, 8), (40, 2, 1, 4)])
@pytest.mark.parametrize("augmentation", ALL, ids=str)
def test_equals_the_plain_loop(augmentation, shape):
    images = torch.randn(shape, generator=seeded(1))
    assert torch.equal(augmentation(images, seeded()), slow(augmentation, images, seeded()))


@pytest.mark.parametrize("augmentation", ALL, ids=str)
def test_is_pure_also_for_images_that_are_a_view(augmentation):
    images = torch.randn(5, 6, 4, 3, generator=seeded(1)).permute(0, 3, 1, 2)
    before = images.clone()
    first, second = augmentation(images, seeded()), augmentation(images, seeded())
    assert torch.equal(images, before)
    assert torch.equal(first, second)
    assert torch.equal(first, augmentation(before.contiguous(), seeded()))


@pytest.mark.parametrize(("augmentation", "outcomes"), [(Crop(1), 9), (Flip(), 2), (Cutout(1), 12)], ids=str)
def test_every_outcome_is_drawn_for_some_image_and_about_equally_often(augmentation, outcomes):
    images = torch.arange(1.0, 13).view(1, 1, 3, 4).expand(3600, 1, 3, 4)
    found, counts = augmentation(images, seeded()).flatten(1).unique(dim=0, return_counts=True)
    assert len(found) == outcomes
    assert counts.min() > 0.8 * 3600 / outcomes


def test_the_next_call_draws_anew():
    images, generator = torch.randn(64, 1, 8, 8, generator=seeded(1)), seeded()
    assert not torch.equal(Crop(2)(images, generator), Crop(2)(images, generator))


def test_several_are_applied_in_order():
    images, generator = torch.randn(9, 1, 4, 4, generator=seeded(1)), seeded()
    expected = Cutout(2)(Crop(1)(images, generator), generator)
    assert torch.equal(augmented(images, (Crop(1), Cutout(2)), seeded()), expected)
    assert augmented(images, (), seeded()) is images


def test_a_function_of_the_users_is_an_augmentation():
    images = torch.ones(2, 1, 2, 2)
    assert torch.equal(augmented(images, [lambda images, generator: images * 2, Flip()], seeded()), 2 * images)


def test_values_are_equal_hashable_and_readable():
    assert Crop(2) == Crop(2) and hash(Crop(2)) == hash(Crop(2)) and Crop(2) != Crop(1)
    assert repr((Crop(1), Flip(), Cutout(8))) == "(Crop(padding=1), Flip(), Cutout(size=8))"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 8, 8), (Crop(1),)),
        ((3, 32, 32), (Crop(4), Flip())),
        ((1, 28, 28), (Crop(3),)),
        ((3, 4, 32), (Flip(),)),
        ((2, 7, 7), ()),
    ],
)
def test_the_default_flips_colour_only(shape, expected):
    assert default_augment(shape) == expected


@pytest.mark.parametrize(
    ("make", "value", "message"),
    [
        (Crop, -1, "Crop padding must be an integer >= 0, got -1"),
        (Crop, 1.5, "Crop padding must be an integer >= 0, got 1.5"),
        (Cutout, 0, "Cutout size must be an integer >= 1, got 0"),
        (Cutout, True, "Cutout size must be an integer >= 1, got True"),
    ],
)
def test_refused_settings(make, value, message):
    with pytest.raises(DataError, match=message):
        make(value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("augmentation", ALL, ids=str)
def test_the_gpu_sees_the_same_images(augmentation):
    images = torch.randn(16, 3, 8, 8, generator=seeded(1))
    there = augmentation(images.cuda(), seeded())
    assert there.is_cuda
    assert torch.equal(there.cpu(), augmentation(images, seeded()))
