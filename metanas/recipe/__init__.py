"""Recipes: everything a run needs as one frozen value, and the one table from names to constructors."""

from typing import TYPE_CHECKING

from metanas.lazy import lazily

if TYPE_CHECKING:
    from metanas.recipe.few_shot import FewShotRecipe as FewShotRecipe
    from metanas.recipe.plain import override as override
    from metanas.recipe.plain import parse_setting as parse_setting
    from metanas.recipe.plain import read_toml as read_toml
    from metanas.recipe.reading import read as read
    from metanas.recipe.reading import read_few_shot as read_few_shot
    from metanas.recipe.reading import read_tuning as read_tuning
    from metanas.recipe.recipe import DataRecipe as DataRecipe
    from metanas.recipe.recipe import EvaluationRecipe as EvaluationRecipe
    from metanas.recipe.recipe import Recipe as Recipe
    from metanas.recipe.recipe import SearchRecipe as SearchRecipe
    from metanas.recipe.section import SpaceRecipe as SpaceRecipe
    from metanas.recipe.tuning import TuneRecipe as TuneRecipe
    from metanas.recipe.values import ValueRecipe as ValueRecipe
    from metanas.recipe.values import read_values as read_values

_HOMES = {
    "DataRecipe": "metanas.recipe.recipe",
    "EvaluationRecipe": "metanas.recipe.recipe",
    "FewShotRecipe": "metanas.recipe.few_shot",
    "Recipe": "metanas.recipe.recipe",
    "SearchRecipe": "metanas.recipe.recipe",
    "SpaceRecipe": "metanas.recipe.section",
    "TuneRecipe": "metanas.recipe.tuning",
    "ValueRecipe": "metanas.recipe.values",
    "override": "metanas.recipe.plain",
    "parse_setting": "metanas.recipe.plain",
    "read": "metanas.recipe.reading",
    "read_few_shot": "metanas.recipe.reading",
    "read_toml": "metanas.recipe.plain",
    "read_tuning": "metanas.recipe.reading",
    "read_values": "metanas.recipe.values",
}

__all__ = [*_HOMES]

if not TYPE_CHECKING:  # else mypy would take any name
    __getattr__, __dir__ = lazily(__name__, _HOMES)
