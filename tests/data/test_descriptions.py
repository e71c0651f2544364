"""Descriptions of classes: attributes, vectors, sentences and their encoder, files, and the faults in one line."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from metanas.data import Descriptions, Words, compositions, sentence_encoder
from metanas.data import words as words_module
from metanas.data.compositions import HELD_OUT_WORDINGS, WORDINGS
from metanas.errors import DataError, MissingDependencyError

ANIMALS = {
    "cat": {"legs": 4, "cover": "fur", "home": "house"},
    "gull": {"legs": 2, "cover": "feathers", "home": "sea"},
    "cod": {"legs": 0, "cover": "scales", "home": "sea"},
}


def lengths(texts):
    """A text encoder of somebody's own: how long a text is, and how many words it has."""
    return np.array([[len(text), len(text.split())] for text in texts], dtype=np.float64)


class TestAttributes:
    def test_words_are_one_hot_and_numbers_standardised(self):
        known = Descriptions.fit(ANIMALS)
        sd = (8 / 3) ** 0.5
        wanted = [[2 / sd, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 1], [-2 / sd, 0, 0, 1, 0, 1]]
        assert torch.allclose(known.vectors, torch.tensor(wanted))
        assert [key.name for key in known.keys] == ["legs", "cover", "home"] and known.width == 6

    def test_new_classes_are_read_by_what_the_known_ones_taught(self):
        known = Descriptions.fit(ANIMALS)
        new = {"fly": {"home": "house", "cover": "scales", "legs": 6}}  # in another order
        assert torch.allclose(known.encode(new), torch.tensor([[4 / (8 / 3) ** 0.5, 0, 0, 1, 1, 0]]))

    def test_several_descriptions_of_a_class_have_a_mean(self):
        known = Descriptions.fit({"a": [{"k": "x"}, {"k": "y"}], "b": {"k": "y"}})
        assert known.vectors.tolist() == [[0.5, 0.5], [0.0, 1.0]]
        assert [len(rows) for rows in known.rows] == [2, 1]

    def test_a_number_that_is_always_the_same(self):
        known = Descriptions.fit({"a": {"n": 3, "k": "x"}, "b": {"n": 3, "k": "y"}})
        assert known.vectors[:, 0].tolist() == [0.0, 0.0]


def test_vectors_stay_as_they_are():
    known = Descriptions.fit({"a": [0.5, 1], "b": torch.tensor([0.0, 2.0]), "c": np.eye(2)})
    assert known.vectors.tolist() == [[0.5, 1.0], [0.0, 2.0], [0.5, 0.5]]


def test_draws_are_wordings_of_each_class_and_all_come_up():
    known = Descriptions.fit({"a": ["red cat", "cat, red", "a cat that is red"], "b": "a blue dog"})
    draw = torch.Generator().manual_seed(0)
    drawn = torch.stack([known.draw(generator=draw) for _ in range(60)])  # (60, 2, d)
    assert torch.equal(drawn[:, 1], known.rows[1].expand(60, -1))
    same = (drawn[:, 0, None] == known.rows[0]).all(-1)  # (60, wordings)
    assert bool((same.sum(1) == 1).all()) and bool(same.any(0).all())


class TestWords:
    def test_what_all_classes_say_weighs_nothing(self):
        words = Words.fit([["there is a red cat"], ["there is a blue cat"], ["there is a green cat"]])
        assert "word cat" not in words.weights and words.weights["word red"] == pytest.approx(np.log(3))
        assert torch.equal(words(["red"]), words(["red cat"])) is False, "a pair of known words"
        assert torch.equal(words(["red"]), words(["red zzz"])), "what no known sentence has is not counted"

    def test_what_one_wording_says_weighs_less(self):
        words = Words.fit([["red cat", "crimson cat"], ["blue cat", "blue cat indeed"]])
        assert words.weights["word blue"] == pytest.approx(np.log(2))
        assert words.weights["word red"] == pytest.approx(np.log(2) / 4)

    def test_order_tells_compositions_apart(self):
        known = Descriptions.fit(
            {"a": "red ink, blue background", "b": "blue ink, red background", "c": "red ink, red background"}
        )
        near = known.vectors @ known.encode({"new": "the background blue; the ink red"})[0]
        assert int(near.argmax()) == 0 and near[0] > near[1] + 0.2

    def test_vectors_have_length_one_and_are_the_same_in_another_process(self):
        words = Words.fit([["a red cat"], ["a blue dog"]], dimension=32)
        row = words(["red dog"])
        assert row.norm() == pytest.approx(1, abs=1e-6) and row.shape == (1, 32)
        code = (
            "from metanas.data import Words\n"
            "w = Words.fit([['a red cat'], ['a blue dog']], dimension=32)\n"
            "print(w(['red dog']).tolist())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": "7"}, check=True
        )
        assert json.loads(done.stdout) == row.tolist()

    def test_a_held_out_wording_is_nearest_to_its_own_class(self):
        drawn = compositions(classes=150, validation=20, test=30, seed=1)
        known = Descriptions.fit(drawn.wordings(drawn.train))
        told = known.encode(drawn.wordings(drawn.test, WORDINGS))
        for template in HELD_OUT_WORDINGS:
            near = known.encode(drawn.wordings(drawn.test, [template])) @ told.T
            assert (near.argmax(1) == torch.arange(30)).float().mean() >= 0.9, template

    def test_no_word_tells_them_apart(self):
        with pytest.raises(DataError, match="no word tells the 2 sentences apart"):
            Words.fit([["a cat"], ["A cat!"]])
        with pytest.raises(DataError, match="dimension must be an integer >= 1, got 0"):
            Words({}, 0)


