"""Episodes are a pure function of (seed, part, step), of one part's classes only, and fair."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metanas.data import ClassData, Episode, Episodes, load_classes
from metanas.errors import DataError

PARTS = ("train", "validation", "test")
GROUPS = {str(i): "abc"[min(i // 8, 2)] for i in range(30)}  # 8, 8 and 14 classes


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """180 different images (1, 6, 6) uint8, none a turn of another; the class of image i is i % 30."""
    return np.random.default_rng(2).integers(0, 256, (180, 1, 6, 6), dtype=np.uint8), np.arange(180) % 30


@pytest.fixture(scope="module")
def data(arrays) -> ClassData:
    return load_classes(arrays, test=6, validation=6)


@pytest.fixture(scope="module")
def grouped(arrays) -> ClassData:
    """All groups are in training, but the classes 27 to 29 are not."""
    return load_classes(arrays, test=["28", "29"], validation=["27"], groups=GROUPS)


Known = dict[bytes, tuple[str, int]]


def known(data: ClassData, part: str) -> Known:
    """The class, by name, and the example number of every image of a part, by its normalised pixels."""
    classes, found = getattr(data, part), {}
    for i, (name, count) in enumerate(zip(classes.names, classes.counts, strict=True)):
        for j, x in enumerate(data.normalised(classes.gather(torch.tensor(i), torch.arange(count)))):
            found[x.numpy().tobytes()] = (name, j)
    return found


def looked_up(inputs: torch.Tensor, of: Known) -> list[list[tuple[str, int]]]:
    """(class, example) of every image of (tasks, images, *shape)."""
    return [[of[x.numpy().tobytes()] for x in task] for task in inputs]


def same(one: Episode, other: Episode) -> bool:
    pairs = zip((*one.support, *one.query, one.classes), (*other.support, *other.query, other.classes), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_shapes_and_types(data):
    support, query, classes = Episodes(data, "train", ways=5, shots=2, queries=3, tasks=4).at(7)
    assert support[0].shape == (4, 10, 1, 6, 6) and query[0].shape == (4, 15, 1, 6, 6)
    assert support[1].shape == (4, 10) and query[1].shape == (4, 15) and classes.shape == (4, 5)
    assert support[0].dtype == query[0].dtype == torch.float32
    assert support[1].dtype == query[1].dtype == classes.dtype == torch.long
    assert support[0].is_contiguous() and query[0].is_contiguous()


@pytest.mark.parametrize("rotations", [False, True])
def test_labels_are_the_classes_and_support_and_query_never_overlap(arrays, rotations):
    data = load_classes(arrays, test=6, validation=6, rotations=rotations)
    for part in PARTS:
        episodes, of = Episodes(data, part, ways=5, shots=2, queries=4, tasks=3), known(data, part)
        names = getattr(data, part).names
        for step in range(20):
            support, query, classes = episodes.at(step)
            of_support, of_query = looked_up(support[0], of), looked_up(query[0], of)
            for task in range(3):
                drawn = classes[task].tolist()
                assert len(set(drawn)) == 5
                assert support[1][task].tolist() == [label for label in range(5) for _ in range(2)]
                assert query[1][task].tolist() == [label for label in range(5) for _ in range(4)]
                for inputs, labels in ((of_support, support[1]), (of_query, query[1])):
                    assert [name for name, _ in inputs[task]] == [names[drawn[k]] for k in labels[task].tolist()]
                assert len({*of_support[task], *of_query[task]}) == 5 * 6


@pytest.mark.parametrize("rotations", [False, True])
def test_an_episode_of_one_part_never_shows_a_class_or_an_image_of_another(arrays, rotations):
    data = load_classes(arrays, test=6, validation=6, rotations=rotations)
    shown, named = {}, {}
    for part in PARTS:
        classes = getattr(data, part)
        episodes = Episodes(data, part, ways=6, shots=1, queries=5, tasks=8)
        made = [episodes.at(step) for step in range(60)]
        shown[part] = {
            x.numpy().tobytes() for e in made for inputs in (e.support[0], e.query[0]) for x in inputs.flatten(0, 1)
        }
        named[part] = {classes.names[i].split("@")[0] for e in made for i in e.classes.flatten().tolist()}
        assert shown[part] == set(known(data, part))  # all images of the part come, so the test below misses none
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not shown[one] & shown[other] and not named[one] & named[other]
    assert set().union(*named.values()) == {str(i) for i in range(30)}


def test_a_part_cannot_be_asked_for_the_classes_of_another(data):
    """The only way from a part to images is `gather`, which has no rows but the part's own."""
    with pytest.raises(
        DataError, match=r"^an episode of 7 ways needs 7 classes, test has 6: ask for fewer ways, or give"
    ):
        Episodes(data, "test", ways=7, shots=1, queries=1)
    with pytest.raises(DataError, match=r"^there are 6 classes, from 0; got 6 to 6$"):
        data.test.gather(torch.tensor(6), torch.tensor(0))


