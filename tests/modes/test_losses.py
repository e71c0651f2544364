"""Smoothed labels and the learned loss: against torch's cross entropy, and the formulas of the papers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from metanas.errors import BilevelError
from metanas.modes.losses import label_smoothing, learned_loss

OUTPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 0, 2])
SHARES = torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_smoothed_labels_are_those_of_torch(share):
    part = label_smoothing(4)
    own = {"logit": torch.tensor(share, dtype=torch.float64).logit()}
    _, shares, rest = part.transform(own, (None, LABELS, "rest"))
    expected = F.cross_entropy(OUTPUTS, LABELS, reduction="none", label_smoothing=share)
    torch.testing.assert_close(F.cross_entropy(OUTPUTS, shares, reduction="none"), expected)
    assert rest == "rest"
    torch.testing.assert_close(part.transform(own, (None, SHARES))[1], (1 - share) * SHARES + share / 4)


@pytest.mark.parametrize("targets", [LABELS, SHARES], ids=["labels", "shares"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_begins_as_the_cross_entropy_to_the_last_bit(targets, dtype):
    part, outputs = learned_loss(4), OUTPUTS.to(dtype)
    targets = targets.to(dtype) if targets.is_floating_point() else targets
    assert torch.equal(part.losses(part.start, outputs, targets), F.cross_entropy(outputs, targets, reduction="none"))


def test_the_loss_of_labels_is_that_of_the_papers():
    """PolyLoss, eq. 6: -log p + sum of e_j (1 - p)^j; with logit adjustment: p = softmax(f + offset)."""
    own = {
        "log_scale": torch.tensor(0.5, dtype=torch.float64),
        "poly": torch.tensor([0.7, -0.2, 0.1], dtype=torch.float64),
        "offset": torch.tensor([0.3, -0.1, 0.0, 1.0], dtype=torch.float64),
    }
    p = (OUTPUTS + own["offset"]).softmax(1)[torch.arange(6), LABELS]
    poly = 0.7 * (1 - p) - 0.2 * (1 - p) ** 2 + 0.1 * (1 - p) ** 3
    part = learned_loss(4, terms=3)
    torch.testing.assert_close(part.losses(own, OUTPUTS, LABELS), -own["log_scale"].exp() * p.log() + poly)
    shares = torch.eye(4, dtype=torch.float64)[LABELS]
    torch.testing.assert_close(part.losses(own, OUTPUTS, shares), part.losses(own, OUTPUTS, LABELS))


def test_the_loss_of_shares_is_the_mean_over_labels():
    own = {"log_scale": torch.tensor(-0.5), "poly": torch.tensor([0.7, -0.2]), "offset": torch.arange(4.0)}
    part = learned_loss(4)
    each = torch.stack([part.losses(own, OUTPUTS, torch.full((6,), c)) for c in range(4)], 1)
    torch.testing.assert_close(part.losses(own, OUTPUTS, SHARES), (SHARES * each).sum(1))


def test_with_a_vanishing_scale_it_is_robust():
    """-> the mean absolute error, whose sum over all labels is the same whatever the network says (Ghosh et al.)."""
    own = {"log_scale": torch.tensor(-50.0), "poly": torch.tensor([1.0]), "offset": torch.zeros(4)}
    part = learned_loss(4, terms=1)
    total = sum(part.losses(own, OUTPUTS, torch.full((6,), c)) for c in range(4))
    torch.testing.assert_close(total, torch.full((6,), 3.0, dtype=torch.float64))


def test_what_is_shown():
    own = {"log_scale": torch.tensor(0.0), "poly": torch.tensor([2.0]), "offset": torch.tensor([-1.0, 0.5])}
    shown = learned_loss(2, terms=1).shown(own)
    assert shown == {"scale": 1.0, "b1": 2.0, "range of the offsets": 1.5}


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (label_smoothing, {"classes": 1}, "classes must be >= 2, got 1"),
        (label_smoothing, {"classes": 3, "start": 0.0}, "start must be > 0 and < 1, got 0.0"),
        (label_smoothing, {"classes": 3, "start": 1.0}, "start must be > 0 and < 1, got 1.0"),
        (learned_loss, {"classes": 0}, "classes must be >= 2, got 0"),
        (learned_loss, {"classes": 3, "terms": -1}, "terms must be >= 0, got -1"),
    ],
)
def test_what_cannot_be_is_refused(make, arguments, message):
    with pytest.raises(BilevelError) as caught:
        make(**arguments)
    assert str(caught.value) == message