class TestEncoders:
    def test_any_callable(self):
        known = Descriptions.fit({"a": "a cat", "b": ["one big dog", "a dog"]}, encoder=lengths)
        assert known.vectors.tolist() == [[5.0, 2.0], [8.0, 2.5]]
        assert known.encode({"c": "a tiny fish"}).tolist() == [[11.0, 3.0]]

    @pytest.mark.parametrize(
        ("encoder", "said"),
        [
            (lambda texts: torch.zeros(len(texts)), r"must give \(1, d\) numbers for 1 texts, got \(1,\)"),
            (lambda texts: torch.full((len(texts), 2), torch.nan), "gave numbers that are not finite"),
        ],
    )
    def test_one_that_gives_something_else(self, encoder, said):
        with pytest.raises(DataError, match=said):
            Descriptions.fit({"a": "a cat", "b": "a dog"}, encoder=encoder)

    def test_a_model_with_encode(self):
        class Model:
            def encode(self, texts):
                return lengths(texts)

        rows = sentence_encoder(Model())(["abc", "a b"])
        assert torch.allclose(rows, torch.tensor([[3.0, 1.0], [3.0, 2.0]]) / torch.tensor([[10.0], [13.0]]).sqrt())
        with pytest.raises(DataError, match=r"needs a method encode\(texts\), int has none"):
            sentence_encoder(3)

    def test_a_folder_is_read_and_nothing_downloaded(self, tmp_path, monkeypatch):
        asked = []

        class Library:
            @staticmethod
            def SentenceTransformer(*given, **more):
                asked.append((given, more))
                raise OSError("no file config.json\nand more")

        monkeypatch.setattr(words_module, "import_module", lambda name: Library)
        with pytest.raises(DataError, match=r"holds no sentence encoder that can be read \(no file config.json\)"):
            sentence_encoder(tmp_path)
        assert asked == [((str(tmp_path),), {"local_files_only": True, "device": "cpu"})]

    def test_without_the_library(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(MissingDependencyError, match='pip install "sentence-transformers>=3,<6"'):
            sentence_encoder(tmp_path)
        with pytest.raises(DataError, match="there is no folder"):
            sentence_encoder(tmp_path / "no")


class TestKept:
    @pytest.mark.parametrize(
        ("classes", "new"),
        [
            (ANIMALS, {"ant": {"legs": 6, "cover": "scales", "home": "house"}}),
            ({"a": [1.0, 2.0], "b": [[0.0, 1.0], [0.0, 3.0]]}, {"c": [4.0, 5.0]}),
            ({"a": ["a red cat", "cat in red"], "b": "a blue dog"}, {"c": "a red dog"}),
        ],
        ids=["attributes", "vectors", "sentences"],
    )
    def test_as_json_and_back(self, classes, new):
        known = Descriptions.fit(classes)
        back = Descriptions.from_json(json.loads(json.dumps(known.to_json())))
        assert back.names == known.names and torch.equal(back.vectors, known.vectors)
        assert torch.equal(back.encode(new), known.encode(new))

    def test_an_encoder_of_ones_own_is_given_again(self):
        known = Descriptions.fit({"a": "a cat", "b": "one dog"}, encoder=lengths)
        data = json.loads(json.dumps(known.to_json()))
        assert torch.equal(Descriptions.from_json(data, encoder=lengths).vectors, known.vectors)
        with pytest.raises(DataError, match="give the text encoder that these were made with"):
            Descriptions.from_json(data)
        with pytest.raises(DataError, match="leave encoder out: it is kept"):
            Descriptions.from_json(Descriptions.fit({"a": "a cat", "b": "a dog"}).to_json(), encoder=lengths)


class TestFiles:
    def test_json(self, tmp_path):
        path = tmp_path / "animals.json"
        path.write_text(json.dumps(ANIMALS))
        assert torch.equal(Descriptions.fit(path).vectors, Descriptions.fit(ANIMALS).vectors)

    def test_csv_of_attributes(self, tmp_path):
        path = tmp_path / "animals.csv"
        path.write_text("class,legs,cover,home\ncat,4,fur,house\ngull,2,feathers,sea\ncod,0,scales,sea\n")
        assert torch.equal(Descriptions.fit(str(path)).vectors, Descriptions.fit(ANIMALS).vectors)

    def test_csv_of_sentences(self, tmp_path):
        path = tmp_path / "animals.csv"
        path.write_text('class,sentence,sentence 2\ncat,"it has fur, it purrs",a pet\ncod,it swims,\n')
        wanted = Descriptions.fit({"cat": ["it has fur, it purrs", "a pet"], "cod": "it swims"})
        assert torch.equal(Descriptions.fit(path).vectors, wanted.vectors)

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("a.json", '{"cat": "a", "cat": "b"}', "a.json: 'cat' is described twice"),
            ("a.json", '["cat"]', "a.json must hold one object, {class: description}, got a list"),
            ("a.json", "{", "cannot be read as JSON"),
            ("a.csv", "class,k\ncat,x\ncat,y\n", "class 'cat' is described twice"),
            ("a.csv", "clas,k\ncat,x\n", "a.csv has no column 'class'; did you mean \"clas\"?"),
            ("a.csv", "class,k\ncat,\ndog,x\n", "a.csv: class 'cat' has an empty cell in 'k'; fill it in"),
            ("a.csv", "class,k,sentence\ncat,x,a cat\n", "a.csv has sentences and attributes (k)"),
            ("a.txt", "cat", "descriptions are read from .json or .csv files"),
        ],
    )
    def test_faults_of_a_file(self, tmp_path, name, text, said):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError) as error:
            Descriptions.fit(tmp_path / name)
        assert said in str(error.value) and "\n" not in str(error.value)

    def test_no_file(self, tmp_path):
        with pytest.raises(DataError, match="cannot be read as JSON"):
            Descriptions.fit(tmp_path / "no.json")


