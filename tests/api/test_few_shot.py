"""`metanas.fewshot` from its arguments to its files: what learns, what is written, what is refused, and its resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import metanas
from metanas.errors import (
    CheckpointError,
    DataError,
    ExportError,
    MetanasError,
    RecipeError,
    RunError,
    ShapeError,
)
from metanas.recipe import FewShotRecipe, read_few_shot
from metanas.run import read_events

TINY = {
    "network.options": {"width": 4, "depth": 2},
    "network.embedding": 6,
    "episodes.ways": 2,
    "episodes.queries": 3,
    "episodes.tasks": 2,
    "outer.steps": 4,
    "evaluation.ways": 2,
    "evaluation.queries": 4,
    "evaluation.validation": 4,
    "evaluation.episodes": 12,
    "evaluation.every": 2,
    "evaluation.pooled": 2,
    "threads": 1,
    "device": "cpu",
    "checkpoint_seconds": 1000.0,
}
SEARCHED = {"network.options": {"width": 3, "depth": 2, "search": True}, "structure.steps": 3}
FILES = ["events.jsonl", "learned.json", "learned.safetensors", "lock", "recipe.json", "result.json", "space.json"]
KINDS: dict[str, dict[str, Any]] = {
    "prototypical": {},
    "turns": {"learner.options": {"loss": "turns"}, "episodes.tasks": 1, "episodes.ways": 4},
    "maml": {"learner": "maml", "learner.options": {"steps": 2}},
    "fomaml": {"learner": "fomaml", "learner.options": {"steps": 1, "norms": "queries"}},
    "anil": {"learner": "anil", "learner.options": {"steps": 2}},
    "meta_sgd": {"learner": "meta_sgd", "learner.options": {"lr": 0.5}},
    "reptile": {"learner": "reptile", "learner.options": {"steps": 2, "lr": 0.1}, "episodes.shots": 4,
                "outer.optimizer": "sgd", "outer.lr": 0.5},
    "imaml": {"learner": "imaml", "learner.options": {"steps": 2, "solves": 2}},
    "shared": {"learner": "maml", "learner.options": {"steps": 1}, "structure.mode": "shared", **SEARCHED},
    "shared, compared": {"structure.mode": "shared", **SEARCHED},
    "adapts": {"learner": "maml", "learner.options": {"steps": 1}, "structure.mode": "adapts", **SEARCHED},
}  # fmt: skip


def quick(*arguments: Any, kind: str = "prototypical", **named: Any) -> Any:
    """`metanas.fewshot` with `settings` on top of TINY and those of a kind."""
    own = dict(KINDS[kind])
    named.setdefault("learner", own.pop("learner", None))
    return metanas.fewshot(*arguments, **{**named, "settings": {**TINY, **own, **named.get("settings", {})}})


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [e for e in read_events(run / "events.jsonl").events if e["kind"] == kind]


def own_network(outputs: int = 2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 8), nn.Linear(8, outputs)
        )


def arrays(seed: int = 0, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Bytes as images, (examples, 8, 8), of classes that differ in where they are bright."""
    draw = np.random.default_rng(seed)
    labels = np.arange(classes * 12) % classes
    patterns = draw.integers(0, 200, (classes, 8, 8))
    return (patterns[labels] + draw.integers(0, 56, (len(labels), 8, 8))).astype(np.uint8), labels


