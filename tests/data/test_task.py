"""The task: what stands for a network's output, its loss and its metric."""

from __future__ import annotations

from dataclasses import replace

import torch

from metanas.data import CLASSIFICATION, REGRESSION, load_data


def test_data_is_a_classification_as_wide_as_its_classes() -> None:
    data = load_data("digits")
    assert data.task is CLASSIFICATION
    assert data.outputs == len(data.classes) == 10


def test_a_regression_has_one_output() -> None:
    assert replace(load_data("digits"), task=REGRESSION, classes=()).outputs == 1


def test_squared_error_pairs_a_column_of_outputs_with_the_targets() -> None:
    outputs, targets = torch.tensor([[0.0], [2.0]]), torch.tensor([0.0, 2.0])
    assert float(REGRESSION.loss(outputs, targets)) == 0.0  # of every pair it would be 2


def test_r2_is_negative_for_worse_than_the_mean() -> None:
    targets = torch.tensor([1.0, 2.0, 3.0])
    assert float(REGRESSION.metric(targets.flip(0)[:, None], targets)) == -3.0