class TestMistakes:
    @pytest.mark.parametrize(
        ("classes", "said"),
        [
            ({}, "there are no descriptions"),
            (
                [("a", "a cat"), ("a", "a dog")],
                "class 'a' is described twice; give all of its descriptions in one list",
            ),
            ({"a": {"k": "x"}, "b": {"k": "x"}}, "classes 'a' and 'b' have the same description, so nothing tells"),
            ({"a": "a cat, red", "b": "a dog", "c": "a cat, red"}, "classes 'a' and 'c' have the same description"),
            ({"a": "a cat", "b": [1.0]}, "class 'b' has vectors, class 'a' sentences: describe all classes in one way"),
            ({"a": {"k": "x"}, "b": {"q": "x"}}, "class 'b': unknown key 'q'; allowed: k"),
            ({"a": {"k": "x"}, "b": {"k": 1.0}}, "the key 'k' has numbers and words"),
            ({"a": [1.0, 2.0], "b": [1.0]}, "class 'b': a vector must have 2 numbers, got 1"),
            ({"a": [1.0, float("nan")]}, "class 'a': a vector must hold finite numbers"),
            ({"a": {"k": None}}, "class 'a': k must be a word or a finite number, got 'None'"),
            ({"a": []}, "class 'a' must be described by attributes (a dict), a vector of numbers, a sentence"),
            ({"a": 3}, "class 'a' must be described by attributes"),
            ({"a": " "}, "class 'a' has an empty sentence"),
            ([("a",)], "descriptions must be pairs of a class's name and its description, got \"('a',)\""),
        ],
    )
    def test_of_known_classes(self, classes, said):
        with pytest.raises(DataError) as error:
            Descriptions.fit(classes)
        assert said in str(error.value) and "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("first", "new", "said"),
        [
            (
                ANIMALS,
                {"ant": {"lecs": 6, "cover": "fur", "home": "sea"}},
                "unknown key 'lecs'; did you mean \"legs\"?",
            ),
            (
                ANIMALS,
                {"ant": {"legs": 6, "cover": "fir", "home": "sea"}},
                "cover 'fir' is unknown; did you mean \"fur\"?",
            ),
            (ANIMALS, {"ant": {"legs": 6, "cover": "fur"}}, "the key 'home' is missing; give all of legs, cover, home"),
            (ANIMALS, {"ant": {"legs": "six", "cover": "fur", "home": "sea"}}, "legs must be a number, got 'six'"),
            (ANIMALS, {"ant": "it has six legs"}, "the known classes are described by attributes, got sentences"),
            ({"a": "red cat", "b": "blue dog"}, {"c": "Gnu"}, "class 'c': no word of 'Gnu' is known"),
            ({"a": "red cat", "b": "blue dog"}, {"c": "red", "d": "the red"}, "classes 'c' and 'd' have the same"),
            ({"a": [1.0], "b": [2.0]}, {"c": [1.0, 2.0]}, "class 'c': a vector must have 1 numbers, got 2"),
            ({"a": [1.0], "b": [2.0]}, [("c", [1.0]), ("c", [3.0])], "class 'c' is described twice"),
        ],
    )
    def test_of_new_classes(self, first, new, said):
        with pytest.raises(DataError) as error:
            Descriptions.fit(first).encode(new)
        assert said in str(error.value) and "\n" not in str(error.value)

    def test_an_encoder_for_attributes(self):
        with pytest.raises(DataError, match="a text encoder reads sentences, the descriptions are attributes"):
            Descriptions.fit(ANIMALS, encoder=lengths)
