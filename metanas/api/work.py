"""A search, or a transfer, as a job: its parts, where everything that can be wrong is found, its work and its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from metanas.api.checking import check
from metanas.api.documents import document_of, identity_of, source_of
from metanas.api.handed import Handed
from metanas.api.host import building
from metanas.api.own_module import made_by
from metanas.api.parts import Parts
from metanas.api.ranks import Ranks
from metanas.api.recorder import Recorder
from metanas.api.session import Session
from metanas.api.vocabulary import with_vocabulary
from metanas.data import Data
from metanas.errors import RecipeError
from metanas.exporters import usual_formats, write
from metanas.recipe import Recipe
from metanas.recipe.spaces import load_space
from metanas.recipe.tables import check_names, make_data, make_device
from metanas.run import RunFolder
from metanas.space import Space, space_to_json


def prepare(
    recipe: Recipe,
    space: Space | None,
    data: Any,
    handed: Handed,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> Parts:
    """The parts of a new run. Everything that can be wrong with a recipe is found here, before a folder is made.

    Args:
        space: None where the recipe names it.
        data: None where the recipe names it.
        ranks: the processes that search together.

    Raises:
        RecipeError, SpaceError, DataError: as `metanas.search` says.
    """
    check_names(recipe, **{name: getattr(handed, name) is None for name in ("controller", "estimator", "objective")})
    if space is not None and recipe.space.options:
        raise RecipeError(["space.options: needs a space by name, and a Space was handed over; build it with them"])
    built = load_space(recipe.space.name or "", **recipe.space.options) if space is None else space
    if space is None and (module := made_by(recipe)) is not None:
        handed = replace(handed, module=module)
    found = make_data(recipe, data).to(make_device(recipe.device))
    options = with_vocabulary(recipe.space.name, recipe.space.options, found) if space is None else {}
    if options != recipe.space.options and recipe.space.name is not None:
        built = load_space(recipe.space.name, **options)
    last = built
    if recipe.evaluation.space:
        if recipe.space.name is None:
            raise RecipeError(["evaluation.space: needs a space by name, and a Space was handed over"])
        last = load_space(recipe.space.name, **(options | recipe.evaluation.space))
    parts = Parts(recipe, built, last, found, handed, ranks=ranks)
    with building():
        check(parts)
    return parts


@dataclass(frozen=True)
class SearchJob:
    """A search, or a transfer, from its parts to its files; `result.result_of` reads them."""

    parts: Parts

    @property
    def recipe(self) -> Recipe:
        return self.parts.recipe

    @property
    def data(self) -> Data:
        return self.parts.data

    def document(self) -> dict[str, Any]:
        return document_of(self.parts)

    def space_document(self) -> dict[str, Any] | None:
        return space_to_json(self.parts.space)

    def identity(self) -> dict[str, Any]:
        return identity_of(self.parts)

    def work(self, folder: RunFolder, recorder: Recorder, state: dict[str, Any] | None) -> dict[str, Any]:
        data, network = Session(self.parts, recorder).run(state)
        source = source_of(data, self.parts.final_space, folder.read_recipe())
        write(network, source, folder=folder.path, formats=usual_formats(network), force=True)
        return data

    def result(self, folder: RunFolder, data: dict[str, Any]) -> RunFolder:
        return folder
