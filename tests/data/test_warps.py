"""Distortions of images: each goes as far as it says, and no further."""

from __future__ import annotations

import torch

from metanas.data.warps import bent, thickened, views


def seeds() -> dict[str, torch.Generator]:
    return {name: torch.Generator().manual_seed(k) for k, name in enumerate(("affine", "elastic", "stroke"))}


def blob(height: int, width: int, tall: float, wide: float) -> torch.Tensor:
    """300 times the same spot in the middle, with deviations `tall` and `wide`: (300, 1, height, width)."""
    y, x = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    spot = torch.exp(-(y[:, None] ** 2 / tall**2 + x**2 / wide**2) / 2)
    return spot.expand(300, 1, height, width)


def spread(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every image the centre (n, 2) and the covariance (n, 2, 2) of its mass, as (y, x) from the middle."""
    height, width = images.shape[2:]
    y, x = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    places = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(-1, 2)
    mass = images.flatten(1) / images.sum((1, 2, 3))[:, None]
    centre = mass @ places
    apart = places - centre[:, None]
    return centre, torch.einsum("np,npi,npj->nij", mass, apart, apart)


def only(monkeypatch, **amounts: float) -> None:
    """Lets a warp do nothing but what is named."""
    for name in ("ANGLE", "SCALE", "SHEAR", "SHIFT"):
        monkeypatch.setattr(f"metanas.data.warps.{name}", amounts.get(name, 0.0))


def test_a_warp_rotates_by_up_to_its_angle_also_oblong_images(monkeypatch):
    only(monkeypatch, ANGLE=0.35)
    centre, covariance = spread(bent(blob(40, 64, 2, 8), 1.0, 0.0, seeds()))
    angles = 0.5 * torch.atan2(2 * covariance[:, 0, 1], covariance[:, 1, 1] - covariance[:, 0, 0])
    assert 0.33 < float(angles.max()) < 0.36 and -0.36 < float(angles.min()) < -0.33
    assert float(centre.abs().max()) < 0.05
    lengths = torch.linalg.eigvalsh(covariance).sqrt()  # rotated, not sheared
    assert torch.allclose(lengths, torch.tensor([2.0, 8.0]), atol=0.2)


def test_a_warp_scales_shears_and_shifts_by_up_to_its_amounts(monkeypatch):
    images = blob(48, 64, 3, 3)
    only(monkeypatch, SCALE=0.2)
    sizes = spread(bent(images, 1.0, 0.0, seeds()))[1].diagonal(dim1=1, dim2=2).sqrt()
    assert 2.35 < float(sizes.min()) < 2.5 and 3.5 < float(sizes.max()) < 3.65
    only(monkeypatch, SHIFT=0.15)
    centres = spread(bent(images, 1.0, 0.0, seeds()))[0].abs().amax(0)
    assert torch.allclose(centres, 0.15 * torch.tensor([24.0, 32.0]), rtol=0.03)
    only(monkeypatch, SHEAR=0.3)
    covariance = spread(bent(images, 1.0, 0.0, seeds()))[1]
    slopes = covariance[:, 0, 1] / covariance[:, 0, 0]
    assert 0.28 < float(slopes.max()) < 0.32 and -0.32 < float(slopes.min()) < -0.28


def test_an_elastic_field_moves_places_smoothly_by_its_deviation():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 41), torch.linspace(-1, 1, 41), indexing="ij")
    places = torch.stack([y, x]).expand(300, 2, 41, 41)  # an image that says where it was looked up
    off = (bent(places, 0.0, 1.0, seeds()) - places)[:, :, 10:31, 10:31]  # away from the rim, where 0 comes in
    assert abs(float(off.mean())) < 0.01
    knot = off[:, :, 10, 10]  # the middle is a knot of the grid
    assert 0.09 < float(knot.std()) < 0.11
    steps = off.diff(dim=2).abs()
    assert float(steps.max()) < 0.1 < 0.25 < float(off.abs().max())  # neighbours move together
    small = (bent(places, 0.0, 0.1, seeds()) - places)[:, :, 10, 10]
    assert float(small.std()) < 0.02


def test_strokes_become_bolder_and_thinner_by_up_to_a_share_of_a_pixel():
    bar = torch.zeros(300, 1, 12, 12)
    bar[..., 5:8] = 1.0  # three pixels wide
    widths = thickened(bar, 0.5, seeds()["stroke"])[:, 0, 6].sum(-1)
    assert 3.9 < float(widths.max()) <= 4.0 and 2.0 <= float(widths.min()) < 2.1  # a side of either edge each
    assert 2.9 < float(widths.mean()) < 3.1
    made = thickened(torch.rand(50, 2, 8, 8), 1.0, seeds()["stroke"])
    assert 0 <= float(made.min()) and float(made.max()) <= 1


def test_views_are_the_same_small_distortions_of_every_image_and_what_comes_in_is_outside():
    images = torch.rand(2, 5, 1, 9, 9) + 3
    seen = views(images, 4, 2.0)
    assert seen.shape == (4, 2, 5, 1, 9, 9) and torch.equal(seen[0], images)
    torch.testing.assert_close(views(images[1, 3], 4, 2.0), seen[:, 1, 3])  # whichever others stand beside it
    blank = torch.full((1, 9, 9), -0.7)
    torch.testing.assert_close(views(blank, 4, -0.7), blank.expand(4, 1, 9, 9))
    places = torch.meshgrid(torch.linspace(-1, 1, 41), torch.linspace(-1, 1, 41), indexing="ij")
    off = (views(torch.stack(places), 9) - torch.stack(places))[1:, :, 16:25, 16:25].abs().amax((1, 2, 3))
    assert 0.01 < float(off.min()) and float(off.max()) < 0.2
