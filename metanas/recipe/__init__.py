"""Recipes: everything a run needs as one frozen value, and the one table from names to constructors."""

from metanas.recipe.few_shot import FewShotRecipe as FewShotRecipe
from metanas.recipe.reading import override as override
from metanas.recipe.reading import parse_setting as parse_setting
from metanas.recipe.reading import read as read
from metanas.recipe.reading import read_few_shot as read_few_shot
from metanas.recipe.reading import read_toml as read_toml
from metanas.recipe.reading import read_tuning as read_tuning
from metanas.recipe.reading import read_values as read_values
from metanas.recipe.recipe import DataRecipe as DataRecipe
from metanas.recipe.recipe import EvaluationRecipe as EvaluationRecipe
from metanas.recipe.recipe import Recipe as Recipe
from metanas.recipe.recipe import SearchRecipe as SearchRecipe
from metanas.recipe.recipe import SpaceRecipe as SpaceRecipe
from metanas.recipe.tuning import TuneRecipe as TuneRecipe
from metanas.recipe.values import ValueRecipe as ValueRecipe
