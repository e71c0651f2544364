"""Batches are a pure function of their arguments, cover the split, and can be resumed at any step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metanas.data import Crop, Cutout, Split, batches, in_order, steps
from metanas.errors import DataError

AUGMENT = (Crop(2), Cutout(2))


def equal(one, other) -> bool:
    one, other = list(one), list(other)
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def order(split, size, **options) -> list[int]:
    return torch.cat([targets for _, targets in batches(split, size, **options)]).tolist()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(n=st.integers(1, 40), size=st.integers(1, 50), drop_last=st.booleans(), epoch=st.integers(0, 10**6))
def test_shapes_counts_and_cover(n, size, drop_last, epoch):
    split = Split(torch.arange(float(n))[:, None, None, None], torch.arange(n))
    epoch_batches = list(batches(split, size, seed=0, epoch=epoch, drop_last=drop_last))
    seen = torch.cat([targets for _, targets in epoch_batches]).tolist()
    assert len(epoch_batches) == steps(split, size, drop_last=drop_last)
    assert len(set(seen)) == len(seen)
    assert len(seen) == n if (not drop_last or n <= size) else n - n % size
    assert all(torch.equal(inputs.flatten().long(), targets) for inputs, targets in epoch_batches)
    full = epoch_batches if drop_last and n >= size else epoch_batches[:-1]
    assert all(len(targets) == size for _, targets in full)


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("start", range(6))
def test_resuming_in_the_middle_equals_the_uninterrupted_epoch(split, start, drop_last):
    options = {"seed": 3, "epoch": 7, "augment": AUGMENT, "drop_last": drop_last}
    whole = list(batches(split, 4, **options))
    assert equal(batches(split, 4, **options, start=start), whole[start:])


def test_the_global_generator_is_neither_read_nor_moved(split):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = list(batches(split, 4, seed=0, epoch=0, augment=AUGMENT))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert equal(batches(split, 4, seed=0, epoch=0, augment=AUGMENT), first)


def test_two_iterators_do_not_disturb_each_other(split):
    alone = list(batches(split, 4, seed=0, epoch=0, augment=AUGMENT))
    pairs = zip(
        batches(split, 4, seed=0, epoch=0, augment=AUGMENT),
        batches(split, 4, seed=0, epoch=1, augment=AUGMENT),
        strict=True,
    )
    assert equal([left for left, _ in pairs], alone)


def test_seed_epoch_and_stream_all_matter_and_do_not_add_up(split):
    keys = [(seed, epoch, stream) for seed in range(4) for epoch in range(4) for stream in ("inner", "outer")]
    orders = {tuple(order(split, 4, seed=s, epoch=e, stream=t)) for s, e, t in keys}
    assert len(orders) == len(keys)


def test_steps_of_an_epoch_are_augmented_differently():
    same = Split(torch.randn(64, 1, 8, 8, generator=torch.Generator())[:1].expand(64, 1, 8, 8), torch.zeros(64).long())
    first, second = (inputs for inputs, _ in batches(same, 32, seed=0, epoch=0, augment=(Crop(2),)))
    assert not torch.equal(first, second)


def test_augmentation_leaves_the_split_as_it_is(split):
    before = split.inputs.clone()
    for inputs, _ in batches(split, 4, seed=0, epoch=0):
        inputs.zero_()
    list(batches(split, 4, seed=0, epoch=0, augment=AUGMENT))
    assert torch.equal(split.inputs, before)


def test_dropped_examples_change_from_epoch_to_epoch(split):
    dropped = [set(range(23)) - set(order(split, 20, seed=0, epoch=epoch)) for epoch in range(4)]
    assert all(len(missing) == 3 for missing in dropped) and len(set(map(frozenset, dropped))) == 4


def test_in_order_gives_everything_once(split):
    found = list(in_order(split, 10))
    assert [len(targets) for _, targets in found] == [10, 10, 3]
    assert torch.equal(torch.cat([inputs for inputs, _ in found]), split.inputs)
    assert torch.equal(torch.cat([targets for _, targets in found]), split.targets)


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_refused_sizes(split, size):
    for call in (
        lambda: steps(split, size),
        lambda: in_order(split, size),
        lambda: batches(split, size, seed=0, epoch=0),
    ):
        with pytest.raises(DataError, match=f"batch size must be an integer >= 1, got {size}"):
            call()


@pytest.mark.parametrize("start", [-1, 6])
def test_refused_starts(split, start):
    with pytest.raises(DataError, match=f"start must be the index of a batch, 0 to 5, got {start}"):
        batches(split, 4, seed=0, epoch=0, start=start)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_sees_the_same_batches(split):
    there = batches(split.to("cuda"), 4, seed=0, epoch=0, augment=AUGMENT)
    assert equal(((x.cpu(), y.cpu()) for x, y in there), batches(split, 4, seed=0, epoch=0, augment=AUGMENT))
