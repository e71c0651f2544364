"""Loaders are read once to their end, and give what their data sets hold."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from metanas.data import load_data, loaders
from metanas.errors import DataError


class Stream(IterableDataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        return iter(self.dataset)


@pytest.fixture
def pair(pixels, labels) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(pixels), torch.tensor(labels)


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"batch_size": 7, "shuffle": True}, {"batch_size": None}])
def test_a_loader_is_its_data_set(pair, options):
    state = torch.get_rng_state()
    data = load_data(DataLoader(TensorDataset(*pair), **options))
    assert data.fingerprint == load_data(pair).fingerprint and data.name == "loaders"
    assert torch.equal(torch.get_rng_state(), state), "no global generator is drawn from"


def test_a_stream_that_ends(pair):
    data = load_data(DataLoader(Stream(TensorDataset(*pair)), batch_size=8))
    assert data.fingerprint == load_data(pair).fingerprint


def test_a_pair_and_a_mapping_bring_their_splits(pair):
    x, y = pair
    rows = {"inner": slice(0, 20), "outer": slice(20, 40), "test": slice(40, 60)}
    made = {part: DataLoader(TensorDataset(x[at], y[at]), batch_size=8) for part, at in rows.items()}
    arrays = {part: (x[at], y[at]) for part, at in rows.items()}
    assert load_data(made).fingerprint == load_data(arrays).fingerprint
    two = (made["inner"], made["test"])
    expected = load_data({"train": arrays["inner"], "test": arrays["test"]}, inner=8, outer=12)
    assert load_data(two, inner=8, outer=12).fingerprint == expected.fingerprint


def refused(source) -> str:
    with pytest.raises(DataError) as raised:
        load_data(source)
    return str(raised.value)


def test_refused(pair, monkeypatch):
    x, y = pair
    sound = DataLoader(TensorDataset(x, y))
    assert refused(DataLoader(TensorDataset(x))) == "batch 0 of the train loader must be (images, labels), got 1 values"
    assert refused({"train": sound, "val": sound}).startswith("a mapping of loaders must hold train, or train and test")
    assert refused((sound, 3)) == "where one split is a DataLoader all must be, got test: int"
    assert "the train loader is empty (0 batches)" in refused(DataLoader(Stream([])))
    uneven = DataLoader(Stream([(x[0], 0), (x[1, :, :3], 1)]))
    assert "one shape and type, got (3, 6, 8) and, in batch 1, (3, 3, 8): resize" in refused(uneven)
    assert refused(DataLoader(Stream([(x[0], "cat")]))) == "batch 0 of the train loader must hold tensors, got 1 values"
    monkeypatch.setattr(loaders, "MOST_BYTES", 1000)
    assert "it must end, and fit memory" in refused(sound)
