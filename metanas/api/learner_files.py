"""A learner as two files, learned.safetensors and learned.json, which need no run: `metanas.load_learner`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_structure, tree_unflatten

from metanas.api.identity import SCHEMA
from metanas.api.learner import Learner, Pixels
from metanas.data import Descriptions
from metanas.errors import CheckpointError, RecipeError, RunError
from metanas.exporters import read_learned, write_learned
from metanas.loop import named
from metanas.modes import Interpolated, softmax_structure
from metanas.network import derived, supernet
from metanas.recipe import FewShotRecipe
from metanas.recipe.few_shot import LearnerRecipe, StructureRecipe
from metanas.recipe.few_shot_tables import make_learner
from metanas.run import check_schema
from metanas.run.atomic import read_json
from metanas.space import space_from_json, space_to_json


def save_learner(learner: Learner, folder: Path, recipe: FewShotRecipe) -> tuple[Path, ...]:
    """learned.safetensors and learned.json in a folder that is there: all that `load_learner` needs."""
    tensors = {f"outer.{name}": x for name, x in named(learner.outer).items()}
    for k, (mean, variance) in enumerate(learner.statistics or ()):
        tensors |= {f"statistics.{k:03d}.mean": mean, f"statistics.{k:03d}.variance": variance}
    facts = {
        "schema": SCHEMA,
        "kind": "fewshot",
        "learner": recipe.learner.model_dump(mode="json"),
        "structure": recipe.structure.model_dump(mode="json"),
        "outputs": recipe.network.embedding if learner.ways is None else learner.ways,
        "ways": learner.ways,
        "space": None if learner.space is None else space_to_json(learner.space),
        "architecture": None if learner.architecture is None else learner.architecture.to_json(),
        "shape": list(learner.pixels.shape),
        "mean": list(learner.pixels.mean),
        "std": list(learner.pixels.std),
        "pixels": list(learner.pixels.span),
        "views": learner.views,
        "descriptions": None if learner.known is None else learner.known.to_json(),
    }
    return write_learned(folder, tensors, facts)


def load_learner(folder: str | Path, *, network: nn.Module | None = None, encoder: Any = None) -> Learner:
    """The learner of a finished few-shot run, or of a folder that it was saved or exported to.

    Args:
        network: the module that it was made with, where that was one of your own.
        encoder: the text encoder that it was made with, where that was one of your own.

    Raises:
        RunError: no learner there, one of a newer version, or one that needs your own module.
        CheckpointError: its tensors are missing, damaged, or of another network.
    """
    folder = Path(folder)
    path = folder / "learned.json"
    if not path.is_file():
        raise RunError(f"there is no learner in {folder}: learned.json is missing; give the folder of a few-shot run")
    facts = read_json(path)
    if facts.get("kind") != "fewshot":
        raise RunError(f"{path} holds no learner but what a tuning learned; give the folder of a few-shot run")
    check_schema(facts, path, known=SCHEMA)
    try:
        return _loaded(facts, read_learned(folder), folder, network, encoder)
    except RecipeError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error


def _loaded(
    facts: dict[str, Any], tensors: dict[str, Tensor], folder: Path, network: nn.Module | None, encoder: Any
) -> Learner:
    space = None if facts["space"] is None else space_from_json(facts["space"])
    shape, section = tuple(facts["shape"]), StructureRecipe(**facts["structure"])
    architecture, structure = None, None
    if space is None:
        if network is None:
            raise RunError(f"{folder} was made with your own network; hand it over: load_learner(..., network=...)")
    elif facts["architecture"] is None:
        choices = {choice.name: len(choice.candidates) for choice in space.choices}
        structure = softmax_structure(choices, adapts=section.mode == "adapts", gain=section.gain)
        network = supernet(space, shape, facts["outputs"])
    else:
        architecture = space.architecture(facts["architecture"])
        network = derived(space, architecture, shape, facts["outputs"], phase="search")
    told = facts.get("descriptions")
    known = None if told is None else Descriptions.from_json(told, encoder=encoder)
    width = None if known is None else known.width
    learner = make_learner(
        LearnerRecipe(**facts["learner"]),
        network,
        structure,
        described=width,
        outputs=facts["outputs"],
        reads=_interpolated(tensors),
    )
    wanted = named(learner.outer)
    given = {name.removeprefix("outer."): x for name, x in tensors.items() if name.startswith("outer.")}
    wrong = [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]
    wrong += [name for name in given if name not in wanted]
    if wrong:
        raise CheckpointError(f"{folder} holds the learner of another network: {', '.join(sorted(wrong)[:5])} differ")
    outer = tree_unflatten([given[name] for name in wanted], tree_structure(learner.outer))
    count = sum(name.startswith("statistics.") for name in tensors) // 2
    pairs = [tuple(tensors[f"statistics.{k:03d}.{what}"] for what in ("mean", "variance")) for k in range(count)]
    span = facts["pixels"]
    pixels = Pixels(shape, tuple(facts["mean"]), tuple(facts["std"]), (span[0], span[1]))
    statistics = [(mean, variance) for mean, variance in pairs] if learner.pooled else None
    views = facts.get("views", 1)
    return Learner(learner, outer, statistics, network, pixels, facts["ways"], space, architecture, known, views)


def _interpolated(tensors: dict[str, Tensor]) -> Interpolated | None:
    """Where the describer was interpolated: one of the same size."""
    known, weights = (tensors.get(f"outer.describer.{name}") for name in ("known", "weights"))
    if known is None or weights is None:
        return None
    return Interpolated.blank(len(known), known.shape[1], weights.shape[1])