def test_an_episode_is_a_function_of_seed_part_and_step(data):
    episodes = Episodes(data, "train", ways=5, shots=1, queries=2, tasks=2, seed=3, affine=0.5)
    forward = [episodes.at(step) for step in range(6)]
    fresh = replace(episodes)
    torch.manual_seed(99)
    backward = [fresh.at(step) for step in reversed(range(6))][::-1]
    assert all(same(one, other) for one, other in zip(forward, backward, strict=True))
    drawn = [episode.classes.tolist() for episode in forward]
    assert len({str(classes) for classes in drawn}) == 6
    assert drawn != [replace(episodes, seed=4).at(step).classes.tolist() for step in range(6)]
    assert torch.equal(replace(episodes, affine=0.0).at(2).classes, forward[2].classes)


def test_parts_draw_differently(data):
    alike = replace(data, validation=data.test)
    drawn = [[Episodes(alike, part, 5, 1, 1).at(step).classes.tolist() for step in range(5)] for part in PARTS[1:]]
    assert drawn[0] != drawn[1]


def test_the_global_generator_is_left_alone(data):
    before = torch.get_rng_state()
    Episodes(data, "train", 5, 1, 1, affine=1.0).at(0)
    assert torch.equal(before, torch.get_rng_state())


def close(counts: list[int], total: int) -> bool:
    """Whether counts of equally likely values are within 4.5 deviations of their mean."""
    p = 1 / len(counts)
    return max(abs(count - total * p) for count in counts) < 4.5 * math.sqrt(total * p * (1 - p))


def test_classes_labels_and_examples_are_equally_likely(data):
    episodes = Episodes(data, "test", ways=3, shots=1, queries=2, tasks=3000)
    support, query, classes = episodes.at(0)
    for label in range(3):
        assert close(torch.bincount(classes[:, label], minlength=6).tolist(), 3000)
    orders = Counter(tuple(task) for task in classes.tolist())
    assert close(list(orders.values()), 3000) and len(orders) == 6 * 5 * 4
    of = known(data, "test")
    shots = Counter(j for task in looked_up(support[0], of) for _, j in task)
    queries = Counter(j for task in looked_up(query[0], of) for _, j in task)
    assert sorted(shots) == sorted(queries) == list(range(6))
    assert close(list(shots.values()), 9000) and close(list(queries.values()), 18000)


def test_classes_of_unequal_size():
    labels = np.repeat(np.arange(5), [3, 4, 5, 6, 40])
    x = np.random.default_rng(0).random((58, 7))
    data = load_classes((x, labels), train=["0", "1", "2", "3"], test=["4"])
    with pytest.raises(DataError, match=r"^an episode of 2 ways needs 2 classes, test has 1"):
        Episodes(data, "test", ways=2, shots=1, queries=1)
    support, query, classes = Episodes(data, "train", ways=4, shots=1, queries=2, tasks=2000).at(0)
    of, seen = known(data, "train"), Counter()
    for a, b, drawn in zip(looked_up(support[0], of), looked_up(query[0], of), classes.tolist(), strict=True):
        assert len({*a, *b}) == 12 and [int(name) for name, _ in a] == drawn
        seen.update((*a, *b))
    for i, count in enumerate((3, 4, 5, 6)):
        counts = [seen[str(i), j] for j in range(count)]
        assert all(counts) and max(counts) - min(counts) < 300


