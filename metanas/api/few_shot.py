"""`metanas.fewshot`: learns to learn new classes, and writes a run folder; its result, its resume, and its learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from metanas import __version__
from metanas.api.describing import Told, class_facts, told
from metanas.api.few_shot_parts import FewShotHanded, FewShotParts, built
from metanas.api.few_shot_session import FewShotSession
from metanas.api.host import threads
from metanas.api.identity import SCHEMA, surroundings, told_differences
from metanas.api.jobs import View, begin, go_on
from metanas.api.learner import Learner
from metanas.api.learner_files import load_learner, save_learner
from metanas.api.recorder import Recorder
from metanas.data import ClassData
from metanas.errors import ExportError, RecipeError, RunError, nearest
from metanas.exporters import FORMATS, RUN_FORMATS, Written, chosen, read_learned, write_learned
from metanas.recipe import FewShotRecipe, override, read_few_shot, read_toml
from metanas.recipe.few_shot import COMPARES
from metanas.recipe.few_shot_tables import make_class_data
from metanas.recipe.shipped import find_recipe
from metanas.recipe.tables import make_device
from metanas.run import RunFolder, dump_json, parse_json
from metanas.run.atomic import read_json
from metanas.space import Architecture, space_to_json


@dataclass(frozen=True, eq=False)
class FewShotResult:
    """The outcome of learning to learn.

    learner:      what learns new classes
    accuracy:     over `episodes` episodes of the test classes, each query answered for itself (inductive);
                  `interval`: half the width of its 95 % interval
    transductive_accuracy: where the norms may see all queries of a task together
    start_accuracy: of the same learner before it had learned anything
    architecture: None where the network is your own, or its structure adapts to each task
    """

    learner: Learner
    accuracy: float
    interval: float
    transductive_accuracy: float
    start_accuracy: float
    ways: int
    shots: int
    episodes: int
    architecture: Architecture | None
    run: Path
    structure_seconds: float
    learn_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.ways}-way {self.shots}-shot, {self.episodes} episodes of new classes: {self.accuracy:.2%} +- "
            f"{self.interval:.2%}, {self.start_accuracy:.2%} before"
        )


@dataclass(frozen=True)
class FewShotJob:
    """A few-shot run, from its parts to its result (`work.Job`)."""

    parts: FewShotParts

    @property
    def recipe(self) -> FewShotRecipe:
        return self.parts.recipe

    @property
    def data(self) -> ClassData:
        return self.parts.data

    def document(self) -> dict[str, Any]:
        document = {
            "schema": SCHEMA,
            "kind": "fewshot",
            "metanas": __version__,
            "versions": surroundings(self.data),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": self.recipe.to_json(),
            "data": class_facts(self.data),
            "handed": self.parts.handed.described(),
            "metric": "accuracy",
        }
        dump_json(document)
        return document

    def space_document(self) -> dict[str, Any] | None:
        return None if self.parts.space is None else space_to_json(self.parts.space)

    def identity(self) -> dict[str, Any]:
        identity: dict[str, Any] = parse_json(dump_json(self.parts.identity()))
        return identity

    def work(self, folder: RunFolder, recorder: Recorder, state: dict[str, Any] | None) -> dict[str, Any]:
        session = FewShotSession(self.parts, folder, recorder)
        data = session.run(state)
        assert session.learner is not None  # it was tested
        save_learner(session.learner, folder.path, self.recipe)
        return data

    def result(self, folder: RunFolder, data: dict[str, Any]) -> FewShotResult:
        return few_shot_result_of(folder, data, self.parts.handed)


def fewshot(
    recipe: FewShotRecipe | str | Path | None = None,
    data: Any = None,
    *,
    network: nn.Module | None = None,
    descriptions: Any = None,
    encoder: Any = None,
    learner: str | None = None,
    ways: int | None = None,
    shots: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    run: str | Path | None = None,
    view: View | None = None,
) -> FewShotResult:
    """Learns to learn new classes from a few examples, tests that on classes never seen, and writes a run folder.

    Args:
        recipe: where to start from, a FewShotRecipe, the name of a shipped one or the path of its TOML file; the other
            arguments override it. Default: `FewShotRecipe()`.
        data: `"digits"`, a path (an .npz, a folder or .zip of images by class, Omniglot's .npz), arrays (x, y), a
            Dataset, or ClassData; nothing of the recipe's `data` section holds for it.
        network: a module of your own, from images to scores (of a learner that adapts) or to an embedding.
        descriptions: of all classes, for `learner="zero_shot"`: {class: {key: value}}, {class: vector},
            {class: sentence or list of them}, or the path of a .json or .csv file (`data.descriptions`).
        encoder: of sentences, list of str -> (n, d); default: one that needs no download.
        learner: a name: "prototypical", "maml", "fomaml", "anil", "meta_sgd", "reptile", "imaml", "zero_shot".
        ways, shots: classes of a task and examples of each, of the training and of the test; a learner that compares
            keeps the ways of its training.
        steps, seed, device: of the recipe's `outer.steps`, `seed`, `device`.
        settings: anything else of the recipe by dotted path: `{"episodes.tasks": 8, "learner.options.lr": 0.1}`.
        run, view: as of `metanas.search`.

    Returns:
        The learner, and its accuracy on new classes.

    Raises:
        RecipeError, SpaceError, DataError, RunError: before any training, in one line.
        InterruptedSearchError: Ctrl-C or SIGTERM; a checkpoint was written, `resume` goes on.
        DivergedError: too many hypergradients were not finite.

    >>> import tempfile
    >>> import metanas
    >>> quick = {"network.options": {"width": 4, "depth": 2}, "episodes.ways": 3, "evaluation.episodes": 20}
    >>> quick |= {"evaluation.ways": 2, "evaluation.validation": 10}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = metanas.fewshot(steps=3, settings=quick, run=Path(folder, "first"))
    >>> result.ways, result.shots, result.episodes
    (2, 1, 20)
    """
    start = _base(recipe).to_json()
    if data is not None:
        start["data"] = {"source": str(data) if isinstance(data, str | Path) else None}
    if network is not None:
        start["network"] = {"name": None}
    if learner is not None and learner != start["learner"]["name"]:
        start["learner"] = {"name": learner}
    if isinstance(descriptions, str | Path):
        start["data"] = {**start["data"], "descriptions": str(descriptions)}
        descriptions = None
    compares = start["learner"]["name"] in COMPARES
    changes: dict[str, Any] = {
        "evaluation.ways": ways,
        "episodes.ways": None if compares else ways,
        "evaluation.shots": shots,
        "episodes.shots": shots,
        "outer.steps": steps,
        "seed": seed,
        "device": device,
    }
    changes = {path: value for path, value in changes.items() if value is not None}
    whole = read_few_shot(override(start, {**(settings or {}), **changes}))
    with threads(whole.threads):
        handed = FewShotHanded(network, descriptions, encoder)
        parts = prepare_few_shot(whole, None if isinstance(data, str | Path) else data, handed)
        stem = f"fewshot-{parts.data.name}"
        folder = partial(RunFolder.create_numbered, stem) if run is None else partial(RunFolder.create, run)
        return begin(FewShotJob(parts), folder, view)


def _base(recipe: FewShotRecipe | str | Path | None) -> FewShotRecipe:
    if recipe is None or isinstance(recipe, FewShotRecipe):
        return recipe or FewShotRecipe()
    return read_few_shot(read_toml(find_recipe("few-shot", recipe)))


def prepare_few_shot(recipe: FewShotRecipe, data: Any, handed: FewShotHanded) -> FewShotParts:
    """The parts of a new run; everything that can be wrong with a recipe is found here, before a folder is made.

    Raises:
        RecipeError, SpaceError, DataError: as `metanas.fewshot` says.
    """
    space = built(recipe) if handed.network is None else None
    found = make_class_data(recipe, data).to(make_device(recipe.device))
    parts = FewShotParts(recipe, space, found, handed, told=_told(recipe, found, handed))
    parts.check()
    return parts


def _told(recipe: FewShotRecipe, data: ClassData, handed: FewShotHanded) -> Told | None:
    """The descriptions of the classes, for a learner that reads them."""
    source = recipe.data.descriptions if handed.descriptions is None else handed.descriptions
    if recipe.learner.name != "zero_shot":
        if source is not None or handed.encoder is not None:
            raise RecipeError(
                [f"data.descriptions: {recipe.learner.name} reads none; take zero_shot, or leave them out"]
            )
        return None
    if source is None:
        raise RecipeError(["data.descriptions: zero_shot needs the classes described; give descriptions"])
    return told(data, source, handed.encoder)


def resume_few_shot(
    folder: RunFolder,
    document: Mapping[str, Any],
    *,
    data: Any = None,
    handed: FewShotHanded,
    device: str | None = None,
    view: View | None = None,
) -> FewShotResult:
    """Goes on with a few-shot run that is not finished; see `metanas.resume`."""
    try:
        recipe = read_few_shot(override(document["recipe"], {} if device is None else {"device": device}))
    except RecipeError as error:
        raise RecipeError([f"{folder.file('recipe.json')}: {problem}" for problem in error.problems]) from None
    missing = [name for name in document["handed"] if name not in handed.described()]
    missing += ["data"] if recipe.data.source is None and data is None else []
    if missing:
        raise RunError(f"{folder.path} was started with your own {', '.join(missing)}; hand it over again to resume()")
    with threads(recipe.threads):
        parts = prepare_few_shot(recipe, data, handed)
        if parts.data.fingerprint != document["data"].get("fingerprint"):
            shown = told_differences(document["data"], class_facts(parts.data))
            raise RunError(f"the data are not those of {folder.path}: {shown}; give the same data")
        return go_on(FewShotJob(parts), folder, view)


def few_shot_result_of(
    folder: RunFolder, data: Mapping[str, Any] | None = None, handed: FewShotHanded | None = None
) -> FewShotResult:
    """The result of a few-shot run. RunError where there is none yet, or its files are damaged."""
    data = folder.read_result() if data is None else data
    if data is None:
        raise RunError(f"{folder.path} has no result yet; resume it: {folder.resumed_by}")
    own = handed or FewShotHanded()
    learner = load_learner(folder.path, network=own.network, encoder=own.encoder)
    try:
        return FewShotResult(
            learner=learner,
            accuracy=data["test_score"],
            interval=data["interval"],
            transductive_accuracy=data["transductive"]["accuracy"],
            start_accuracy=data["start"]["accuracy"],
            ways=data["ways"],
            shots=data["shots"],
            episodes=data["episodes"],
            architecture=learner.architecture,
            run=folder.path.absolute(),
            structure_seconds=data["structure_seconds"],
            learn_seconds=data["learn_seconds"],
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder.file('result.json')} is damaged: {error!r}") from error


def export_learner(run: Path, folder: Path, formats: str | Sequence[str] | None, *, force: bool) -> Written:
    """The learner of a run as files; see `metanas.export`.

    Raises:
        ExportError: a format that a learner has not, or a file that is there.
    """
    formats = chosen(formats or RUN_FORMATS, known=RUN_FORMATS)
    for name in formats:
        if name not in FORMATS:
            raise ExportError(f"unknown format {name!r}{nearest(name, FORMATS)}")
    wrong = [name for name in formats if name not in RUN_FORMATS]
    if wrong:
        raise ExportError(
            f"a learner is written as json and safetensors, not as {wrong[0]}; a classifier that it makes is: "
            f"load_learner(...).adapt(images, labels).export(folder, formats=[{wrong[0]!r}])"
        )
    targets = [folder / name for name in ("learned.safetensors", "learned.json")]
    there = [str(path) for path in targets if path.exists()]
    if there and not force:
        raise ExportError(f"already there: {', '.join(there)}; choose another folder, or give force=True (--force)")
    facts = read_json(run / "learned.json") if (run / "learned.json").is_file() else None
    if facts is None:
        raise RunError(f"{run} has no learner yet; resume it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot export to {folder}: {error.strerror}") from None
    return Written(write_learned(folder, read_learned(run), facts))
