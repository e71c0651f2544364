"""Compositional classes: which are drawn, what is held out, and what their images show."""

from __future__ import annotations

import pytest
import torch

from metanas.data import Descriptions, compositions
from metanas.data.compositions import (
    BACKGROUNDS,
    DIGITS,
    HELD_OUT_WORDINGS,
    INKS,
    KEYS,
    ROTATIONS,
    SIZES,
    WORDINGS,
    composed,
)
from metanas.errors import DataError

UPRIGHT = {"digit": "one", "ink": "red", "background": "black", "rotation": "upright", "size": "large"}


@pytest.fixture
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Four images (40, 12, 12) of each digit, all different; the digit of image i is i % 10."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, (40, 12, 12), generator=draw, dtype=torch.uint8), torch.arange(40) % 10


@pytest.mark.parametrize("seed", range(5))
def test_every_value_is_seen_and_no_held_out_composition(seed):
    found = compositions(classes=150, validation=20, test=30, seed=seed)
    assert (len(found.train), len(found.validation), len(found.test)) == (100, 20, 30)
    assert set(found.train) | set(found.validation) | set(found.test) == set(found.names)
    rows = [tuple(found.attributes[name][key] for key in KEYS) for name in found.names]
    assert len(set(rows)) == 150, "no two parts share a composition"
    for key, values in zip(KEYS, (DIGITS, INKS, BACKGROUNDS, ROTATIONS, SIZES), strict=True):
        assert {found.attributes[name][key] for name in found.train} == set(values)
    assert all(of["ink"] != of["background"] for of in found.attributes.values())


def test_the_same_seed_gives_the_same_classes_and_images_and_another_one_others(digits):
    one, same, other = (compositions(classes=120, validation=10, test=20, seed=seed) for seed in (0, 0, 1))
    assert one == same and one.train != other.train
    a, b, c = (one.images(*digits, one.test[:3], 3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_images_of_a_class_are_of_its_digit_and_differ(digits):
    found = compositions(classes=120, validation=10, test=20, seed=0)
    grey, labels = digits
    images = found.images(grey, labels, found.train, 4, seed=0)
    for name, row in zip(found.train, images, strict=True):
        of = found.attributes[name]
        wanted = composed(grey[labels == DIGITS.index(of["digit"])], of)
        apart = (row[:, None].int() - wanted[None].int()).abs().flatten(2).amax(2)  # (made, of the digit)
        assert sorted(apart.argmin(1).tolist()) == [0, 1, 2, 3] and int(apart.min(1).values.max()) == 0, name


def test_ink_lies_on_the_background():
    grey = torch.tensor([[[255, 0], [0, 51]]], dtype=torch.uint8)
    image = composed(grey, UPRIGHT | {"ink": "green", "background": "white"})[0]
    ink, ground = (255 * torch.tensor(colour) for colour in (INKS["green"], BACKGROUNDS["white"]))
    assert torch.equal(image[:, 0, 0], ink.round().to(torch.uint8))
    assert torch.equal(image[:, 0, 1], torch.full((3,), 255, dtype=torch.uint8))
    assert torch.equal(image[:, 1, 1], (ground + 0.2 * (ink - ground)).round().to(torch.uint8))


@pytest.mark.parametrize(("rotation", "side"), [("leaning left", -1), ("upright", 0), ("leaning right", 1)])
def test_the_top_of_a_stroke_leans_to_its_side(rotation, side):
    grey = torch.zeros(1, 21, 21, dtype=torch.uint8)
    grey[0, 3:11, 9:12] = 255  # from the centre up
    rows, columns = composed(grey, UPRIGHT | {"rotation": rotation})[0, 0].float().nonzero(as_tuple=True)
    assert rows.float().mean() < 9, "it still stands"
    assert torch.sign((columns.float().mean() - 10).round()) == side


def test_small_is_smaller():
    grey = torch.full((1, 20, 20), 255, dtype=torch.uint8)
    large, small = (composed(grey, UPRIGHT | {"size": size})[0, 0].sum().item() for size in ("large", "small"))
    assert small / large == pytest.approx(SIZES["small"] ** 2, rel=0.02)


def test_wordings_say_everything_and_are_different():
    assert len(WORDINGS) >= 4 and len(HELD_OUT_WORDINGS) >= 2 and not set(WORDINGS) & set(HELD_OUT_WORDINGS)
    found = compositions(classes=120, validation=10, test=20, seed=0)
    for templates in (WORDINGS, HELD_OUT_WORDINGS):
        for name, texts in found.wordings(found.names, templates).items():
            assert len(set(texts)) == len(templates)
            assert all(value in text for text in texts for value in found.attributes[name].values())


def test_they_are_what_descriptions_take():
    found = compositions(classes=120, validation=10, test=20, seed=0)
    by_attributes = Descriptions.fit(found.described(found.train))
    assert by_attributes.encode(found.described(found.test)).shape == (20, 10 + 5 + 4 + 3 + 2)
    by_words = Descriptions.fit(found.wordings(found.train))
    assert by_words.encode(found.wordings(found.test, HELD_OUT_WORDINGS)).shape == (20, 512)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"classes": 2000}, "classes must be at most 1080"),
        ({"classes": 30, "validation": 10, "test": 15}, "5 training classes cannot show all 10 digits"),
        ({"test": -1}, "validation and test >= 0, got 150, 20, -1"),
        (
            {"classes": 10, "validation": 0, "test": 0, "seed": 1},
            "no draw of 10 training classes shows every single value",
        ),
    ],
)
def test_draws_that_cannot_be(more, said):
    with pytest.raises(DataError, match=said):
        compositions(**more)


def test_images_that_cannot_be(digits):
    grey, labels = digits
    found = compositions(classes=120, validation=10, test=20, seed=0)
    with pytest.raises(DataError, match=r"must be \(n, height, width\) of uint8 with a label each, got \(40, 12, 12\)"):
        found.images(grey.float(), labels, found.test, 1, seed=0)
    with pytest.raises(DataError, match="needs images of the digit one, there is none"):
        found.images(grey[labels != 1], labels[labels != 1], found.names, 1, seed=0)