def three(each: int = 2) -> tuple[np.ndarray, list[str]]:
    """Images (examples, 8, 8) of classes "a" and "b", as the digits are: numbers from 0 to 16."""
    draw = np.random.default_rng(1)
    patterns = draw.integers(0, 12, (2, 8, 8))
    labels = [k % 2 for k in range(2 * each)]
    return (patterns[labels] + draw.integers(0, 5, (2 * each, 8, 8))).astype(np.uint8), ["ab"[k] for k in labels]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Finished runs by kind, each made once; not to be changed."""
    found: dict[str, Any] = {}

    def of(kind: str) -> Any:
        if kind not in found:
            found[kind] = quick(kind=kind, seed=3, run=tmp_path_factory.mktemp("fewshot") / "first")
        return found[kind]

    return of


# What learns, and what is written


@pytest.mark.parametrize("kind", KINDS)
def test_every_learner_from_end_to_end(made: Any, kind: str) -> None:
    result = made(kind)
    structure = 3 if kind.startswith("shared") else 0
    assert sorted(p.name for p in result.run.iterdir() if p.name != "checkpoints") == FILES
    steps = events(result.run, "step")
    assert [e["step"] for e in steps] == list(range(1, structure + 5)) and {e["steps"] for e in steps} == {
        4 + structure
    }
    assert all(e["outer_gradient_norm"] > 0 and e["skipped"] == 0 for e in steps)
    validated = events(result.run, "validation")
    assert [e["step"] for e in validated] == [structure + 2, structure + 4]
    assert all(0 < e["accuracy"] <= 1 and e["interval"] >= 0 and e["episodes"] == 4 for e in validated)
    rows = {e["network"]: e for e in events(result.run, "network")}
    assert list(rows) == ["learned", "start"] and rows["start"]["test_score"] == result.start_accuracy
    assert rows["learned"]["test_score"] == result.accuracy and 0.3 < result.accuracy <= 1
    assert 0.3 < result.transductive_accuracy <= 1 and 0 <= result.interval < 0.2
    assert (result.ways, result.shots, result.episodes) == (2, 1, 12)
    assert str(result) == (
        f"2-way 1-shot, 12 episodes of new classes: {result.accuracy:.2%} +- {result.interval:.2%}, "
        f"{result.start_accuracy:.2%} before"
    )
    weights = result.learner.outer["weights"]
    assert all(x.dtype == torch.float32 and not x.requires_grad for x in weights.values())


def test_what_is_learned_is_not_where_it_started(made: Any) -> None:
    for kind in KINDS:
        learner = made(kind).learner
        start = learner.few_shot.outer["weights"]
        assert any(not torch.equal(x, start[name]) for name, x in learner.outer["weights"].items()), kind
    rates = made("meta_sgd").learner.outer["rates"]["weights"]
    assert any(bool((x != 0.1).any()) for x in rates.values())


def test_a_shared_structure_is_derived_and_one_that_adapts_is_not(made: Any) -> None:
    for kind in ("shared", "shared, compared"):
        result = made(kind)
        space = metanas.load_run(result.run).space
        assert result.architecture == space.architecture(result.architecture) and len(result.architecture) > 2
        assert "structure" not in result.learner.outer and not result.learner.few_shot.mixes
        said = [e["message"] for e in events(result.run, "log")]
        assert said[0] == "learning the structure beside the start: 3 steps" and said[1].startswith("derived: block1.")
        phases = [set(e["learned"]) for e in events(result.run, "step")]
        assert phases[:3] == [{"surest choice", "least sure choice"}] * 3 and phases[3:] == [set()] * 4
        row = events(result.run, "network")[0]
        assert row["architecture"] == result.architecture.to_json() and row["key"] == result.architecture.key
    adapts = made("adapts")
    assert adapts.architecture is None and set(adapts.learner.outer) == {"weights", "structure"}
    assert adapts.structure_seconds == 0 < adapts.learn_seconds
    assert made("shared").structure_seconds > 0


def test_the_files_say_what_the_result_says(made: Any) -> None:
    result = made("maml")
    stored = load_file(result.run / "learned.safetensors")
    assert stored.keys() == {f"outer.weights.{name}" for name in result.learner.outer["weights"]}
    assert all(torch.equal(stored[f"outer.weights.{name}"], x) for name, x in result.learner.outer["weights"].items())
    data = json.loads((result.run / "result.json").read_text())
    assert data["kind"] == "fewshot" and data["test_score"] == result.accuracy and data["steps"] == 4
    assert data["transductive"]["accuracy"] == result.transductive_accuracy
    best = max(events(result.run, "validation"), key=lambda e: (e["accuracy"], e["step"]))
    assert data["validation"] == {"step": best["step"], "accuracy": best["accuracy"]}
    document = json.loads((result.run / "recipe.json").read_text())
    assert document["kind"] == "fewshot" and document["data"]["sizes"] == {"train": 6, "validation": 2, "test": 2}
    recipe = read_few_shot(document["recipe"])
    assert (recipe.seed, recipe.learner.name, recipe.learner.options) == (3, "maml", {"steps": 2})


def test_the_statistics_of_the_training_classes_go_with_a_learner_that_compares(made: Any) -> None:
    learner = made("prototypical").learner
    assert [tuple(mean.shape) for mean, _ in learner.statistics] == [(4,), (4,)]
    assert "statistics.001.variance" in load_file(made("prototypical").run / "learned.safetensors")
    assert made("maml").learner.statistics is None


def test_the_best_of_the_validations_is_kept() -> None:
    """Steps that are far too large spoil what was good at first."""
    settings = {"outer.lr": 30.0, "outer.optimizer": "sgd", "outer.clip": 1e9, "evaluation.every": 1}
    result = quick(settings=settings, steps=6, run="best")
    best = json.loads((result.run / "result.json").read_text())["validation"]
    scores = {e["step"]: e["accuracy"] for e in events(result.run, "validation")}
    assert best["accuracy"] == max(scores.values()) and scores[best["step"]] == best["accuracy"]
    assert best["step"] == max(step for step, score in scores.items() if score == best["accuracy"])


def test_it_learns() -> None:
    """Rows that tell classes apart by 3 of 20 numbers: which ones is the same for classes that were never seen."""
    draw = np.random.default_rng(0)
    labels = np.arange(600) % 30
    telling = 2 * draw.standard_normal((30, 3))[labels] + 0.3 * draw.standard_normal((600, 3))
    rows = np.concatenate([telling, 2 * draw.standard_normal((600, 17))], 1).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedding = nn.Linear(20, 6)
    settings = {"episodes.ways": 8, "episodes.queries": 5, "outer.lr": 0.05, "evaluation.episodes": 60,
                "evaluation.every": 20}  # fmt: skip
    result = quick(data=(rows, labels), network=embedding, settings=settings, ways=5, steps=60, run="rows")
    assert result.accuracy > 0.75 and result.start_accuracy < 0.6 and result.ways == 5
    chosen = [int((labels == k).nonzero()[0][0]) for k in range(3)]
    classifier = result.learner.adapt(rows[chosen], ["a", "b", "c"])
    found = classifier.predict(rows[labels < 3])
    assert np.mean([found == "abc"[k] for found, k in zip(found, labels[labels < 3], strict=True)]) > 0.85
    assert metanas.load_run("rows").status == "finished"


def test_without_validation_classes_the_last_step_counts() -> None:
    x, y = arrays(classes=5)
    settings = {"data.train": 3, "data.validation": 0, "data.test": 2}
    result = quick(data=(x, y), settings=settings, run="last")
    assert events(result.run, "validation") == []
    assert json.loads((result.run / "result.json").read_text())["validation"] is None


# What a user does with a learner


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_answers_as_the_learner_does(made: Any, kind: str) -> None:
    from metanas.modes import Support, answer, one_hot

    learner = made(kind).learner
    images, labels = three()
    classifier = learner.adapt(images, labels)
    assert classifier.classes == ("a", "b") and not classifier.network.training
    asked, _ = three(4)
    inputs = learner.pixels.inputs(images, torch.device("cpu"))
    targets = one_hot(torch.tensor([["a", "b"].index(name) for name in labels]), 2)
    support = Support(inputs, targets, learner.statistics)
    with torch.no_grad():
        wanted = answer(
            learner.few_shot, learner.outer, support, learner.pixels.inputs(asked, torch.device("cpu"))
        ).log_softmax(-1)
    found = classifier.scores(asked)
    torch.testing.assert_close(found.log_softmax(-1), wanted, rtol=1e-5, atol=1e-5)
    assert classifier.predict(asked) == ["ab"[k] for k in wanted.argmax(-1).tolist()]
    assert torch.allclose(classifier.probabilities(asked).sum(-1), torch.ones(8))
    alone = torch.cat([classifier.scores(image) for image in asked])
    torch.testing.assert_close(alone, found, rtol=1e-5, atol=1e-5)


def test_images_and_labels_of_every_form_are_the_same(made: Any) -> None:
    learner = made("prototypical").learner
    images, labels = three(3)
    wanted = learner.adapt(images, labels)
    numbers = [{"a": 4, "b": 7}[name] for name in labels]
    forms = {
        "floats": (images.astype(np.float32), labels),
        "channels first": (images[:, None], labels),
        "channels last": (images[..., None], labels),
        "a tensor": (torch.from_numpy(images), labels),
        "not contiguous": (np.asfortranarray(images), labels),
        "numbers": (images, numbers),
        "an array of labels": (images, np.array(numbers)),
        "a tensor of labels": (images, torch.tensor(numbers)),
    }
    for name, (pictures, given) in forms.items():
        found = learner.adapt(pictures, given)
        assert found.classes in (("a", "b"), ("4", "7")), name
        assert torch.equal(found.scores(images), wanted.scores(images)), name
    assert learner.adapt(images[::-1], labels[::-1]).classes == ("b", "a"), "in the order in which they come"


def test_a_learner_that_compares_takes_any_number_of_classes(made: Any) -> None:
    images, _ = three(5)
    found = made("prototypical").learner.adapt(images, list("aabbccddee"))
    assert found.classes == tuple("abcde") and found.scores(images).shape == (10, 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.zeros((4, 8, 8)), "aaaa"), "adapt needs two classes or more to tell apart, got a"),
        ((np.zeros((4, 8, 8)), "abc"), "adapt needs a label for each image, got 4 images and 3 labels"),
        ((np.zeros((4, 8, 8)), "abca"), "this learner tells 2 classes apart, got 3; give that many, or train with "
         "episodes.ways = 3"),
        ((np.zeros((4, 9, 9)), "abab"), "the learner takes images of shape (1, 8, 8), got (1, 9, 9); scale or crop"),
        ((np.zeros((4, 64)), "abab"), "the learner takes images of shape (1, 8, 8), got (1, 4, 64)"),
        ((np.zeros((4, 3, 8, 8)), "abab"), "the learner takes images of shape (1, 8, 8), got (3, 8, 8)"),
        ((np.zeros((0, 8, 8)), ""), "the learner takes images of shape (1, 8, 8), got none"),
        ((np.full((4, 8, 8), np.nan), "abab"), "images hold numbers that are not finite"),
        (([["x"]], "ab"), "images must be an array or a tensor of numbers: "),
        ((None, "ab"), "images must be an array or a tensor of numbers: "),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_adapted_to(made: Any, arguments: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        made("maml").learner.adapt(*arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)


LONG = [pytest.param(kind, marks=pytest.mark.long) for kind in ("maml", "anil", "shared", "shared, compared")]


@pytest.mark.parametrize("kind", ["prototypical", *LONG])
def test_a_classifier_stands_alone(made: Any, tmp_path: Path, kind: str) -> None:
    import importlib.util

    images, labels = three()
    classifier = made(kind).learner.adapt(images, labels)
    formats = ("json", "safetensors", "python", "pt2")
    written = classifier.export(tmp_path / "out", formats)
    assert [p.name for p in written] == ["architecture.json", "network.safetensors", "network.py", "network.pt2"]
    spec = importlib.util.spec_from_file_location("exported", tmp_path / "out/network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked, _ = three(5)
    inputs, wanted = classifier.pixels.inputs(asked, torch.device("cpu")), classifier.scores(asked)
    with torch.no_grad():
        torch.testing.assert_close(module.load().eval()(inputs), wanted, rtol=1e-5, atol=1e-5)
        program = torch.export.load(tmp_path / "out/network.pt2").module()
        torch.testing.assert_close(program(inputs), wanted, rtol=1e-5, atol=1e-5)
    assert json.loads((tmp_path / "out/architecture.json").read_text())["classes"] == ["a", "b"]
    with pytest.raises(ExportError, match="already there"):
        classifier.export(tmp_path / "out")
    classifier.export(tmp_path / "out", force=True)


def test_a_mixture_and_a_module_of_your_own_have_no_text(made: Any, tmp_path: Path) -> None:
    images, labels = three()
    mixed = made("adapts").learner.adapt(images, labels)
    own = quick(network=own_network(), learner="maml", kind="maml", run=tmp_path / "own").learner.adapt(images, labels)
    for classifier in (mixed, own):
        with pytest.raises(ExportError, match="has no description to write"):
            classifier.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The learner as files


def same_learner(a: Any, b: Any) -> None:
    images, labels = three()
    asked, _ = three(5)
    one, other = (learner.adapt(images, labels).scores(asked) for learner in (a, b))
    assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_learner_is_read_back(made: Any, tmp_path: Path, kind: str) -> None:
    result = made(kind)
    again = metanas.load_learner(result.run)
    same_learner(again, result.learner)
    assert (again.ways, again.architecture, again.pixels) == (
        result.learner.ways, result.learner.architecture, result.learner.pixels
    )  # fmt: skip
    read = metanas.load_run(result.run).result()
    same_learner(read.learner, result.learner)
    assert str(read) == str(result) and read.architecture == result.architecture
    written = metanas.export(result.run, tmp_path / "out")
    assert [p.name for p in written] == ["learned.safetensors", "learned.json"]
    same_learner(metanas.load_learner(tmp_path / "out"), result.learner)


def test_export_and_what_it_refuses(made: Any, tmp_path: Path) -> None:
    result = made("maml")
    metanas.export(result, tmp_path / "out")
    with pytest.raises(ExportError, match=r"already there: .*learned\.safetensors, .*learned\.json; choose another"):
        metanas.export(result, tmp_path / "out")
    (tmp_path / "out/learned.json").write_text("mine")
    metanas.export(result, tmp_path / "out", force=True)
    same_learner(metanas.load_learner(tmp_path / "out"), result.learner)
    with pytest.raises(ExportError, match=r"a learner is written as json and safetensors, not as pt2; a classifier"):
        metanas.export(result, tmp_path / "other", formats=["pt2"])
    with pytest.raises(ExportError, match="unknown format 'onx'"):
        metanas.export(result, tmp_path / "other", formats=["onx"])
    assert not (tmp_path / "other").exists()


def copied(made: Any, kind: str, folder: Path) -> Path:
    return Path(shutil.copytree(made(kind).run, folder / "runs/damaged"))


DAMAGE: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no learned.json": (lambda f: (f / "learned.json").unlink(), RunError, "there is no learner in "),
    "no tensors": (lambda f: (f / "learned.safetensors").unlink(), CheckpointError, "No such file"),
    "half a json": (lambda f: (f / "learned.json").write_text('{"kind": "few'), MetanasError, "learned.json"),
    "half the tensors": (lambda f: cut(f / "learned.safetensors"), CheckpointError, "is not a safetensors file"),
    "a pickle": (lambda f: torch.save({}, f / "learned.safetensors"), CheckpointError, "a pickle is never executed"),
    "a key less": (lambda f: edit(f / "learned.json", lambda d: d.pop("shape")), CheckpointError, "is damaged: KeyErr"),
    "another kind": (lambda f: edit(f / "learned.json", lambda d: d.update(learner=3)), CheckpointError, "is damaged"),
    "a learner of tomorrow": (lambda f: edit(f / "learned.json", lambda d: d["learner"].update(name="mamml")),
                              CheckpointError, "learned.json: learner.name: unknown name 'mamml'"),
    "a newer version": (lambda f: edit(f / "learned.json", lambda d: d.update(schema=99, metanas="9.9")),
                        RunError, "learned.json"),
    "another network": (lambda f: edit(f / "learned.json", lambda d: d.update(outputs=7)),
                        CheckpointError, "holds the learner of another network: weights.head."),
    "a tensor more": (lambda f: save_file({**load_file(f / "learned.safetensors"), "outer.x": torch.ones(1)},
                                          f / "learned.safetensors"), CheckpointError, "another network: x differ"),
    "statistics cut short": (lambda f: save_file({k: v for k, v in load_file(f / "learned.safetensors").items()
                                                  if k != "statistics.000.mean"}, f / "learned.safetensors"),
                             CheckpointError, ""),
    "a tuning's": (lambda f: edit(f / "learned.json", lambda d: d.pop("kind")), RunError,
                   "holds no learner but what a tuning learned"),
}  # fmt: skip


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_said_in_one_line(made: Any, tmp_path: Path, what: str) -> None:
    folder = copied(made, "prototypical", tmp_path)
    damage, kind, said = DAMAGE[what]
    damage(folder)
    for attempt in (lambda: metanas.load_learner(folder), lambda: metanas.load_run("damaged").result()):
        with pytest.raises(kind) as caught:
            attempt()
        assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["test_score", "transductive", "start", "learn_seconds"])
def test_a_damaged_result_is_said_in_one_line(made: Any, tmp_path: Path, key: str) -> None:
    folder = copied(made, "maml", tmp_path)
    edit(folder / "result.json", lambda d: d.pop(key))
    with pytest.raises(RunError, match=r"result\.json is damaged: KeyError") as caught:
        metanas.load_run("damaged").result()
    assert "\n" not in str(caught.value)


def test_own_network_and_own_data() -> None:
    net, data = own_network(), arrays(classes=10)
    before = {name: x.clone() for name, x in net.state_dict().items()}
    result = quick(data=data, network=net, learner="maml", kind="maml", run="own")
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items()), "the module is not trained"
    assert sorted(p.name for p in result.run.iterdir()) == [name for name in FILES if name != "space.json"]
    assert json.loads((result.run / "recipe.json").read_text())["handed"] == {"network": "Sequential"}
    assert result.architecture is None
    with pytest.raises(RunError, match=r"was made with your own network; hand it over: load_learner\(\.\.\., network="):
        metanas.load_learner(result.run)
    same = metanas.load_learner(result.run, network=own_network())
    images, labels = (data[0][:4], ["x", "y", "x", "y"])
    assert torch.equal(*(one.adapt(images, labels).scores(data[0]) for one in (same, result.learner)))
    again = metanas.resume("own", network=own_network(), data=data)
    assert str(again) == str(result)


def test_an_own_embedding_is_compared() -> None:
    result = quick(network=own_network(5), run="own")
    images, labels = three()
    classifier = result.learner.adapt(images, labels)
    assert isinstance(classifier.network[-1], nn.Linear) and classifier.scores(images).shape == (4, 2)


# What the arguments say


def test_arguments_override_the_recipe() -> None:
    recipe = read_few_shot({"outer": {"steps": 9, "lr": 0.5}, "learner": {"name": "anil", "options": {"steps": 3}},
                            "episodes": {"ways": 3}, "evaluation": {"ways": 3}})  # fmt: skip
    result = metanas.fewshot(recipe, learner="maml", ways=2, shots=2, steps=2, seed=7, settings={
        **{key: value for key, value in TINY.items() if "ways" not in key}, "outer.steps": 3})  # fmt: skip
    found = read_few_shot(json.loads((result.run / "recipe.json").read_text())["recipe"])
    assert (found.outer.steps, found.outer.lr, found.seed) == (2, 0.5, 7)
    assert (found.learner.name, found.learner.options) == ("maml", {}), "options are those of a learner"
    assert (found.episodes.ways, found.evaluation.ways, found.episodes.shots, found.evaluation.shots) == (2, 2, 2, 2)
    assert result.run.name == "fewshot-digits-1" and (result.ways, result.shots) == (2, 2)


def test_a_learner_that_compares_keeps_the_ways_of_its_training() -> None:
    result = quick(ways=2, settings={"episodes.ways": 5})
    found = read_few_shot(json.loads((result.run / "recipe.json").read_text())["recipe"])
    assert (found.episodes.ways, found.evaluation.ways) == (5, 2)


def test_a_shipped_recipe_by_name() -> None:
    result = metanas.fewshot("maml", steps=2, settings={key: TINY[key] for key in TINY if key.startswith("eval")
                             and key != "evaluation.ways"} | {"network.options": {"width": 4, "depth": 2}})  # fmt: skip
    assert result.ways == 5 and set(result.learner.few_shot.outer) == {"weights"}


def test_the_default_recipe_is_the_recipes() -> None:
    assert FewShotRecipe().to_json() == read_few_shot({}).to_json()


# What is refused, before anything is made


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"learner": "mamml"}, RecipeError, "learner.name: unknown name 'mamml'; did you mean \"maml\"?"),
        ({"settings": {"learner.options": {"stepz": 1}}, "learner": "maml"}, RecipeError, "learner.options.stepz: ma"),
        ({"settings": {"episodes.wayz": 3}}, RecipeError, 'episodes.wayz: unknown key; did you mean "ways"?'),
        ({"ways": 3}, DataError, "an episode of 3 ways needs 3 classes, validation has 2"),
        ({"shots": 400}, DataError, "400 shots and 3 queries need 403 examples of each class"),
        ({"learner": "maml", "settings": {"episodes.ways": 3}}, RecipeError, "episodes.ways: maml has one output for"),
        ({"settings": {"structure.mode": "shared"}}, RecipeError, "structure.mode: the network has no choices; take"),
        ({"settings": {"structure.mode": "adapts"}}, RecipeError, "structure.mode: nothing adapts inside a task of p"),
        ({"settings": {"network.options": {"search": True}}}, MetanasError, "block1.main"),
        ({"settings": {"network.name": "konv4"}}, MetanasError, 'no space named \'konv4\'; did you mean "conv4"?'),
        ({"settings": {"network.options": {"widht": 3}}}, MetanasError, 'did you mean "width"?'),
        ({"recipe": "mamml"}, RecipeError, "no few-shot recipe named 'mamml'; did you mean \"maml\"?"),
        ({"data": "digitz"}, MetanasError, "unknown data 'digitz'; did you mean \"digits\"?"),
        ({"data": arrays(), "settings": {"data.rotations": 3}}, RecipeError, "data.rotations: should be a valid bool"),
        ({"data": (np.zeros((9, 8, 8)), np.arange(9) / 2)}, DataError, "few-shot learning needs classes"),
        ({"network": own_network(3), "learner": "maml"}, ShapeError, "the network gives (3,), and the task has 2 ways"),
        ({"network": nn.Linear(3, 2), "learner": "maml"}, ShapeError, "the network does not take inputs (1, 8, 8): "),
        ({"network": nn.Flatten()}, RecipeError, "learner: prototypical cannot be with {}: the network has no parame"),
        ({"network": nn.Sequential(nn.InstanceNorm2d(1, track_running_stats=True), nn.Flatten(), nn.Linear(64, 2))},
         ShapeError, "0: InstanceNorm2d keeps running statistics"),
        ({"settings": {"evaluation.every": 0}}, RecipeError, "evaluation.every: should be greater than or equal to 1"),
        ({"run": "../x"}, RunError, "run name '../x' is not allowed"),
    ],
    ids=lambda x: " ".join(x)[:40] if isinstance(x, dict) else getattr(x, "__name__", str(x)),
)  # fmt: skip
def test_mistakes_are_found_before_a_folder_is_made(
    runs: Path, arguments: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as caught:
        quick(**arguments, view=lambda _: pytest.fail("it began"))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not runs.exists()


def test_a_finished_run_is_not_touched(made: Any, tmp_path: Path) -> None:
    shutil.copytree(made("maml").run, tmp_path / "runs/whole")

    def content() -> dict[Path, tuple[bytes, int]]:
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}

    before = content()
    assert str(metanas.resume("whole")) == str(made("maml")) and content() == before
