"""Augmentation: against torch's own sampling, and against moves that are exact on a grid."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import jvp

from metanas.errors import BilevelError
from metanas.modes.augmentations import COLUMNS, augmentation, sampled
from metanas.modes.part import NOISE

FORWARD = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
"""Torch's own forward mode warns of itself when it is used first."""
IMAGES = torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SQUARE = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def moved(images, what, magnitude, noise):
    """The images, augmented by one thing; `noise` is what its columns have."""
    part = augmentation([what], images.shape[1:])
    columns = torch.zeros(len(images), NOISE, dtype=images.dtype)
    noise = torch.as_tensor(noise, dtype=images.dtype)
    columns[:, COLUMNS[what] : COLUMNS[what] + noise.shape[-1]] = noise
    own = {what: torch.tensor(magnitude, dtype=images.dtype).log()}
    return part.transform(own, (images, None, None, columns))[0]


def test_sampling_is_that_of_torch():
    draw = torch.Generator().manual_seed(1)
    x, y = (torch.rand(3, 4, 6, generator=draw, dtype=torch.float64) * 14 - 4 for _ in range(2))
    grid = torch.stack([2 * x / 6 - 1, 2 * y / 4 - 1], -1)
    torch.testing.assert_close(sampled(IMAGES, x, y), F.grid_sample(IMAGES, grid, align_corners=True))


@FORWARD
def test_sampling_can_be_differentiated_forwards_and_twice():
    points = (torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 8 - 1).unbind()
    points = tuple(p.requires_grad_() for p in points)
    assert torch.autograd.gradcheck(lambda x, y: sampled(IMAGES, x, y), points, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x, y: sampled(IMAGES, x, y), points)


def test_a_point_that_is_nan_is_seen():
    """And does not crash: an index that is no number would."""
    x = torch.tensor([[[float("nan"), 1.0]]], dtype=torch.float64)
    found = sampled(SQUARE, x, torch.zeros_like(x))
    assert found.isnan().tolist() == [[[[True, False]]]]


def test_without_noise_the_images_stay_to_the_last_bit():
    names = list(COLUMNS)
    part = augmentation(names, IMAGES.shape[1:], start=2.0)
    batch = (IMAGES.float(), None, None, torch.zeros(3, NOISE))
    assert torch.equal(part.transform(part.start, batch)[0], IMAGES.float())


@pytest.mark.parametrize(
    ("what", "magnitude", "noise", "expected"),
    [
        ("shift", 0.4, [0.5, 0.0], F.pad(SQUARE, (1, -1))),  # 0.4 * 0.5 of five pixels, to the right
        ("shift", 0.4, [0.0, -1.0], F.pad(SQUARE, (0, 0, -2, 2))),  # two up
        ("rotation", math.pi / 2, [1.0], SQUARE.rot90(-1, (2, 3))),  # clockwise
        ("rotation", math.pi, [-1.0], SQUARE.rot90(2, (2, 3))),
        ("brightness", 0.3, [-1.0], SQUARE - 0.3),
        ("contrast", math.log(2), [1.0], 2 * SQUARE - SQUARE.mean()),
    ],
)
def test_moves_that_are_exact(what, magnitude, noise, expected):
    torch.testing.assert_close(moved(SQUARE, what, magnitude, [noise]), expected, rtol=1e-10, atol=1e-12)


def test_what_is_wide_and_many_is_moved_by_its_own_sides_and_mean():
    down = moved(IMAGES, "shift", 0.4, [[0.0, 0.5]] * 3)
    torch.testing.assert_close(down, F.pad(IMAGES, (0, 0, 1, -1)), rtol=1e-10, atol=1e-12)
    right = moved(IMAGES, "shift", 2 / 7, [[1.0, 0.0]] * 3)
    torch.testing.assert_close(right, F.pad(IMAGES, (2, -2)), rtol=1e-10, atol=1e-12)
    flat = moved(IMAGES, "contrast", 100.0, [[-1.0]] * 3)  # no contrast is left
    torch.testing.assert_close(flat, IMAGES.mean((1, 2, 3), keepdim=True).expand_as(IMAGES))


def test_scale_and_shear_of_a_plane():
    """Of pixels that are linear in place, bilinear sampling is exact: x / 2, and x - y, about the centre."""
    v, u = torch.meshgrid(*(torch.arange(5, dtype=torch.float64) - 2,) * 2, indexing="ij")
    images = u[None, None]
    torch.testing.assert_close(moved(images, "scale", math.log(2), [[1.0]])[0, 0], u / 2)
    sheared = moved(images, "shear", 1.0, [[1.0]])[0, 0]
    inside = (u - v).abs() <= 2
    torch.testing.assert_close(sheared[inside], (u - v)[inside])


def test_each_image_is_moved_by_its_own_noise():
    together = moved(IMAGES, "rotation", 0.5, [[0.2], [-1.0], [0.7]])
    alone = [moved(IMAGES[k : k + 1], "rotation", 0.5, [[u]]) for k, u in enumerate((0.2, -1.0, 0.7))]
    torch.testing.assert_close(together, torch.cat(alone))


def test_flat_images_stay_flat():
    flat = moved(IMAGES, "shift", 0.1, [[1.0, 1.0]] * 3).flatten(1)
    part = augmentation(["shift"], IMAGES.shape[1:])
    noise = torch.zeros(3, NOISE, dtype=torch.float64)
    noise[:, :2] = 1
    own = {"shift": torch.tensor(0.1, dtype=torch.float64).log()}
    assert torch.equal(part.transform(own, (IMAGES.flatten(1), None, None, noise))[0], flat)


@FORWARD
def test_a_derivative_in_forward_mode():
    noise = torch.full((3, NOISE), 0.3, dtype=torch.float64)
    part = augmentation(["shift", "rotation"], IMAGES.shape[1:])

    def total(log):
        images = part.transform({"shift": log, "rotation": log}, (IMAGES, None, None, noise))[0]
        return images.square().sum()

    at, h = torch.tensor(-1.0, dtype=torch.float64), 1e-6
    _, slope = jvp(total, (at,), (torch.ones_like(at),))
    assert float(slope) == pytest.approx(float(total(at + h) - total(at - h)) / (2 * h), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"names": []},
            "nothing is augmented: give at least one of shift, rotation, scale, shear, brightness, contrast",
        ),
        ({"names": ["shft"]}, "no augmentation is called 'shft'; did you mean \"shift\"?"),
        ({"names": ["shear", "shear"]}, "an augmentation is named twice in shear, shear; leave one out"),
        ({"shape": (5, 5)}, "shape must be (channels, height, width), each >= 1, got (5, 5)"),
        ({"start": 0.0}, "start of shift must be > 0 and finite, got 0.0"),
        ({"start": {"scale": 1.0}}, "start must have one magnitude for each of shift, got scale"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(BilevelError) as caught:
        augmentation(**{"names": ["shift"], "shape": (1, 5, 5), **arguments})
    assert str(caught.value) == message


def test_a_batch_without_noise_is_refused():
    part = augmentation(["shift"], (1, 5, 5))
    with pytest.raises(BilevelError, match=r"noise must have shape \(1, 8\), got \(1, 2\)"):
        part.transform(part.start, (SQUARE, None, None, torch.zeros(1, 2)))