def test_rows_are_normalised():
    x = np.random.default_rng(0).random((60, 4)) * 9
    data = load_classes((x, np.arange(60) % 10))
    support, query, _ = Episodes(data, "train", ways=6, shots=3, queries=3).at(0)
    assert support[0].shape == (1, 18, 4)
    every = torch.cat([support[0], query[0]], 1)  # all examples of the part
    assert torch.allclose(every.mean((0, 1)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(every.std((0, 1), correction=0), torch.ones(4), atol=1e-5)


def test_within_takes_all_classes_from_one_group_and_groups_equally(grouped):
    episodes = Episodes(grouped, "train", ways=5, shots=1, queries=1, tasks=3000, within=True)
    groups = [{grouped.train.groups[i] for i in task} for task in episodes.at(0).classes.tolist()]
    assert {len(found) for found in groups} == {1}
    assert close(list(Counter(found.pop() for found in groups).values()), 3000)
    large = replace(episodes, ways=9)
    classes = large.at(0).classes
    assert {grouped.train.groups[i] for i in classes.flatten().tolist()} == {"c"}
    assert all(len(set(task)) == 9 for task in classes.tolist())
    assert close(torch.bincount(classes.flatten(), minlength=27)[16:].tolist(), 27000)


def test_paired_takes_one_example_number_for_the_support_and_another_for_the_queries(data):
    episodes, of = Episodes(data, "train", ways=6, shots=1, queries=1, tasks=500, paired=True), known(data, "train")
    support, query, _ = episodes.at(0)
    pairs = Counter()
    for a, b in zip(looked_up(support[0], of), looked_up(query[0], of), strict=True):
        drawers = [{j for _, j in images} for images in (a, b)]
        assert [len(found) for found in drawers] == [1, 1] and drawers[0] != drawers[1]
        assert [name for name, _ in a] == [name for name, _ in b]
        pairs[drawers[0].pop(), drawers[1].pop()] += 1
    assert len(pairs) == 6 * 5 and close(list(pairs.values()), 500)


def test_no_affine_and_none_of_it_are_the_plain_images(data):
    plain = Episodes(data, "train", 5, 1, 2, tasks=2)
    assert same(replace(plain, affine=0).at(4), plain.at(4))
    warped = replace(plain, affine=1.0).at(4)
    assert not torch.equal(warped.support[0], plain.at(4).support[0])
    assert torch.equal(warped.query[1], plain.at(4).query[1])
    little = replace(plain, affine=1e-6).at(4)
    assert torch.allclose(little.query[0], plain.at(4).query[0], atol=1e-3)


def test_each_distortion_is_the_same_with_the_others_and_without(data):
    plain = Episodes(data, "train", 5, 1, 2, tasks=2)
    for name in ("affine", "elastic", "stroke"):
        made = replace(plain, **{name: 0.5})
        assert same(made.at(3), replace(made).at(3)) and not same(made.at(3), plain.at(3))
        assert not same(made.at(3), made.at(4)) and torch.equal(made.at(3).classes, plain.at(3).classes)
    moved, also = (replace(plain, affine=0.5, stroke=stroke).at(3).query[0] for stroke in (0.0, 1e-6))
    assert torch.allclose(moved, also, atol=1e-4)


def test_each_image_is_warped_by_itself_and_zero_comes_in_before_normalisation():
    ones = np.full((40, 1, 8, 8), 200, dtype=np.uint8)
    data = load_classes((ones, np.arange(40) % 10), overlap="allow")
    data = replace(data, mean=(100.0,), std=(50.0,))
    inputs = Episodes(data, "train", 5, 1, 3, affine=4.0, tasks=4).at(0).query[0].flatten(0, 1)
    assert len({x.numpy().tobytes() for x in inputs}) == len(inputs)
    assert float(inputs.min()) == -2.0 and float(inputs.max()) == pytest.approx(2.0)  # (0 - 100) / 50, (200 - 100) / 50


FAULTS = [
    ({"part": "tests"}, "part must be one of three words, got 'tests'; did you mean \"test\"?"),
    ({"ways": 1}, "ways must be an integer >= 2, got 1"),
    (
        {"ways": 19},
        "an episode of 19 ways needs 19 classes, train has 18: ask for fewer ways, or give train more classes",
    ),
    ({"shots": 0}, "shots must be an integer >= 1, got 0"),
    ({"queries": 0}, "queries must be an integer >= 1, got 0"),
    ({"queries": 1.0}, "queries must be an integer >= 1, got 1.0"),
    ({"tasks": 0}, "tasks must be an integer >= 1, got 0"),
    ({"tasks": True}, "tasks must be an integer >= 1, got True"),
    ({"seed": -1}, "seed must be an integer >= 0, got -1"),
    ({"shots": 5, "queries": 2}, "5 shots and 2 queries need 7 examples of each class, '"),
    (
        {"paired": True},
        "paired episodes have one example of each class to learn from and one to be tested on, got shots=1,",
    ),
    ({"within": True}, "within needs classes in groups, train has none: give groups={class: group} to load_classes"),
    ({"affine": -1}, "affine must be a number, 0 to 4, got -1"),
    ({"affine": math.nan}, "affine must be a number, 0 to 4, got nan"),
    ({"elastic": 5}, "elastic must be a number, 0 to 4, got 5"),
    ({"stroke": 1.5}, "stroke must be a number, 0 to 1, got 1.5"),
    ({"stroke": 0.5, "part": "test"}, "stroke is for training, got 0.5 for test: leave it out, or give 0"),
    ({"affine": 1.0, "part": "test"}, "affine is for training, got 1.0 for test: leave it out, or give 0"),
]


@pytest.mark.parametrize(("asked", "line"), FAULTS, ids=[line[:50] for _, line in FAULTS])
def test_a_fault_is_said_in_one_line(data, asked, line):
    with pytest.raises(DataError) as caught:
        Episodes(data, **{"part": "train", "ways": 5, "shots": 1, "queries": 2, **asked})
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_a_small_class_is_named_with_its_number():
    labels = np.repeat(np.arange(4), [5, 2, 1, 5])
    data = load_classes((np.random.default_rng(0).random((13, 3)), labels), test=["3"], validation=0)
    line = (
        "1 shots and 2 queries need 3 examples of each class, '1' of train has 2 (and 1 more): ask for less, "
        "or leave the class out"
    )
    with pytest.raises(DataError) as caught:
        Episodes(data, "train", ways=2, shots=1, queries=2)
    assert str(caught.value) == line
    with pytest.raises(DataError, match=r"^an episode of 2 ways needs 2 classes, validation has 0"):
        Episodes(data, "validation", ways=2, shots=1, queries=2)
    with pytest.raises(DataError, match=r"^affine is for images, got 1.0 for rows \(3,\): leave it out$"):
        Episodes(data, "train", ways=2, shots=1, queries=2, affine=1.0)


def test_groups_that_are_too_small_and_steps_that_are_none(grouped):
    line = "^within needs a group of 12 classes, the largest of train is 'c' with 11: ask for fewer ways$"
    with pytest.raises(DataError, match=line):
        Episodes(grouped, "train", ways=12, shots=1, queries=1, within=True)
    for step in (-1, 1.0, True):
        with pytest.raises(DataError, match=r"^step must be an integer >= 0, got "):
            Episodes(grouped, "train", ways=2, shots=1, queries=1).at(step)


def test_episodes_are_of_a_value_that_nobody_changes(data):
    before = data.train.inputs.clone()
    episodes = Episodes(data, "train", 5, 1, 1, affine=1.0)
    episode = episodes.at(0)
    episode.support[0].zero_()
    assert torch.equal(before, data.train.inputs) and not torch.equal(episodes.at(0).support[0], episode.support[0])
    assert episodes.classes is data.train


def test_the_original_task_of_omniglot():
    if "METANAS_DATA" not in os.environ:
        pytest.skip("needs METANAS_DATA, a folder with omniglot28.npz")
    data = load_classes(Path(os.environ["METANAS_DATA"]) / "omniglot28.npz")
    episodes = Episodes(data, "test", ways=20, shots=1, queries=1, tasks=40, within=True, paired=True)
    classes = episodes.at(0).classes
    assert all(len({data.test.groups[i] for i in task}) == 1 and len(set(task)) == 20 for task in classes.tolist())
    support, query, _ = Episodes(data, "train", ways=20, shots=1, queries=15, tasks=16).at(0)
    assert support[0].shape == (16, 20, 1, 28, 28) and query[0].shape == (16, 300, 1, 28, 28)
