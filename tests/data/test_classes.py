"""Classes are split whole: disjoint parts, groups kept together, rotations after the split, every fault in one line."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from metanas.data import ClassData, Classes, load_classes, load_data
from metanas.errors import DataError

NAMES = ("ant", "bee", "cat", "dog", "emu", "fox", "gnu", "hen", "ibis", "jay")
GROUPS = {name: "insects" if i < 2 else f"others {i // 3}" for i, name in enumerate(NAMES)}
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """60 different images (1, 6, 6) uint8, none a turn of another; the class of image i is i % 10."""
    return np.random.default_rng(1).integers(0, 256, (60, 1, 6, 6), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.arange(60) % 10


def split_of(data: ClassData) -> dict[str, tuple[str, ...]]:
    return {part: getattr(data, part).names for part in PARTS}


def pictures(classes: Classes) -> set[bytes]:
    """Every image of the classes, as it is gathered."""
    found = set()
    for i, count in enumerate(classes.counts):
        found |= {x.numpy().tobytes() for x in classes.gather(torch.tensor(i), torch.arange(count))}
    return found


def two() -> Classes:
    return Classes(torch.arange(20.0).view(5, 1, 2, 2), (3, 2), ("a", "b"), ("g", ""), (0, 0), (0, 3))


@pytest.mark.parametrize("rotations", [False, True])
def test_no_class_and_no_image_is_in_two_parts_over_fifty_seeds(images, labels, rotations):
    turns = 4 if rotations else 1
    for seed in range(50):
        data = load_classes((images, labels), classes=NAMES, seed=seed, rotations=rotations)
        assert data.sizes == {"train": 6 * turns, "validation": 2 * turns, "test": 2 * turns}
        names = split_of(data)
        bases = {part: {name.split("@")[0] for name in names[part]} for part in PARTS}
        assert set().union(*bases.values()) == set(NAMES) and sum(map(len, bases.values())) == 10
        seen = [pictures(getattr(data, part)) for part in PARTS]
        assert sum(map(len, seen)) == len(set().union(*seen)) == 60 * turns
        rows = {x.numpy().tobytes() for part in PARTS for x in getattr(data, part).inputs}
        assert len(rows) == 60  # a part holds its own rows only, whatever it gathers


def test_every_class_is_as_often_in_a_part_as_any_other(images, labels):
    found = [split_of(load_classes((images, labels), seed=seed))["test"] for seed in range(400)]
    counts = np.bincount([int(name) for names in found for name in names], minlength=10)
    assert abs(counts - 80).max() < 4 * np.sqrt(400 * 0.2 * 0.8)


def test_the_split_is_of_the_seed(images, labels):
    one, again, other = (load_classes((images, labels), seed=seed) for seed in (3, 3, 4))
    assert split_of(one) == split_of(again) != split_of(other)
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(one.train.inputs, again.train.inputs)
    rotated = load_classes((images, labels), seed=3, rotations=True)
    assert tuple(name for name in rotated.test.names if "@" not in name) == one.test.names
    assert rotated.fingerprint != one.fingerprint
    assert load_classes((images, labels), seed=3, classes=NAMES).fingerprint != one.fingerprint


def test_what_is_in_a_class(images, labels):
    data = load_classes((images, labels), classes=NAMES)
    assert data.shape == (1, 6, 6) and data.train.inputs.dtype == torch.uint8 and data.pixels == (0.0, 255.0)
    for part in PARTS:
        classes = getattr(data, part)
        for i, name in enumerate(classes.names):
            found = classes.gather(torch.tensor(i), torch.arange(6))
            assert found.dtype == torch.float32
            assert np.array_equal(found.numpy(), images[NAMES.index(name) :: 10])


def test_moments_are_of_the_training_classes():
    x = torch.rand(40, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 0.0]).view(
        3, 1, 1
    )
    data = load_classes((x, torch.arange(40) % 8))
    inputs = data.train.inputs
    assert torch.allclose(torch.tensor(data.mean), inputs.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(torch.tensor(data.std[:2]), inputs.std((0, 2, 3), correction=0)[:2], atol=1e-6)
    assert data.std[2] == 1.0 and data.pixels == (0.0, float(inputs.max()))
    ready = data.normalised(inputs)
    assert torch.allclose(ready[:, :2].std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5)
    assert torch.allclose(ready.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)


def test_moments_in_pieces_are_those_of_the_whole(images, labels, monkeypatch):
    whole = load_classes((images, labels))
    monkeypatch.setattr("metanas.data.moments.MOST_AT_ONCE", 100)
    pieces = load_classes((images, labels))
    assert whole.mean == pytest.approx(pieces.mean, rel=1e-6) and whole.std == pytest.approx(pieces.std, rel=1e-6)


def test_gather_takes_examples_of_any_shape():
    found = two().gather(torch.tensor([[0, 1]])[:, :, None], torch.tensor([0, 1]))
    assert found.shape == (1, 2, 2, 1, 2, 2)
    assert found[..., 0, 0, 0].tolist() == [[[0.0, 4.0], [12.0, 16.0]]]


@pytest.mark.parametrize(
    ("classes", "examples", "line"),
    [
        (0, 3, "examples must be numbers from 0, each below the count of its class"),
        (0, -1, "examples must be numbers from 0, each below the count of its class"),
        (2, 0, "there are 2 classes, from 0; got 2 to 2"),
    ],
)
def test_gather_never_reaches_into_another_class(classes, examples, line):
    with pytest.raises(DataError, match=f"^{line}$"):
        two().gather(torch.tensor(classes), torch.tensor(examples))


def test_rotated_classes_share_rows_and_turn_counterclockwise(images, labels):
    plain = load_classes((images, labels)).train
    rotated = plain.rotated()
    assert rotated.inputs is plain.inputs and len(rotated) == 4 * len(plain)
    assert rotated.names[:5] == (plain.names[0], *(f"{plain.names[0]}@{k}" for k in (90, 180, 270)), plain.names[1])
    which = torch.randint(len(rotated), (200,), generator=torch.Generator().manual_seed(0))
    example = torch.randint(6, (200,), generator=torch.Generator().manual_seed(1))
    found = rotated.gather(which, example)
    for x, i, j in zip(found, which.tolist(), example.tolist(), strict=True):
        expected = np.rot90(plain.inputs[plain.first[i // 4] + j][0].numpy(), i % 4)
        assert np.array_equal(x[0].numpy(), expected)


def test_a_subset_holds_its_own_rows_and_rotated_ones_go_on_sharing():
    some = two().rotated().subset([6, 1, 4])
    assert some.names == ("b@180", "a@90", "b") and some.counts == (2, 3, 2) and some.groups == ("", "g", "")
    assert len(some.inputs) == 5 and some.first == (0, 2, 0) and some.turns == (2, 1, 0)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        before = two().rotated().gather(torch.tensor([6, 1, 4][i]), torch.tensor(j))
        assert torch.equal(some.gather(torch.tensor(i), torch.tensor(j)), before)
    none = two().subset([])
    assert len(none) == 0 and none.shape == (1, 2, 2) and len(none.rotated()) == 0
    assert len(two().subset([1]).inputs) == 2


def test_groups_by_name():
    assert two().within("g") == (0,) and two().within("h") == () and dict(two().by_group) == {"g": (0,)}


def test_values_say_what_they_are_and_move():
    assert repr(two()) == "Classes(2 of (1, 2, 2), cpu)"
    data = load_classes("digits").to("cpu")
    assert data.device == torch.device("cpu") and data.name == "digits" and sum(data.sizes.values()) == 10
    assert sum(sum(getattr(data, part).counts) for part in PARTS) == 1797


def test_rotations_are_for_square_images_that_are_not_rotated(pixels, labels):
    line = r"^rotations are for square images, got inputs of shape \(3, 6, 8\): leave rotations out$"
    with pytest.raises(DataError, match=line):
        load_classes((pixels, labels), rotations=True)
    with pytest.raises(DataError, match=r"^rotations are for square images, got inputs of shape \(4,\)"):
        load_classes((torch.rand(20, 4), torch.arange(20) % 5), rotations=True)
    with pytest.raises(DataError, match=r"^these classes are rotated already"):
        two().rotated().rotated()


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ({}, (6, 2, 2)),
        ({"test": 0.5}, (3, 2, 5)),
        ({"validation": 0}, (8, 0, 2)),
        ({"validation": 0.0}, (8, 0, 2)),
        ({"train": 3, "validation": 1, "test": 4}, (3, 1, 4)),
        ({"train": 0.2}, (2, 2, 2)),
        ({"train": 0.34, "validation": 0.33, "test": 0.33}, (4, 3, 3)),
        ({"test": ["bee", "ant"]}, (6, 2, 2)),
        ({"validation": ["jay"], "test": ["ant"]}, (8, 1, 1)),
        ({"train": ["cat"], "test": ["ant"]}, (1, 0, 1)),
        ({"validation": [], "test": 1}, (9, 0, 1)),
        ({"train": ["cat", "dog"], "validation": 3, "test": ["ant"]}, (2, 3, 1)),
    ],
)
def test_shares_numbers_and_names(images, labels, asked, sizes):
    data = load_classes((images, labels), classes=NAMES, **asked)
    assert tuple(data.sizes.values()) == sizes
    assert len({name for names in split_of(data).values() for name in names}) == sum(sizes)
    for part, value in asked.items():
        if isinstance(value, list):
            assert set(split_of(data)[part]) == set(value)


def test_validation_and_test_take_whole_groups(images, labels):
    for seed in range(20):
        data = load_classes((images, labels), classes=NAMES, groups=GROUPS, seed=seed, validation=2, test=0.2)
        of = {part: set(getattr(data, part).groups) for part in PARTS}
        assert not of["train"] & of["validation"] and not of["test"] & (of["train"] | of["validation"])
        assert len(of["test"]) == 1 and 2 <= data.sizes["validation"] <= 4 and sum(data.sizes.values()) == 10
    partly = load_classes((images, labels), classes=NAMES, groups={"ant": "insects", "bee": "insects"})
    assert partly.train.groups.count("insects") in (0, 2)


def folder(root: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    for i, (x, y) in enumerate(zip(images, labels, strict=True)):
        part = root / ("train" if i < 40 else "test") / NAMES[y]
        part.mkdir(parents=True, exist_ok=True)
        image.fromarray(x[0]).save(part / f"{i:03d}.png")
    return root


class Pictures(Dataset):
    def __init__(self, images, labels):
        self.items, self.classes = list(zip(images, labels.tolist(), strict=True)), NAMES

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_every_source_of_the_same_images_is_the_same(images, labels, tmp_path):
    expected = load_classes((images, labels), classes=NAMES, seed=5)
    np.savez(tmp_path / "some.npz", x=images, y=labels, classes=np.array(NAMES))
    np.savez(tmp_path / "parts.npz", x_train=images[:35], y_train=labels[:35], x_test=images[35:], y_test=labels[35:])
    tensors = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    found = [
        load_classes(tmp_path / "some.npz", seed=5),
        load_classes(str(tmp_path / "parts.npz"), seed=5, classes=NAMES),
        load_classes({"x": images, "y": labels}, seed=5, classes=NAMES),
        load_classes({"train": (images[:20], labels[:20]), "test": (images[20:], labels[20:])}, seed=5, classes=NAMES),
        load_classes(Pictures(images, labels), seed=5),
        load_classes(DataLoader(tensors, batch_size=7), seed=5, classes=NAMES),
        load_classes((images[:, 0], labels), seed=5, classes=NAMES),
        load_classes(folder(tmp_path / "folder", images, labels), seed=5),
    ]
    assert {data.fingerprint for data in found} == {expected.fingerprint}
    assert {(data.mean, data.std) for data in found} == {(expected.mean, expected.std)}
    assert found[0].name == "some" and load_classes((images, labels), name="mine").name == "mine"


def test_a_table_of_classes_gives_rows(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("a,b,kind\n" + "".join(f"{i},{i * i % 17},{i % 30}\n" for i in range(90)))
    data = load_classes(path, target="kind", test=0.3)
    assert data.shape == (2,) and data.sizes == {"train": 15, "validation": 6, "test": 9}
    assert len(data.mean) == 2 and data.pixels == (0.0, 1.0)
    ready = data.normalised(data.train.gather(torch.arange(15)[:, None], torch.arange(3)))
    assert torch.allclose(ready.mean((0, 1)), torch.zeros(2), atol=1e-6)
    path.write_text("a,b,y\n" + "".join(f"{i},{i * i},{i / 7}\n" for i in range(40)))
    with pytest.raises(
        DataError, match=r"^few-shot learning needs classes, got targets of type float64 \(a regression\)"
    ):
        load_classes(path, target="y")
    path.write_text("a,b,y\n" + "".join(f"{i},{'red' if i % 2 else 'blue'},{i % 4}\n" for i in range(40)))
    with pytest.raises(DataError, match=r"^cells: columns must be numbers, 'b' holds words: drop it, or number them$"):
        load_classes(path, target="y")
    assert load_classes(path, target="y", drop=["b"]).shape == (1,)
    path.write_text("a,b,y\n" + "".join(f"{i},{i * i if i else ''},{i % 4}\n" for i in range(40)))
    with pytest.raises(DataError, match=r"^train has 1 NaN and 0 infinite values in 1 of 40 rows"):
        load_classes(path, target="y")


def test_a_label_without_examples_is_no_class(images, labels):
    gaps = load_classes((images, labels * 3))
    assert set(sum(split_of(gaps).values(), ())) == {str(3 * i) for i in range(10)}
    named = load_classes((images, labels), classes=[*NAMES, "koi"])
    assert sum(named.sizes.values()) == 10 and named.notes == ("classes without images left out: koi",)


def test_class_data_is_taken_as_it_is(images, labels):
    data = load_classes((images, labels))
    assert load_classes(data).fingerprint == data.fingerprint
    with pytest.raises(DataError, match=r"^a ClassData is taken as it is, got test, rotations as well"):
        load_classes(data, test=3, rotations=True)
    with pytest.raises(DataError, match=r"^a Data is split by example"):
        load_classes(load_data((images, labels)))


FAULTS = [
    ({"test": ["ant", "ant"]}, "class 'ant' is twice in test: each class may stand in one part, once"),
    (
        {"train": ["ant"], "test": ["ant"]},
        "class 'ant' is in train and in test: each class may stand in one part, once",
    ),
    ({"test": ["foxx"]}, "test names an unknown class 'foxx'; did you mean \"fox\"?"),
    ({"test": ["?"]}, "test names an unknown class '?'; allowed: ant, bee, cat, ..."),
    ({"test": "ant"}, "test must be a share, a number of classes or a list of their names, got 'ant'"),
    ({"test": 0}, "test must be a fraction in (0, 1), a number of classes >= 1 or a list of class names, got 0"),
    ({"test": 1.5}, "test must be a fraction in (0, 1), a number of classes >= 1 or a list of class names, got 1.5"),
    ({"validation": -1}, "validation must be a fraction in (0, 1), a number of classes >= 1, 0 for none, or a list of"),
    (
        {"train": True},
        "train must be a fraction in (0, 1), a number of classes >= 1 or a list of class names, got True",
    ),
    ({"test": 0.6, "validation": 0.5}, "validation=0.5, test=0.6 are more than all classes: ask for less"),
    (
        {"test": 11},
        "too few classes for train and validation and test, with test=11: 10 came (ant, bee, cat, ...); each",
    ),
    (
        {"test": []},
        "too few classes for test, with test: 0 names: 10 came (ant, bee, cat, ...); each part needs at least",
    ),
    ({"train": 9}, "too few classes for train, with train=9: 10 came"),
    ({"groups": {"antt": "insects"}}, "groups names an unknown class 'antt'; did you mean \"ant\"?"),
    ({"groups": ["insects"]}, "groups must be a mapping from class to group, both by name, got ['insects']"),
    ({"seed": -1}, "seed must be an integer >= 0, got -1"),
    ({"overlap": "alow"}, "overlap must be one of two words, got 'alow'; did you mean \"allow\"?"),
    ({"size": 0}, "size must be an integer, 1 to 4096, got 0"),
    ({"size": 8}, "size is for folders and zips of images"),
    ({"classes": ["a", "a"]}, "classes must be at least 2 different names"),
]


@pytest.mark.parametrize(("asked", "line"), FAULTS, ids=[line[:40] for _, line in FAULTS])
def test_a_fault_is_said_in_one_line(images, labels, asked, line):
    with pytest.raises(DataError) as caught:
        load_classes((images, labels), **{"classes": NAMES, **asked})
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_too_few_classes(images, labels):
    line = (
        r"^too few classes for train, with the usual shares: 2 came \(0, 1\); each part needs at least 1 \(validation=0"
    )
    with pytest.raises(DataError, match=line):
        load_classes((images, labels % 2))
    assert load_classes((images, labels % 2), validation=0).sizes == {"train": 1, "validation": 0, "test": 1}
    grouped = "^too few classes for train, .*10 came .*, of which validation and test take whole groups; "
    with pytest.raises(DataError, match=grouped):
        load_classes((images, labels), groups={str(i): "ab"[i % 2] for i in range(10)})
    with pytest.raises(DataError, match="all 60 labels are 0: at least 2 classes are needed"):
        load_classes((images, labels * 0))


def test_pixels_must_be_finite_and_targets_labels(images, labels):
    bad = images.astype(np.float32)
    bad[3, 0, 2, 2] = np.nan
    with pytest.raises(DataError, match=r"^train has 1 NaN and 0 infinite pixels in 1 of 60 images"):
        load_classes((bad, labels))
    with pytest.raises(
        DataError, match=r"^few-shot learning needs classes, got targets of type float32 \(a regression\)"
    ):
        load_classes((images, labels / 7))


def test_identical_images_in_two_parts_are_leakage(images, labels):
    copied = images.copy()
    copied[1] = copied[0]
    parts = {"train": ["bee"], "test": ["ant"], "classes": NAMES}
    line = (
        "leakage between parts, 1 images: one of 'ant' (test) is also in 'bee' (train); remove the copies, put these "
        'classes into one part by their names, or pass overlap="allow"'
    )
    with pytest.raises(DataError) as caught:
        load_classes((copied, labels), **parts)
    assert str(caught.value) == line
    assert load_classes((copied, labels), **parts, overlap="allow").sizes["test"] == 1
    assert load_classes((copied, labels), test=["ant", "bee"], classes=NAMES).sizes["test"] == 2  # no part shares them
    copied[1] = np.rot90(images[0], axes=(1, 2))
    assert load_classes((copied, labels), **parts).sizes["test"] == 1
    with pytest.raises(DataError, match=r"^leakage between parts, 1 images"):
        load_classes((copied, labels), **parts, rotations=True)


def characters(tmp_path: Path, table: str | None = None) -> Path:
    random = np.random.default_rng(0)
    background, evaluation = (random.integers(0, 2, (n, 4, 6, 6), dtype=np.uint8) * 255 for n in (12, 5))
    np.savez(tmp_path / "om.npz", background=background, evaluation=evaluation)
    if table is not None:
        rows = "part,alphabet,first_char_1based,last_char_1based\n" + table
        (tmp_path / "omniglot_alphabets.csv").write_text(rows)
    return tmp_path / "om.npz"


TABLE = "background,A,1,5\nbackground,B,6,8\nbackground,C,9,12\nevaluation,D,13,14\nevaluation,E,15,17\n"


def test_the_form_of_omniglot(tmp_path):
    data = load_classes(characters(tmp_path, TABLE), validation=0.34)
    assert data.name == "om" and data.sizes["test"] == 5 and data.shape == (1, 6, 6)
    assert data.test.names == ("D/character01", "D/character02", *(f"E/character0{i}" for i in (1, 2, 3)))
    assert data.test.groups == ("D", "D", "E", "E", "E") and set(data.test.counts) == {4}
    assert len(data.validation.by_group) == 1 and set(data.validation.groups).isdisjoint(data.train.groups)
    assert data.notes == (f"validation alphabets: {data.validation.groups[0]}",)
    none = load_classes(characters(tmp_path, TABLE), validation=0, train=3)
    assert none.sizes == {"train": 3, "validation": 0, "test": 5} and none.notes == ()
    with np.load(tmp_path / "om.npz") as file:
        mapping = dict(file)
    bare = load_classes(mapping)
    assert bare.name == "omniglot" and bare.sizes == {"train": 11, "validation": 1, "test": 5}
    assert bare.test.names[0] == "evaluation/character0001" and set(bare.test.groups) == {""}


def test_faults_of_the_form_of_omniglot(tmp_path):
    path = characters(tmp_path, TABLE)
    for asked in ({"test": 3}, {"classes": NAMES}, {"groups": GROUPS}, {"size": 5}):
        with pytest.raises(DataError, match=f"^om brings its own .*, got {next(iter(asked))} as well: leave it out$"):
            load_classes(path, **asked)
    with pytest.raises(DataError, match=r"^validation names an unknown class 'D/character01'"):
        load_classes(path, validation=["D/character01"])
    with pytest.raises(
        DataError, match=r"^omniglot_alphabets.csv: the background alphabets must cover .* 1 to 12, each"
    ):
        load_classes(characters(tmp_path, TABLE.replace("C,9,12", "C,9,11")))
    with pytest.raises(
        DataError, match=r"^omniglot_alphabets.csv, line 2: must be part .*, got background, A, one, 5$"
    ):
        load_classes(characters(tmp_path, TABLE.replace("A,1,5", "A,one,5")))
    good = np.zeros((3, 2, 4, 4), dtype=np.uint8)
    with pytest.raises(DataError, match=r"^evaluation must be \(characters, drawers, height, width\)"):
        load_classes({"background": good, "evaluation": good[0]})
    with pytest.raises(DataError, match=r"^omniglot: background and evaluation must have one shape and type of image"):
        load_classes({"background": good, "evaluation": good[..., :3]})
    with pytest.raises(DataError, match=r"^background has 96 NaN and 0 infinite pixels in 6 of 6 images"):
        load_classes({"background": good * np.nan, "evaluation": good * 1.0})


def test_a_damaged_file_of_omniglot_is_said_in_one_line(tmp_path):
    path = characters(tmp_path)
    held = bytearray(path.read_bytes())
    held[200:260] = bytes(60)
    path.write_bytes(held)
    with pytest.raises(DataError, match=r"om.npz' is damaged \(.*\): fetch it again$"):
        load_classes(path)


@pytest.fixture(scope="module")
def omniglot() -> Path:
    if "METANAS_DATA" not in os.environ:
        pytest.skip("needs METANAS_DATA, a folder with omniglot28.npz")
    return Path(os.environ["METANAS_DATA"]) / "omniglot28.npz"


def test_omniglot_is_what_it_is_known_to_be(omniglot):
    data = load_classes(omniglot)
    background = data.train.names + data.validation.names
    assert len(background) == len(set(background)) == 964 and data.sizes["test"] == 659
    assert len(data.train.by_group) == 27 and len(data.validation.by_group) == 3 and len(data.test.by_group) == 20
    assert set(data.train.groups).isdisjoint(data.validation.groups)
    assert {count for part in PARTS for count in getattr(data, part).counts} == {20}
    assert data.shape == (1, 28, 28) and data.pixels == (0.0, 255.0)
    assert data.train.inputs.dtype == torch.uint8 and len(data.train.by_group["Korean"]) == 40
    with np.load(omniglot) as file:
        assert np.array_equal(data.test.inputs.numpy(), file["evaluation"].reshape(-1, 1, 28, 28))
    rotated = load_classes(omniglot, rotations=True)
    assert rotated.sizes["test"] == 2636 and len(rotated.test.inputs) == 659 * 20
    # A change of these digits means that no run made before can be resumed: it must be on purpose.
    assert data.fingerprint.startswith("f8cc77d3")
    assert replace(data, name="x").fingerprint == data.fingerprint
